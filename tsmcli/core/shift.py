"""The temporal shift: a few channels of every frame are replaced by those of its neighbours in time.

It gives a 2D network a sense of time without parameters or multiplications
(Lin, Gan, Han: TSM, ICCV 2019, section 3).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tsmcli.config import Shift


def temporal_shift(x: Tensor, num_segments: int, shift_div: int = 8, direction: Shift = "bidirectional") -> Tensor:
    """Shift channels along time.

    With fold = C // shift_div, bidirectional: channels [0, fold) come from the next frame, [fold, 2 fold) from
    the previous one, the rest stay. Unidirectional: channels [0, fold) come from the previous frame, the rest
    stay, so frame t never sees the future. What would come from outside the clip is zero.

    The result is a new tensor in the memory format of `x` (channels-last stays channels-last); `x` itself is
    untouched, because the shortcut of a residual block still reads it. Written with slices, negative padding
    and one concatenation: one pass over memory, a cheap backward, and a clean graph for compilers and export.

    Args:
        x: [B*T, C, H, W], the frames of a clip one after another.
        num_segments: T.

    Returns:
        [B*T, C, H, W].

    Raises:
        ValueError: the first dimension is not a multiple of T.
    """
    if direction == "none":
        return x
    if x.shape[0] % num_segments:
        raise ValueError(f"{x.shape[0]} frames are not a whole number of clips of {num_segments}")
    channels = x.shape[1]
    fold = channels // shift_div
    nhwc = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    frames = x.permute(0, 2, 3, 1) if nhwc else x
    clips = frames.unflatten(0, (-1, num_segments))  # [B, T, H, W, C] or [B, T, C, H, W]
    dim = -1 if nhwc else 2
    if direction == "bidirectional":
        after, before, rest = clips.split([fold, fold, channels - 2 * fold], dim)
        shifted = torch.cat((_from_next(after), _from_previous(before), rest), dim)
    else:
        before, rest = clips.split([fold, channels - fold], dim)
        shifted = torch.cat((_from_previous(before), rest), dim)
    frames = shifted.flatten(0, 1)
    return frames.permute(0, 3, 1, 2) if nhwc else frames


def _from_next(clips: Tensor) -> Tensor:
    """Frame t becomes frame t + 1 of [B, T, ., ., .]; the last one becomes zero."""
    return F.pad(clips, (0, 0, 0, 0, 0, 0, -1, 1))


def _from_previous(clips: Tensor) -> Tensor:
    """Frame t becomes frame t - 1 of [B, T, ., ., .]; the first one becomes zero."""
    return F.pad(clips, (0, 0, 0, 0, 0, 0, 1, -1))


class TemporalShift(nn.Module):
    """`temporal_shift` with its settings; no parameters, so it adds nothing to a checkpoint."""

    def __init__(self, num_segments: int, shift_div: int = 8, direction: Shift = "bidirectional") -> None:
        super().__init__()
        self.num_segments, self.shift_div, self.direction = num_segments, shift_div, direction

    def forward(self, x: Tensor) -> Tensor:
        return temporal_shift(x, self.num_segments, self.shift_div, self.direction)


class TemporalPool(nn.Module):
    """Max pooling over time, kernel 3, stride 2, padding 1: [B*T, C, H, W] -> [B*(T/2), C, H, W].

    The temporal pooling variant of the TSM authors; no published checkpoint of the zoo uses it.
    """

    def __init__(self, num_segments: int) -> None:
        super().__init__()
        self.num_segments = num_segments

    def forward(self, x: Tensor) -> Tensor:
        clips = x.unflatten(0, (-1, self.num_segments)).transpose(1, 2)  # [B, C, T, H, W]
        pooled = F.max_pool3d(clips, (3, 1, 1), (2, 1, 1), (1, 0, 0))
        return pooled.transpose(1, 2).flatten(0, 1)

"""A 1x1 convolution of shifted frames that copies nothing, for a CPU."""

from __future__ import annotations

from typing import TypeGuard

import torch
from torch import Tensor, nn

from tsmcli.core.shift import TemporalShift


def is_pointwise(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a module is a 1x1 convolution with stride 1 and one group."""
    return isinstance(module, nn.Conv2d) and module.kernel_size == module.stride == (1, 1) and module.groups == 1


class ShiftedConv1x1(nn.Module):
    """`conv(shift(x))` as matrix products of `x` itself, for inference in one number format (not under autocast).

    Stored channels-last, frames are a matrix with a row for every position and a column for every channel, and a
    1x1 convolution is a product with it. The same position in the next frame is H*W rows further down. So channels
    from the next frame are multiplied where they are and added H*W rows further up, those from the frame before
    further down. Nothing is copied: three products have as many multiplications as the convolution.

    Args:
        shift: what is applied before `conv`.
        conv: a 1x1 convolution with a bias, such as one with its batch norm folded in.
    """

    def __init__(self, shift: TemporalShift, conv: nn.Conv2d) -> None:
        super().__init__()
        assert conv.bias is not None
        fold = conv.in_channels // shift.shift_div
        after = fold if shift.direction == "bidirectional" else 0
        weight = conv.weight.detach().flatten(1).t()  # [C, K]
        parts = weight.split([after, fold, conv.in_channels - after - fold])
        self.num_segments = shift.num_segments
        self.after, self.before, self.rest = (nn.Parameter(w.contiguous(), requires_grad=False) for w in parts)
        self.bias = nn.Parameter(conv.bias.detach(), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B*T, C, H, W] -> [B*T, K, H, W], channels-last.

        Raises:
            ValueError: the first dimension is not a multiple of T.
        """
        frames, channels, height, width = x.shape
        if frames % self.num_segments:
            raise ValueError(f"{frames} frames are not a whole number of clips of {self.num_segments}")
        positions = height * width
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)  # [B*T*H*W, C], a view where x is channels-last
        after, before = len(self.after), len(self.after) + len(self.before)
        result = torch.addmm(self.bias, rows[:, before:], self.rest)  # [B*T*H*W, K]
        clip = self.num_segments * positions
        for start in range(0, len(rows), clip):
            own, out = rows[start : start + clip], result[start : start + clip]
            out[:-positions].addmm_(own[positions:, :after], self.after)
            out[positions:].addmm_(own[:-positions, after:before], self.before)
        return result.view(frames, height, width, -1).permute(0, 3, 1, 2)

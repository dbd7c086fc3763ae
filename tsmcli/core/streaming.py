"""A unidirectional TSM, one frame at a time, at the cost of a 2D network.

Frame t of a stream is computed as frame t of a clip would be (paper section 3, online models). The shift takes the
channels of the frame before from a cache. Every shift and every causal non-local block of the network is replaced
by a module that keeps what the next frame needs.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tsmcli.core.nonlocal_block import NonLocal
from tsmcli.core.shift import TemporalPool, TemporalShift
from tsmcli.core.tsm import TSM
from tsmcli.errors import ConfigError


class _Tape:
    """The tensors that one frame keeps for the next, in the order of the trunk.

    It is no module, and no tensor of one, so compilers and exporters see a plain function of the cache.
    """

    def __init__(self) -> None:
        self.before: list[Tensor] = []
        self.after: list[Tensor] = []
        self.taken = 0

    def take(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """The next tensor that the frame before kept; at the start zeros of that shape, of the type of `x`."""
        kept = self.before[self.taken] if self.before else x.new_zeros(shape)
        self.taken += 1
        return kept

    def keep(self, x: Tensor) -> None:
        """Keep a tensor for the next frame: as many as are taken, in the same order."""
        self.after.append(x)


class CachedShift(nn.Module):
    """The unidirectional shift of single frames: [S, C, H, W], a frame of each of S streams, to the same shape."""

    def __init__(self, shift: TemporalShift, tape: _Tape) -> None:
        super().__init__()
        self.shift_div, self.tape = shift.shift_div, tape

    def forward(self, x: Tensor) -> Tensor:
        fold = x.shape[1] // self.shift_div
        own, rest = x.split([fold, x.shape[1] - fold], 1)
        before = self.tape.take(x, own.shape)
        self.tape.keep(own.clone())  # a copy, so that it does not hold the rest of the frame in memory
        return torch.cat((before, rest), 1)


class CachedNonLocal(nn.Module):
    """The causal non-local block of single frames; it keeps the keys and values of the T - 1 frames before."""

    def __init__(self, block: NonLocal, tape: _Tape) -> None:
        super().__init__()
        self.block, self.tape = block, tape

    def forward(self, x: Tensor) -> Tensor:
        """[S, C, H, W] -> the same shape."""
        queries, *new = self.block.embed(x.unsqueeze(2))
        keys, values = (self._with_past(tensor) for tensor in new)  # [S, C', T, h, w]
        seen = self._with_past(x.new_ones(x.shape[0], 1, 1))[:, 0]  # [S, T]; 0 before the stream began
        visible = seen.repeat_interleave(keys.shape[3] * keys.shape[4], 1)[:, None] > 0  # [S, 1, keys]
        return x + self.block.attend(queries, keys, values, visible).squeeze(2)

    def _with_past(self, new: Tensor) -> Tensor:
        """Append a frame to those of the window, [S, C, 1, ...] -> [S, C, T, ...], and keep the last T - 1."""
        shape = (*new.shape[:2], self.block.num_segments - 1, *new.shape[3:])
        window = torch.cat((self.tape.take(new, shape), new), 2)
        self.tape.keep(window[:, :, 1:].clone())
        return window


class StreamingTSM(nn.Module):
    """One frame of each of S streams and the cache -> logits and the next cache.

    A pure function: `Stream` wraps it for use, `tsm export` writes it to files. The network is copied.

    Raises:
        ConfigError: the network needs frames of the future.
    """

    def __init__(self, model: TSM) -> None:
        super().__init__()
        check_streamable(model)
        self.tape = _Tape()
        self.model = copy.deepcopy(model).eval()
        for parent in list(self.model.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, TemporalShift):
                    setattr(parent, name, CachedShift(child, self.tape))
                elif isinstance(child, NonLocal):
                    setattr(parent, name, CachedNonLocal(child, self.tape))

    def forward(self, frames: Tensor, cache: Sequence[Tensor] = ()) -> tuple[Tensor, list[Tensor]]:
        """Normalised frames [S, 3, H, W] and the cache -> logits [S, K] and the next cache.

        No cache: the streams begin. The first dimension of every tensor of the cache is S.
        """
        self.tape.before, self.tape.after, self.tape.taken = list(cache), [], 0
        logits = self.model.fc(self.model.backbone(frames).mean((2, 3)))
        kept, self.tape.before, self.tape.after = self.tape.after, [], []
        return logits, kept


Step = Callable[[Tensor, Sequence[Tensor]], tuple[Tensor, list[Tensor]]]
"""A frame of each of S streams and the cache -> logits [S, K] and the next cache, as `StreamingTSM` is called."""


class Stream:
    """S streams of frames: keeps their cache and gives logits after every frame.

    Args:
        model: unidirectional; or a step that takes frames in a form of its own.
        smooth: average the logits of so many frames, this one included; the authors' online demo takes 12.
    """

    def __init__(self, model: TSM | Step, *, smooth: int = 1) -> None:
        self.step: Step = StreamingTSM(model) if isinstance(model, TSM) else model
        self.smooth = smooth
        self.cache: list[Tensor] = []
        self.recent: list[Tensor] = []  # logits [S, K] of the last frames
        self.ages: list[int] = []  # how many of those came since the stream began
        self.shape: torch.Size | None = None  # of the frames

    @torch.inference_mode()
    def push(self, frames: Tensor) -> Tensor:
        """The next frame of each of S streams, normalised [S, 3, H, W] -> logits [S, K].

        Raises:
            ValueError: another number of streams than before, or frames of another size.
        """
        ages, self.shape = self.ages or [0] * len(frames), self.shape or frames.shape
        if frames.shape != self.shape:
            raise ValueError(f"frames {list(frames.shape)} after {list(self.shape)}; reset() begins anew")
        logits, self.cache = self.step(frames, self.cache)
        self.recent = [*self.recent, logits][-self.smooth :]
        self.ages = [min(age + 1, self.smooth) for age in ages]
        recent = torch.stack(self.recent, 1)  # [S, frames, K]
        return torch.stack([own[-age:].mean(0) for own, age in zip(recent, self.ages, strict=True)])

    @torch.inference_mode()
    def reset(self, streams: Sequence[int] | None = None) -> None:
        """Begin again: these streams of the batch; None: all of them, whose number and size may then change.

        Raises:
            IndexError: there is no such stream.
        """
        if streams is None:
            self.cache, self.recent, self.ages, self.shape = [], [], [], None
            return
        chosen = [range(len(self.ages))[i] for i in streams]
        for tensor in self.cache:
            tensor[chosen] = 0
        self.ages = [0 if i in chosen else age for i, age in enumerate(self.ages)]

    @property
    def cache_bytes(self) -> int:
        """Size of the cache of all streams; 0 before the first frame."""
        return sum(tensor.nbytes for tensor in self.cache)


def check_streamable(model: TSM) -> None:
    """Raise ConfigError for a network that needs frames of the future; it says how to train another one."""
    for module in model.modules():
        if isinstance(module, TemporalShift) and module.direction == "bidirectional":
            what = "a bidirectional shift takes channels from the next frame"
        elif isinstance(module, TemporalPool):
            what = "temporal pooling looks at the next frame"
        elif isinstance(module, NonLocal) and not module.causal:
            what = "a non-local block looks at the whole clip"
        else:
            continue
        raise ConfigError(
            f"{what}, and a stream has no future",
            hint="train it with --set model.shift=unidirectional model.temporal_pool=false",
        )

"""What training and scoring say while they go on. No torch is imported: those who only listen need none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tsmcli.data.messages import BadVideo

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class StepDone:
    """One optimiser step of all processes together.

    Attributes:
        epoch, step, steps: 0-based epoch; 1-based step of that many.
        loss, top1: of the step's videos, in training mode; top1 is None where MixUp or CutMix blends labels, or a
            video may have several.
        lr: of the ordinary weights.
        grad_norm: L2 norm of all gradients, before clipping.
        videos: how many; unreadable ones do not count.
        data_sec, step_sec: waiting for data; the whole step including that.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    top1: float | None
    lr: float
    grad_norm: float
    videos: int
    data_sec: float
    step_sec: float


@dataclass(frozen=True)
class VideosSkipped:
    """Videos of a step that could not be read; training goes on without them."""

    videos: tuple[BadVideo, ...]


@dataclass(frozen=True)
class VideoScored:
    """A video's scores [K], or its features, by its position in the list."""

    number: int
    scores: Tensor

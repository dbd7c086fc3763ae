"""What recipes report while they work, beside the events of the engine and of data preparation."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

Event = TypeVar("Event")
Result = TypeVar("Result")


def result_of(
    events: Generator[Event, None, Result], see: Callable[[Event], object] = lambda _event: None
) -> Result:
    """Run a recipe to its end, let `see` look at its events, and return its result."""
    with contextlib.closing(events):
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                result: Result = end.value
                return result
            see(event)


@dataclass(frozen=True)
class Stage:
    """A new part of the work begins; `details` are facts worth a line before it does."""

    title: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scoring:
    """`total` videos are about to be scored."""

    title: str
    total: int


@dataclass(frozen=True)
class Training:
    """`steps` optimiser steps are about to be taken, in `epochs` epochs."""

    title: str
    steps: int
    epochs: int
    log_every: int


@dataclass(frozen=True)
class Validated:
    """Accuracy on the validation list after a 0-based epoch.

    Attributes:
        coverage, videos: how many videos of the list were scored, in words and as a number.
        top1_low, top1_high: the 95 % interval of `top1`.
        map, thresholds: mean average precision, and the probability of each class from which on a video is said to
            have it; where a video may have several labels, and the accuracies are None.
    """

    epoch: int
    top1: float | None
    top5: float | None
    mean_class: float | None
    coverage: str
    videos: int
    top1_low: float | None
    top1_high: float | None
    map: float | None = None
    thresholds: tuple[float, ...] | None = None

    @property
    def value(self) -> float:
        """What the best checkpoint is chosen by."""
        return next(value for value in (self.map, self.top1) if value is not None)


@dataclass(frozen=True)
class Probed:
    """What a linear classifier on starting features, averaged over frames, reaches on the validation list.

    Attributes:
        features: `ImageNet features`, or whose.
        top1_low, top1_high: the 95 % interval.
    """

    features: str
    top1: float
    coverage: str
    top1_low: float
    top1_high: float


@dataclass(frozen=True)
class Warned:
    """Something goes wrong, though not so wrong that the work must end."""

    text: str


@dataclass(frozen=True)
class Saved:
    """A checkpoint was written."""

    path: Path
    best: bool

"""What recipes report while they work, beside the events of the engine and of data preparation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
    """Accuracy on the validation list after a 0-based epoch."""

    epoch: int
    top1: float
    top5: float | None
    mean_class: float
    coverage: str


@dataclass(frozen=True)
class Saved:
    """A checkpoint was written."""

    path: Path
    best: bool

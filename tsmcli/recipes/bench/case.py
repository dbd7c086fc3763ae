"""What `tsm bench` measures, and what it found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from tsmcli import zoo
from tsmcli.config import Config, Precision, Views
from tsmcli.engine.device import dtype_of
from tsmcli.engine.memory import PeakMemory
from tsmcli.presets import load_preset, preset_names

Mode = Literal["inference", "training"]


@dataclass(frozen=True)
class Case:
    """What to measure.

    Attributes:
        views: test protocol; in training one clip of `augment.crop_px`.
        batch: videos at a time.
        channels_last: store activations channels-last, as all commands do.
        threads: of torch on a CPU; None: torch's own choice.
        seconds: how long to measure, after warming up; at least three rounds in any case.
        twin: measure the same network without a shift, too, in turn.
        trace: write a trace of one call here, for chrome://tracing or Perfetto.
    """

    name: str
    config: Config
    views: Views
    batch: int
    mode: Mode = "inference"
    device: str = "auto"
    precision: Precision = "fp32"
    compile: bool = False
    channels_last: bool = True
    threads: int | None = None
    seconds: float = 15.0
    twin: bool = True
    trace: Path | None = None


@dataclass(frozen=True)
class PublishedNumber:
    """What the zoo says of the same thing; on which hardware is not on record.

    Attributes:
        videos_per_sec: inference, one video at a time.
        memory_mib: training, on each GPU.
    """

    id: str
    videos_per_sec: float | None = None
    memory_mib: float | None = None


@dataclass(frozen=True)
class Measurement:
    """What was measured. Times are of one call: a batch of videos scored, or one step of training.

    Attributes:
        protocol, views, crop_px, num_segments: what a video is here: V clips of T frames.
        network: its configuration.
        runs: calls that were timed.
        first_sec: the first call, which loads kernels and compiles.
        p50_sec, p90_sec, p99_sec, fastest_sec, slowest_sec: of the calls.
        videos_per_sec, clips_per_sec, frames_per_sec: from the median.
        memory: most that was in use, and before the network was built.
        parameters: of the network.
        macs, flops, mmaction_count: of one clip; see `core.cost`.
        kept_bytes: activations that a training step keeps for its backward pass; None in inference.
        shift_cost: time over that of the network without a shift, minus 1: the median over rounds, and quartiles.
        published: rows of the zoo that have a number for the same.
        error: why there are no numbers.
    """

    preset: str
    mode: Mode
    protocol: str
    batch: int
    views: int
    crop_px: int
    num_segments: int
    device: str
    precision: str
    compiled: bool
    channels_last: bool
    network: dict[str, Any]
    runs: int = 0
    first_sec: float | None = None
    p50_sec: float | None = None
    p90_sec: float | None = None
    p99_sec: float | None = None
    fastest_sec: float | None = None
    slowest_sec: float | None = None
    videos_per_sec: float | None = None
    clips_per_sec: float | None = None
    frames_per_sec: float | None = None
    memory: PeakMemory | None = None
    parameters: int | None = None
    macs: int | None = None
    flops: int | None = None
    mmaction_count: int | None = None
    kept_bytes: int | None = None
    shift_cost: float | None = None
    shift_cost_quartiles: tuple[float, float] | None = None
    published: tuple[PublishedNumber, ...] = ()
    error: str | None = None
    environment: dict[str, Any] = field(default_factory=dict)


def blank(case: Case, device: torch.device) -> Measurement:
    """A case without numbers yet; EnvironmentProblem where the device does not compute in this format."""
    training, model, views = case.mode == "training", case.config.model, case.views
    return Measurement(
        preset=case.name, mode=case.mode, protocol="training" if training else views.name, batch=case.batch,
        views=1 if training else views.views, num_segments=model.num_segments,
        crop_px=case.config.augment.crop_px if training else views.crop_px, device=str(device),
        precision=str(dtype_of(case.precision, device)).removeprefix("torch."), compiled=case.compile,
        channels_last=case.channels_last, network=model.identity() | {"num_classes": model.num_classes},
        published=tuple(published(case)),
    )  # fmt: skip


def published(case: Case) -> Iterator[PublishedNumber]:
    """The rows with a number for a preset as it is shipped, in float32: speed at batch 1, or memory of its step."""
    shipped = load_preset(case.name) if case.name in preset_names() else None
    if shipped is None or case.config.model != shipped.model or case.precision != "fp32" or case.compile:
        return
    step = (case.config.augment.crop_px, case.config.train.recompute, case.batch)
    theirs = (shipped.augment.crop_px, shipped.train.recompute, shipped.train.batch)
    for row in zoo.models():
        if row.preset != case.name:
            continue
        if case.mode == "training" and step == theirs and row.memory_mb:
            yield PublishedNumber(row.id, memory_mib=row.memory_mb)
        if case.mode == "inference" and case.batch == 1 and case.views.name in row.protocols and row.videos_per_sec:
            yield PublishedNumber(row.id, videos_per_sec=row.videos_per_sec)

"""What `tsm bench` measures, and what it found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from tsmcli import zoo
from tsmcli.config import Config, Views
from tsmcli.engine.device import choose_device, choose_precision, dtype_of
from tsmcli.engine.inference import ABLE, Choice, EngineName, Numbers, choose_engine
from tsmcli.engine.memory import PeakMemory
from tsmcli.engine.sidecar import Exported
from tsmcli.errors import EnvironmentProblem, UsageError
from tsmcli.presets import load_preset, preset_names
from tsmcli.recipes.engines import of_file

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
        engine: what computes; other engines than torch in inference only, not compiled.
        file: an exported network to measure instead of one with random weights.
    """

    name: str
    config: Config
    views: Views
    batch: int
    mode: Mode = "inference"
    device: str = "auto"
    precision: Numbers = "fp32"
    compile: bool = False
    channels_last: bool = True
    threads: int | None = None
    seconds: float = 15.0
    twin: bool = True
    trace: Path | None = None
    engine: EngineName = "torch"
    file: Path | None = None


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
        memory: most that was in use, and before the network was built; None where several shared the process.
        parameters: of the network.
        macs, flops, mmaction_count: of one clip; see `core.cost`.
        kept_bytes: activations that a training step keeps for its backward pass; None in inference.
        shift_cost: time over that of the network without a shift, minus 1: the median over rounds, and quartiles.
        published: rows of the zoo that have a number for the same.
        error: why there are no numbers.
        engine, file: what computed it, and the name of the exported file.
        ratio: time over that of the first one in the same process: the median over rounds, and quartiles.
        limit_macs_per_sec, limit_by: what the processor reaches with as many threads in this number format, and
            with what; None in training and on a GPU.
        limit_share: multiply-adds per second, from the median, over the limit.
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
    engine: str = "torch"
    file: str | None = None
    ratio: float | None = None
    ratio_quartiles: tuple[float, float] | None = None
    limit_macs_per_sec: float | None = None
    limit_by: str | None = None
    limit_share: float | None = None


def in_engines(case: Case, engine: str | None, precision: str, file: Exported | None = None) -> list[Case]:
    """A case in all engines and number formats that are asked for, to be measured in turn.

    Args:
        engine: or `all`: those that are installed and compute like this; None: torch, or what runs the file.
        precision: or several with commas, or `all`.
        file: an exported network, to be measured after the case as it is.

    Raises:
        EnvironmentProblem: one that is named, or none of all, computes like this here.
        UsageError: there is no such number format, the file takes something else, or PyTorch alone does this.
    """
    device = choose_device(case.device)
    formats: list[Any] = list(ABLE) if precision == "all" else precision.split(",")
    if wrong := {*formats} - {"auto", "fp16", *ABLE}:
        raise UsageError(f"no number format {wrong.pop()!r}", hint=f"auto, fp16, {', '.join(ABLE)}, or all")
    formats = [choose_precision("auto", device) if name == "auto" else name for name in formats]
    engines: list[Any] = [engine or ("auto" if file else "torch")]
    if engine == "all":
        engines = [name for name in ABLE["fp32"] if name != "torch-compile"]  # that is --compile
    found, problems = [case] if file else [], list[Exception]()
    for wanted in (Choice(name, numbers) for numbers in formats for name in engines):
        try:
            of = of_file(file, wanted, "clips", case.views.crop_px) if file else wanted
            choice = choose_engine(of, device)
        except (EnvironmentProblem, UsageError) as problem:
            problems.append(problem)
        else:
            path = file.path if file else None
            found.append(replace(case, engine=choice.engine, precision=choice.precision, file=path))
    if problems and (len(found) == bool(file) or "all" not in (engine, precision)):
        raise problems[0]
    found = [one for number, one in enumerate(found) if one not in found[:number]]
    if (len(found) > 1 or found[0].engine != "torch") and (case.mode == "training" or case.compile or case.trace):
        raise UsageError("--train, --compile and --profile are of --engine torch alone, in one --precision")
    return found


def blank(case: Case, device: torch.device) -> Measurement:
    """A case without numbers yet; EnvironmentProblem where the device does not compute in this format."""
    training, model, views = case.mode == "training", case.config.model, case.views
    return Measurement(
        preset=case.name, mode=case.mode, protocol="training" if training else views.name, batch=case.batch,
        views=1 if training else views.views, num_segments=model.num_segments,
        crop_px=case.config.augment.crop_px if training else views.crop_px, device=str(device),
        precision=number_format(case.precision, device), compiled=case.compile,
        channels_last=case.channels_last, network=model.identity() | {"num_classes": model.num_classes},
        published=tuple(published(case)), engine=case.engine, file=case.file.name if case.file else None,
    )  # fmt: skip


def number_format(precision: Numbers, device: torch.device) -> str:
    """`float32`, `bfloat16`, `float16` or `int8`."""
    return "int8" if precision == "int8" else str(dtype_of(precision, device)).removeprefix("torch.")


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

"""Speed and memory of a network at one batch size, on random pixels. `bench` runs it in a process of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from tsmcli.catalog import CATALOG
from tsmcli.config import Config
from tsmcli.core.shift import TemporalShift
from tsmcli.core.tsm import TSM, build_model, normalize
from tsmcli.engine.device import choose_device, dtype_of, environment, for_inference, use_channels_last
from tsmcli.engine.inference import Numbers, compiled, score_in_order
from tsmcli.engine.learner import make_learner, take_step
from tsmcli.engine.memory import activation_bytes, peak_memory
from tsmcli.engine.packages import version_of
from tsmcli.engine.processes import ALONE
from tsmcli.errors import EnvironmentProblem, is_out_of_memory
from tsmcli.files import replacing
from tsmcli.recipes.bench.case import Case, Measurement, blank
from tsmcli.recipes.bench.cost import count_cost
from tsmcli.recipes.bench.engines import open_for, products

_RUNS_BEFORE = 2
"""Calls before anything is timed: they load kernels and, with --compile, compile."""
_ROUNDS = (3, 1000)
"""Fewest and most."""


def measure(cases: Sequence[Case]) -> list[Measurement]:
    """Build a network, warm it up, and time it: in turn in all engines, or with its twin, if that is asked for.

    Inference is MMAction2's `inference_time`: copy to the device, all views of the videos through the network,
    softmax, mean over views, copy back. Training is a whole step: copy, forward, backward, clipping, SGD. Weights
    and pixels are random; nothing is read or decoded.

    Raises:
        EnvironmentProblem: the device is missing, or cannot compute or compile like this.
    """
    case = cases[0]
    if case.threads:
        torch.set_num_threads(case.threads)
    device = choose_device(case.device)
    found = [blank(one, device) for one in cases]
    try:
        return _measure(cases, device, found)
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if is_out_of_memory(error):
            return [replace(m, error=f"out of memory: {reason}") for m in found]
        if not case.compile:
            raise
        hint = "it needs a C++ compiler; or leave out --compile"
        raise EnvironmentProblem(f"torch.compile failed: {reason}", hint) from error


def _measure(cases: Sequence[Case], device: torch.device, found: list[Measurement]) -> list[Measurement]:
    case, alone = cases[0], len(cases) == 1
    classes = num_classes(case.config)
    prepare = _prepare_step if case.mode == "training" else _prepare_scoring
    cost = count_cost(case.config.model, classes, found[0].crop_px)
    before = peak_memory(device)
    calls, ready = [], []
    for number, one in enumerate(cases):
        try:
            calls.append(prepare(one, device, shifted=True))
        except EnvironmentProblem as problem:
            if alone:
                raise
            found[number] = replace(found[number], error=str(problem))
            continue
        ready.append(number)
        start = time.perf_counter()
        calls[-1]()
        found[number] = replace(found[number], first_sec=time.perf_counter() - start)
        for _ in range(_RUNS_BEFORE - 1):
            calls[-1]()
    memory = replace(peak_memory(device), before_bytes=before.peak_bytes) if alone else None
    if alone and case.twin and case.engine == "torch" and not case.file and case.config.model.shift != "none":
        calls += _twin(lambda: prepare(case, device, shifted=False))
    times = time_in_turn(calls, device, case.seconds)
    if case.trace:
        _write_trace(case.trace, calls[0], device)
    kept = case.mode == "training" and not case.compile
    kept_bytes = activation_bytes(case.config, classes, case.batch) if kept else None
    shared = asdict(cost) | {"flops": cost.flops, "memory": memory, "kept_bytes": kept_bytes}
    limits: dict[Numbers, tuple[float, str]] = {}
    if case.mode != "training" and device.type == "cpu":
        limits = {numbers: _limit(cases, numbers) for numbers in dict.fromkeys(one.precision for one in cases)}
    for number, own in zip(ready, times, strict=False):
        m = _summarise(found[number], own, times, alone=alone)
        m = replace(m, **shared, environment={m.engine: version_of(m.engine)} | environment())
        found[number] = _beside_limit(m, *limits[cases[number].precision]) if limits else m
    return found


@torch.inference_mode()
def _limit(cases: Sequence[Case], numbers: Numbers) -> tuple[float, str]:
    """Multiply-adds per second that the processor reaches in a number format, and with what."""
    made = products(numbers, openvino=any(case.engine == "openvino" for case in cases))
    for _, call in made.values():
        call()
    times = time_in_turn([call for _, call in made.values()], torch.device("cpu"), min(1.0, cases[0].seconds))
    return max((macs / min(own), name) for (name, (macs, _)), own in zip(made.items(), times, strict=True))


def _beside_limit(m: Measurement, limit: float, by: str) -> Measurement:
    share = (m.macs or 0) * (m.clips_per_sec or 0) / limit
    return replace(m, limit_macs_per_sec=limit, limit_by=by, limit_share=share)


def _twin(prepare: Callable[[], Callable[[], object]]) -> list[Callable[[], object]]:
    """The call of the network without its shift, warmed up; none where both do not fit into memory."""
    try:
        call = prepare()
        for _ in range(_RUNS_BEFORE):
            call()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return []
    return [call]


def build(config: Config, *, shifted: bool) -> TSM:
    """The network with fresh weights, or the same one with its shifts taken out."""
    model = build_model(config, num_classes(config), seed=0)
    for parent in list(model.modules()) if not shifted else ():
        for name, child in list(parent.named_children()):
            if isinstance(child, TemporalShift):
                setattr(parent, name, nn.Identity())
    return model


def num_classes(config: Config) -> int:
    """K of a preset, or 400 where it is up to the data."""
    return config.model.num_classes or CATALOG[config.data.dataset].num_classes or 400


def _summarise(found: Measurement, taken: list[float], times: list[list[float]], *, alone: bool) -> Measurement:
    """A measurement with the times of its calls, and their ratio to its twin's, or to those of the first engine."""
    own = np.array(taken)
    p50, p90, p99 = (float(x) for x in np.percentile(own, (50, 90, 99)))
    clips = found.batch * found.views / p50
    if len(times) > 1:
        low, middle, high = (float(x) for x in np.percentile(own / np.array(times[alone]), (25, 50, 75)))
        if alone:
            found = replace(found, shift_cost=middle - 1, shift_cost_quartiles=(low - 1, high - 1))
        else:
            found = replace(found, ratio=middle, ratio_quartiles=(low, high))
    return replace(
        found, runs=len(own), p50_sec=p50, p90_sec=p90, p99_sec=p99, fastest_sec=float(own.min()),
        slowest_sec=float(own.max()), videos_per_sec=found.batch / p50, clips_per_sec=clips,
        frames_per_sec=clips * found.num_segments,
    )  # fmt: skip


def _pixels(case: Case, clips: int, px: int) -> Tensor:
    """Random clips, uint8 [clips, T, 3, px, px], in memory as the loader makes them."""
    pixels = torch.randint(0, 256, (clips, case.config.model.num_segments, px, px, 3), dtype=torch.uint8)
    return pixels.movedim(-1, 2) if case.channels_last else pixels.movedim(-1, 2).contiguous()


def _prepare_scoring(case: Case, device: torch.device, *, shifted: bool) -> Callable[[], object]:
    """A call that scores a batch of videos."""
    pixels = _pixels(case, case.batch * case.views.views, case.views.crop_px)
    model = build(case.config, shifted=shifted)
    if case.file or case.engine != "torch":
        engine = open_for(case, model, device)
        return lambda: _mean([logits for _, logits in score_in_order(engine, [(0, pixels)])], case.batch)
    assert case.precision != "int8"
    dtype = dtype_of(case.precision, device)
    network: Any = for_inference(model, device, dtype=dtype, channels_last=case.channels_last)
    if case.compile:
        network = compiled(network, device)
    at_once = case.batch if device.type == "cpu" else len(pixels)

    @torch.inference_mode()
    def score() -> Tensor:
        logits = [network(normalize(clips.to(device)).to(dtype)) for clips in pixels.split(at_once)]
        return _mean(logits, case.batch)

    return score


def _mean(logits: list[Tensor], batch: int) -> Tensor:
    """Logits of all views -> probabilities of each video."""
    scores: Tensor = torch.cat(logits).float().softmax(-1).unflatten(0, (batch, -1)).mean(1)
    return scores.cpu()


def _prepare_step(case: Case, device: torch.device, *, shifted: bool) -> Callable[[], object]:
    """A call that takes one step of training."""
    config = case.config
    train = config.train.model_copy(update={"precision": case.precision, "compile": case.compile})
    model = build(config, shifted=shifted).to(device)
    if case.channels_last:
        use_channels_last(model)
    learner = make_learner(model.train(), train, device, ALONE)
    pixels = _pixels(case, case.batch, config.augment.crop_px)
    labels = torch.arange(case.batch) % model.fc.out_features
    return lambda: take_step(learner, [(normalize(pixels.to(device)), labels.to(device))], case.batch)


def _write_trace(path: Path, call: Callable[[], object], device: torch.device) -> None:
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # what it says on stderr is of no use here
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as trace:
        call()
    with replacing(path) as part:
        trace.export_chrome_trace(str(part))


def time_in_turn(calls: Sequence[Callable[[], object]], device: torch.device, seconds: float) -> list[list[float]]:
    """Wall-clock seconds of each call, round by round: one list a call, all of one length.

    Rounds follow each other until `seconds` are over; which call begins changes from round to round.
    """
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    for round_number in range(_ROUNDS[1]):
        if round_number >= _ROUNDS[0] and time.perf_counter() > end:
            break
        for turn in range(len(calls)):
            which = (turn + round_number) % len(calls)
            synchronise(device)
            start = time.perf_counter()
            calls[which]()
            synchronise(device)
            times[which].append(time.perf_counter() - start)
    return times


def synchronise(device: torch.device) -> None:
    """Wait until a device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()

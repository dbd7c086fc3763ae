"""Measure networks one after the other, each in a process of its own, and compare with earlier measurements."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from tsmcli.data.location import Places
from tsmcli.engine.device import choose_device
from tsmcli.engine.launch import in_child
from tsmcli.errors import DataError, EnvironmentProblem, SlowerError
from tsmcli.recipes.bench.case import Case, Measurement, blank
from tsmcli.recipes.bench.network import measure
from tsmcli.recipes.bench.reading import DataMeasurement, measure_data
from tsmcli.recipes.events import Stage

FORMAT = 1
"""Of what `tsm bench --json` prints; a key may be added within a number, none is renamed or dropped."""
_SAME = (
    "preset", "mode", "protocol", "batch", "views", "crop_px", "num_segments", "device", "precision", "compiled",
    "channels_last", "network", "engine", "file",
)  # fmt: skip
"""What a measurement and its baseline must agree in; `engine` and `file` came later."""
_LATER: dict[str, Any] = {"engine": "torch", "file": None}
_MACHINE = ("processor", "gpu", "threads", "torch")


def bench(cases: Sequence[Case]) -> Generator[Stage, None, list[Measurement]]:
    """Measure every case; cases that differ in the engine alone in one process, in turn.

    One that runs out of memory does not end those in other processes.

    Raises:
        EnvironmentProblem: the device is missing, or does not compute in this format.
    """
    found = [blank(case, choose_device(case.device)) for case in cases]
    for _, numbers in groupby(range(len(cases)), lambda i: replace(cases[i], **_LATER, precision="fp32")):
        first, *others = numbers
        case, part = cases[first], slice(first, first + 1 + len(others))
        what = "steps of training" if case.mode == "training" else f"protocol {case.views.name}"
        yield Stage(f"measuring {case.name}: {what}, batch {case.batch}")
        try:
            found[part] = in_child(measure, cases[part])
        except EnvironmentProblem as error:  # killed, or not to be compiled
            found[part] = [replace(m, error=str(error)) for m in found[part]]
    return found


def bench_data(cases: Sequence[Case], places: Places, videos: int) -> Generator[Stage, None, list[DataMeasurement]]:
    """Measure reading for every preset among the cases; see `measure_data`."""
    found = []
    for case in {case.name: case for case in cases}.values():
        yield Stage(f"reading videos for {case.name}")
        found.append(in_child(measure_data, case, places, videos))
    return found


@dataclass(frozen=True)
class Beside:
    """A measurement beside its baseline.

    Attributes:
        ratio: median time over the baseline's; None where it has none.
        differs: of the machine, what is another.
    """

    ratio: float | None
    differs: tuple[str, ...] = ()


def read_baseline(path: Path) -> dict[str, dict[str, Any]]:
    """The measurements of an earlier `tsm bench --json`, by what they are of.

    Raises:
        DataError: the file is missing, or something else.
    """
    hint = "tsm bench --json > FILE makes one"
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        measurements, known = tree["measurements"], tree["format"] == FORMAT
        for m in measurements:
            known &= isinstance(m["p50_sec"], float | int | None) and isinstance(m["environment"], dict)
        before = {_what(m): m for m in measurements}
    except FileNotFoundError:
        raise DataError(f"no baseline {path}", hint) from None
    except (OSError, ValueError, LookupError, TypeError):
        known = False
    if not known:
        raise DataError(f"{path}: not what tsm bench --json writes, in format {FORMAT}", hint)
    return before


def _what(measurement: Mapping[str, Any]) -> str:
    """What a measurement is of, as a word to look it up by."""
    return json.dumps([(_LATER | dict(measurement))[key] for key in _SAME], sort_keys=True)


def compare_with(baseline: Mapping[str, dict[str, Any]], measurements: Sequence[Measurement]) -> list[Beside]:
    """For each measurement its time over that of the same thing in the baseline."""
    found = []
    for m in measurements:
        old = baseline.get(_what(asdict(m)), {})
        if not old.get("p50_sec") or m.p50_sec is None:
            found.append(Beside(None))
            continue
        then, now = old["environment"], m.environment
        keys = dict.fromkeys((*_MACHINE, m.engine))
        differs = (f"{key} {then.get(key)}, now {now[key]}" for key in keys if then.get(key) != now[key])
        found.append(Beside(m.p50_sec / old["p50_sec"], tuple(differs)))
    return found


def judge(beside: Sequence[Beside], baseline: Path, limit: float | None) -> None:
    """Raise DataError where the baseline lacks what it should have, SlowerError for a time over 1 + limit of it."""
    ratios = [b.ratio for b in beside if b.ratio is not None]
    if len(ratios) < len(beside) and (limit is not None or not ratios):
        hint = "a baseline must be of the same network, protocol, batch, device, engine and precision"
        raise DataError(f"{baseline}: has {'not all' if ratios else 'none'} of these measurements", hint)
    if slower := [ratio for ratio in ratios if limit is not None and ratio > 1 + limit]:
        many = f"{len(slower)} of {len(beside)}"
        raise SlowerError(f"{many} are slower than in {baseline}, by up to {max(slower) - 1:.1%}")

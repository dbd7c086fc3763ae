"""Choose, on recordings whose true intervals are known, how scores of windows become events."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsmcli.data.find_videos import find_videos
from tsmcli.data.messages import BadVideo
from tsmcli.engine.checkpoint import save_checkpoint
from tsmcli.engine.events import VideoScored
from tsmcli.engine.inference import Choice
from tsmcli.errors import DataError, WeightsError
from tsmcli.intervals.find import (
    TICK_SEC,
    EventRules,
    WindowScores,
    calibrate,
    find_events,
    joined,
    prepare,
    runs_of,
)
from tsmcli.intervals.read import Events, same_names
from tsmcli.intervals.tiou import Floats, Interval, grouped, tiou
from tsmcli.recipes.eval_events import TIOU, EventScores, read_truth, score_events, within
from tsmcli.recipes.event_rules import Wanted
from tsmcli.recipes.events import Scoring, Stage
from tsmcli.recipes.find_events import score_recordings
from tsmcli.recipes.network import open_network

_THRESHOLDS = np.arange(1, 20) / 20
_STEPS = (0.0, 0.25, 0.5, 1.0, 2.0)
"""Gaps and shortest lengths that are tried, in windows."""
_TIOU = 0.5


@dataclass(frozen=True)
class FittedEvents:
    """What was chosen, where it was stored, and what it reaches on the recordings it was chosen on.

    Attributes:
        nll: mean negative log-likelihood of windows before and after the temperature; None: no window of a class.
        scores: before the fit (`usual`, with the same windows) and after it.
    """

    path: Path
    rules: EventRules
    class_names: list[str]
    nll: tuple[float, float] | None
    usual: EventScores
    scores: EventScores
    bad: list[BadVideo]


def fit_events(
    checkpoint: Path, list_file: Path, media: Path, wanted: Wanted, out: Path,
    *, device_name: str = "auto", engine: Choice | None = None,
) -> Generator[Stage | Scoring | VideoScored | BadVideo, None, FittedEvents]:  # fmt: skip
    """Fit temperature, thresholds, gaps and shortest lengths, and store them in a checkpoint.

    The windows are scored once. Their length, where none is asked for, is the median of the true intervals.

    Args:
        checkpoint: one of ours.
        list_file, media: true intervals, and the folder of their recordings.
        out: the checkpoint to write; it may be `checkpoint` itself.

    Raises:
        WeightsError: it is no checkpoint of ours.
        DataError: no true interval, a class that the network does not have, or no recording could be read.
    """
    opened = yield from open_network(checkpoint)
    own, names, several = opened.own, opened.class_names, opened.config.data.multi_label
    if own is None or opened.exported:
        raise WeightsError(f"{checkpoint}: rules for events are stored in a checkpoint of tsm, and this is none")
    listed = read_truth(list_file, names)
    if odd := [one.label for one in listed if one.label not in names]:
        raise DataError(f"{list_file}: {odd[0]!r} is no class of {checkpoint}: {', '.join(names[:10])}")
    usual = Wanted(background=wanted.background).rules(opened)
    marked = [one for one in listed if one.label not in usual.background]
    if not marked:
        raise DataError(f"{list_file}: no interval of a class that is no background")
    spans = [one.end_sec - one.start_sec for one in marked if one.end_sec < math.inf] or [usual.window_sec]
    wanted = replace(wanted, window_sec=wanted.window_sec or median(spans))
    opened = replace(opened, own=replace(own, events=None))  # what was fitted before does not count
    usual = wanted.rules(opened)
    split = find_videos([media / path for path in dict.fromkeys(one.video for one in listed)])
    scored = yield from score_recordings(
        opened, split, opened.config.test, usual, device_name=device_name, engine=engine, fps=wanted.fps, to=out
    )
    if not scored.scores:
        raise DataError(f"no recording of {list_file} could be read: {scored.bad[0].path}: {scored.bad[0].reason}")
    durations = {video: one.duration_sec for video, one in scored.scores.items()}
    truth = within([one for one in same_names(listed, durations) if one.video in durations], durations)
    temperature, nll = fit_temperature(scored.scores, truth, names, usual, several=several)
    rules = fit_rules(scored.scores, truth, names, replace(usual, temperature=temperature), several=several)

    def judged(some: EventRules) -> EventScores:
        found = [e for v, s in scored.scores.items() for e in find_events(v, s, some, names, several=several)]
        events = Events(found, durations, some.background, names)
        return score_events(events, truth, list(TIOU)[:1], str(out), str(list_file))

    result = FittedEvents(out, rules, names, nll, judged(usual), judged(rules), scored.bad)
    save_checkpoint(out, replace(own, events=rules))
    scored.forget()
    return result


def fit_temperature(
    scores: Mapping[str, WindowScores], truth: Sequence[Interval], names: Sequence[str], rules: EventRules,
    *, several: bool = False,
) -> tuple[float, tuple[float, float] | None]:  # fmt: skip
    """The temperature of the smallest negative log-likelihood of windows, and that before and after.

    A window is of the class of the true interval that its middle lies in; elsewhere of the background, if that is
    one class of the network; else it does not count.
    """
    from scipy.optimize import minimize_scalar

    true = grouped(truth, "video")
    parts = [_shown(one, true.get(video, []), names, rules, several) for video, one in scores.items()]
    probabilities, shown = np.concatenate([one.probabilities for one in scores.values()]), np.concatenate(parts)
    counted = shown.any(axis=1) | several
    if not counted.any():
        return 1.0, None
    probabilities, shown = probabilities[counted], shown[counted]

    def nll(log_temperature: float) -> float:
        said = np.clip(calibrate(probabilities, float(np.exp(log_temperature)), several=several), 1e-12, 1)
        if several:
            return float(-np.log(np.where(shown, said, np.clip(1 - said, 1e-12, 1))).mean())
        return float(-np.log(said[shown]).mean())

    best = float(minimize_scalar(nll, bounds=(-3, 3), method="bounded").x)
    return float(np.exp(best)), (nll(0.0), nll(best))


def _shown(
    scores: WindowScores, truth: Sequence[Interval], names: Sequence[str], rules: EventRules, several: bool
) -> NDArray[np.bool_]:
    """What the middle of each window shows: bool [n, K]; of several classes at once the one that begins last."""
    middles, shown = scores.spans.mean(axis=1), np.zeros(scores.probabilities.shape, np.bool_)
    for one in sorted(truth, key=lambda one: one.start_sec):
        first, after = np.searchsorted(middles, one[1:3])
        if not several:
            shown[first:after] = False
        shown[first:after, names.index(one.label)] = True
    if len(rules.background) == 1 and not several:
        shown[~shown.any(axis=1), names.index(rules.background[0])] = True
    return shown


def fit_rules(
    scores: Mapping[str, WindowScores], truth: Sequence[Interval], names: Sequence[str], rules: EventRules,
    *, several: bool = False,
) -> EventRules:  # fmt: skip
    """For each class the threshold, gap and shortest length of the best F1 at a tIoU of 0.5.

    All combinations of a few values are tried. Of equally good ones those nearer to the usual ones are taken: 0.5,
    no gap, any length. A class without a true interval keeps those.
    """
    line, true = _one_line(scores, rules, several), grouped(truth, "label")
    thresholds, gaps, shortest = [list(some) for some in (rules.thresholds, rules.gap_sec, rules.min_sec)]
    for label, name in enumerate(names):
        if name in rules.background or name not in true:
            continue
        ends = np.array([np.add(one[1:3], line.starts[one.video]) for one in true[name]])
        tries = _tries(line.smoothed[:, label], line.edges, ends, rules.window_sec)
        best = max(tries, key=lambda one: (round(one.f1, 9), -one.far))
        thresholds[label], gaps[label], shortest[label] = best.threshold, best.gap_sec, best.min_sec
    return replace(rules, thresholds=tuple(thresholds), gap_sec=tuple(gaps), min_sec=tuple(shortest))


class _Line(NamedTuple):
    """All videos one after the other, so far apart that nothing is joined: see `prepare`, and each one's start."""

    smoothed: Floats
    edges: Floats
    starts: dict[str, float]


def _one_line(scores: Mapping[str, WindowScores], rules: EventRules, several: bool) -> _Line:
    apart = 2 * max(_STEPS) * rules.window_sec
    rows, edges, starts, at = list[Floats](), [np.zeros(1)], dict[str, float](), 0.0
    for video, one in scores.items():
        smoothed, borders = prepare(one, rules, several=several)
        rows += [smoothed, np.full((1, smoothed.shape[1]), -1.0)]  # nothing is seen between two videos
        starts[video] = at
        edges.append(at + np.append(borders[1:], borders[-1] + apart))
        at += borders[-1] + apart
    return _Line(np.concatenate(rows), np.concatenate(edges), starts)


class _Try(NamedTuple):
    """A combination, what it reaches, and how far it is from the usual one."""

    threshold: float
    gap_sec: float
    min_sec: float
    f1: float
    far: float


def _tries(column: Floats, edges: Floats, true: Floats, window_sec: float) -> Iterator[_Try]:
    """Every combination for one class; `true` are the ends of its true intervals, [m, 2]."""
    for threshold in _THRESHOLDS.tolist():
        runs = runs_of(column >= threshold)
        for i, gap in enumerate(_STEPS):
            events = edges[joined(runs, edges, gap * window_sec)]
            right = _right(events, true)
            for j, least in enumerate(_STEPS):
                kept = events[:, 1] - events[:, 0] >= least * window_sec - TICK_SEC
                f1 = 2 * int(kept[right].sum()) / (int(kept.sum()) + len(true))
                yield _Try(threshold, gap * window_sec, least * window_sec, f1, i + j + 4 * abs(threshold - 0.5))


def _right(events: Floats, true: Floats) -> NDArray[np.int64]:
    """The events that have a tIoU of 0.5 with a true interval: they lie in the middle of it. Events lie apart."""
    if not len(events):
        return np.empty(0, np.int64)
    at = np.searchsorted(events[:, 0], true.mean(axis=1), side="right").clip(1) - 1
    return np.unique(at[tiou(events[at], *true.T) >= _TIOU])

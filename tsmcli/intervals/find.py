"""From class probabilities of windows to events. Pure functions, numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from tsmcli.intervals.tiou import Floats, Interval

TICK_SEC = 1e-6
"""Times that are closer are the same."""

_Sec = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class EventRules:
    """How windows of a video become events. A checkpoint keeps those that `tsm events fit` found.

    Attributes:
        window_sec, stride_sec: the windows that are scored.
        smooth_sec: scores are averaged over so long, in the middle of which they then stand.
        temperature: logits are divided by it.
        background: classes that never are an event.
        thresholds: of each class, the probability from which on it is seen.
        gap_sec: of each class, what lies between two parts of one event at most.
        min_sec: of each class, the shortest event.
        streamed: the network, a unidirectional one, sees a frame each `stride_sec` and remembers those before.
    """

    window_sec: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    stride_sec: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    smooth_sec: _Sec
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    background: tuple[str, ...]
    thresholds: tuple[_Share, ...]
    gap_sec: tuple[_Sec, ...]
    min_sec: tuple[_Sec, ...]
    streamed: bool = False

    @property
    def reach(self) -> int:
        """How many windows before and after one its scores are averaged over."""
        return round(self.smooth_sec / self.stride_sec / 2)


class WindowScores(NamedTuple):
    """Probabilities [n, K] of windows of a video, their spans [n, 2] in seconds, rising, and the video's length."""

    probabilities: Floats
    spans: Floats
    duration_sec: float


def default_rules(window_sec: float, names: Sequence[str]) -> EventRules:
    """Rules that nobody fitted: seen from a probability of 0.5 on, no gaps, of any length, but for `background`."""
    none, every = tuple(name for name in names if name.lower() == "background"), (0.0,) * len(names)
    return EventRules(window_sec, window_sec / 4, window_sec / 2, 1.0, none, (0.5,) * len(names), every, every)


def find_events(
    video: str, scores: WindowScores, rules: EventRules, names: Sequence[str], *, several: bool = False
) -> list[Interval]:
    """The events of a video, by their start.

    Each window speaks for the time around its middle, up to half the way to the next window's. An event is a run of
    time in which its class is seen; its score is the mean probability in it.

    Args:
        several: classes do not exclude each other.
    """
    smoothed, edges = prepare(scores, rules, several=several)
    found = []
    for label, name in enumerate(names):
        if name in rules.background:
            continue
        column = smoothed[:, label]
        runs = joined(runs_of(column >= rules.thresholds[label]), edges, rules.gap_sec[label])
        sums = np.concatenate([[0.0], np.cumsum(column)])
        seconds = edges[runs[:, 1]] - edges[runs[:, 0]]
        for first, end in runs[seconds >= rules.min_sec[label] - TICK_SEC].tolist():
            score = float((sums[end] - sums[first]) / (end - first))
            found.append(Interval(video, float(edges[first]), float(edges[end]), name, score))
    return sorted(found, key=lambda event: (event.start_sec, event.label))


def prepare(scores: WindowScores, rules: EventRules, *, several: bool = False) -> tuple[Floats, Floats]:
    """Calibrated and smoothed probabilities [n, K], and the borders of the time that each is of, [n + 1]."""
    calibrated = calibrate(scores.probabilities, rules.temperature, several=several)
    middles = scores.spans.mean(axis=1)
    edges = np.concatenate([[0.0], (middles[1:] + middles[:-1]) / 2, [scores.duration_sec]])
    return moving_mean(calibrated, rules.reach), edges


def calibrate(probabilities: Floats, temperature: float, *, several: bool = False) -> Floats:
    """Probabilities [n, K] of logits that are divided by a temperature: the softmax, or `several`: the sigmoid."""
    small = np.clip(probabilities.astype(np.float64), 1e-12, 1 - 1e-12)
    if several:
        return np.asarray(1 / (1 + ((1 - small) / small) ** (1 / temperature)))
    logs = np.log(small) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def moving_mean(values: Floats, reach: int) -> Floats:
    """The mean of each row of [n, K] and up to `reach` on both sides of it."""
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    rows = np.arange(len(values))
    first, end = np.maximum(rows - reach, 0), np.minimum(rows + reach + 1, len(values))
    return np.asarray((sums[end] - sums[first]) / (end - first)[:, None])


def runs_of(seen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[first, end) of each run of true values: [m, 2]."""
    steps = np.diff(np.concatenate([[False], seen, [False]]).astype(np.int8))
    return np.stack([np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)], axis=1)


def joined(runs: NDArray[np.int64], edges: Floats, gap_sec: float) -> NDArray[np.int64]:
    """The runs with those put together that at most so long a gap divides."""
    apart = edges[runs[1:, 0]] - edges[runs[:-1, 1]] > gap_sec + TICK_SEC
    both = np.stack([np.concatenate([[True], apart]), np.concatenate([apart, [True]])])
    return np.stack([runs[both[0], 0], runs[both[1], 1]], axis=1) if len(runs) else runs

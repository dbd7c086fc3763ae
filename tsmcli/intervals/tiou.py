"""How well events fit true intervals: temporal IoU, as ActivityNet's and THUMOS14's programs count. numpy only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rule = Literal["activitynet", "thumos14"]

AMBIGUOUS = "Ambiguous"
"""A label of THUMOS14: there an event is neither right nor wrong."""


class Interval(NamedTuple):
    """[start, end) of a video in seconds, of a class; an event has a score, a true interval has 1."""

    video: str
    start_sec: float
    end_sec: float
    label: str
    score: float = 1.0


class TiouScores(NamedTuple):
    """Average precision of each class [thresholds], and its mean over classes, [thresholds]."""

    thresholds: list[float]
    ap: dict[str, list[float]]
    mean: list[float]

    @property
    def average(self) -> float:
        """Mean over thresholds."""
        return float(np.mean(self.mean))


def tiou_map(
    truth: Sequence[Interval], events: Sequence[Interval], rule: Rule = "activitynet",
    thresholds: Sequence[float] | None = None,
) -> TiouScores:  # fmt: skip
    """Mean average precision of events. Classes are those of the truth; events of others are not counted.

    Args:
        truth: none of them empty. Those labelled `Ambiguous` are no class; for THUMOS14 they excuse events.
        events: in any order; of equal scores the later one comes first (ActivityNet) or the earlier (THUMOS14).
        thresholds: of the tIoU; None: 0.5 to 0.95 (ActivityNet), 0.1 to 0.5 (THUMOS14).

    Raises:
        ValueError: there is no true interval, or an empty one.
    """
    if any(t.end_sec <= t.start_sec for t in truth):
        raise ValueError("an empty true interval")
    true, found, ap = grouped(truth, "label"), grouped(events, "label"), {}
    ambiguous = true.pop(AMBIGUOUS, [])
    if not true:
        raise ValueError("no true interval")
    official = np.linspace(0.5, 0.95, 10) if rule == "activitynet" else np.arange(1, 6) * 0.1
    limits = official.tolist() if thresholds is None else list(thresholds)
    for label, own in true.items():
        if rule == "activitynet":
            order, hits = match(own, found.get(label, []), limits)
            ap[label] = [_area(row, len(own)) for row in hits[:, order]]
        else:
            ap[label] = [_eleven_points(own, found.get(label, []), ambiguous, limit) for limit in limits]
    return TiouScores(limits, ap, np.mean(list(ap.values()), axis=0).tolist())


def match(
    truth: Sequence[Interval], events: Sequence[Interval], thresholds: Sequence[float]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """ActivityNet's matching of one class: the order of the events, and which are right, bool [thresholds, events].

    By falling score each event takes the true interval that it overlaps most of those that are free and that it
    overlaps enough; each threshold by itself.
    """
    order = np.argsort([event.score for event in events], kind="stable")[::-1].astype(np.int64)
    hits = np.zeros((len(thresholds), len(events)), np.bool_)
    ends, free = {}, {}
    for video, group in grouped(truth, "video").items():
        ends[video], free[video] = _ends(group), np.ones((len(thresholds), len(group)), np.bool_)
    for number in order.tolist():
        event = events[number]
        if event.video not in ends:
            continue
        overlap, unused = tiou(ends[event.video], *event[1:3]), free[event.video]
        best_first = overlap.argsort()[::-1]
        near = best_first[overlap[best_first] >= min(thresholds)].tolist()
        for row, limit in enumerate(thresholds):
            best = next((one for one in near if unused[row, one]), None)
            if best is not None and overlap[best] >= limit:
                unused[row, best], hits[row, number] = False, True
    return order, hits


def f1_score(truth: Sequence[Interval], events: Sequence[Interval]) -> float:
    """F1 of events of one class under `match` at 0.5; 0 if there is neither an event nor a true interval."""
    hits = match(truth, events, [0.5])[1].sum()
    return float(2 * hits / max(len(truth) + len(events), 1))


def false_alarms(truth: Sequence[Interval], events: Sequence[Interval]) -> list[Interval]:
    """The events that overlap no true interval of their class at all."""
    true = {key: _ends(group) for key, group in grouped(truth, "video", "label").items()}
    return [e for e in events if (e.video, e.label) not in true or not tiou(true[e.video, e.label], *e[1:3]).any()]


def delays(truth: Sequence[Interval], events: Sequence[Interval]) -> list[float | None]:
    """Seconds from the start of each true interval to the first event of its class in it; None: there is none."""
    found = {key: _ends(group) for key, group in grouped(events, "video", "label").items()}
    result: list[float | None] = []
    for true in truth:
        ends = found.get((true.video, true.label), np.empty((0, 2)))
        starts = ends[tiou(ends, *true[1:3]) > 0, 0]
        result.append(max(0.0, float(starts.min()) - true.start_sec) if len(starts) else None)
    return result


def tiou(ends: Floats, start: float | Floats, end: float | Floats) -> Floats:
    """Intersection over union of intervals [n, 2] with another one, or each with its own of n others: [n]."""
    common = (np.minimum(ends[:, 1], end) - np.maximum(ends[:, 0], start)).clip(0)
    union = (ends[:, 1] - ends[:, 0]) + (end - start) - common
    return np.asarray(common / np.where(union > 0, union, 1))


def _area(hits: NDArray[np.bool_], positives: int) -> float:
    """Area below the precision, made falling, over all recalls (VOC 2011); hits by falling score."""
    right = np.cumsum(hits)
    precision = np.concatenate([[0.0], right / np.arange(1, len(hits) + 1), [0.0]])
    recall = np.concatenate([[0.0], right / positives, [1.0]])
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.diff(recall) @ precision[1:])


def _eleven_points(
    truth: Sequence[Interval], events: Sequence[Interval], ambiguous: Sequence[Interval], limit: float
) -> float:
    """THUMOS14's average precision of one class.

    In each video each true interval, in file order, takes the free event that overlaps it most. Events left over
    are wrong, unless they overlap an ambiguous interval.
    """
    true, unsure = grouped(truth, "video"), grouped(ambiguous, "video")
    judged: list[tuple[float, bool]] = []
    for video, group in grouped(events, "video").items():
        group = sorted(group, key=lambda event: -event.score)
        ends, right = _ends(group), np.zeros(len(group), np.bool_)
        for one in true.get(video, []):
            overlap = np.where(right, 0.0, tiou(ends, *one[1:3]))
            best = int(overlap.argmax())
            right[best] |= overlap[best] > limit
        doubt = _ends(unsure.get(video, []))
        for event, hit in zip(group, right.tolist(), strict=True):
            if hit or not tiou(doubt, *event[1:3]).any():
                judged.append((event.score, hit))
    hits = np.array([hit for _, hit in sorted(judged, key=lambda one: -one[0])], np.bool_)
    right = np.cumsum(hits)
    precision, recall = right / np.arange(1, len(hits) + 1), right / len(truth)
    return float(np.mean([precision[recall >= i * 0.1].max(initial=0.0) for i in range(11)]))


def _ends(group: Sequence[Interval]) -> Floats:
    return np.array([(i.start_sec, i.end_sec) for i in group], np.float64).reshape(-1, 2)


def grouped(intervals: Iterable[Interval], *fields: str) -> dict[Any, list[Interval]]:
    """The intervals of each value of a field, or of several, as a tuple; sorted by them, each in its old order."""
    key = attrgetter(*fields)
    return {value: list(group) for value, group in groupby(sorted(intervals, key=key), key)}

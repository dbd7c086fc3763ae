"""Score events of long videos against true intervals. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tsmcli.data.intervals import FORM, class_index, class_key, read_rows
from tsmcli.data.listfile import read_text, whole_number
from tsmcli.errors import DataError, UsageError
from tsmcli.intervals.read import Events, read_events, same_names
from tsmcli.intervals.tiou import AMBIGUOUS, Interval, TiouScores, delays, f1_score, false_alarms, grouped, tiou_map

TIOU = {"tiou_map": "activitynet", "tiou_map=thumos14": "thumos14"}
"""Our names of the metrics, and whose rules they follow."""

NO_END_SEC = 1e9
"""Where an interval without an end stops in a video whose length nobody knows, because it was not looked at."""


@dataclass(frozen=True)
class ClassEvents:
    """One class: true intervals, events, average precision (mean over tIoU), F1 at 0.5, and as in `EventScores`."""

    name: str
    true: int
    events: int
    ap: float
    f1: float
    false_alarms: int
    found: int
    delay_sec: float | None


@dataclass(frozen=True)
class EventScores:
    """How well events fit true intervals.

    Attributes:
        scores: by rule, `activitynet` or `thumos14`.
        f1: mean over classes, at a tIoU of 0.5, matched as ActivityNet does.
        hours: of video; None: not known.
        false_alarms: events that overlap no true interval of their class.
        found, delay_sec: true intervals with an event of their class in them, and the median seconds from the start
            of the interval to the start of the first one.
        unknown: events of classes without a true interval; they count as false alarms only.
        missing: videos of the list that the events are not of.
    """

    scores: dict[str, TiouScores]
    source: str
    num_videos: int
    true: int
    f1: float
    hours: float | None
    false_alarms: int
    found: int
    delay_sec: float | None
    unknown: int
    classes: list[ClassEvents]
    missing: list[str] = field(default_factory=list)

    @property
    def alarms_per_hour(self) -> float | None:
        """False alarms an hour of video."""
        return self.false_alarms / self.hours if self.hours else None


def eval_events(files: Sequence[Path], metrics: Sequence[str], list_file: Path | None) -> EventScores:
    """Score a file of events.

    Args:
        metrics: keys of `TIOU`.
        list_file: the true intervals.

    Raises:
        UsageError: another metric is asked for, too; not one file, or no list.
        DataError: a file is wrong, or there is no true interval.
    """
    if odd := [metric for metric in metrics if metric not in TIOU]:
        raise UsageError(f"{odd[0]} is of clips, tiou_map of events", "one command for each")
    if len(files) != 1 or list_file is None:
        raise UsageError(
            "tiou_map needs a file of events and the true intervals", "EVENTS.json --list INTERVALS.csv"
        )
    events, truth = read_both(files[0], list_file)
    return score_events(events, truth, metrics, str(files[0]), str(list_file))


def read_both(file: Path, list_file: Path) -> tuple[Events, list[Interval]]:
    """Events, and the true intervals, which have the names of their videos and an end; errors of `eval_events`."""
    events = read_events(file)
    truth = same_names(read_truth(list_file, events.class_names), [*_videos(events), *events.failed])
    return events, within(truth, events.durations or {})


def read_truth(path: Path, class_names: Sequence[str] = ()) -> list[Interval]:
    """True intervals from a list of intervals, in seconds; an end that is not said is infinite.

    Args:
        class_names: labels may be numbers of them, or differ in case, as in lists for training.

    Raises:
        DataError: the file or one of its rows is wrong; the first few are named.
    """
    rows = read_rows(read_text(path, "a list of intervals"))
    if not rows:
        raise DataError(f"{path}: no list of intervals", hint=f"its first line is: {FORM}")
    index, problems, found = class_index(class_names), list[str](), list[Interval]()
    for row in rows:
        labels = [label for label in map(str.strip, row.label.split(";")) if label]
        unclear = "its times are frames; here they are in seconds" if row.span and row.span.frames else ""
        if wrong := row.problem or unclear or ("" if labels else "there is no label"):
            problems.append(f"{path}:{row.number}: {wrong}")
            continue
        start, end = row.span[:2] if row.span else (0.0, math.inf)
        for label in labels:
            number = index.get(label, index.get(class_key(label), whole_number(label)))
            if number is not None and number < len(class_names):
                label = class_names[number]
            found.append(Interval(row.path, start, end, label))
    if problems:
        more = [f"... and {len(problems) - 5} more rows"] if len(problems) > 5 else []
        raise DataError("\n".join([*problems[:5], *more]), hint=f"a line is: {FORM}")
    return found


def within(truth: Sequence[Interval], durations: Mapping[str, float]) -> list[Interval]:
    """The true intervals, those without an end up to the end of their video.

    Raises:
        DataError: nobody knows where that is, or the interval begins after it.
    """
    ended = []
    for one in truth:
        end = durations.get(one.video, math.inf) if math.isinf(one.end_sec) else one.end_sec
        if math.isinf(end) and not durations:
            raise DataError(f"{one.video}: an interval without an end, and its length is not known")
        if end <= one.start_sec:
            raise DataError(f"{one.video}: an interval begins at {one.start_sec:g} s, after the end of the video")
        ended.append(one._replace(end_sec=min(end, NO_END_SEC)))
    return ended


def score_events(
    events: Events, listed: Sequence[Interval], metrics: Sequence[str], source: str, list_name: str
) -> EventScores:
    """See `eval_events`; true intervals of the background are videos without an event."""
    truth = [one for one in listed if one.label not in events.background]
    certain = [one for one in truth if one.label != AMBIGUOUS]
    if not certain:
        raise DataError(f"{list_name}: no true interval of a class that is no background")
    videos, true, found = _videos(events), grouped(certain, "label"), grouped(events.events, "label")
    scores = {TIOU[metric]: tiou_map(truth, events.events, TIOU[metric]) for metric in metrics}  # type: ignore[arg-type]
    ap = next(iter(scores.values())).ap
    classes = [_of_class(label, some, found.get(label, []), ap[label]) for label, some in true.items()]
    late = [sec for sec in delays(certain, events.events) if sec is not None]
    unknown = sum(len(some) for label, some in found.items() if label not in true)
    missing = {one.video for one in listed} - videos if events.durations is not None else set(events.failed)
    return EventScores(
        scores, source, len(videos), len(certain), sum(c.f1 for c in classes) / len(classes),
        sum(events.durations.values()) / 3600 if events.durations else None,
        sum(c.false_alarms for c in classes) + unknown, len(late), median(late) if late else None, unknown, classes,
        sorted(missing),
    )  # fmt: skip


def _videos(events: Events) -> set[str]:
    return set(events.durations) if events.durations is not None else {event.video for event in events.events}


def _of_class(label: str, true: Sequence[Interval], found: Sequence[Interval], ap: Sequence[float]) -> ClassEvents:
    late = [sec for sec in delays(true, found) if sec is not None]
    alarms, delay = len(false_alarms(true, found)), median(late) if late else None
    mean, f1 = sum(ap) / len(ap), f1_score(true, found)
    return ClassEvents(label, len(true), len(found), mean, f1, alarms, len(late), delay)

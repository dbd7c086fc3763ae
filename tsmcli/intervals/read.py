"""True intervals from a table, and events from a file of `tsm predict --events`, or of ActivityNet's form."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from tsmcli.errors import DataError
from tsmcli.intervals.tiou import Interval

_HINT = "tsm predict CHECKPOINT VIDEO --events --to FILE.json writes one"


@dataclass(frozen=True)
class Events:
    """Events of some videos.

    Attributes:
        events: in the order of the file.
        durations: seconds of each video, also of those without an event; None: the file does not say.
        background: classes that are no event, so that their true intervals do not count.
        class_names: of the network; for truth that has numbers.
        failed: videos that could not be read.
    """

    events: list[Interval]
    durations: dict[str, float] | None = None
    background: tuple[str, ...] = ()
    class_names: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def read_events(path: Path) -> Events:
    """Read a file of events.

    Raises:
        DataError: it is missing or is something else.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
        if "results" in tree:
            rows = [
                (video, *e["segment"], e["label"], e["score"]) for video, es in tree["results"].items() for e in es
            ]
            return Events([_checked(*row) for row in rows])
        events = [
            _checked(video["video"], e["start_sec"], e["end_sec"], e["name"], e["score"])
            for video in tree["videos"]
            for e in video["events"]
        ]
        durations = {video["video"]: float(video["duration_sec"]) for video in tree["videos"]}
        failed = [one["video"] for one in tree.get("failed", [])]
        return Events(events, durations, tuple(tree["background"]), list(tree["class_names"]), failed)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", _HINT) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: no file of events: {type(error).__name__}: {error}", _HINT) from None


def _checked(video: Any, start: Any, end: Any, label: Any, score: Any) -> Interval:
    event = Interval(str(video), float(start), float(end), str(label), float(score))
    if not all(map(math.isfinite, (event.start_sec, event.end_sec, event.score))) or end < start:
        raise ValueError(f"{event.video}: no interval, or no score: {start} to {end}, {score}")
    return event


def read_truth(path: Path, class_names: Sequence[str] = ()) -> list[Interval]:
    """True intervals from a CSV file with the columns path, start, end, label; others are ignored.

    Args:
        class_names: a label that is none of them may be the number of one.

    Raises:
        DataError: the file or one of its rows is wrong; the first few are named.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV: {error}", "save it as CSV in UTF-8") from None
    hint, problems, found = "a heading path,start,end,label, and a row an interval", [], []
    if not rows or not {"path", "start", "end", "label"} <= set(rows[0]):
        raise DataError(f"{path}: no list of intervals", hint)
    for number, row in enumerate(rows, 2):
        try:
            start, end, label = seconds(row["start"]), seconds(row["end"]), row["label"]
        except (ValueError, AttributeError):
            problems.append(f"{path}:{number}: no times in seconds or hh:mm:ss: {row['start']!r}, {row['end']!r}")
            continue
        if not row["path"] or not label or end <= start:
            problems.append(f"{path}:{number}: no path or label, or the end is not after the start")
        if label not in class_names and (label or "").isdigit() and int(label) < len(class_names):
            label = class_names[int(label)]
        found.append(Interval(row["path"], start, end, label))
    if problems:
        more = [f"... and {len(problems) - 5} more rows"] if len(problems) > 5 else []
        raise DataError("\n".join([*problems[:5], *more]), hint)
    return found


def seconds(text: str) -> float:
    """`75.5`, `1:15.5` or `00:01:15.5` as seconds; ValueError for anything else."""
    parts = [float(part) for part in text.split(":")]
    if len(parts) > 3 or not all(math.isfinite(part) and part >= 0 for part in parts):
        raise ValueError(text)
    return sum(part * 60.0**place for place, part in enumerate(reversed(parts)))


def same_names(truth: Iterable[Interval], videos: Iterable[str]) -> list[Interval]:
    """True intervals, named as the videos that they are of: `data/cam1.mp4` is `cam1.mp4` of a list.

    Raises:
        DataError: a name in the list may be of several videos.
    """
    known, renamed = set(videos), dict[str, str]()
    ends: dict[tuple[str, ...], list[str]] = {}
    for video in known:
        parts = _parts(video)
        for first in range(len(parts)):
            ends.setdefault(parts[first:], []).append(video)
    result = []
    for one in truth:
        if one.video not in renamed:
            fitting = [one.video] if one.video in known else ends.get(_parts(one.video), [])
            if len(fitting) > 1:
                raise DataError(
                    f"{one.video} of the list may be {fitting[0]} or {fitting[1]}", "name its folder, too"
                )
            renamed[one.video] = fitting[0] if fitting else one.video
        result.append(one._replace(video=renamed[one.video]))
    return result


def _parts(video: str) -> tuple[str, ...]:
    return PurePosixPath(video.replace("\\", "/")).parts

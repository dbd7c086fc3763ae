"""Events from a file of `tsm predict --events`, or of ActivityNet's form, and the names of their videos."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import takewhile
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
            found = [(video, e) for video, events in tree["results"].items() for e in events]
            return Events([_checked(video, e["segment"], e["label"], e["score"]) for video, e in found])
        found = [(video["video"], e) for video in tree["videos"] for e in video["events"]]
        events = [_checked(video, (e["start_sec"], e["end_sec"]), e["name"], e["score"]) for video, e in found]
        durations = {video["video"]: _finite(video["duration_sec"]) for video in tree["videos"]}
        failed = [one["video"] for one in tree.get("failed", [])]
        return Events(events, durations, tuple(tree["background"]), list(tree["class_names"]), failed)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}", _HINT) from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: no file of events: {type(error).__name__}: {error}", _HINT) from None


def _checked(video: Any, segment: Any, label: Any, score: Any) -> Interval:
    start, end = map(_finite, segment)
    event = Interval(str(video), start, end, str(label), _finite(score))
    if end < start:
        raise ValueError(f"{video}: no interval: {start} to {end}")
    return event


def _finite(value: Any) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError(f"{value} is no time, or no score")
    return number


def same_names(truth: Iterable[Interval], videos: Iterable[str]) -> list[Interval]:
    """True intervals, named as the videos that they are of: `data/cam1.mp4` is `cam1.mp4` of a list.

    Raises:
        DataError: a name in the list may be of several videos.
    """
    known = {_parts(video): video for video in videos}
    folders = sorted(parts[:-1] for parts in known) or [()]
    root = [a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(folders[0], folders[-1], strict=False))]
    ends: dict[tuple[str, ...], list[str]] = {}
    for parts, video in known.items():
        for first in range(len(parts)):
            ends.setdefault(parts[first:], []).append(video)

    def full(name: str) -> str:
        parts = _parts(name)
        at_once = known.get(parts) or known.get((*root, *parts))
        fitting = [at_once] if at_once else ends.get(parts, [name])
        if len(fitting) > 1:
            raise DataError(f"{name} of the list may be {fitting[0]} or {fitting[1]}", "name its folder, too")
        return fitting[0]

    return [one._replace(video=full(one.video)) for one in truth]


def _parts(video: str) -> tuple[str, ...]:
    return PurePosixPath(video.replace("\\", "/")).parts

"""Events of long videos as a page: their scores, and timelines of the videos. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tsmcli.intervals.tiou import Interval
from tsmcli.recipes.eval_events import NO_END_SEC, EventScores
from tsmcli.recipes.event_timelines import Judged, Kind, Timeline
from tsmcli.report.event_scores import RULES, seconds
from tsmcli.report.tables import percent
from tsmcli.report.template import write_page

SHOWN = 50
"""Videos of a page."""
LEFT_PX, WIDE_PX, RIGHT_PX = 150, 770, 40
"""Of a drawing: names of classes, the length of the video, and room for the last time."""
_ROW_PX, _BAND_PX, _LEAST_PX = 34, 12, 1.5
_TICKS = 8
_STEPS_SEC = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
KINDS: dict[Kind, str] = {
    "found": "true interval, found",
    "missed": "true interval, missed",
    "ambiguous": "ambiguous: nothing is right or wrong here",
    "right": "event, right",
    "partly": "event that overlaps a true one too little, or one that is taken",
    "alarm": "event, false alarm",
}


class Bar(NamedTuple):
    """A rectangle of a drawing, and its tooltip."""

    x: float
    y: float
    width: float
    kind: Kind
    words: str


def write_event_page(path: Path, scores: EventScores, videos: Sequence[Timeline], list_name: Path) -> None:
    """Write the page; `videos` with those first of which it has a drawing."""
    write_page(
        path, "events.html.j2", {}, scores=scores, list=list_name, rules=RULES, kinds=KINDS, facts=_facts(scores),
        classes=sorted(scores.classes, key=lambda one: (one.ap, one.name)), seconds=seconds, count=len(videos),
        drawings=[_drawing(one) for one in videos[:SHOWN]], left=LEFT_PX, right=LEFT_PX + WIDE_PX,
        width=LEFT_PX + WIDE_PX + RIGHT_PX, band=_BAND_PX,
    )  # fmt: skip


def clock(sec: float, decimals: int = 0) -> str:
    """3723.5 -> 1:02:03, or 1:02:03.50."""
    whole, rest = divmod(round(max(sec, 0.0) * 10**decimals), 10**decimals)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" + (f".{rest:0{decimals}}" if decimals else "")


def _facts(scores: EventScores) -> list[tuple[str, str, str]]:
    """Name, value and remark of what stands beside the mean average precision."""
    rate = "" if scores.alarms_per_hour is None else f"{scores.alarms_per_hour:.3g} an hour; "
    hours = "" if scores.hours is None else f"{scores.hours:.3g} h of video"
    return [
        ("videos", str(scores.num_videos), hours),
        ("F1", percent(scores.f1), "mean over classes, at a tIoU of 0.5"),
        ("false alarms", str(scores.false_alarms), f"{rate}they overlap no true interval of their class"),
        ("found", f"{scores.found} of {scores.true}", "true intervals with an event of their class in them"),
        ("delay", seconds(scores.delay_sec), "median, from the start of a true interval to its first event"),
    ]


def _drawing(of: Timeline) -> dict[str, Any]:
    """What the template draws of a video: for each class a band of true intervals above one of events."""
    scale = WIDE_PX / max(of.length_sec, 1e-9)
    top = {label: row * _ROW_PX for row, label in enumerate(of.labels)}
    bars = [_bar(one, top[one.interval.label] + 2, scale) for one in of.truth]
    bars += [_bar(one, top[one.interval.label] + 2 + _BAND_PX + 2, scale) for one in of.events]
    step = next((sec for sec in _STEPS_SEC if of.length_sec <= _TICKS * sec), of.length_sec / _TICKS)
    ticks = [(LEFT_PX + i * step * scale, clock(i * step)) for i in range(int(of.length_sec / step + 1e-9) + 1)]
    counts = {kind: of.count(kind) for kind in KINDS}
    return {
        "video": of.video, "length": clock(of.length_sec), "seen": of.seen, "bars": bars, "ticks": ticks,
        "rows": list(top.items()), "bottom": len(top) * _ROW_PX, "counts": counts,
        "true": of.count("found", "missed"), "events": len(of.events),
    }  # fmt: skip


def _bar(one: Judged, y: float, scale: float) -> Bar:
    start, end = (min(max(sec * scale, 0.0), WIDE_PX) for sec in (one.interval.start_sec, one.interval.end_sec))
    width = max(end - start, _LEAST_PX)
    return Bar(LEFT_PX + min(start, WIDE_PX - width), y, width, one.kind, _words(one.interval, one.kind))


def _words(one: Interval, kind: Kind) -> str:
    end = "the end" if one.end_sec >= NO_END_SEC else clock(one.end_sec, 2)
    sure = "" if kind in ("found", "missed", "ambiguous") else f", probability {one.score:.3f}"
    return f"{one.label}, {clock(one.start_sec, 2)} to {end}{sure}: {KINDS[kind]}"

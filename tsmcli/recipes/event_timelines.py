"""True intervals and events of each video, and which of them fit: what a timeline shows. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Literal, NamedTuple

from tsmcli.intervals.read import Events
from tsmcli.intervals.tiou import AMBIGUOUS, Interval, delays, false_alarms, match
from tsmcli.recipes.eval_events import NO_END_SEC

MATCHED_TIOU = 0.5
"""As of the F1 of `EventScores`."""

Kind = Literal["found", "missed", "ambiguous", "right", "partly", "alarm"]
MISTAKES: tuple[Kind, ...] = ("missed", "partly", "alarm")


class Judged(NamedTuple):
    """A true interval or an event, and what the scores say of it.

    Kinds of true intervals: an event of their class is in them (found), or none is (missed); no event is right or
    wrong there (ambiguous). Kinds of events: matched at `MATCHED_TIOU` (right), without any true interval of their
    class (alarm), and those between (partly).
    """

    interval: Interval
    kind: Kind


@dataclass(frozen=True)
class Timeline:
    """A video.

    Attributes:
        length_sec: up to its end, or up to the end of the last interval where that is later or all that is known.
        seen: False: it is in the list of true intervals only.
        truth, events: by their start.
    """

    video: str
    length_sec: float
    seen: bool
    truth: list[Judged]
    events: list[Judged]

    @property
    def labels(self) -> list[str]:
        """The classes that occur."""
        return sorted({one.interval.label for one in (*self.truth, *self.events)})

    def count(self, *kinds: Kind) -> int:
        """How many are of these kinds."""
        return sum(one.kind in kinds for one in (*self.truth, *self.events))


def timelines(events: Events, listed: Sequence[Interval]) -> list[Timeline]:
    """A timeline of every video, those with most mistakes first; arguments as of `score_events`."""
    truth = _by_video(_judge_truth([one for one in listed if one.label not in events.background], events.events))
    certain = [one for one in listed if one.label not in (*events.background, AMBIGUOUS)]
    found, known = _by_video(_judge_events(certain, events.events)), events.durations
    made = []
    for video in sorted({one.video for one in listed} | {*found, *(known or ()), *events.failed}):
        true, said = truth.get(video, []), found.get(video, [])
        ends = [one.end_sec if one.end_sec < NO_END_SEC else one.start_sec + 1 for one, _ in (*true, *said)]
        length = max([(known or {}).get(video, 0.0), *ends])
        made.append(Timeline(video, length, known is None or video in known, true, said))
    return sorted(made, key=lambda one: -one.count(*MISTAKES))


def _judge_truth(truth: Sequence[Interval], events: Sequence[Interval]) -> Iterator[Judged]:
    for one, delay in zip(truth, delays(truth, events), strict=True):
        yield Judged(one, "ambiguous" if one.label == AMBIGUOUS else "missed" if delay is None else "found")


def _judge_events(truth: Sequence[Interval], events: Sequence[Interval]) -> Iterator[Judged]:
    alarms, by_label = {*false_alarms(truth, events)}, attrgetter("label")
    for label, group in groupby(sorted(events, key=by_label), by_label):
        mine = list(group)
        hits = match([one for one in truth if one.label == label], mine, [MATCHED_TIOU])[1][0]
        for one, hit in zip(mine, hits.tolist(), strict=True):
            yield Judged(one, "right" if hit else "alarm" if one in alarms else "partly")


def _by_video(judged: Iterator[Judged]) -> dict[str, list[Judged]]:
    ordered = sorted(judged, key=lambda one: (one.interval.video, one.interval.start_sec))
    return {video: list(group) for video, group in groupby(ordered, lambda one: one.interval.video)}

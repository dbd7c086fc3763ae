"""Events while a video goes on: the same as of the whole video afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tsmcli.intervals.find import TICK_SEC, EventRules, WindowScores, find_events, prepare
from tsmcli.intervals.tiou import Floats, Interval


class Pace:
    """Chooses the frames that a network sees, one in each `step_sec`, from their times alone."""

    def __init__(self, step_sec: float) -> None:
        self.step_sec, self._due = step_sec, 0.0

    def takes(self, time_sec: float) -> bool:
        """Whether the network is to see a frame; ask once for each, in their order."""
        if time_sec < self._due - TICK_SEC:
            return False
        self._due = (np.floor((time_sec + TICK_SEC) / self.step_sec) + 1) * self.step_sec
        return True

    def span(self, time_sec: float, window_sec: float) -> tuple[float, float]:
        """What the scores after a frame are of: the time up to the next one, as long as a window."""
        return max(0.0, time_sec + self.step_sec - window_sec), time_sec + self.step_sec


class LiveEvents:
    """Says each event of a stream once, as soon as no later score can change it.

    Only scores are kept that unfinished events need.
    """

    def __init__(self, video: str, rules: EventRules, names: Sequence[str], *, several: bool = False) -> None:
        self.video, self.rules, self.names, self.several = video, rules, names, several
        self._rows: list[Floats] = []
        self._spans: list[tuple[float, float]] = []
        self._until = dict.fromkeys(names, -1.0)  # what begins before was said, or is none

    def push(self, probabilities: Floats, span: tuple[float, float]) -> list[Interval]:
        """The events that are certain after probabilities [K] of a window."""
        self._rows.append(probabilities)
        self._spans.append(span)
        scores, reach = self._scores(span[1]), self.rules.reach
        if len(self._rows) <= reach + 1:
            return []
        settled = float(prepare(scores, self.rules, several=self.several)[1][-2 - reach])
        gaps = dict(zip(self.names, self.rules.gap_sec, strict=True))
        least = dict(zip(self.names, self.rules.min_sec, strict=True))
        begun, new = settled, list[Interval]()
        for event in self._found(scores, replace(self.rules, min_sec=(0.0,) * len(self.names))):
            if event.end_sec + gaps[event.label] >= settled - 2 * TICK_SEC:
                begun = min(begun, event.start_sec)
                continue
            self._until[event.label] = event.end_sec
            if event.end_sec - event.start_sec >= least[event.label] - TICK_SEC:
                new.append(event)
        self._forget(begun - max(gaps.values()) - 2 * TICK_SEC)
        return new

    def finish(self, duration_sec: float) -> list[Interval]:
        """The events that the end of the video ends."""
        return self._found(self._scores(duration_sec), self.rules) if self._rows else []

    def _scores(self, duration_sec: float) -> WindowScores:
        return WindowScores(np.stack(self._rows), np.array(self._spans), duration_sec)

    def _found(self, scores: WindowScores, rules: EventRules) -> list[Interval]:
        events = find_events(self.video, scores, rules, self.names, several=self.several)
        return [event for event in events if event.start_sec >= self._until[event.label] - TICK_SEC]

    def _forget(self, cut: float) -> None:
        """Drop scores of what lies before a time, but for those that smooth what comes after it."""
        middles = np.array(self._spans).mean(axis=1)
        first = int(np.searchsorted(middles, cut)) - self.rules.reach - 2
        if first > 0:
            self._until = {label: max(cut, until) for label, until in self._until.items()}
            del self._rows[:first], self._spans[:first]

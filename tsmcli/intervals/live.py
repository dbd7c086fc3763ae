"""Events while a video goes on: the same as of the whole video afterwards."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tsmcli.intervals.find import TICK_SEC, EventRules, calibrate
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


class _Part(NamedTuple):
    """An event that may go on: its ends in seconds, and what all windows up to each of them add up to, [K + 1]."""

    start: float
    end: float
    before: Floats
    after: Floats


class LiveEvents:
    """Says each event of a stream once, as soon as no later score can change it.

    Kept are the few windows that smooth what comes, and of each class where its event began: however long an event
    goes on, a window takes the same time.
    """

    def __init__(self, video: str, rules: EventRules, names: Sequence[str], *, several: bool = False) -> None:
        self.video, self.rules, self.names, self.several = video, rules, names, several
        seen_from = zip(names, rules.thresholds, strict=True)
        self._seen_from = np.array([np.inf if name in rules.background else least for name, least in seen_from])
        self._rows: deque[Floats] = deque(maxlen=2 * rules.reach + 2)
        self._middles: deque[float] = deque(maxlen=2 * rules.reach + 2)
        self._open: dict[int, _Part] = {}
        self._edge, self._sums = 0.0, np.zeros(len(names) + 1)  # of what was smoothed: its end; [K] and how many

    def push(self, probabilities: Floats, span: tuple[float, float]) -> list[Interval]:
        """The events that are certain after probabilities [K] of a window."""
        self._rows.append(calibrate(probabilities[None], self.rules.temperature, several=self.several)[0])
        self._middles.append(sum(span) / 2)
        at = len(self._rows) - 2 - self.rules.reach
        return self._said(self._smooth(at)) if at >= 0 else []

    def finish(self, duration_sec: float) -> list[Interval]:
        """The events that the end of the video ends."""
        over = list[tuple[int, _Part]]()
        for at in range(max(0, len(self._rows) - 1 - self.rules.reach), len(self._rows)):
            over += self._smooth(at, duration_sec)
        return self._said([*over, *self._open.items()])

    def _smooth(self, at: int, end: float = 0.0) -> list[tuple[int, _Part]]:
        """Smooth the next window, the kept one of this number; what is over then. The last one lasts to `end`."""
        rows, middles, rules = [*self._rows], [*self._middles], self.rules
        begin, edge = self._edge, (middles[at] + middles[at + 1]) / 2 if at + 1 < len(rows) else end
        smoothed = np.mean(rows[max(0, at - rules.reach) : at + rules.reach + 1], axis=0)
        before, self._edge, self._sums = self._sums, edge, self._sums + np.append(smoothed, 1)
        for label in np.flatnonzero(smoothed >= self._seen_from).tolist():
            part = self._open.get(label, _Part(begin, edge, before, before))
            self._open[label] = part._replace(end=edge, after=self._sums)
        over = [label for label, part in self._open.items() if edge - part.end > rules.gap_sec[label] + TICK_SEC]
        return [(label, self._open.pop(label)) for label in over]

    def _said(self, over: Sequence[tuple[int, _Part]]) -> list[Interval]:
        """The events that are long enough, by their start."""
        found = []
        for label, part in over:
            sums = part.after - part.before
            if part.end - part.start >= self.rules.min_sec[label] - TICK_SEC:
                score = float(sums[label] / sums[-1])
                found.append(Interval(self.video, part.start, part.end, self.names[label], score))
        return sorted(found, key=lambda event: (event.start_sec, event.label))

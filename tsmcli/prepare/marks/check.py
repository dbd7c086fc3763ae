"""What can be used of the marks of a video, and what is wrong with the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsmcli.data.intervals import ROUNDED_SEC, Span
from tsmcli.prepare.marks.mark import Mark

_SAME_RATE = 5e-4
"""Relative: rates that differ by more are not the same; 29.97 and 30 differ by twice that."""


class MarkProblem(NamedTuple):
    """What is wrong with an interval, or unusual.

    Attributes:
        where: file and row or element.
        kind: `no video`, `several videos`, `unreadable`, `no label`, `empty`, `past the end`, `before the start`,
            `twice`, `overlap` or `frame rate`.
        used: whether the interval is in the lists all the same.
    """

    where: str
    video: str
    kind: str
    detail: str
    used: bool = False


class Clock(NamedTuple):
    """Times of all frames [n] and the end in seconds, and the rate; or why the video cannot be read."""

    times: NDArray[np.float64]
    length_sec: float
    rate: float
    problem: str = ""

    def seconds(self, frame: float) -> float:
        """When a frame is shown; the end of the video for one past the last."""
        return float(self.times[max(int(frame), 0)]) if frame < len(self.times) else self.length_sec

    def frames(self, start: float, end: float) -> tuple[int, int]:
        """First frame that begins in [start, end), and the first one after; the same where none does."""
        first, after = np.searchsorted(self.times, np.subtract((start, end), ROUNDED_SEC)).tolist()
        return first, max(first, after)


class Used(NamedTuple):
    """An interval for the lists."""

    span: Span
    label: str
    seconds: float


@dataclass
class Checked:
    """The marks of a video.

    Attributes:
        used: in their order in time.
        taken: seconds in which something is marked, usable or not.
    """

    used: list[Used] = field(default_factory=list)
    taken: list[tuple[float, float]] = field(default_factory=list)
    problems: list[MarkProblem] = field(default_factory=list)


def check_marks(marks: Sequence[Mark], clock: Clock, rates: Mapping[str, float]) -> Checked:
    """Check the marks of one video.

    Args:
        rates: name of the video, as marks have it -> frames per second that its times were made with.
    """
    found, seen = Checked(), dict[tuple[str, int, int], str]()
    last: tuple[float, str] | None = None
    for mark in sorted(marks, key=lambda mark: clock.seconds(mark.start) if mark.frames else mark.start):
        limit = len(clock.times) if mark.frames else clock.length_sec
        span = Span(max(mark.start, 0), min(mark.end, limit), mark.frames)
        start, end = (clock.seconds(t) for t in span[:2]) if mark.frames else span[:2]
        found.taken.append((start, max(start, end)))
        first, after = clock.frames(start, end)
        wrong, detail = "", f"{mark.start:g} to {mark.end:g}, the video has {limit:.10g}"
        if mark.start >= limit:
            wrong = "past the end"
        elif first == after:
            wrong, detail = "empty", f"no frame begins in {mark.start:g} to {mark.end:g}"
        elif not mark.label:
            wrong, detail = "no label", ""
        elif same := seen.get((mark.label, first, after)):
            wrong, detail = "twice", f"the same as {same}"
        if wrong:
            found.problems.append(MarkProblem(mark.where, mark.video, wrong, detail))
            continue
        notes = [("past the end", f"{detail}; cut there")] if mark.end > limit else []
        notes += [("before the start", f"{detail}; cut there")] if mark.start < 0 else []
        notes += [("overlap", f"with {last[1]}")] if last and start < last[0] else []
        found.problems += [MarkProblem(mark.where, mark.video, kind, why, True) for kind, why in notes]
        last = max(last or (end, mark.where), (end, mark.where))
        seen[mark.label, first, after] = mark.where
        found.used.append(Used(span, mark.label, end - start))
    found.problems += _rates(marks, clock, rates)
    return found


def _rates(marks: Sequence[Mark], clock: Clock, rates: Mapping[str, float]) -> Iterator[MarkProblem]:
    for name, mark in {mark.video: mark for mark in reversed(marks)}.items():
        if name in rates and abs(rates[name] / clock.rate - 1) > _SAME_RATE:
            detail = f"its times were made with {rates[name]:.6g} frames a second, the video has {clock.rate:.6g}"
            yield MarkProblem(mark.where, name, "frame rate", detail, True)

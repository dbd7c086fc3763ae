"""When the frames of a video are shown. Real videos have gaps, clocks that start again, and rates of no meaning."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ticks = Sequence[int | None]
"""Times of frames in display order, in units of a clock; None where the file does not say one."""

_JUMP_SEC = 3600
"""A clock that jumps so far between two frames was set anew."""


class Timeline(NamedTuple):
    """The times of all frames.

    Attributes:
        times: seconds from the first frame, [n].
        duration_sec: from the first frame to the end of the last.
        rate: mean frames per second, (n - 1) / (last - first).
        clock: seconds that the times are multiples of.
    """

    times: NDArray[np.float64]
    duration_sec: float
    rate: Fraction
    clock: Fraction


def make_timeline(
    ticks: Ticks | NDArray[np.int64], last_ticks: int, clock: Fraction, stated_rate: Fraction
) -> Timeline:
    """The times of all frames. Those for which the file says none are as far apart as their neighbours.

    Args:
        last_ticks: how long the last frame is shown; 0: not known.
        stated_rate: what the file states as its rate, which is used only where there are no two times. Browsers and
            phones write what their clock has there, 1000 for example.
    """
    if isinstance(ticks, np.ndarray):
        known, values = np.arange(len(ticks)), ticks
    else:
        known = np.array([number for number, tick in enumerate(ticks) if tick is not None], np.int64)
        values = np.array([tick for tick in ticks if tick is not None], np.int64)
    if len(known) < 2 or values[0] >= values[-1]:
        times: NDArray[np.float64] = np.arange(len(ticks)) / float(stated_rate)
        rate = stated_rate
    else:
        numbers = np.arange(len(ticks))
        times = seconds = (values - values[0]) * float(clock)
        if len(known) < len(ticks):
            times = np.interp(numbers, known, seconds)
        for end, (a, b) in ((numbers < known[0], (0, 1)), (numbers > known[-1], (-2, -1))):
            step = (seconds[b] - seconds[a]) / (known[b] - known[a])
            times[end] = seconds[b] + (numbers[end] - known[b]) * step
        times -= times[0]
        rate = (len(ticks) - 1) / Fraction(float(times[-1])).limit_denominator(10**7)
        if len(known) == len(ticks):
            rate = (len(ticks) - 1) / (int(values[-1] - values[0]) * clock)
    last_sec = float(last_ticks * clock) or float(1 / rate)
    return Timeline(np.round(times, 9), round(float(times[-1]) + last_sec, 9), rate, clock)


def rising(pts: Ticks, dts: Ticks, clock: Fraction) -> Ticks:
    """Times that go up, from what a decoder says of its frames.

    AVI has no presentation times: those of frames that were reordered are wrong, and the times of decoding right.
    Where several recordings were joined to one file, each starts its clock again; it goes on from the one before.
    """
    for ticks in (pts, dts):
        known = [tick for tick in ticks if tick is not None]
        if len(known) > 1 and all(0 < b - a < _JUMP_SEC / clock for a, b in pairwise(known)):
            return ticks
    steps = [b - a for a, b in pairwise(tick for tick in pts if tick is not None) if 0 < b - a < _JUMP_SEC / clock]
    usual = round(median(steps)) if steps else 1
    joined, offset, before = list[int | None](), 0, None
    for tick in pts:
        if tick is None:
            joined.append(None)
            continue
        if before is not None and not 0 <= tick + offset - before < _JUMP_SEC / clock:
            offset = before + usual - tick
        before = tick + offset
        joined.append(before)
    return joined

"""When the frames of a video are shown. Real videos have gaps, slow starts, and clocks that are no frame rate."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Timeline:
    """The times of all frames in display order.

    Attributes:
        ticks: of each frame, in units of `clock` seconds; None where the file does not say it.
        last_ticks: how long the last frame is shown; 0: not known.
        stated_rate: frames per second that the file states, used where there are no times. Browsers and phones
            write what their clock has there, 1000 for example.
    """

    ticks: list[int | None]
    last_ticks: int
    clock: Fraction
    stated_rate: Fraction

    @property
    def rate(self) -> Fraction:
        """Mean frames per second, (n - 1) / (last - first)."""
        known = [(number, tick) for number, tick in enumerate(self.ticks) if tick is not None]
        if len(known) > 1 and (length := known[-1][1] - known[0][1]) > 0:
            return (known[-1][0] - known[0][0]) / (length * self.clock)
        return self.stated_rate

    @property
    def times(self) -> NDArray[np.float64]:
        """Seconds from the first frame, [n]. Between and beside known times, frames are the mean rate apart."""
        even: NDArray[np.float64] = np.round(np.arange(len(self.ticks)) / float(self.rate), 9)
        known = [number for number, tick in enumerate(self.ticks) if tick is not None]
        if not known:
            return even
        seconds: Any = np.array([self.ticks[number] for number in known]) * float(self.clock)
        late = np.interp(even, even[known], seconds - even[known])
        times: NDArray[np.float64] = np.round(even + late - late[0], 9)
        return times if (np.diff(times) >= 0).all() else even  # a clock that starts again

    @property
    def duration_sec(self) -> float:
        """From the first frame to the end of the last."""
        return round(float(self.times[-1]) + float(self.last_ticks * self.clock or 1 / self.rate), 9)

"""Times of frames, by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from tsmcli.data.timeline import Ticks, make_timeline, rising

CLOCK = Fraction(1, 1000)


@pytest.mark.parametrize(
    ("ticks", "last", "times", "duration", "rate"),
    [
        ([0, 40, 80], 40, [0, 0.04, 0.08], 0.12, 25),
        ([500, 540, 700], 0, [0, 0.04, 0.2], 0.3, 10),  # starts late; the last frame lasts as long as the mean
        ([None, None, 0, 40], 40, [0, 0.04, 0.08, 0.12], 0.16, 25),
        ([0, 100, None, 300, None], 0, [0, 0.1, 0.2, 0.3, 0.4], 0.5, 10),
        ([None, None], 0, [0, 0.02], 0.04, 50),  # nothing is known but the stated rate
        ([7], 0, [0], 0.02, 50),
        ([7], 33, [0], 0.033, 50),
    ],
)
def test_times_rate_and_length(ticks: Ticks, last: int, times: list[float], duration: float, rate: int) -> None:
    found = make_timeline(ticks, last, CLOCK, Fraction(50))
    assert np.allclose(found.times, times)
    assert found.duration_sec == pytest.approx(duration)
    assert found.rate == rate


@pytest.mark.parametrize(
    ("pts", "dts", "right"),
    [
        ([0, 40, 90], [None] * 3, [0, 40, 90]),
        (
            [1, 3, 4, 2],
            [0, 1, 2, 3],
            [0, 1, 2, 3],
        ),  # AVI: frames in the order of showing, times in that of decoding
        ([0, 40, 80, 0, 40], [None] * 5, [0, 40, 80, 120, 160]),  # two recordings in one file
        ([0, 40, 4_000_000, 4_000_040], [None] * 4, [0, 40, 80, 120]),
        ([0, None, 80, 10, None], [None] * 5, [0, None, 80, 160, None]),
    ],
)
def test_times_that_go_up(pts: Ticks, dts: Ticks, right: Ticks) -> None:
    assert [*rising(pts, dts, CLOCK)] == right

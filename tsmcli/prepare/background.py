"""A class made of what nobody marked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tsmcli.data.intervals import Span

Gap = tuple[float, float]


def gaps_between(spans: Iterable[tuple[float, float]], length_sec: float, margin_sec: float) -> list[Gap]:
    """The time of a video in which nothing is marked, without what is nearer than `margin_sec` to a mark."""
    gaps, free = list[Gap](), 0.0
    for start, end in sorted(spans):
        if start - margin_sec > free:
            gaps.append((free, start - margin_sec))
        free = max(free, end + margin_sec)
    return [*gaps, (free, length_sec)] if free < length_sec else gaps


def draw_background(
    gaps: Mapping[str, Sequence[Gap]], lengths: Sequence[float], total_sec: float, seed: int
) -> list[tuple[str, Span]]:
    """Disjoint intervals in the gaps of videos, each as long as a random marked one, `total_sec` in all or less.

    Every place where an interval fits is as likely as any other. When even the shortest fits nowhere, what is left
    is taken whole, down to a quarter of the median length. The same arguments give the same intervals.
    """
    rng = np.random.default_rng(seed)
    free = [(video, start, end) for video in sorted(gaps) for start, end in gaps[video]]
    names = [video for video, _, _ in free]
    starts, ends = (np.array([gap[i] for gap in free], np.float64) for i in (1, 2))
    known = np.sort(np.array(lengths, np.float64))
    drawn, used = list[tuple[str, Span]](), 0.0
    while used < total_sec and len(names):
        known = known[known <= (ends - starts).max()]
        if not len(known):
            break
        length = float(rng.choice(known))
        room = np.maximum(ends - starts - length, 0.0) + 1e-9 * (ends - starts >= length)
        at = int(rng.choice(len(names), p=room / room.sum()))
        start = float(rng.uniform(starts[at], max(ends[at] - length, starts[at])))
        span = Span(round(start, 3), round(min(start + length, ends[at]), 3))
        drawn.append((names[at], span))
        used += length
        names.append(names[at])
        starts, ends = np.append(starts, span.end), np.append(ends, ends[at])
        ends[at] = span.start
    for at in rng.permutation(len(names)).tolist():
        if used < total_sec and ends[at] - starts[at] >= np.median(lengths) / 4:
            drawn.append((names[at], Span(round(float(starts[at]), 3), round(float(ends[at]), 3))))
            used += float(ends[at] - starts[at])
    return sorted(drawn)

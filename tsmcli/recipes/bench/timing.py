"""How long calls take: turn by turn, so that a busy machine disturbs all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

LEAST, MOST = 3, 1000
"""Rounds."""


def time_in_turn(calls: Sequence[Callable[[], object]], device: torch.device, seconds: float) -> list[list[float]]:
    """Wall-clock seconds of each call, round by round: one list a call, all of one length.

    Rounds follow each other until `seconds` are over; which call begins changes from round to round.
    """
    times: list[list[float]] = [[] for _ in calls]
    end = time.perf_counter() + seconds
    for round_number in range(MOST):
        if round_number >= LEAST and time.perf_counter() > end:
            break
        for turn in range(len(calls)):
            which = (turn + round_number) % len(calls)
            synchronise(device)
            start = time.perf_counter()
            calls[which]()
            synchronise(device)
            times[which].append(time.perf_counter() - start)
    return times


def synchronise(device: torch.device) -> None:
    """Wait until a device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()

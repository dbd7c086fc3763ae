"""Which frames of a video the network sees: pure functions from a frame count to frame indices.

The published samplers have oddities that decide published numbers (frames at the end that are never drawn, short
videos that wrap around). They are the defaults, and each has an option that turns it off.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tsmcli.config import AugmentConfig, Views

Indices = NDArray[np.int64]
DENSE_WINDOW = 64
"""Frames that a dense clip spans, at most."""


def sample_train(num_frames: int, num_segments: int, config: AugmentConfig, rng: np.random.Generator) -> Indices:
    """Draw one training clip: int64 [1, T] of 0-based frame indices; ValueError for a video without frames."""
    last = _last_start(num_frames)
    if config.sampling == "dense":
        choices = last + 1 if config.dense_last_start else max(1, last)
        return _window(np.array([rng.integers(choices)]), num_frames, num_segments)
    return _uniform_train(num_frames, num_segments, rng, config)


def sample_test(num_frames: int, num_segments: int, views: Views) -> Indices:
    """The clips of a test protocol: int64 [clips, T] of 0-based frame indices.

    Uniform: the middle frame of each of T equal segments; a second clip takes each segment's first frame.
    Dense: windows whose starts are spread evenly, frames wrapping around in a video shorter than the window.
    """
    last = _last_start(num_frames)
    if views.sampling == "dense":
        return _window(np.linspace(0, last, views.clips).astype(np.int64), num_frames, num_segments)
    length = num_frames / num_segments
    starts = np.arange(num_segments) * length
    return np.stack([starts + length / 2.0, starts][: views.clips]).astype(np.int64)


def _uniform_train(n: int, num_segments: int, rng: np.random.Generator, config: AugmentConfig) -> Indices:
    """One random frame in each of T segments."""
    segments = np.arange(num_segments)
    if config.keep_tail:
        length = n / num_segments
        return (segments * length + rng.uniform(0, length, num_segments)).astype(np.int64)[None]
    length = n // num_segments
    if length > 0:
        return (segments * length + rng.integers(length, size=num_segments))[None]
    spread = np.around(segments * (n / num_segments)).astype(np.int64)  # n < T: half to even, may reach n
    return (np.minimum(spread, n - 1) if config.short_videos == "repeat_last" else spread % n)[None]


def _window(starts: Indices, n: int, num_segments: int) -> Indices:
    """T frames at equal distance in each window of 64 frames."""
    offsets = np.arange(num_segments) * (DENSE_WINDOW // num_segments)
    return (starts[:, None] + offsets) % n


def _last_start(num_frames: int) -> int:
    """Where the last window of 64 frames begins."""
    if num_frames < 1:
        raise ValueError("a video without frames cannot be sampled")
    return max(0, num_frames - DENSE_WINDOW)

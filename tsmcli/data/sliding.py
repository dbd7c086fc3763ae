"""A long video as overlapping windows, each of which is read as if it were a video of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tsmcli.config import Config, Views
from tsmcli.core.sampling import sample_test
from tsmcli.data.container import unreadable
from tsmcli.data.decode import clock_of, open_reader, read_each
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import Split
from tsmcli.data.spatial import eval_views
from tsmcli.intervals.find import TICK_SEC


class Sliding(NamedTuple):
    """Windows of `window_sec` that start every `stride_sec`; `fps` is of frame folders: None: `data.fps`."""

    window_sec: float
    stride_sec: float
    fps: float | None = None


class WindowViews(NamedTuple):
    """Seconds from the start of the video or interval, how many windows it has, its views uint8 [V, T, h, w, 3]."""

    start_sec: float
    end_sec: float
    total: int
    views: NDArray[np.uint8]


def read_windows(
    split: Split, record: VideoRecord, config: Config, views: Views, sliding: Sliding, known: int = 0
) -> Iterator[WindowViews]:
    """The test views of every window of a video, one window in memory at a time; of the first `known` no views.

    The time limit of `data.timeout_sec`, which is for clips, does not apply; the decoder is PyAV.

    Raises:
        DataError: the video cannot be read; earlier windows were yielded before.
    """
    fps = sliding.fps or config.data.fps
    data = config.data.model_copy(update={"decoder": "pyav", "timeout_sec": 0.0, "fps": fps})
    segments = config.model.num_segments
    try:
        with open_reader(split, record, data) as reader:
            times, end_sec = clock_of(reader, fps)
            spans = window_spans(end_sec, sliding.window_sec, sliding.stride_sec)
            ranges = [frames_shown(times, *span) for span in spans]
            indices = [first + sample_test(end - first, segments, views).ravel() for first, end in ranges[known:]]
            for start, end in spans[:known]:
                yield WindowViews(start, end, len(spans), np.empty((0, segments, 1, 1, 3), np.uint8))
            for (start, end), frames in zip(spans[known:], read_each(reader, indices), strict=True):
                yield WindowViews(start, end, len(spans), eval_views(frames, segments, views))
    except (OSError, ValueError, cv2.error) as error:
        raise unreadable(split.media / record.name, error) from error


def window_spans(end_sec: float, length_sec: float, step_sec: float) -> list[tuple[float, float]]:
    """[start, end) of every window, in seconds.

    The last one ends with the video; a video shorter than a window is one window.
    """
    last = end_sec - length_sec
    if last <= TICK_SEC:
        return [(0.0, end_sec)]
    starts = [*np.arange(0, last - TICK_SEC, step_sec).tolist(), last]
    return [(start, start + length_sec) for start in starts]


def frames_shown(times: NDArray[np.float64], start_sec: float, end_sec: float) -> tuple[int, int]:
    """[first, end) of the frames that begin in a window, or the one that is shown all through it."""
    first, end = np.searchsorted(times, (start_sec - TICK_SEC, end_sec - TICK_SEC)).tolist()
    return (first, end) if first < end else (max(first - 1, 0), max(first, 1))

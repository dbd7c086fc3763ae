"""A long video as overlapping windows, each of which is read as if it were a video of its own."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from tsmcli.config import Config, Views
from tsmcli.core.sampling import sample_test
from tsmcli.data.container import unreadable
from tsmcli.data.decode import open_reader, read_each
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import Split
from tsmcli.data.spatial import eval_views


class Sliding(NamedTuple):
    """Windows of `window_sec` that start every `stride_sec`; `fps` is of frame folders, which do not say it."""

    window_sec: float
    stride_sec: float
    fps: float = 25.0


class WindowViews(NamedTuple):
    """Seconds from the start of the video, how many windows the video has, and the views uint8 [V, T, h, w, 3]."""

    start_sec: float
    end_sec: float
    total: int
    views: NDArray[np.uint8]


def read_windows(
    split: Split, record: VideoRecord, config: Config, views: Views, sliding: Sliding
) -> Iterator[WindowViews]:
    """The test views of every window of a video, one window in memory at a time.

    Times are frame numbers over the video's mean frame rate. The time limit of `data.timeout_sec`, which is for
    clips, does not apply; the decoder is PyAV.

    Raises:
        DataError: the video cannot be read; earlier windows were yielded before.
    """
    data = config.data.model_copy(update={"decoder": "pyav", "timeout_sec": 0.0})
    segments = config.model.num_segments
    try:
        with open_reader(split, record, data) as reader:
            rate: Any = getattr(reader, "frame_rate", Fraction(sliding.fps))
            length, step = (max(1, round(seconds * rate)) for seconds in (sliding.window_sec, sliding.stride_sec))
            spans = window_spans(reader.num_frames, length, step)
            indices = [first + sample_test(end - first, segments, views).ravel() for first, end in spans]
            for (first, end), frames in zip(spans, read_each(reader, indices), strict=True):
                seen = eval_views(frames, segments, views)
                yield WindowViews(float(first / rate), float(end / rate), len(spans), seen)
    except (OSError, ValueError, cv2.error) as error:
        raise unreadable(split.media / record.path, error) from error


def window_spans(num_frames: int, length: int, step: int) -> list[tuple[int, int]]:
    """[first, end) of every window, in frames.

    The last one ends with the video; a video shorter than a window is one window.
    """
    if num_frames <= length:
        return [(0, num_frames)]
    last = num_frames - length
    return [(first, first + length) for first in (*range(0, last, step), last)]

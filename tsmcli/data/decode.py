"""Frames of a video by number: from a video file (PyAV or decord), a folder of pictures, or a ZIP of them.

A reader has one thread, is opened where it is used, and is always closed. Frame i is the i-th frame in display
order, exactly as a decoder that reads the file from its start would deliver it; whatever goes wrong is a
DataError that names the video.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import NoReturn, Protocol

import av
import numpy as np
from numpy.typing import NDArray

from tsmcli.config import LIMITS, DataConfig
from tsmcli.core.sampling import Indices
from tsmcli.data.container import UPRIGHT, Upright, check_limit, open_video, unreadable
from tsmcli.data.frame_zip import FrameZip, decode_picture
from tsmcli.data.intervals import Span, frames_within
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import Split
from tsmcli.data.media import FrameSet, number_frames
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.data.spatial import Frame
from tsmcli.errors import DataError, EnvironmentProblem


class FrameReader(Protocol):
    """A video whose frames can be read by number."""

    num_frames: int

    def read(self, indices: Indices) -> list[Frame]:
        """Frames uint8 [H, W, 3] in the order of the indices; repeated indices share one decode."""

    def close(self) -> None: ...


@contextmanager
def open_reader(split: Split, record: VideoRecord, data: DataConfig) -> Iterator[FrameReader]:
    """Open the video of a list line, or the interval of it.

    Raises:
        DataError: it is in quarantine, missing, no video, not decodable, or over before the interval begins.
    """
    for name in (record.name, record.path):
        if name in split.quarantine:
            raise DataError(f"{name}: {split.quarantine[name]}")
    path, store = split.media / record.path, record.store or data.store
    reader: FrameReader
    if store == "frames":
        naming = record.naming or (split.frame_template, split.start_index)
        reader = FrameFolder(path, record.num_frames or 0, *naming, data)
    elif store == "zip":
        reader = FrameZip(path, data)
    elif data.decoder == "decord":
        reader = DecordReader(path, data)
    else:
        reader = PyAVReader(path, data.timeout_sec or None, data)
    try:
        yield Excerpt(reader, path, record.span, data.fps) if record.span else reader
    finally:
        reader.close()


def read_each(reader: FrameReader, batches: Sequence[Indices]) -> Iterator[list[Frame]]:
    """`reader.read` of one batch after the other, without decoding a file from its start for each."""
    if isinstance(reader, PyAVReader | Excerpt):
        return reader.read_each(batches)
    return map(reader.read, batches)


def clock_of(reader: FrameReader, fps: float) -> tuple[NDArray[np.float64], float]:
    """Seconds of all frames from the first, and of the end of the last; `fps` is that of pictures."""
    if isinstance(reader, PyAVReader):
        return reader.timeline[:2]
    if isinstance(reader, DecordReader | Excerpt):
        return reader.times, reader.length_sec
    return np.arange(reader.num_frames) / fps, reader.num_frames / fps


def check_decoder(data: DataConfig) -> None:
    """Raise EnvironmentProblem, before any work is done, where the chosen decoder is not installed."""
    if data.store == "video" and data.decoder == "decord" and not importlib.util.find_spec("decord"):
        raise EnvironmentProblem("decord is not installed", hint="--set data.decoder=pyav")


class Excerpt:
    """The frames of an interval, as a video of their own.

    Attributes:
        whole: the reader of the video.
        first: number of its first frame in the video.
        times: seconds from the first frame of the interval, [num_frames].
        length_sec: to the end of the last frame.
    """

    def __init__(self, whole: FrameReader, path: Path, span: Span, fps: float) -> None:
        times, length_sec = clock_of(whole, fps)
        first, end = frames_within(span, times, length_sec)
        self.whole, self._path, self._span, self.first = whole, path, span, first
        self.num_frames = end - first
        if not self.num_frames:
            self._refuse(f"{whole.num_frames} frames, {length_sec:.3f} s")
        ends = np.append(times, length_sec)[first : end + 1] - times[first]
        self.times, self.length_sec = ends[:-1], float(ends[-1])

    def _refuse(self, length: str) -> NoReturn:
        raise DataError(f"{self._path}: the interval {self._span} begins after the end of the video ({length})")

    def read(self, indices: Indices) -> list[Frame]:
        """Frames uint8 [H, W, 3] in the order of the indices, counted from the start of the interval."""
        return next(self.read_each([indices]))

    def read_each(self, batches: Sequence[Indices]) -> Iterator[list[Frame]]:
        """`read` of one batch after the other."""
        low, high = min(batch.min() for batch in batches), max(batch.max() for batch in batches)
        if low < 0 or high >= self.num_frames:
            raise DataError(f"{self._path}: no frame {high} in {self._span}: there are {self.num_frames}")
        for frames in read_each(self.whole, [batch + self.first for batch in batches]):
            held = self.whole.num_frames - self.first  # less than was promised, where the file is cut short
            if held < 1:
                self._refuse(f"{self.whole.num_frames} frames")
            self.num_frames = min(self.num_frames, held)
            yield frames

    def close(self) -> None:
        self.whole.close()


class FrameFolder:
    """A folder of frames, numbered from `start_index`.

    Where they are not named as the template says, their names, their first number and their count are found by
    looking. `num_frames` 0 stands for as many as there are.
    """

    def __init__(
        self, path: Path, num_frames: int, template: str, start_index: int, limits: DataConfig = LIMITS
    ) -> None:
        if not path.is_dir():
            raise DataError(f"{path}: no such folder of frames")
        self.path, self.num_frames, self._max_pixels = path, num_frames, limits.max_pixels
        self.template, self.start_index = template, start_index
        self._wrong = ""
        ends = (start_index, start_index + num_frames - 1)
        if not num_frames or not all((path / template.format(number)).is_file() for number in ends):
            self._look()
        check_limit(path, "frames", self.num_frames, limits.max_frames)

    def _look(self) -> None:
        found = number_frames(self.path, os.listdir(self.path))  # noqa: PTH208
        if not isinstance(found, FrameSet):  # those that are named as the template says can be read all the same
            self._wrong = f" ({found or 'there are no numbered pictures'})"
            return
        if found.count < self.num_frames:
            raise DataError(f"{self.path}: the list says {self.num_frames} frames, but there are {found.count}")
        self.template, self.start_index = found.naming
        self.num_frames = self.num_frames or found.count

    def read(self, indices: Indices) -> list[Frame]:
        cache = {i: self._frame(i) for i in np.unique(indices).tolist()}
        return [cache[i] for i in indices.tolist()]

    def _frame(self, index: int) -> Frame:
        path = self.path / self.template.format(index + self.start_index)
        if not path.is_file():
            raise DataError(f"{path}: no such frame{self._wrong}")
        try:
            with path.open("rb") as file:
                data = file.read(4 * self._max_pixels)  # no picture could need more
        except OSError as error:
            raise unreadable(path, error) from error
        return decode_picture(data, path, self._max_pixels)

    def close(self) -> None:
        """Nothing is held open."""


class DecordReader:
    """decord with one thread, given sorted unique indices (unsorted ones make it decode again and again)."""

    def __init__(self, path: Path, limits: DataConfig = LIMITS) -> None:
        import decord

        try:
            container, stream = open_video(path, limits)  # decord would open a list of other files
            with container:
                shown = Upright()
                for frame in islice(container.decode(stream), 1):
                    shown.see(frame)
            if shown.matrix != UPRIGHT:
                raise DataError(f"{path}: shown turned or mirrored: decord cannot", "--set data.decoder=pyav")
            self._video = decord.VideoReader(f"file:{path.absolute()}", num_threads=1)
        except (RuntimeError, decord.DECORDError, av.FFmpegError) as error:
            raise unreadable(path, error) from error
        self._errors = (RuntimeError, decord.DECORDError)
        self.path, self.num_frames = path, len(self._video)
        check_limit(path, "frames", self.num_frames, limits.max_frames)
        check_limit(path, "sec", self.num_frames / self._video.get_avg_fps(), limits.max_sec)

    @property
    def _shown(self) -> NDArray[np.float64]:
        """Start and end of every frame in seconds from the first, [num_frames, 2]."""
        shown: NDArray[np.float64] = self._video.get_frame_timestamp(np.arange(self.num_frames)).astype(np.float64)
        first: float = shown[0, 0]
        return shown - first

    @property
    def times(self) -> NDArray[np.float64]:
        """Seconds from the first frame, [num_frames]."""
        return self._shown[:, 0]

    @property
    def length_sec(self) -> float:
        """To the end of the last frame."""
        return float(self._shown[-1, 1])

    def read(self, indices: Indices) -> list[Frame]:
        unique, where = np.unique(indices, return_inverse=True)
        try:
            frames = self._video.get_batch(unique.tolist()).asnumpy()
        except self._errors as error:
            raise unreadable(self.path, error) from error
        return [frames[i] for i in where]

    def close(self) -> None:
        del self._video

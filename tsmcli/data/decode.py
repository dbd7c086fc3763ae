"""Frames of a video by number: from a video file (PyAV or decord) or from a folder of JPEG files.

A reader has one thread, is opened where it is used, and is always closed. Frame i is the i-th frame in display
order, exactly as a decoder that reads the file from its start would deliver it; whatever goes wrong is a
DataError that names the video.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from tsmcli.catalog import Dataset
from tsmcli.config import DataConfig
from tsmcli.core.sampling import Indices
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.pyav_reader import PyAVReader, check_file, unreadable
from tsmcli.data.spatial import Frame
from tsmcli.errors import DataError, EnvironmentProblem


class FrameReader(Protocol):
    """A video whose frames can be read by number."""

    num_frames: int

    def read(self, indices: Indices) -> list[Frame]:
        """Frames uint8 [H, W, 3] in the order of the indices; repeated indices share one decode."""

    def close(self) -> None: ...


@contextmanager
def open_reader(media: Path, record: VideoRecord, data: DataConfig, dataset: Dataset) -> Iterator[FrameReader]:
    """Open the video of a list line.

    Args:
        media: the folder that list paths are relative to.

    Raises:
        DataError: it is missing, is no video, or cannot be decoded.
    """
    path = media / record.path
    reader: FrameReader
    if data.store == "frames":
        reader = FrameFolder(path, record.num_frames or 0, dataset)
    elif data.decoder == "decord":
        reader = DecordReader(path)
    else:
        reader = PyAVReader(path)
    try:
        yield reader
    finally:
        reader.close()


class FrameFolder:
    """A folder of JPEG frames, numbered from `start_index`."""

    def __init__(self, path: Path, num_frames: int, dataset: Dataset) -> None:
        if not path.is_dir():
            raise DataError(f"{path}: no such folder of frames")
        self.path = path
        self.num_frames = num_frames
        self.template = dataset.frame_template
        self.start_index = dataset.start_index

    def read(self, indices: Indices) -> list[Frame]:
        cache = {int(i): self._frame(int(i)) for i in np.unique(indices)}
        return [cache[int(i)] for i in indices]

    def _frame(self, index: int) -> Frame:
        path = self.path / self.template.format(index + self.start_index)
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is None:
            raise DataError(f"{path}: {'not a readable image' if path.is_file() else 'no such frame'}")
        rgb: Frame = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return rgb

    def close(self) -> None:
        """Nothing is held open."""


class DecordReader:
    """decord with one thread, given sorted unique indices (unsorted ones make it decode again and again)."""

    def __init__(self, path: Path) -> None:
        try:
            import decord
        except ImportError as error:
            raise EnvironmentProblem("decord is not installed", hint="--set data.decoder=pyav") from error
        check_file(path)
        try:
            self._video = decord.VideoReader(str(path), num_threads=1)
        except (RuntimeError, decord.DECORDError) as error:
            raise unreadable(path, error) from error
        self._errors = (RuntimeError, decord.DECORDError)
        self.path = path
        self.num_frames = len(self._video)

    def read(self, indices: Indices) -> list[Frame]:
        unique, where = np.unique(indices, return_inverse=True)
        try:
            frames = self._video.get_batch(unique.tolist()).asnumpy()
        except self._errors as error:
            raise unreadable(self.path, error) from error
        return [frames[i] for i in where]

    def close(self) -> None:
        del self._video

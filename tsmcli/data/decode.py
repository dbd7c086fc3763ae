"""Frames of a video by number: from a video file (PyAV or decord), a folder of JPEG files, or a ZIP of them.

A reader has one thread, is opened where it is used, and is always closed. Frame i is the i-th frame in display
order, exactly as a decoder that reads the file from its start would deliver it; whatever goes wrong is a
DataError that names the video.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from tsmcli.config import DataConfig
from tsmcli.core.sampling import Indices
from tsmcli.data.frame_zip import FrameZipIndex
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import Split
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
def open_reader(split: Split, record: VideoRecord, data: DataConfig) -> Iterator[FrameReader]:
    """Open the video of a list line.

    Raises:
        DataError: it is in quarantine, missing, no video, or cannot be decoded.
    """
    if record.path in split.quarantine:
        raise DataError(f"{record.path}: {split.quarantine[record.path]}")
    path = split.media / record.path
    reader: FrameReader
    if data.store == "frames":
        reader = FrameFolder(path, record.num_frames or 0, split.frame_template, split.start_index)
    elif data.store == "zip":
        reader = FrameZip(path)
    elif data.decoder == "decord":
        reader = DecordReader(path)
    else:
        reader = PyAVReader(path, timeout_sec=data.timeout_sec or None)
    try:
        yield reader
    finally:
        reader.close()


def check_decoder(data: DataConfig) -> None:
    """Raise EnvironmentProblem, before any work is done, where the chosen decoder is not installed."""
    if data.store == "video" and data.decoder == "decord" and not importlib.util.find_spec("decord"):
        raise EnvironmentProblem("decord is not installed", hint="--set data.decoder=pyav")


class FrameFolder:
    """A folder of JPEG frames, numbered from `start_index`."""

    def __init__(self, path: Path, num_frames: int, template: str, start_index: int) -> None:
        if not path.is_dir():
            raise DataError(f"{path}: no such folder of frames")
        self.path = path
        self.num_frames = num_frames
        self.template = template
        self.start_index = start_index

    def read(self, indices: Indices) -> list[Frame]:
        cache = {int(i): self._frame(int(i)) for i in np.unique(indices)}
        return [cache[int(i)] for i in indices]

    def _frame(self, index: int) -> Frame:
        path = self.path / self.template.format(index + self.start_index)
        try:
            data = path.read_bytes()
        except OSError:
            raise DataError(f"{path}: no such frame") from None
        return decode_jpeg(data, path)

    def close(self) -> None:
        """Nothing is held open."""


class FrameZip:
    """A ZIP of JPEG frames; frame i is the i-th name in sorted order."""

    def __init__(self, path: Path) -> None:
        self._index = FrameZipIndex(path)
        self.path = path
        self.num_frames = self._index.num_frames

    def read(self, indices: Indices) -> list[Frame]:
        cache = {int(i): self._frame(int(i)) for i in np.unique(indices)}
        return [cache[int(i)] for i in indices]

    def _frame(self, index: int) -> Frame:
        return decode_jpeg(self._index.read(index), f"{self.path}, frame {index}")

    def close(self) -> None:
        self._index.close()


def decode_jpeg(data: bytes, where: object) -> Frame:
    """A picture [H, W, 3], RGB, from the bytes of an image file."""
    if not data:
        raise DataError(f"{where}: the image is empty (0 bytes)")
    image: Frame | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise DataError(f"{where}: not a readable image")
    return image


class DecordReader:
    """decord with one thread, given sorted unique indices (unsorted ones make it decode again and again)."""

    def __init__(self, path: Path) -> None:
        import decord

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

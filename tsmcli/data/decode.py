"""Frames of a video by number: from a video file (PyAV or decord), a folder of JPEG files, or a ZIP of them.

A reader has one thread, is opened where it is used, and is always closed. Frame i is the i-th frame in display
order, exactly as a decoder that reads the file from its start would deliver it; whatever goes wrong is a
DataError that names the video.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from tsmcli.config import DataConfig
from tsmcli.core.sampling import Indices
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
        check_file(path)
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError) as error:
            raise unreadable(path, error) from error
        self._names = sorted(self._zip.namelist())
        self.num_frames = len(self._names)
        if not self._names:
            self.close()
            raise DataError(f"{path}: holds no frames")

    def read(self, indices: Indices) -> list[Frame]:
        cache = {int(i): self._frame(int(i)) for i in np.unique(indices)}
        return [cache[int(i)] for i in indices]

    def _frame(self, index: int) -> Frame:
        name = self._names[index]
        try:
            data = self._zip.read(name)
        except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
            raise unreadable(self.path / name, error) from error
        return decode_jpeg(data, self.path / name)

    def close(self) -> None:
        self._zip.close()


def decode_jpeg(data: bytes, path: Path) -> Frame:
    """A picture [H, W, 3], RGB, from the bytes of an image file."""
    if not data:
        raise DataError(f"{path}: the image is empty (0 bytes)")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path}: not a readable image")
    rgb: Frame = cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return rgb


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

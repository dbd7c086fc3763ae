"""A ZIP of pictures as a video: one file instead of hundreds, any frame in one read."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from tsmcli.config import LIMITS, DataConfig
from tsmcli.core.sampling import Indices
from tsmcli.data.container import check_file, check_limit, check_size, unreadable
from tsmcli.data.media import FRAME, PICTURE_SUFFIXES, is_hidden, number_frames, suffix_of
from tsmcli.data.spatial import Frame
from tsmcli.errors import DataError

_END = np.dtype(
    [("signature", "S4"), ("disks", "<u4"), ("here", "<u2"), ("count", "<u2"), ("size", "<u4"), ("offset", "<u4"),
     ("comment", "<u2")]
)  # fmt: skip


class FrameZip:
    """A ZIP of frames in the order of their numbers, as in a folder.

    What `prepare-data` writes (stored, sorted, names of one length) is read by its directory's fixed stride, which
    is many times quicker than the standard library's parser; any other ZIP goes through that.
    """

    def __init__(self, path: Path, limits: DataConfig = LIMITS) -> None:
        check_file(path)
        check_limit(path, "bytes", path.stat().st_size, limits.max_bytes)
        self.path, self._max_pixels = path, limits.max_pixels
        self._zip: zipfile.ZipFile | None = None
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise unreadable(path, error) from error
        try:
            if directory := self._directory():
                self._offsets, self._sizes = directory
                self.num_frames = len(self._offsets)
            else:
                self._zip = zipfile.ZipFile(self._file)
                self._names = _frames_of(self._zip.namelist(), path)
                self.num_frames = len(self._names)
            check_limit(path, "frames", self.num_frames, limits.max_frames)
        except DataError:
            self.close()
            raise
        except Exception as error:  # the standard library raises errors of many kinds for a damaged file
            self.close()
            raise unreadable(path, error) from error

    def read(self, indices: Indices) -> list[Frame]:
        """Frames uint8 [H, W, 3] in the order of the indices; repeated indices share one decode."""
        cache = {i: self._frame(i) for i in np.unique(indices).tolist()}
        return [cache[i] for i in indices.tolist()]

    def close(self) -> None:
        if self._zip:
            self._zip.close()
        self._file.close()

    def _frame(self, index: int) -> Frame:
        if not 0 <= index < self.num_frames:
            raise DataError(f"{self.path}: no frame {index}: there are {self.num_frames}")
        try:
            data = self._bytes(index)
        except Exception as error:  # damaged, encrypted, packed in an unknown way: each has an error of its own
            raise unreadable(f"{self.path}, frame {index}", error) from error
        return decode_picture(data, f"{self.path}, frame {index}", self._max_pixels)

    def _bytes(self, index: int) -> bytes:
        """What the ZIP holds of a frame, and no more than an unpacked picture could need."""
        if self._zip:
            with self._zip.open(self._names[index]) as file:
                return file.read(4 * self._max_pixels)
        self._file.seek(int(self._offsets[index]))
        header = self._file.read(30)
        if header[:4] != b"PK\x03\x04":
            raise zipfile.BadZipFile("the file is damaged before this frame")
        skip = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        self._file.seek(skip, 1)
        return self._file.read(int(self._sizes[index]))

    def _directory(self) -> tuple[NDArray[np.uint32], NDArray[np.uint32]] | None:
        """(offset, size) of every frame, or None where the directory has no fixed stride."""
        size = self._file.seek(0, 2)
        if size < _END.itemsize:
            return None
        self._file.seek(size - _END.itemsize)
        end = np.frombuffer(self._file.read(_END.itemsize), _END)[0]
        count, length, offset = int(end["count"]), int(end["size"]), int(end["offset"])
        if end["signature"] != b"PK\x05\x06" or not 0 < count < 0xFFFF or length % count or offset + length > size:
            return None
        name_length = length // count - 46
        if name_length < 1:
            return None
        record = np.dtype([
            ("signature", "S4"), ("", "V4"), ("flags", "<u2"), ("method", "<u2"), ("", "V12"), ("size", "<u4"),
            ("lengths", "<u2", 3), ("", "V8"), ("offset", "<u4"), ("name", f"S{name_length}"),
        ])  # fmt: skip
        self._file.seek(offset)
        records = np.frombuffer(self._file.read(length), record)
        plain = (
            (records["signature"] == b"PK\x01\x02").all()
            and not (records["flags"] & 1).any()  # encrypted
            and (records["method"] == 0).all()
            and (records["lengths"] == (name_length, 0, 0)).all()
            and _count_up(records["name"], name_length)
        )
        return (records["offset"], records["size"]) if plain else None


def holds_frames(path: Path) -> bool:
    """Whether a ZIP holds pictures, and so is meant to be a video."""
    try:
        with zipfile.ZipFile(path) as file:
            return any(suffix_of(name) in PICTURE_SUFFIXES for name in file.namelist())
    except Exception:  # of many kinds for a damaged file
        return False


def _count_up(names: NDArray[np.bytes_], length: int) -> bool:
    """Whether names differ only in a number, which goes up by one from name to name."""
    first = FRAME.fullmatch(names[0].decode("ascii", "replace"))
    if not first or is_hidden(first[0]) or "/" in first[0] or len(first[2]) > 9:
        return False
    letters = np.ascontiguousarray(names).view(np.uint8).reshape(len(names), length)
    begin, end = first.span(2)
    digits = letters[:, begin:end].astype(np.int64) - ord("0")
    same = (np.delete(letters, np.s_[begin:end], 1) == np.delete(letters[0], np.s_[begin:end])).all()
    numbers = digits @ 10 ** np.arange(end - begin)[::-1]
    return bool(same and ((digits >= 0) & (digits <= 9)).all() and (np.diff(numbers) == 1).all())


def _frames_of(members: list[str], path: Path) -> list[str]:
    """The members of a ZIP that are frames, in the order of their numbers; DataError where there is none."""
    folders: dict[str, dict[str, str]] = {}
    for member in members:
        *parents, name = member.replace("\\", "/").split("/")
        if not any(is_hidden(parent) for parent in parents if parent not in (".", "..")):
            folders.setdefault("/".join(parents), {})[name] = member
    numbered = {folder: found for folder, names in folders.items() if (found := number_frames(Path(), [*names]))}
    if len(numbered) != 1:
        some = ", ".join(sorted(numbered)[:5])
        held = f"frames of {len(numbered)} videos ({some})" if numbered else "no numbered pictures"
        raise DataError(f"{path}: holds {held}", hint="a ZIP is one video: pictures numbered without gaps")
    ((folder, found),) = numbered.items()
    if isinstance(found, str):
        raise DataError(f"{path}: {found}")
    return [folders[folder][found.template.format(found.start_index + number)] for number in range(found.count)]


def decode_picture(data: bytes, where: Path | str, max_pixels: int) -> Frame:
    """A picture [H, W, 3], RGB, from an image file; DataError where it is none, or larger than `max_pixels`."""
    if not data:
        raise DataError(f"{where}: the image is empty (0 bytes)")
    file = io.BytesIO(data)
    try:  # only the header is read; `Image.open` has a lower limit of its own
        header = JpegImageFile(file) if data.startswith(b"\xff\xd8") else Image.open(file)
    except Image.DecompressionBombError as error:
        raise DataError(f"{where}: too large: {error}") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{where}: not a readable image") from error
    check_size(where, *header.size, max_pixels)
    image: Frame | None = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image is None:
        raise DataError(f"{where}: not a readable image")
    return image

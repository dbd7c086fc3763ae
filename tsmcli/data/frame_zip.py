"""A ZIP of JPEG frames as a video: one file instead of hundreds, any frame in one read."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tsmcli.data.pyav_reader import check_file, unreadable
from tsmcli.errors import DataError

_END = np.dtype(
    [("signature", "S4"), ("disks", "<u4"), ("here", "<u2"), ("count", "<u2"), ("size", "<u4"), ("offset", "<u4"),
     ("comment", "<u2")]
)  # fmt: skip


class FrameZipIndex:
    """Where the frames lie in a ZIP; frame i is the i-th name in sorted order.

    What `prepare-data` writes (stored, sorted, names of one length) is read by its directory's fixed stride, which
    is many times quicker than the standard library's parser; any other ZIP goes through that.
    """

    def __init__(self, path: Path) -> None:
        check_file(path)
        self.path = path
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise unreadable(path, error) from error
        self._zip: zipfile.ZipFile | None = None
        directory = self._directory()
        if directory is None:
            try:
                self._zip = zipfile.ZipFile(self._file)
            except (zipfile.BadZipFile, OSError) as error:
                self.close()
                raise unreadable(path, error) from error
            self._names = sorted(self._zip.namelist())
            self.num_frames = len(self._names)
        else:
            self._offsets, self._sizes = directory
            self.num_frames = len(self._offsets)
        if not self.num_frames:
            self.close()
            raise DataError(f"{path}: holds no frames")

    def read(self, index: int) -> bytes:
        """The bytes of a frame.

        Raises:
            DataError: there is no such frame, or the file is damaged.
        """
        if not 0 <= index < self.num_frames:
            raise DataError(f"{self.path}: no frame {index}: there are {self.num_frames}")
        try:
            if self._zip:
                return self._zip.read(self._names[index])
            self._file.seek(int(self._offsets[index]))
            header = self._file.read(30)
            if header[:4] != b"PK\x03\x04":
                raise DataError(f"{self.path}: damaged before frame {index}")
            skip = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            self._file.seek(skip, 1)
            return self._file.read(int(self._sizes[index]))
        except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
            raise unreadable(self.path, error) from error

    def close(self) -> None:
        if self._zip:
            self._zip.close()
        self._file.close()

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
        fields = {"signature": ("S4", 0), "method": ("<u2", 10), "size": ("<u4", 24), "lengths": (("<u2", 3), 28),
                  "offset": ("<u4", 42), "name": (f"S{name_length}", 46)}  # fmt: skip
        record = np.dtype({
            "names": list(fields), "formats": [f for f, _ in fields.values()],
            "offsets": [o for _, o in fields.values()], "itemsize": 46 + name_length,
        })  # fmt: skip
        self._file.seek(offset)
        records = np.frombuffer(self._file.read(length), record)
        plain = (
            (records["signature"] == b"PK\x01\x02").all()
            and (records["method"] == 0).all()
            and (records["lengths"] == (name_length, 0, 0)).all()
            and (records["name"][:-1] < records["name"][1:]).all()
        )
        return (records["offset"], records["size"]) if plain else None

"""What a container says of its packets, kept for long files: finding it out means to read the whole file."""

from __future__ import annotations

import hashlib
import os
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from tsmcli.files import cache_home, replacing

_LONG = 2000
"""Files with fewer packets are read as quickly."""
_MOST_BYTES = 2_000_000_000
"""Of all that is kept; the oldest goes first."""


class Packets(NamedTuple):
    """Of each shown frame, in decoding order: when and how long it is shown, and whether it is a key frame.

    Attributes:
        pts, durations: int64 [n], in ticks of the stream.
        keys: bool [n].
    """

    pts: NDArray[np.int64]
    durations: NDArray[np.int64]
    keys: NDArray[np.bool_]


def make_packets(found: list[tuple[int, int, bool]]) -> Packets:
    """The packets as arrays."""
    pts, durations, keys = np.array(found, np.int64).reshape(-1, 3).T
    return Packets(np.ascontiguousarray(pts), np.ascontiguousarray(durations), keys.astype(bool))


def kept_packets(path: Path) -> Packets | None:
    """What was kept of a file that has not changed since; None where nothing was, or it is damaged."""
    with suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile), np.load(_place(path)) as file:
        packets = Packets(*(file[name] for name in Packets._fields))  # an archive has checksums
        kinds = [(array.dtype.kind, array.shape) for array in packets]
        if kinds == [(kind, (packets.pts.size,)) for kind in "iib"]:
            return packets
    return None


def keep_packets(path: Path, packets: Packets) -> None:
    """Keep what is known of a long file; nothing happens where that cannot be written."""
    if len(packets.pts) < _LONG:
        return
    with suppress(OSError):
        place = _place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place) as part, part.open("wb") as file:
            np.savez(file, **packets._asdict())
        with os.scandir(place.parent) as entries:
            found = [(entry.stat(), entry.path) for entry in entries]
        size = 0
        for facts, name in sorted(found, key=lambda pair: pair[0].st_mtime_ns, reverse=True):
            size += facts.st_size
            if size > _MOST_BYTES:
                Path(name).unlink(missing_ok=True)


def _place(path: Path) -> Path:
    facts = path.stat()
    words = f"{path.resolve()}\0{facts.st_size}\0{facts.st_mtime_ns}\0{av.__version__}"
    return (
        cache_home() / "packets" / f"{hashlib.sha256(words.encode(errors='surrogateescape')).hexdigest()[:32]}.npz"
    )

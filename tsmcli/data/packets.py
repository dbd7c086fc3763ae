"""What a container says of its packets, kept for long files: finding it out means to read the whole file."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from tsmcli.files import cache_home, write_bytes

Packets = NDArray[np.void]
"""Of each shown frame, in the order of showing: `PACKET`."""
PACKET = np.dtype([("pts", "<i8"), ("duration", "<i8"), ("key", "?")])
"""When and how long it is shown, in ticks of the stream, and whether it is a key frame."""

_LONG = 2000
"""Files with fewer packets are read as quickly."""
_MOST_BYTES = 2_000_000_000
"""Of all that is kept; the oldest goes first."""
_LOOK = 64
"""After one file of so many it is looked whether there is more: among many files that takes long."""


class Kept(NamedTuple):
    """The packets of a file, and whether they are the same where FFmpeg does not work through its edit list."""

    packets: Packets
    plain: bool


def kept_packets(path: Path) -> Kept | None:
    """What was kept of a file that has not changed since; None where nothing was, or it is damaged."""
    with suppress(OSError, ValueError):
        data = memoryview(_place(path).read_bytes())
        if len(data) > 5 and zlib.crc32(data[4:]) == int.from_bytes(data[:4], "little"):
            return Kept(np.frombuffer(data, PACKET, offset=5), bool(data[4]))
    return None


def is_long(packets: Sequence[object]) -> bool:
    """Whether the packets of a file are worth keeping."""
    return len(packets) >= _LONG


def keep_packets(path: Path, kept: Kept) -> None:
    """Keep what is known of a file; nothing happens where that cannot be written."""
    with suppress(OSError):
        place, data = _place(path), bytes([kept.plain]) + kept.packets.tobytes()
        place.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(place, zlib.crc32(data).to_bytes(4, "little") + data)
        if int(place.name, 16) % _LOOK:
            return
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
    return cache_home() / "packets" / hashlib.sha256(words.encode(errors="surrogateescape")).hexdigest()[:32]

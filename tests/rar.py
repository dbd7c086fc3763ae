"""Write small RAR archives (version 4, stored), as RARLAB's technote describes the format."""

from __future__ import annotations

import struct
import zlib

LINK, FILE, FOLDER = 0o120777, 0o100644, 0o040755


def rar(members: dict[str, tuple[int, bytes]]) -> bytes:
    """name -> (Unix mode, content); the content of a link is where it points to."""
    blocks = [b"Rar!\x1a\x07\x00", _block(0x73, 0, bytes(6))]
    for name, (mode, content) in members.items():
        folder = 0xE0 if mode == FOLDER else 0
        fields = struct.pack(
            "<IIBIIBBHI", len(content), len(content), 3, zlib.crc32(content), 0, 20, 0x30, len(name.encode()), mode
        )
        blocks += [_block(0x74, 0x8000 | folder, fields + name.encode()), content]
    return b"".join([*blocks, _block(0x7B, 0x4000, b"")])


def _block(kind: int, flags: int, fields: bytes) -> bytes:
    header = struct.pack("<BHH", kind, flags, 7 + len(fields)) + fields
    return struct.pack("<H", zlib.crc32(header) & 0xFFFF) + header

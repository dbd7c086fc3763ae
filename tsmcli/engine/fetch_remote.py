"""A file to fetch: where it is published, where it goes, what of it is there, and whether that is right."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from tsmcli.files import sha256

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Remote:
    """A file to fetch.

    Attributes:
        name: for people.
        urls: http, https or file addresses, tried in this order.
        path: where it goes.
        sha256_prefix: how its SHA-256 begins, or None where nobody says.
    """

    name: str
    urls: tuple[str, ...]
    path: Path
    sha256_prefix: str | None = None

    @property
    def part(self) -> Path:
        """Where its bytes are until it is whole."""
        return self.path.with_name(self.path.name + ".part")

    @property
    def tag(self) -> Path:
        """For a file without a known hash: which version, of which address, the `.part` file is of."""
        return self.part.with_name(self.part.name + ".tag")

    @property
    def have(self) -> int:
        """How many bytes of it are there."""
        return self.part.stat().st_size if self.part.exists() else 0

    def put_in_place(self) -> None:
        """Give the complete file its name, once it is safe on disk."""
        with self.part.open("rb+") as file:
            os.fsync(file.fileno())
        self.part.replace(self.path)
        self.tag.unlink(missing_ok=True)

    def discard(self) -> None:
        """Forget the bytes that are there."""
        self.part.unlink(missing_ok=True)
        self.tag.unlink(missing_ok=True)


def is_whole(remote: Remote) -> bool:
    """Whether the file is there, with the right hash if one is known."""
    return remote.path.is_file() and has_prefix(remote.path, remote.sha256_prefix)


def has_prefix(path: Path, prefix: str | None) -> bool:
    """Whether the SHA-256 of a file begins like this; true where no beginning is known."""
    return prefix is None or sha256(path).startswith(prefix)

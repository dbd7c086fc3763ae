"""Check the files in the cache of the zoo again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tsmcli.prepare.remote import has_prefix
from tsmcli.recipes.download import Supply, remote_of
from tsmcli.zoo import Extra, Model

State = Literal["verified", "no published hash", "damaged", "incomplete", "missing"]


@dataclass(frozen=True)
class Checked:
    """A file of the cache, or one that should be there; `bytes` are those on disk."""

    name: str
    path: Path
    state: State
    bytes: int


@dataclass(frozen=True)
class Verified:
    """The end: all that was looked at."""

    files: tuple[Checked, ...]

    @property
    def bad(self) -> list[Checked]:
        """What cannot be used as it is."""
        return [file for file in self.files if file.state in ("damaged", "incomplete", "missing")]


def verify(entries: Sequence[Model | Extra], supply: Supply, *, named: bool) -> Iterator[Checked | Verified]:
    """Hash every file of these entries that is in the cache.

    Args:
        named: the entries were asked for by name, so a checkpoint that is not there is worth a line.
    """
    files = []
    for entry in entries:
        for kind in entry.files if isinstance(entry, Model) else ("ckpt",):
            if isinstance(entry, Extra) and entry.file is None:
                continue
            remote = remote_of(entry, supply, kind)
            state: State = "verified" if remote.sha256_prefix else "no published hash"
            path = remote.path
            if not path.is_file():
                state, path = ("incomplete", remote.part) if remote.part.exists() else ("missing", path)
            elif not has_prefix(path, remote.sha256_prefix):
                state = "damaged"
            if state == "missing" and not (named and kind == "ckpt"):
                continue
            file = Checked(remote.name, path, state, path.stat().st_size if path.exists() else 0)
            files.append(file)
            yield file
    yield Verified(tuple(files))

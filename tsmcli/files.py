"""Write files whole or not at all, and hash them."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

_BLOCK = 1 << 20


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, for a file or a folder; it becomes `path` when the block ends well.

    The name holds this machine and process, so two processes never write the same file. What was written is flushed
    to disk before the rename. On any failure the temporary is removed and what was at `path` stays. Temporaries of
    processes that were killed are removed by the next one that writes there.

    Raises:
        OSError: it cannot be written; `filename` is `path`.
    """
    part = part_of(path)
    try:
        remove_stale_parts(path)
        yield part
        if part.is_file():
            with part.open("rb+") as file:
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            remove(part)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(part)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def part_of(path: Path) -> Path:
    """The name that `replacing` gives the temporary of this process."""
    return path.with_name(f"{path.name}.part-{platform.node()}-{os.getpid()}")


def remove_stale_parts(path: Path) -> None:
    """Delete temporaries of `path` whose process is gone from this machine, and nothing of one that lives."""
    start = f"{path.name}.part-{platform.node()}-"
    for part in path.parent.glob(f"{glob.escape(start)}*") if path.parent.is_dir() else ():
        pid = part.name.removeprefix(start).partition(".part-")[0]  # a temporary may have one of its own
        if pid.isdigit() and (int(pid) == os.getpid() or not _lives(int(pid))):
            remove(part)


def _lives(pid: int) -> bool:
    if sys.platform == "win32":  # there is no harmless signal to ask with
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str, errors: str | None = None) -> None:
    """Write a text file in UTF-8; `errors` as of `open`."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8", errors=errors)


def append_text(path: Path, text: str) -> None:
    """Write at the end of a text file.

    Raises:
        OSError: it cannot be written; `filename` is `path`.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file."""
    with replacing(path) as part:
        part.write_bytes(data)


def sha256(path: Path) -> str:
    """Hash of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def cache_home() -> Path:
    """Where files are kept that can be made or fetched again: `tsm` in $XDG_CACHE_HOME, else in `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "tsm"

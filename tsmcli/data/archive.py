"""Unpack an archive, writing nothing outside the folder it goes to: ZIP, and with libarchive RAR and others."""

from __future__ import annotations

import errno
import importlib
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

from tsmcli.errors import EnvironmentProblem, TsmError, WeightsError
from tsmcli.files import replacing

ARCHIVES = frozenset((".rar", ".zip"))
_BLOCK = 1 << 20
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)


class _Member(NamedTuple):
    """What an archive holds; `plain`: a file or a folder, and no link."""

    name: str
    size: int
    folder: bool
    plain: bool
    blocks: Iterable[bytes]


def free_bytes(folder: Path) -> int:
    """Bytes left on the disk of a folder, which need not exist yet."""
    return shutil.disk_usage(next(f for f in (folder, *folder.absolute().parents) if f.exists())).free


def check_space(what: str, needed: int, folder: Path) -> None:
    """Raise EnvironmentProblem if `needed` bytes do not fit on the disk of a folder."""
    if needed > (free := free_bytes(folder)):
        message = f"{what} needs {needed:,} bytes, and the disk of {folder} has {free:,} left"
        raise EnvironmentProblem(message, "free some space, or choose a folder on another disk: TSM_ZOO, --out")


def unpack(archive: Path, folder: Path, *, wrong: type[TsmError] = WeightsError, otherwise: str = "") -> Path:
    """Unpack an archive to a folder, unless that is there already; look at all names before writing anything.

    Args:
        wrong: the error of an archive that cannot be unpacked.
        otherwise: what else one can do then, for the hint.

    Raises:
        EnvironmentProblem: libarchive is not installed, or the disk is too small.
        WeightsError: or `wrong`: the archive is damaged, or holds links or names that lead out of the folder.
    """
    if folder.is_dir():
        return folder
    libarchive = None if archive.is_file() and zipfile.is_zipfile(archive) else _libarchive(archive, otherwise)
    broken = (libarchive.ArchiveError,) if libarchive else _ZIP_ERRORS
    try:
        needed = 0
        for member in _members(archive, libarchive):
            check_member(member.name, archive, plain=member.plain, wrong=wrong)
            needed += member.size
        check_space(f"{archive}, unpacked,", needed, folder.parent)
        with replacing(folder) as part:
            part.mkdir(parents=True)
            for member in _members(archive, libarchive):
                _write_member(member, part / member.name)
    except (*broken, OSError) as error:
        if isinstance(error, OSError) and folder.is_dir():  # another process was quicker
            return folder
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that is of a ZIP whose places are wrong
            raise
        hint = f"delete it and fetch it again; {folder} was not made"
        raise wrong(f"{archive}: cannot be unpacked: {error}", f"{hint}\n{otherwise}".strip()) from None
    return folder


def _libarchive(archive: Path, otherwise: str) -> Any:
    try:
        return importlib.import_module("libarchive")
    except (ImportError, OSError, AttributeError, TypeError):  # the last two: no shared library was found
        library = "apt install libarchive13, or brew install libarchive"
        problem = f"{archive} is there, but libarchive, which unpacks it, is not installed"
        way = f"pip install 'tsmcli[rar]', and the library itself: {library}; then the same command again"
        raise EnvironmentProblem(problem, f"{way}\n{otherwise}".strip()) from None


def _members(archive: Path, libarchive: Any) -> Iterator[_Member]:
    if libarchive is None:
        with zipfile.ZipFile(archive) as file:
            for info in file.infolist():
                plain = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG, stat.S_IFDIR)
                yield _Member(
                    info.filename, info.file_size, info.filename.endswith("/"), plain, _blocks(file, info)
                )
    else:
        with libarchive.file_reader(str(archive)) as entries:
            for entry in entries:
                plain = entry.isfile or entry.isdir
                yield _Member(entry.pathname, entry.size or 0, entry.isdir, plain, entry.get_blocks())


def _blocks(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    with file.open(info) as content:
        yield from iter(partial(content.read, _BLOCK), b"")


def check_member(name: str, archive: Path, *, plain: bool, wrong: type[TsmError] = WeightsError) -> None:
    """Raise `wrong` for a member that is no file or folder, or leads out of the folder on any system."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    outside = posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts or "\0" in name
    if outside or not windows.parts:
        raise wrong(f"{archive}: the member {name!r} leads out of the folder; nothing was unpacked")
    if not plain:
        raise wrong(f"{archive}: the member {name!r} is neither a file nor a folder; nothing was unpacked")


def _write_member(member: _Member, target: Path) -> None:
    if member.folder:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        for block in member.blocks:
            file.write(block)

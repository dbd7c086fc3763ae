"""Unpack an archive of checkpoints with libarchive, writing nothing outside the folder it goes to."""

from __future__ import annotations

import importlib
import shutil
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from tsmcli.errors import EnvironmentProblem, WeightsError


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack an archive to a folder, unless that is there already.

    All names are looked at before anything is written, and the folder gets its name when it is complete.

    Raises:
        EnvironmentProblem: libarchive is not installed, or the disk is too small.
        WeightsError: the archive is damaged, or holds links or names that lead out of the folder.
    """
    if folder.is_dir():
        return folder
    libarchive = _libarchive(archive)
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        needed = 0
        with libarchive.file_reader(str(archive)) as entries:
            for entry in entries:
                check_member(entry.pathname, archive, plain=entry.isfile or entry.isdir)
                needed += entry.size or 0
        free = shutil.disk_usage(archive.parent).free
        if needed > free:
            raise EnvironmentProblem(f"{archive} unpacks to {needed:,} bytes; {free:,} are left on the disk")
        with libarchive.file_reader(str(archive)) as entries:
            for entry in entries:
                _write_member(entry, part)
    except libarchive.ArchiveError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise WeightsError(
            f"{archive}: cannot be unpacked: {error}", hint=f"delete it and fetch it again; {folder} was not made"
        ) from None
    part.rename(folder)
    return folder


def check_member(name: str, archive: Path, *, plain: bool) -> None:
    """Refuse a member that is no plain file or folder, or whose name leads out of the folder on any system.

    Raises:
        WeightsError: naming the member.
    """
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    outside = posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts or "\0" in name
    if outside or not windows.parts:
        raise WeightsError(f"{archive}: the member {name!r} leads out of the folder; nothing was unpacked")
    if not plain:
        raise WeightsError(f"{archive}: the member {name!r} is neither a file nor a folder; nothing was unpacked")


def _write_member(entry: Any, folder: Path) -> None:
    target = folder / entry.pathname
    if entry.isdir:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        for block in entry.get_blocks():
            file.write(block)


def _libarchive(archive: Path) -> Any:
    try:
        return importlib.import_module("libarchive")
    except (ImportError, OSError, AttributeError, TypeError):  # the last two: no shared library was found
        raise EnvironmentProblem(
            f"{archive} is there, but libarchive, which unpacks it, is not installed",
            hint="pip install 'tsmcli[rar]', and the library itself: apt install libarchive13, or brew install "
            "libarchive; then the same command again",
        ) from None

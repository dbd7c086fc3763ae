"""Unpack an archive of checkpoints with libarchive, writing nothing outside the folder it goes to."""

from __future__ import annotations

import importlib
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from tsmcli.engine.fetch import check_space
from tsmcli.errors import EnvironmentProblem, WeightsError
from tsmcli.files import replacing


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack an archive to a folder, unless that is there already; look at all names before writing anything.

    Raises:
        EnvironmentProblem: libarchive is not installed, or the disk is too small.
        WeightsError: the archive is damaged, or holds links or names that lead out of the folder.
    """
    if folder.is_dir():
        return folder
    try:
        libarchive: Any = importlib.import_module("libarchive")
    except (ImportError, OSError, AttributeError, TypeError):  # the last two: no shared library was found
        library = "apt install libarchive13, or brew install libarchive"
        hint = f"pip install 'tsmcli[rar]', and the library itself: {library}; then the same command again"
        problem = f"{archive} is there, but libarchive, which unpacks it, is not installed"
        raise EnvironmentProblem(problem, hint) from None
    try:
        needed = 0
        with libarchive.file_reader(str(archive)) as entries:
            for entry in entries:
                check_member(entry.pathname, archive, plain=entry.isfile or entry.isdir)
                needed += entry.size or 0
        check_space(f"{archive}, unpacked,", needed, folder.parent)
        with replacing(folder) as part, libarchive.file_reader(str(archive)) as entries:
            part.mkdir()
            for entry in entries:
                _write_member(entry, part / entry.pathname)
    except libarchive.ArchiveError as error:
        hint = f"delete it and fetch it again; {folder} was not made"
        raise WeightsError(f"{archive}: cannot be unpacked: {error}", hint=hint) from None
    except OSError:
        if not folder.is_dir():  # else another process was quicker
            raise
    return folder


def check_member(name: str, archive: Path, *, plain: bool) -> None:
    """Raise WeightsError for a member that is no file or folder, or leads out of the folder on any system."""
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    outside = posix.is_absolute() or windows.drive or windows.root or ".." in windows.parts or "\0" in name
    if outside or not windows.parts:
        raise WeightsError(f"{archive}: the member {name!r} leads out of the folder; nothing was unpacked")
    if not plain:
        raise WeightsError(f"{archive}: the member {name!r} is neither a file nor a folder; nothing was unpacked")


def _write_member(entry: Any, target: Path) -> None:
    if entry.isdir:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        for block in entry.get_blocks():
            file.write(block)

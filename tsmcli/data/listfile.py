"""List files: one video a line, in MMAction2's two formats.

    videos:  <path> <label>                    abseiling/clip one.mp4 0
    frames:  <folder> <number of frames> <label>    4218 37 12

Paths may hold spaces: the numbers are taken from the end of the line. Empty lines and lines that start with `#`
are skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tsmcli.config import Store
from tsmcli.errors import DataError
from tsmcli.files import write_text

T = TypeVar("T", dict[str, Any], list[Any])

_SHOWN = 5


class VideoRecord(NamedTuple):
    """One line of a list file.

    Attributes:
        path: video file or frame folder, relative to the media folder.
        num_frames: frames in the folder; None for a video file, whose decoder knows.
        label: class index.
        store, naming: how it is stored, and the template and first number of its frames, where that is not what the
            whole list has.
    """

    path: str
    num_frames: int | None
    label: int
    store: Store | None = None
    naming: tuple[str, int] | None = None


def read_list(path: Path, store: Store, num_classes: int | None = None) -> list[VideoRecord]:
    """Read a list file and check every line.

    Args:
        num_classes: K; a label of K or more is an error.

    Raises:
        DataError: the file is missing, empty or has malformed lines; the first few are named, with their numbers.
    """
    if not path.exists():
        raise DataError(f"no list file {path}")
    records, problems = [], []
    for number, line in read_lines(path, "a list"):
        if line.lstrip().startswith("#"):
            continue
        parsed = _parse(line, store, num_classes)
        if isinstance(parsed, str):
            problems.append(f"{path}:{number}: {parsed}")
        else:
            records.append(parsed)
    if problems:
        more = [f"... and {len(problems) - _SHOWN} more lines"] if len(problems) > _SHOWN else []
        raise DataError("\n".join([*problems[:_SHOWN], *more]), hint=f"a line is: {_FORMAT[store]}")
    if not records:
        raise DataError(f"{path}: the list is empty", hint=f"a line is: {_FORMAT[store]}")
    return records


def write_list(path: Path, records: Iterable[VideoRecord]) -> None:
    """Write a list file, whole or not at all; DataError for a path that could not be read back."""
    lines = []
    for video, frames, label, *_ in records:
        if video != video.strip() or video.startswith("#") or len(video.splitlines()) != 1:
            wrong = f"{video!r} cannot stand in a list: # or a blank first, or a line break"
            raise DataError(wrong, "rename the file or folder")
        lines.append(f"{video} {label}\n" if frames is None else f"{video} {frames} {label}\n")
    try:
        write_text(path, "".join(lines))
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: a file name is not valid UTF-8: {error}", hint="rename the file") from None


def read_lines(path: Path, what: str) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers; a byte order mark is left out.

    Args:
        what: what the file should be, for the message.

    Raises:
        DataError: it is missing or not UTF-8.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as {what}: {error}") from None
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def read_json(path: Path, kind: type[T], hint: str = "") -> T:
    """The dict or list in a JSON file; DataError if it is missing, damaged or something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not JSON: {error}", hint) from None
    if not isinstance(content, kind):
        raise DataError(f"{path}: holds no JSON {'object' if kind is dict else 'array'}", hint)
    return content


def whole_number(text: str) -> int | None:
    """The number of up to 9 plain digits, or None."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


_FORMAT = {
    "video": "<video file> <label>",
    "frames": "<folder> <number of frames> <label>",
    "zip": "<zip file> <number of frames> <label>",
}


def _parse(line: str, store: Store, num_classes: int | None) -> VideoRecord | str:
    """A record, or what is wrong with the line."""
    wanted = 1 if store == "video" else 2
    fields = line.strip().rsplit(maxsplit=wanted)
    if len(fields) != wanted + 1:
        return f"expected `{_FORMAT[store]}`, got {line.strip()[:80]!r}"
    path, *words = fields
    numbers = [whole_number(word) for word in words]
    if None in numbers:
        wrong = words[numbers.index(None)]
        return f"{wrong[:40]!r} is not a whole number; expected `{_FORMAT[store]}`"
    *frames, label = (number or 0 for number in numbers)
    if num_classes is not None and label >= num_classes:
        return f"label {label}, but there are {num_classes} classes (0 to {num_classes - 1})"
    if frames == [0]:
        return "a video of 0 frames"
    return VideoRecord(path, frames[0] if frames else None, label)

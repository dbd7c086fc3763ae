"""List files: one video a line, in MMAction2's two formats.

    videos:  <path> <label>                    abseiling/clip one.mp4 0
    frames:  <folder> <number of frames> <label>    4218 37 12

Where videos may have several labels, all of them stand at the end of the line, or none. Paths may hold spaces: the
numbers are taken from the end of the line. Empty lines and lines that start with `#` are skipped. A third form
lists intervals of videos: see `intervals.py`.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tsmcli.config import Store
from tsmcli.data.intervals import FORM, Row, Span, class_index, class_key, read_labels, read_rows, write_table
from tsmcli.data.media import is_there, spellings
from tsmcli.errors import DataError
from tsmcli.files import write_text
from tsmcli.results import many_hot

T = TypeVar("T", dict[str, Any], list[Any])

_SHOWN = 5
_LINE_END = re.compile("\r\n|\r|\n")


class VideoRecord(NamedTuple):
    """One line of a list file.

    Attributes:
        path: video file or frame folder, relative to the media folder.
        num_frames: frames in the folder; None for a video file, whose decoder knows.
        label: class index; where there may be several, the first of them, or -1.
        store, naming: how it is stored, and the template and first number of its frames, where that is not what the
            whole list has.
        labels: all class indices of a video that may have several, in rising order; None: it has one.
        span: the interval of the video that is meant; None: all of it.
    """

    path: str
    num_frames: int | None
    label: int
    store: Store | None = None
    naming: tuple[str, int] | None = None
    labels: tuple[int, ...] | None = None
    span: Span | None = None

    @property
    def name(self) -> str:
        """What results and messages call it: its path, for an interval `path@12.5-14` or `path@f300-f350`."""
        return self.path if self.span is None else f"{self.path}@{self.span}"

    @property
    def every(self) -> tuple[int, ...]:
        """All its labels, however many it may have."""
        return (self.label,) if self.labels is None else self.labels


def read_list(
    path: Path, store: Store, *, classes: Sequence[str] | None = (), first_label: int | None = 0,
    media: Path | None = None, several: bool = False,
) -> list[VideoRecord]:  # fmt: skip
    """Read a list file and check every line.

    Args:
        classes: their names; a label beyond them is an error. With them, a line needs no label if its video lies
            in a folder that is named as a class, as in the test lists of UCF101. None: labels are not looked at.
        first_label: the number of the first class in this file (records count from 0); None: 0, or 1 where the
            folders of the videos show it, as in the training lists of UCF101.
        media: where the videos lie. A line that starts with `#` is a video if it is there, else a comment.
        several: a video may have several labels, or none if it is there.

    Raises:
        DataError: it is missing or empty, lines are wrong (the first few are named), or labels may count from 1.
    """
    if not path.exists():
        raise DataError(f"no list file {path}")
    index, first, form = class_index(classes or ()), first_label, _form(store, several)
    text = read_text(path, "a list")
    parsed: Iterable[tuple[int, str, VideoRecord | str]] = (
        (n, line, _parse_several(line, store, media) if several else _parse(line, store, index, first_label or 0))
        for n, line in _lines(text)
    )
    if (rows := read_rows(text)) is not None:
        form, known = FORM, None if classes is None else index
        if any(row.is_named for row in rows):
            first = first or 0  # the names say which classes are meant
        parsed = ((row.number, row.path, _of_row(row, known, first_label or 0, several)) for row in rows)
    found, problems = list[tuple[int, VideoRecord]](), list[str]()
    for number, line, record in parsed:
        if line.lstrip().startswith("#") and not _is_there(record, media):
            continue
        if isinstance(record, VideoRecord):
            found.append((number, record))
        else:
            problems.append(f"{path}:{number}: {record}")
    if first is None:
        first = 0 if problems else _first_label(path, [record for _, record in found], index)
    if count := len(classes or ()):
        held = f"but there are {count} classes ({first} to {first + count - 1})"
        if first_label is None and min((label for _, r in found for label in r.every), default=0) == 1:
            held += "; if labels count from 1: --set data.first_label=1"
        odd = [(number, label) for number, r in found for label in r.every if not 0 <= label - first < count]
        problems += [f"{path}:{number}: label {label}, {held}" for number, label in odd]
    if problems:
        more = [f"... and {len(problems) - _SHOWN} more lines"] if len(problems) > _SHOWN else []
        raise DataError("\n".join([*problems[:_SHOWN], *more]), hint=f"a line is: {form}")
    if not found:
        raise DataError(f"{path}: the list is empty", hint=f"a line is: {form}")
    if several:
        return [with_labels(record, [label - first for label in record.every]) for _, record in found]
    return [record._replace(label=record.label - first) for _, record in found]


def with_labels(record: VideoRecord, labels: Iterable[int]) -> VideoRecord:
    """A record with any number of labels, each once."""
    every = tuple(sorted(set(labels)))
    return record._replace(label=every[0] if every else -1, labels=every)


def labels_of(records: Sequence[VideoRecord], num_classes: int) -> NDArray[Any]:
    """Labels int64 [N], or bool [N, K] where videos may have several; then ValueError for one that is no class."""
    if any(record.labels is not None for record in records):
        return many_hot([record.every for record in records], num_classes)
    return np.array([record.label for record in records], np.int64)


def _class_of(path: str, index: Mapping[str, int]) -> int | None:
    """The class that a folder of the path is named as, the outermost first."""
    *folders, _ = path.replace("\\", "/").split("/")
    return next((index[key] for folder in folders if (key := class_key(folder)) in index), None)


def _is_there(parsed: VideoRecord | str, media: Path | None) -> bool:
    return isinstance(parsed, VideoRecord) and media is not None and is_there(media / parsed.path)


def _first_label(path: Path, records: Sequence[VideoRecord], index: Mapping[str, int]) -> int:
    """1 where folders that are named as classes show that labels count from 1; DataError where it may be."""
    named = [(record.label, _class_of(record.path, index)) for record in records if record.labels is None]
    shown = {label - right for label, right in named if right is not None}
    if shown == {1}:
        return 1
    labels = {label for record in records for label in record.every}
    if 1 in shown:
        hint = "--set data.first_label=1 or 0 says what they count from"
        raise DataError(f"{path}: the folders of some videos show labels from 1, those of others do not", hint)
    if not shown and index and len(labels) > 1 and labels == set(range(1, len(labels) + 1)):
        hint = "--set data.first_label=1 if they do, --set data.first_label=0 if the first class has no video here"
        raise DataError(f"{path}: its labels are 1 to {len(labels)}, without 0: do they count from 1?", hint)
    return 0


def write_list(path: Path, records: Sequence[VideoRecord]) -> None:
    """Write a list file, whole or not at all; DataError for a path that could not be read back."""
    if any(record.span for record in records):
        write_intervals(path, records)
        return
    lines = []
    for record in records:
        numbers = record.every if record.num_frames is None else (record.num_frames, *record.every)
        lines.append(" ".join([_listed(path, record), *map(str, numbers)]) + "\n")
    write_text(path, "".join(lines))


def write_intervals(path: Path, records: Iterable[VideoRecord], class_names: Sequence[str] = ()) -> None:
    """Write a list of intervals, as `write_list`; with class names where they are read back as the same labels."""
    cells = ((_listed(path, record), record.span, record.every) for record in records)
    write_text(path, write_table(cells, class_names))


def _listed(path: Path, record: VideoRecord) -> str:
    """The name of a video in the list at `path`."""
    if wrong := unlistable(record.path, several=record.labels is not None):
        raise DataError(f"{path}: {wrong}", "rename the file or folder")
    return f"./{record.path}" if record.path.startswith(("#", " ")) else record.path


def unlistable(video: str, *, several: bool = False) -> str:
    """Why a path cannot stand in a list file, or nothing; `several`: of videos with any number of labels."""
    if several and whole_number(video.split()[-1] if len(video.split()) > 1 else "") is not None:
        return f"{video!r} cannot stand in a list of several labels: it ends in a number of its own"
    if len(video.splitlines()) != 1 or video != video.rstrip() or video[:1] in "\t\v\f":
        return f"{video!r} cannot stand in a list: a line break, or a blank at an end"
    try:
        video.encode()
    except UnicodeEncodeError:
        return f"{video!r} cannot stand in a list: its name is not valid UTF-8"
    return ""


def read_text(path: Path, what: str) -> str:
    """The text of a file in UTF-8, or in UTF-16 where a byte order mark says so.

    Args:
        what: what the file should be, for the message.

    Raises:
        DataError: it is missing, is no file, or is in another encoding; with the line.
    """
    wrong = f"cannot be read as {what}"
    try:
        if path.exists() and not path.is_file():
            raise DataError(f"{path}: {wrong}: it is no file")  # a device or a pipe may never end
        data = path.read_bytes()
        return data.decode("utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{line}: {wrong}: {error.reason}", hint="save the file in UTF-8") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {wrong}: {getattr(error, 'strerror', None) or error}") from None


def read_lines(path: Path, what: str) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers; errors as in `read_text`."""
    return _lines(read_text(path, what))


def _lines(text: str) -> list[tuple[int, str]]:
    return [(number, line) for number, line in enumerate(_LINE_END.split(text), 1) if line.strip()]


def read_json(path: Path, kind: type[T], hint: str = "") -> T:
    """The dict or list in a JSON file; DataError if it is missing, damaged or something else."""
    try:
        content = json.loads(read_text(path, "JSON"))
    except (ValueError, RecursionError) as error:
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


def _form(store: Store, several: bool) -> str:
    return _FORMAT[store] + " <label> ..." * several


def _parse_several(line: str, store: Store, media: Path | None) -> VideoRecord | str:
    """A record with all labels as the file has them, or what is wrong with the line."""
    words = line.split()
    count = next((i for i, word in enumerate(reversed(words)) if whole_number(word) is None), len(words) - 1)
    path, *numbers = line.strip().rsplit(maxsplit=count)
    frames, labels = (None, numbers) if store == "video" else (numbers[:1], numbers[1:])
    if frames == []:
        return f"expected `{_form(store, True)}`, got {line.strip()[:80]!r}"
    if frames and int(frames[0]) == 0:
        return "a video of 0 frames"
    record = with_labels(VideoRecord(path, int(frames[0]) if frames else None, -1), map(int, labels))
    if not labels and not (media and any(is_there(media / way) for way in spellings(path))):
        return f"{path[:80]!r} has no label, and there is no such video; expected `{_form(store, True)}`"
    return record


def _parse(line: str, store: Store, index: Mapping[str, int], first: int) -> VideoRecord | str:
    """A record with the label as the file has it, or what is wrong with the line."""
    wanted = 1 if store == "video" else 2
    fields = line.strip().rsplit(maxsplit=wanted)
    numbers = [whole_number(word) for word in fields[1:]]
    by_folder = _class_of(line.strip(), index)
    if store == "video" and numbers in ([], [None]) and by_folder is not None:
        return VideoRecord(line.strip(), None, by_folder + first)
    if len(fields) != wanted + 1:
        return f"expected `{_FORMAT[store]}`, got {line.strip()[:80]!r}"
    if None in numbers:
        wrong = fields[1 + numbers.index(None)]
        return f"{wrong[:40]!r} is not a whole number; expected `{_FORMAT[store]}`"
    *frames, label = (number or 0 for number in numbers)
    if frames == [0]:
        return "a video of 0 frames"
    return VideoRecord(fields[0], frames[0] if frames else None, label)


def _of_row(row: Row, index: Mapping[str, int] | None, first: int, several: bool) -> VideoRecord | str:
    """A record with the label as the file has it, or what is wrong with the row."""
    labels = row.problem or read_labels(row.label, index, first, several)
    if isinstance(labels, str):
        return labels
    record = VideoRecord(row.path, None, labels[0] if labels else -1, span=row.span)
    return with_labels(record, labels) if several else record

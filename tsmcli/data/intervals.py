"""Intervals of videos, and the table that lists them: its header line tells it apart from other lists.

    path,start,end,label
    talks/monday.mp4,12.5,14,wave              seconds on the video's own clock
    talks/monday.mp4,1:02:03.250,1:02:05,clap
    talks/monday.mp4,f300,f350,2               frames, counted from 0
    talks/tuesday.mp4,,,wave                   the whole video

A start belongs to its interval, an end does not. An empty start is 0, an empty end is the end of the video.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsmcli.data.media import name_key

COLUMNS = ("path", "start", "end", "label")
FORM = ",".join(COLUMNS)
_TIME = re.compile(r"(?:(?:([0-9]{1,6}):)?([0-9]{1,6}):)?([0-9]{1,9}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})")
ROUNDED_SEC = 0.0005
"""What a written time may differ from that of the frame that is meant."""
_NUMBER = re.compile(r"[0-9]{1,9}")
_FRAME = re.compile(r"[fF]([0-9]{1,9})")
CUT = re.compile(r"@f?[0-9.]+-f?[0-9.]+?(\.zip|\.mp4)?$")
"""What follows the name of a recording in that of an interval that was cut out of it: `monday.mp4@12.5-14.zip`."""


class Span(NamedTuple):
    """[start, end) of a video.

    Attributes:
        start, end: seconds from the first frame; an end of infinity is that of the video.
        frames: they are numbers of frames, from 0, instead.
    """

    start: float
    end: float
    frames: bool = False

    def __str__(self) -> str:
        """`12.5-14`, `f300-f350` or `12.5-end`."""
        start, end = self.words
        return f"{start}-{end or 'end'}"

    @property
    def words(self) -> tuple[str, str]:
        """Start and end as a list has them."""
        start, end = (_written(time, self.frames) for time in self[:2])
        return start, end


def frames_within(span: Span, times: NDArray[np.float64], length_sec: float) -> tuple[int, int]:
    """[first, end) of the frames that begin in an interval, or the one that is shown all through it.

    Args:
        times: seconds of all frames from the first.
        length_sec: of the video. An interval after its end has no frame: then first and end are the same.
    """
    count = len(times)
    if span.frames:
        return int(min(span.start, count)), int(min(span.end, count))
    if span.start >= length_sec:
        return count, count
    first, end = np.searchsorted(times, np.subtract(span[:2], ROUNDED_SEC)).tolist()
    return (first, end) if first < end else (first - 1, first)


class Row(NamedTuple):
    """A line of a table: its number, its path, its interval (None: the whole video), its labels, what is wrong."""

    number: int
    path: str
    span: Span | None
    label: str
    problem: str = ""

    @property
    def is_named(self) -> bool:
        """Whether a class name is among its labels, and not only numbers."""
        return any(word.strip() and not _NUMBER.fullmatch(word.strip()) for word in self.label.split(";"))


def read_rows(text: str) -> list[Row] | None:
    """The rows of a table of intervals; None where its header shows that it is no such table."""
    header = next(csv.reader(re.split("[\r\n]", text.lstrip(), maxsplit=1)[:1], skipinitialspace=True), [])
    names = [name.strip().lower() for name in header]
    return [*_rows(text, names)] if {*COLUMNS[:3]} <= {*names} else None


def _rows(text: str, names: Sequence[str]) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), skipinitialspace=True)
    in_header, number = True, 1
    try:
        for cells in reader:
            blank = not any(cell.strip() for cell in cells)
            if not blank and not in_header:
                found = dict(zip(names, map(str.strip, cells), strict=False))
                path, start, end, label = (found.get(name, "") for name in COLUMNS)
                span = read_span(start, end) if path else "there is no path"
                yield Row(number, path, *((None, label, span) if isinstance(span, str) else (span, label)))
            in_header, number = in_header and blank, reader.line_num + 1
    except csv.Error as error:
        yield Row(number, "", None, "", f"no line of a table: {error}")


def read_span(start: str, end: str) -> Span | str | None:
    """An interval, None where both words are empty, or what is wrong with them."""
    if not start and not end:
        return None
    for word in filter(None, (start, end)):
        if _time(word) is None:
            return f"{word[:40]!r} is no time: 12.5, mm:ss.mmm, hh:mm:ss.mmm, or a frame such as f300"
    first, last = _time(start), _time(end)
    if first and last and first[1] != last[1]:
        return f"{start} to {end}: one is a frame, one a time"
    span = Span(first[0] if first else 0.0, last[0] if last else math.inf, (first or last or (0, False))[1])
    return span if span.start < span.end else f"the start {start} is not before the end {end}"


def _time(word: str) -> tuple[float, bool] | None:
    """Seconds, or the number of a frame and True; None where it is neither."""
    if frame := _FRAME.fullmatch(word):
        return float(frame[1]), True
    match = _TIME.fullmatch(word)
    if match is None:
        return None
    hours, minutes, seconds = (Decimal(part or 0) for part in match.groups())
    if (match[2] and seconds >= 60) or (match[1] and minutes >= 60):
        return None
    return float(hours * 3600 + minutes * 60 + seconds), False


def _written(time: float, frames: bool) -> str:
    """A time that is read back as the same number."""
    if math.isinf(time):
        return ""
    return f"f{time:.0f}" if frames else f"{Decimal(repr(float(time))):f}".removesuffix(".0")


def class_index(names: Sequence[str]) -> dict[str, int]:
    """The label of every class by its name, and by what `class_key` makes of it."""
    return {class_key(name): i for i, name in enumerate(names)} | {name: i for i, name in enumerate(names)}


def class_key(name: str) -> str:
    """The same for names of a class that differ in case, or in `_` for a blank."""
    return name_key(name).replace("_", " ")


def read_labels(text: str, index: Mapping[str, int] | None, first: int, several: bool) -> list[int] | str:
    """The labels of a row as the list counts them, from `first`, or what is wrong with them.

    Args:
        index: of class names; None: labels do not matter.
    """
    labels = []
    for word in filter(None, map(str.strip, text.split(";"))) if several else [text]:
        found = int(word) if _NUMBER.fullmatch(word) else None
        if found is None and index is not None:
            found = index.get(word, index.get(class_key(word)))
            if found is None:
                return f"no class is called {word[:40]!r}" if word else "there is no label"
            found += first
        labels.append(first if found is None else found)
    return labels


def write_table(rows: Iterable[tuple[str, Span | None, Sequence[int]]], class_names: Sequence[str]) -> str:
    """The text of a table: of each row path, interval and labels, by name where that reads back as the label."""
    index = class_index(class_names)
    words = [
        str(i) if index[name] != i or _NUMBER.fullmatch(name) or name != name.strip() or ";" in name else name
        for i, name in enumerate(class_names)
    ]
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n").writerow
    write(COLUMNS)
    for path, span, labels in rows:
        said = ";".join(words[label] if words else str(label) for label in labels)
        write([path, *(span.words if span else ("", "")), said])
    return text.getvalue()

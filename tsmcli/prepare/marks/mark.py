"""What a marked interval is, and what the readers of all tools share: times, labels, XML."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple
from xml.etree import ElementTree

from tsmcli.data.intervals import Span, read_span
from tsmcli.data.media import VIDEO_SUFFIXES, suffix_of
from tsmcli.errors import DataError

_DEEP = 50
"""Elements within elements that no tool writes."""
_NO_LABEL = ("default", "_DEFAULT")
"""What VIA has where nobody chose a label."""
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[-+]?[0-9]{1,3})?", re.IGNORECASE)
_LONGEST = 10**9
"""Seconds or frames: a time beyond is damage."""


class Mark(NamedTuple):
    """One interval: inside is what is at `start` or later, and before `end`.

    Attributes:
        video: its name as the file has it: a name, a path or an address.
        start, end: seconds from the first frame, or frame numbers of the original video from 0.
        label: "" where there is none.
        frames: whether `start` and `end` are frame numbers.
        where: file and line, or file and element.
    """

    video: str
    start: float
    end: float
    label: str
    frames: bool
    where: str


class Ask(NamedTuple):
    """What the files do not say.

    Attributes:
        tick_rate: ticks a second of Label Studio's timeline, where a task does not say it; None: 24.
        label: where labels stand, if there are several places: an attribute of VIA, `tier` or a tier of ELAN, a
            column of a table.
    """

    tick_rate: float | None = None
    label: str | None = None


@dataclass
class Marks:
    """What was read.

    Attributes:
        marks: the intervals, in the order of the files.
        videos: name -> where, of every video that is listed, with or without intervals.
        rates: name -> frames per second that its times were made with, where the file or a default says that.
        notes: what is to be known of the files.
        files: how many there are of each kind.
    """

    marks: list[Mark] = field(default_factory=list)
    videos: dict[str, str] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    files: Counter[str] = field(default_factory=Counter)

    def add(self, video: str, start: float, end: float, label: Any, where: str, *, frames: bool = False) -> None:
        """Add an interval and its video."""
        self.videos.setdefault(video, where)
        self.marks.append(Mark(video, start, end, clean_label(label), frames, where))

    def join(self, other: Marks) -> None:
        """Add what another file holds."""
        self.marks += other.marks
        for video, where in other.videos.items():
            self.videos.setdefault(video, where)
        self.rates |= other.rates
        self.notes += other.notes
        self.files += other.files


def clean_label(label: Any) -> str:
    """A label without blanks around it; "" for what means none."""
    text = " ".join(str(label if label is not None else "").encode(errors="replace").decode().split())
    return "" if text in _NO_LABEL else text


def number(value: Any, where: str) -> float:
    """A finite number from JSON or from text, with a point or a comma; DataError for anything else."""
    text = str(value).strip().replace(",", ".")
    plain = not isinstance(value, bool) and _NUMBER.fullmatch(text)
    if not plain or not abs(found := float(text)) < _LONGEST:
        raise DataError(f"{where}: {text[:40]!r} is no time", hint="a time is in seconds, hh:mm:ss.mmm, or f300")
    return found


def whole(value: Any, where: str) -> int:
    """A whole number that is not negative; DataError for anything else."""
    found = number(value, where)
    if found < 0 or found != int(found):
        raise DataError(f"{where}: {str(value)[:40]!r} is no frame number")
    return int(found)


def time_of(text: str, where: str) -> tuple[float, bool]:
    """A time in text, and whether it is a frame number: `12.5`, `1:02,5`, `00:01:02.500` or `f300`."""
    found = read_span(text.strip().replace(",", "."), "")
    if not isinstance(found, Span):
        raise DataError(f"{where}: {found or 'a time is lacking'}")
    return found.start, found.frames


def exact_rate(rate: float) -> Fraction:
    """Frames per second, with 29.97 and its kind as they are meant: 30000/1001."""
    film = Fraction(round(rate * 1.001) * 1000, 1001)
    return film if film and abs(float(film) - rate) < 0.006 else Fraction(rate).limit_denominator(100_000)


def is_video(name: str) -> bool:
    """Whether a name ends as that of a video does."""
    return suffix_of(name.partition("?")[0]) in VIDEO_SUFFIXES or suffix_of(name) in VIDEO_SUFFIXES


class _Tree(ElementTree.TreeBuilder):
    """Builds a tree, but expands nothing and goes to no great depth."""

    depth = 0

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise DataError("it has a DOCTYPE, which no annotation tool writes", hint="export it anew")

    def start(self, tag: Any, attrs: Any) -> Any:
        self.depth += 1
        if self.depth > _DEEP:
            raise DataError(f"more than {_DEEP} elements lie in each other")
        return super().start(tag, attrs)

    def end(self, tag: Any) -> Any:
        self.depth -= 1
        return super().end(tag)


def read_xml(data: bytes, source: str) -> ElementTree.Element:
    """The root of an XML file. A DOCTYPE is refused, so there are no entities to expand and none to fetch.

    Raises:
        DataError: it is damaged, has a DOCTYPE, or is deeper than any tool writes.
    """
    parser = ElementTree.XMLParser(target=_Tree())
    try:
        parser.feed(data)
        root: ElementTree.Element = parser.close()
    except DataError as error:
        raise DataError(f"{source}: {error}", error.hint) from None
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{source}: damaged XML: {error}") from None
    return root


Reader = Callable[[Any, str, Ask], Marks]
"""From what a file holds (text or a tree), its name and what was asked for, to its marks."""

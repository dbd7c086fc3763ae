"""Text files and JSON without a tool of their own: Audacity's labels, THUMOS14, ActivityNet and HACS. Seconds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tsmcli.prepare.marks.mark import Ask, Marks, number

_NUMBER = r"[-+]?[0-9]+(?:[.,][0-9]+)?"
AUDACITY = re.compile(rf"\s*({_NUMBER})(?:\t({_NUMBER}))?(?:\t(.*))?")
"""A line: start, end (not in old files of points) and text."""
THUMOS = re.compile(rf"\s*(\S+)\s+({_NUMBER})\s+({_NUMBER})\s*")
THUMOS_NAME = re.compile(r"(.+)_(?:val|test)\.txt")

Matches = Sequence[tuple[str, re.Match[str]]]
"""The lines of a file, each with its `file:line`, as a pattern matches them."""


def matches(pattern: re.Pattern[str], lines: Sequence[tuple[int, str]], source: str) -> Matches:
    """How a pattern matches numbered lines; nothing where it does not match all."""
    found = [(f"{source}:{number}", match) for number, line in lines if (match := pattern.fullmatch(line))]
    return found if len(found) == len(lines) else []


def read_audacity(lines: Matches, source: str, _ask: Ask) -> Marks:
    """Labels of one file, which is named as its video; points have no length."""
    video = Path(source).stem
    marks = Marks(videos={video: source})
    for where, line in lines:
        start, end, label = line.groups()
        marks.add(video, number(start, where), number(end or start, where), label, where)
    return marks


def read_thumos(lines: Matches, source: str, _ask: Ask) -> Marks:
    """The intervals of one class, which the file is named as; `Ambiguous` is none."""
    marks, label = Marks(), THUMOS_NAME.sub(r"\1", Path(source).name)
    for where, line in lines if label != "Ambiguous" else ():
        video, start, end = line.groups()
        marks.add(video, number(start, where), number(end, where), label, where)
    return marks


def read_activitynet(tree: Mapping[str, Any], source: str, _ask: Ask) -> Marks:
    """The `database` of ActivityNet 1.3 or of HACS segments, or the `results` that its evaluation takes."""
    marks = Marks()
    for video, entry in (tree["database"] if "database" in tree else tree["results"]).items():
        marks.videos.setdefault(video, f"{source}: {video}")
        for at, annotation in enumerate(entry if "results" in tree else entry.get("annotations") or ()):
            where = f"{source}: {video}, annotation {at}"
            start, end = (number(t, where) for t in annotation["segment"])
            marks.add(video, start, end, annotation["label"], where)
    return marks

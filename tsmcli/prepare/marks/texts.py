"""Text files and JSON without a tool of their own: Audacity's labels, THUMOS14, ActivityNet and HACS. Seconds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tsmcli.prepare.marks.mark import Ask, Marks, number

_NUMBER = r"[-+]?[0-9]+(?:[.,][0-9]+)?"
AUDACITY = re.compile(rf"\s*({_NUMBER})(?:\t({_NUMBER}))?(?:\t(.*))?")
"""A line: start, end (not in old files of points) and text."""
THUMOS = re.compile(rf"\s*(\S+)\s+({_NUMBER})\s+({_NUMBER})\s*")
THUMOS_NAME = re.compile(r"(.+)_(?:val|test)\.txt")


def read_audacity(text: str, source: str, _ask: Ask) -> Marks:
    """Labels of one file, which is named as its video. Lines of frequencies are skipped; points have no length."""
    video = Path(source).stem
    marks = Marks(videos={video: source})
    for line_number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("\\"):
            where = f"{source}:{line_number}"
            match = AUDACITY.fullmatch(line)
            assert match
            start = number(match[1], where)
            marks.add(video, start, number(match[2], where) if match[2] else start, match[3], where)
    return marks


def read_thumos(text: str, source: str, _ask: Ask) -> Marks:
    """The intervals of one class, which the file is named as; `Ambiguous` is none."""
    marks, name = Marks(), THUMOS_NAME.fullmatch(Path(source).name)
    assert name
    for line_number, line in enumerate(text.splitlines(), 1):
        if (match := THUMOS.fullmatch(line)) and name[1] != "Ambiguous":
            where = f"{source}:{line_number}"
            marks.add(match[1], number(match[2], where), number(match[3], where), name[1], where)
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

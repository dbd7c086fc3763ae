"""VGG VIA 3: projects in JSON, and its two exports to CSV. Seconds."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from tsmcli.errors import DataError
from tsmcli.prepare.marks.mark import Ask, Marks, number

_SEGMENT = "FILE1_Z2_XY0"
"""What an attribute of a time segment hangs on."""
_USUAL = "TEMPORAL-SEGMENTS"


def read_via(project: Mapping[str, Any], source: str, ask: Ask) -> Marks:
    """The time segments of a project; still frames, whole files and regions are none."""
    marks, attributes = Marks(), project["attribute"]
    videos = {vid: _name(project, view["fid_list"]) for vid, view in project["view"].items() if view["fid_list"]}
    for video in videos.values():
        marks.videos.setdefault(video, source)
    chosen = _choose(attributes, source, ask)
    for key, segment in project["metadata"].items():
        where = f"{source}: metadata {key}"
        if len(segment["z"]) == 2 and not segment.get("xy") and str(segment["vid"]) in videos:
            start, end = (number(t, where) for t in segment["z"])
            for label in _labels(attributes.get(chosen, {}), segment["av"].get(chosen, "")):
                marks.add(videos[str(segment["vid"])], start, end, label, where)
    return marks


def _name(project: Mapping[str, Any], fids: list[Any]) -> str:
    """The name of a video: its file's, or the address of one that lies elsewhere."""
    file = project["file"][str(fids[0])]
    return str(file["fname"] if file.get("loc") in (1, 4) or not file.get("src") else file["src"])


def _choose(attributes: Mapping[str, Any], source: str, ask: Ask) -> str:
    """The attribute that holds labels: that of the name asked for, or the only one of time segments."""
    of_segments = {k: a["aname"] for k, a in attributes.items() if a.get("anchor_id", _SEGMENT) == _SEGMENT}
    wanted = [k for k, name in of_segments.items() if name == (ask.label or _USUAL)]
    if len(of_segments) == 1 and not (ask.label and not wanted):
        return next(iter(of_segments))
    if not wanted:
        names = ", ".join(of_segments.values()) or "none"
        raise DataError(f"{source}: which attribute is the label? Those of time segments: {names}", "--label NAME")
    return wanted[0]


def _labels(attribute: Mapping[str, Any], value: str) -> list[str]:
    """The labels that a value means: its text, or the options whose numbers it holds."""
    options = attribute.get("options") or {}
    if attribute.get("type") == 1 or not options:
        return [str(value)]
    words = [str(value)] if str(value) in options else [w.strip() for w in str(value).split(",")]
    return [str(options.get(word, word)) for word in words]


def read_via_csv(lines: Sequence[tuple[int, str]], source: str, ask: Ask) -> Marks:
    """Either export, its lines numbered: with numbers of attributes, which a comment describes, or names."""
    comments = dict(re.findall(r"^# (\w+) = (.*\S)", "\n".join(line for _, line in lines), re.MULTILINE))
    header = [name.strip() for name in comments["CSV_HEADER"].split(",")]
    described = json.loads(comments.get("ATTRIBUTE", "null")) or {
        key: {"aname": name} for key, name in json.loads(comments.get("ATTRIBUTES", "{}")).items()
    }
    marks = Marks()
    numbered = [(n, line) for n, line in lines if not line.startswith("#")]
    reader = csv.reader(line for _, line in numbered)
    for fields in reader:
        where = f"{source}:{numbered[reader.line_num - 1][0]}"
        row = dict(zip(header, fields, strict=False))
        if "temporal_coordinates" in row:
            times = json.loads(row["temporal_coordinates"])
        else:
            times = [row["temporal_segment_start"], row["temporal_segment_end"]]
        video, values = str(json.loads(row["file_list"])[0]), json.loads(row["metadata"])
        marks.videos.setdefault(video, where)
        if len(times) != 2 or "" in times or json.loads(row.get("spatial_coordinates") or "[]"):
            continue
        attributes = described or {name: {"aname": name} for name in values}
        chosen = _choose(attributes, where, ask) if attributes else ""
        for label in _labels(attributes.get(chosen, {}), values.get(chosen, "")):
            marks.add(video, number(times[0], where), number(times[1], where), label, where)
    return marks

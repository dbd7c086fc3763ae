"""Tables: EPIC-KITCHENS, the clips of HACS, BORIS, and anyone's own with columns for video, start, end and label."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tsmcli.errors import DataError
from tsmcli.prepare.marks.mark import Ask, Marks, exact_rate, number, time_of

Rows = Sequence[tuple[str, dict[str, str]]]
"""The rows of a table, each with its `file:line`; names of columns in lower case."""

COLUMNS = {
    "video": ("video", "path", "file", "filename", "video_id"),
    "start": ("start", "start_sec", "start_time", "begin"),
    "end": ("end", "stop", "end_sec", "stop_sec", "end_time", "stop_time"),
    "label": ("label", "class", "behavior", "behaviour", "action"),
}
"""What people call the columns of their own tables."""


def columns_of(header: Sequence[str], label: str | None = None) -> dict[str, str] | None:
    """The columns of a plain table by their meaning; None where one is lacking."""
    ways = COLUMNS | {"label": (label.lower(),)} if label else COLUMNS
    found = {what: next((name for name in names if name in header), "") for what, names in ways.items()}
    return found if all(found.values()) else None


def read_plain(rows: Rows, source: str, ask: Ask) -> Marks:
    """Times are in seconds, `mm:ss`, `hh:mm:ss.mmm`, or frames, as `f300`. A row without times names a video."""
    marks, columns = Marks(), columns_of([*rows[0][1]], ask.label)
    assert columns
    for where, row in rows:
        video, start, end, label = (row[columns[what]] for what in ("video", "start", "end", "label"))
        marks.videos.setdefault(video, where)
        if start or end or label:
            (first, in_frames), (last, same) = time_of(start, where), time_of(end, where)
            if in_frames != same:
                raise DataError(f"{where}: one time is a frame number, the other is not")
            marks.add(video, first, last, label, where, frames=in_frames)
    return marks


def read_epic(rows: Rows, source: str, ask: Ask) -> Marks:
    """Times, not frames: those are of pictures that were extracted at other rates. The label is the verb."""
    marks, wanted = Marks(), (ask.label or "verb").lower().split()
    if absent := [name for name in wanted if name not in rows[0][1]]:
        raise DataError(f"{source}: no column {absent[0]} to take labels from", "--label verb, noun, 'verb noun'")
    for where, row in rows:
        start, end = (time_of(row[key], where)[0] for key in ("start_timestamp", "stop_timestamp"))
        marks.add(row["video_id"], start, end, " ".join(row[name] for name in wanted), where)
    return marks


def read_hacs_clips(rows: Rows, source: str, _ask: Ask) -> Marks:
    """Clips whose `label` is 1; -1 says that the class is not there, which is no interval."""
    marks = Marks()
    for where, row in rows:
        marks.videos.setdefault(row["youtube_id"], where)
        if row["label"] == "1":
            start, end = (number(row[key], where) for key in ("start", "end"))
            marks.add(row["youtube_id"], start, end, row["classname"], where)
    if left := sum(row["label"] != "1" for _, row in rows):
        marks.notes.append(f"{source}: {left} negative clips are left out")
    return marks


def read_boris(rows: Rows, source: str, _ask: Ask) -> Marks:
    """State events, aggregated (a row each) or as a START and a STOP, which are paired.

    The time offset of an observation is in its times, and taken out. Where several files were played one after the
    other, times run on over them: what does not start in the first one is left out and told.
    """
    marks = Marks()
    odd, later = list[str](), list[str]()
    started: dict[tuple[str, ...], list[tuple[float, str]]] = {}
    for where, row in rows:
        kind, behavior = row["behavior type"].upper(), row["behavior"]
        if kind not in ("STATE", "START", "STOP"):
            continue  # a point in time
        names = [
            part.strip() for part in re.sub(r"player #\d+:", "", row.get("source", "")).split("|")[0].split(";")
        ]
        video = next(
            (v for k in ("media file name", "media file") if (v := row.get(k, "")) not in ("", "NA")), names[0]
        )
        video = names[0] if video == "Not found" else video
        key = tuple(row.get(name, "") for name in ("observation id", "subject", "behavior", "modifiers"))
        key += tuple(value for name, value in row.items() if name.startswith("modifier #"))
        offset = row.get("time offset (s)") or "0"
        times = [row[name] for name in (("start (s)", "stop (s)") if kind == "STATE" else ("time",))]
        if "NA" in times or "" in times:
            odd.append(where)
            continue
        seconds = [round(number(t, where) - number("0" if offset == "NA" else offset, where), 6) for t in times]
        rate = row.get("fps (frame/s)") or row.get("fps") or "NA"
        if re.fullmatch(r"[0-9.]+", rate) and float(rate):
            marks.rates[video] = float(exact_rate(float(rate)))
        if kind == "START":
            started.setdefault(key, []).append((seconds[0], where))
            continue
        begin, said = started[key].pop(0) if started.get(key) else (None, where)
        if kind == "STATE":
            begin, said = seconds[0], where
        if begin is None:
            odd.append(where)
        elif (
            len(names) > 1 and video.replace("\\", "/").split("/")[-1] != names[0].replace("\\", "/").split("/")[-1]
        ):
            later.append(said)
        else:
            marks.add(video, begin, seconds[-1], behavior, said)
    odd += [where for rest in started.values() for _, where in rest]
    for lines, what in (
        (odd, "have no time, or no other end"),
        (later, "lie in the second file of a player or later"),
    ):
        if lines:
            marks.notes.append(f"{source}: {len(lines)} events are left out: they {what}; the first is {lines[0]}")
    return marks

"""Tables: plain ones of video, start, end and label, such as EPIC-KITCHENS, the clips of HACS, and BORIS."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tsmcli.errors import DataError
from tsmcli.prepare.marks.mark import Ask, Marks, exact_rate, number, time_of

Rows = Sequence[tuple[str, dict[str, str]]]
"""The rows of a table, each with its `file:line`; names of columns in lower case."""

COLUMNS = {
    "video": ("video", "path", "file", "filename", "video_id"),
    "start": ("start", "start_sec", "start_time", "begin", "start_timestamp"),
    "end": ("end", "stop", "end_sec", "stop_sec", "end_time", "stop_time", "stop_timestamp"),
    "label": ("label", "class", "behavior", "behaviour", "action", "verb"),
}
"""What people, and EPIC-KITCHENS, call the columns of their tables."""


def columns_of(header: Sequence[str], label: str | None = None) -> list[str] | None:
    """The columns of video, start, end and label of a plain table; None where one is lacking.

    Args:
        label: the column of labels, or several, divided by blanks, that make the label together.
    """
    found = [next((name for name in names if name in header), "") for names in COLUMNS.values()]
    if label:
        found[3:] = [label.lower()] if label.lower() in header else label.lower().split()
    return found if all(name and name in header for name in found) else None


def read_plain(rows: Rows, source: str, ask: Ask) -> Marks:
    """Times are in seconds, `mm:ss`, `hh:mm:ss.mmm`, or frames, as `f300`. A row without times names a video.

    Of EPIC-KITCHENS the times count: its frames are of pictures that were extracted at other rates.
    """
    marks, header = Marks(), [*rows[0][1]]
    columns = columns_of(header, ask.label)
    if columns is None:
        wrong = f"{source}: no column {ask.label or 'label'} to take labels from"
        raise DataError(wrong, f"--label NAME, or 'NAME NAME'; its columns are {', '.join(header)}")
    for where, row in rows:
        video, start, end, *labels = (row[name] for name in columns)
        marks.videos.setdefault(video, where)
        if start or end or any(labels):
            (first, in_frames), (last, same) = time_of(start, where), time_of(end, where)
            if in_frames != same:
                raise DataError(f"{where}: one time is a frame number, the other is not")
            marks.add(video, first, last, " ".join(labels), where, frames=in_frames)
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

    Where several files were played one after the other, times run on over them: what does not start in the first
    one is left out and told.
    """
    marks, odd, later = Marks(), list[str](), list[str]()
    for where, row, start, end in _states(rows, odd):
        video, first = _played(row)
        rate = row.get("fps (frame/s)") or row.get("fps") or ""
        if re.fullmatch(r"[0-9]+\.?[0-9]*", rate) and float(rate):
            marks.rates[video] = float(exact_rate(float(rate)))
        if video == first:
            marks.add(video, start, end, row["behavior"], where)
        else:
            later.append(where)
    for lines, what in ((odd, "have no time or no other end"), (later, "start in a later file of a player")):
        if lines:
            marks.notes.append(f"{source}: left out: {len(lines)} events that {what}; the first: {lines[0]}")
    return marks


def _states(rows: Rows, odd: list[str]) -> Iterator[tuple[str, dict[str, str], float, float]]:
    """Where a state begins, the row that ends it, and both times, less the offset; what is left goes to `odd`."""
    columns = {"STATE": ("start (s)", "stop (s)"), "START": ("time",), "STOP": ("time",)}
    started: dict[tuple[str, ...], deque[tuple[str, float]]] = defaultdict(deque)
    for where, row in rows:
        kind = row["behavior type"].upper()
        if kind not in columns:
            continue  # a point in time
        times = [row[name] for name in columns[kind]]
        if "NA" in times or "" in times:
            odd.append(where)
            continue
        offset = row.get("time offset (s)", "").replace("NA", "") or "0"
        seconds = [round(number(t, where) - number(offset, where), 6) for t in times]
        event = tuple(row.get(name, "") for name in ("observation id", "subject", "behavior", "modifiers"))
        event += tuple(value for name, value in row.items() if name.startswith("modifier #"))
        if kind == "STATE":
            yield where, row, seconds[0], seconds[1]
        elif kind == "START":
            started[event].append((where, seconds[0]))
        elif started[event]:
            begun, start = started[event].popleft()
            yield begun, row, start, seconds[0]
        else:
            odd.append(where)
    odd += [where for rest in started.values() for where, _ in rest]


def _played(row: Mapping[str, str]) -> tuple[str, str]:
    """The file that an event is in, and the first one that was played: `player #1:a.mp4;b.mp4|player #2:c.mp4`."""
    listed = re.sub(r"player #[0-9]+:", "", row.get("source", "")).split("|")[0].split(";")[0].strip()
    video = row.get("media file name") or row.get("media file") or ""
    video = listed if video in ("", "NA", "Not found") else video
    same = Path(listed.replace("\\", "/")).name == Path(video.replace("\\", "/")).name
    return video, video if same or not listed else listed

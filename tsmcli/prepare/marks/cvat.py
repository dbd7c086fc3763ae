"""CVAT: `CVAT for video 1.1`, with tracks, and `CVAT for images 1.1` of a video, with tags. Frames, from 0."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

from tsmcli.prepare.marks.mark import Ask, Marks, runs, whole


class _Task(NamedTuple):
    """One video: its name, the end of what was annotated, frames from one shown picture to the next."""

    video: str
    end: int | None
    step: int
    offset: int


def read_cvat(root: Element, source: str, _ask: Ask) -> Marks:
    """Visible runs of tracks, and runs of tags. Several tasks of one project count their frames on and on."""
    marks, tasks = Marks(), _tasks(root, source)
    for task in tasks.values():
        marks.videos.setdefault(task.video, source)
    tags: dict[tuple[str, str], list[int]] = defaultdict(list)
    for element in root:
        key = element.get("task_id", "")
        task = tasks.get(key) or next(iter(tasks.values()))
        where = f"{source}: {element.tag} {element.get('id')}"
        if element.tag == "track":
            shapes = [(whole(s.get("frame"), where), s.get("outside") == "1") for s in element if s.get("frame")]
            for start, end in _visible(shapes):
                last = end if end is not None else max(task.offset + (task.end or 0), start + 1)
                first, last = start - task.offset, last - task.offset
                marks.add(task.video, first, last, element.get("label"), where, frames=True)
        elif element.tag == "image":
            for tag in element.iter("tag"):
                tags[key, tag.get("label", "")].append(whole(element.get("id"), where))
    for (key, label), frames in tags.items():
        task = tasks.get(key) or next(iter(tasks.values()))
        for start, end in runs(frames, task.step):
            first, last, where = start - task.offset, end - task.offset, f"{source}: image {start}"
            marks.add(task.video, first, min(last, task.end or last), label, where, frames=True)
    return marks


def _visible(shapes: Iterable[tuple[int, bool]]) -> Iterator[tuple[int, int | None]]:
    """First frame and end of each visible run; None where nothing closes it. Files may list key frames only."""
    begin: int | None = None
    for frame, outside in sorted(shapes, key=lambda shape: shape[0]):
        if not outside and begin is None:
            begin = frame
        elif outside and begin is not None:
            if frame > begin:
                yield begin, frame
            begin = None
    if begin is not None:
        yield begin, None


def _tasks(root: Element, source: str) -> dict[str, _Task]:
    """The tasks of a file by their numbers. Of a job the file does not say the video: then it is its own name."""
    found, offsets = dict[str, _Task](), defaultdict[str, int](int)
    several = root.findall("meta/project/tasks/task")
    for element in several or root.findall("meta/task") or root.findall("meta/job") or [Element("task")]:
        name = element.findtext("source") or root.findtext("meta/source")
        name = name or (element.findtext("name") if several else None) or Path(source).stem
        step = element.findtext("frame_filter", "").replace(" ", "").removeprefix("step=") or "1"
        step_frames, first = max(whole(step, source), 1), whole(element.findtext("start_frame") or 0, source)
        subset, stop = element.findtext("subset", ""), element.findtext("stop_frame")
        end = whole(stop, source) + 1 if stop else None
        number = element.findtext("id", "") if several else ""
        found[number] = _Task(name.strip(), end, step_frames, offsets[subset] if several else 0)
        offsets[subset] += first + step_frames * whole(element.findtext("size") or 0, source)
    return found

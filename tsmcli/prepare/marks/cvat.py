"""CVAT: `CVAT for video 1.1`, with tracks, and `CVAT for images 1.1` of a video, with tags. Frames, from 0."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element

from tsmcli.prepare.marks.mark import Ask, Marks, whole


class _Task(NamedTuple):
    """A video.

    Attributes:
        end: of what was annotated; 0: not known.
        step: frames from one shown picture to the next.
        offset: frames that the file counts before those of this video.
    """

    video: str
    end: int
    step: int
    offset: int


def read_cvat(root: Element, source: str, _ask: Ask) -> Marks:
    """Visible runs of tracks, and runs of tags. Several tasks of one project count their frames on and on."""
    marks, tasks = Marks(), _tasks(root, source)
    for task in tasks.values():
        marks.videos.setdefault(task.video, source)
    tags: dict[tuple[_Task, str], set[int]] = defaultdict(set)
    for element in root:
        task = tasks.get(element.get("task_id", "")) or next(iter(tasks.values()))
        where = f"{source}: {element.tag} {element.get('id')}"
        if element.tag == "track":
            shapes = [s for s in element if s.get("frame")]
            seen = [(whole(s.get("frame"), where) - task.offset, s.get("outside") != "1") for s in shapes]
            for start, end in _visible(seen, task.end):
                marks.add(task.video, start, end, element.get("label"), where, frames=True)
        elif element.tag == "image":
            for tag in element.iter("tag"):
                tags[task, tag.get("label", "")].add(whole(element.get("id"), where) - task.offset)
    for (task, label), frames in tags.items():
        for start, end in _runs(frames, task.step):
            where = f"{source}: image {start + task.offset}"
            marks.add(task.video, start, min(end, task.end or end), label, where, frames=True)
    return marks


def _visible(shapes: Sequence[tuple[int, bool]], last: int) -> Iterator[tuple[int, int]]:
    """First frame and end of each visible run. Files may list key frames only; what nothing closes ends last."""
    begin: int | None = None
    close = max([last, *(frame + 1 for frame, _ in shapes)])
    for frame, visible in [*sorted(shapes, key=lambda shape: shape[0]), (close, False)]:
        if visible and begin is None:
            begin = frame
        elif not visible and begin is not None:
            if frame > begin:
                yield begin, frame
            begin = None


def _runs(frames: Iterable[int], step: int) -> list[tuple[int, int]]:
    """First frame and end of each run of frames that are at most `step` apart."""
    found: list[tuple[int, int]] = []
    for frame in sorted(frames):
        if found and frame <= found[-1][1]:
            found[-1] = found[-1][0], frame + step
        else:
            found.append((frame, frame + step))
    return found


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
        end = whole(stop, source) + 1 if stop else 0
        number = element.findtext("id", "") if several else ""
        found[number] = _Task(name.strip(), end, step_frames, offsets[subset] if several else 0)
        offsets[subset] += first + step_frames * whole(element.findtext("size") or 0, source)
    return found

"""Open every video of a prepared dataset and say what is wrong. Nothing is deleted or changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from tsmcli.config import DataConfig
from tsmcli.data.decode import FrameFolder, open_reader, read_each
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import Places, Split, find_classes, find_split
from tsmcli.data.media import count_frames
from tsmcli.data.workers import Begin, WorkerPool
from tsmcli.errors import DataError
from tsmcli.files import remove, write_text
from tsmcli.prepare.extract import VideosCounted

_PROBES = 8


@dataclass(frozen=True)
class Problem:
    """Something wrong with a video or a list.

    Attributes:
        kind: unreadable, frame count, short, duplicate, empty class.
        broken: the video cannot be used: it belongs in quarantine.
    """

    split: str
    path: str
    kind: str
    detail: str
    broken: bool = False


@dataclass(frozen=True)
class VideoChecked:
    """A video was opened; `problem` is None when it is fine."""

    problem: Problem | None


@dataclass(frozen=True)
class CheckReport:
    """All that was found."""

    folder: Path
    videos: int
    problems: list[Problem]


def check(
    data: DataConfig, folder: Path, *, num_segments: int, full: bool, workers: int
) -> Generator[VideosCounted | VideoChecked, None, CheckReport]:
    """Check the lists of a prepared dataset and open all their videos.

    Args:
        num_segments: T; shorter videos are reported, as their frames will repeat.
        full: decode every frame, instead of the first, the last and some between them.

    Raises:
        DataError: a list is missing or malformed.
    """
    places = Places(folder=folder)
    classes = find_classes(data, places)
    found = {name: find_split(data, places, name, classes) for name in ("train", "val")}
    splits = {name: replace(split, quarantine={}) for name, split in found.items()}
    problems = _check_lists(splits, classes)
    tasks = [
        # A task goes to another process, with all of its split but the records.
        _Task(name, replace(split, records=[]), record, data, num_segments, full)
        for name, split in splits.items()
        for record in split.records
    ]
    yield VideosCounted(len(tasks))
    pool = WorkerPool(_check_video, workers, timeout_sec=data.timeout_sec, what="checking", setting="--workers")
    with closing(pool):
        for problem in pool.run(tasks, _given_up):
            if problem:
                problems.append(problem)
            yield VideoChecked(problem)
    return CheckReport(folder, len(tasks), sorted(problems, key=lambda problem: not problem.broken))


def _check_lists(splits: dict[str, Split], classes: list[str]) -> list[Problem]:
    problems = []
    for name, split in splits.items():
        seen = Counter(record.path for record in split.records)
        problems += [
            Problem(name, path, "duplicate", f"{n} times in the list") for path, n in seen.items() if n > 1
        ]
        labels = {label for record in split.records for label in record.every}
        if empty := [name for i, name in enumerate(classes) if i not in labels]:
            shown = ", ".join(empty[:5]) + ", ..." * (len(empty) > 5)
            problems.append(Problem(name, "", "empty class", f"{len(empty)} of {len(classes)} classes: {shown}"))
    if splits["train"].media.resolve() == splits["val"].media.resolve():
        both = {r.path for r in splits["train"].records} & {r.path for r in splits["val"].records}
        problems += [Problem("val", path, "duplicate", "in the training list, too") for path in sorted(both)]
    return problems


class _Task(NamedTuple):
    """A video to open; `problem` says why it is not to be opened again."""

    name: str
    split: Split
    record: VideoRecord
    data: DataConfig
    num_segments: int
    full: bool
    problem: str = ""


def _given_up(task: _Task, _part: int, reason: str) -> _Task:
    return task._replace(problem=f"{task.split.media / task.record.path}: {reason}")


def _check_video(task: _Task, begin: Begin) -> Problem | None:
    name, split, record, data, num_segments, full, problem = task
    begin(0)
    if problem:
        return Problem(name, record.path, "unreadable", problem, broken=True)
    try:
        with open_reader(split, record, data) as reader:
            promised = reader.num_frames
            probes = promised if full else min(_PROBES, promised)
            indices = np.unique(np.linspace(0, promised - 1, probes).astype(np.int64))
            parts = np.array_split(indices, max(1, len(indices) // 64))  # a little at a time: memory
            for number, _ in enumerate(read_each(reader, parts), 1):
                begin(number)
            held = reader.num_frames
            if isinstance(reader, FrameFolder):
                held = count_frames(reader.path, reader.template)
    except (DataError, OSError, ValueError, cv2.error) as error:
        return Problem(name, record.path, "unreadable", str(error), broken=True)
    listed = record.num_frames if record.num_frames is not None else promised
    if held != listed:
        return Problem(name, record.path, "frame count", f"{listed} frames are promised, {held} are there")
    if held < num_segments:
        return Problem(name, record.path, "short", f"{held} frames, fewer than the {num_segments} of a clip")
    return None


def write_quarantine(report: CheckReport) -> Path:
    """Write `quarantine.txt`, which training and testing read: they count these videos without opening them."""
    path = report.folder / "quarantine.txt"
    broken = [p for p in report.problems if p.broken]
    if broken:
        write_text(path, "".join(f"{p.path}\t{' '.join(p.detail.split())}\n" for p in broken))
    else:
        remove(path)
    return path

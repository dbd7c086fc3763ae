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
from numpy.typing import NDArray

from tsmcli.config import DataConfig
from tsmcli.data.decode import Excerpt, FrameFolder, open_reader, read_each
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import Places, Split, dataset_folder, find_classes, find_split
from tsmcli.data.media import count_frames
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.data.spatial import Frame
from tsmcli.data.workers import Begin, WorkerPool
from tsmcli.errors import DataError
from tsmcli.files import remove, write_text
from tsmcli.prepare.extract import VideosCounted

IN_BOTH = "in the training list, too"
IN_TWO = "recording in both"
_PROBES = 8
_SHARES = (1 / 7, 3 / 7, 4 / 7, 6 / 7)
"""Where in a video the frames of a `Look` are: at probes, so that nothing more is decoded."""
_THUMB_PX = 16


@dataclass(frozen=True)
class Problem:
    """Something wrong with a video or a list.

    Attributes:
        path: of the video, or the name of its interval.
        kind: unreadable, frame count, short, duplicate, recording in both, empty class.
        broken: the video cannot be used: it belongs in quarantine.
    """

    split: str
    path: str
    kind: str
    detail: str
    broken: bool = False


class Look(NamedTuple):
    """What was seen of a video.

    Attributes:
        media: the folder that `path` is relative to.
        size: (width, height) in pixels, as it is shown.
        rate: frames per second; 0 where they are stored as pictures.
        thumbs: uint8 [4, 16, 16], grey: frames at fixed shares of the video.
    """

    split: str
    media: Path
    path: str
    labels: tuple[int, ...]
    num_frames: int
    size: tuple[int, int]
    rate: float
    thumbs: NDArray[np.uint8]


@dataclass(frozen=True)
class VideoChecked:
    """A video was opened; `problem` is None when it is fine, `look` where it cannot be read."""

    problem: Problem | None
    look: Look | None = None


@dataclass(frozen=True)
class CheckReport:
    """All that was found."""

    folder: Path
    classes: list[str]
    splits: dict[str, Split]
    problems: list[Problem]
    looks: list[Look]

    @property
    def videos(self) -> int:
        """How many were opened."""
        return sum(len(split.records) for split in self.splits.values())


def check(
    data: DataConfig, places: Places, *, num_segments: int, full: bool, workers: int, validation: bool = True
) -> Generator[VideosCounted | VideoChecked, None, CheckReport]:
    """Check the lists of a dataset and open all their videos.

    Args:
        num_segments: T; shorter videos are reported, as their frames will repeat.
        full: decode every frame, instead of the first, the last and some between them.
        validation: check the validation list, too.

    Raises:
        DataError: a list is missing or malformed.
    """
    classes = find_classes(data, places)
    names = ("train", "val") if validation else ("train",)
    found = {name: find_split(data, places, name, classes) for name in names}
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
    looks = []
    with closing(pool):
        for checked in pool.run(tasks, _given_up):
            problems += [checked.problem] if checked.problem else []
            looks += [checked.look] if checked.look else []
            yield checked
    problems.sort(key=lambda problem: not problem.broken)
    return CheckReport(dataset_folder(data, places), classes, splits, problems, looks)


def _check_lists(splits: dict[str, Split], classes: list[str]) -> list[Problem]:
    problems = []
    for name, split in splits.items():
        seen = Counter(record.name for record in split.records)
        problems += [
            Problem(name, path, "duplicate", f"{n} times in the list") for path, n in seen.items() if n > 1
        ]
        labels = {label for record in split.records for label in record.every}
        if empty := [name for i, name in enumerate(classes) if i not in labels]:
            shown = ", ".join(empty[:5]) + ", ..." * (len(empty) > 5)
            problems.append(Problem(name, "", "empty class", f"{len(empty)} of {len(classes)} classes: {shown}"))
    if "val" in splits and splits["train"].media.resolve() == splits["val"].media.resolve():
        train, val = splits["train"].records, splits["val"].records
        both = {r.name for r in train} & {r.name for r in val}
        problems += [Problem("val", name, "duplicate", IN_BOTH) for name in sorted(both)]
        in_train, in_val = (Counter(Path(r.path) for r in part if r.name not in both) for part in (train, val))
        for path in sorted(in_train.keys() & in_val.keys()):
            detail = f"{in_train[path]} intervals in train, {in_val[path]} in val"
            problems.append(Problem("val", str(path), IN_TWO, detail))
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
    return task._replace(problem=f"{task.split.media / task.record.name}: {reason}")


def _check_video(task: _Task, begin: Begin) -> VideoChecked:
    name, split, record, data, num_segments, full, problem = task
    begin(0)
    if problem:
        return VideoChecked(Problem(name, record.name, "unreadable", problem, broken=True))
    thumbs, size = dict[int, NDArray[np.uint8]](), (0, 0)
    try:
        with open_reader(split, record, data) as reader:
            promised = reader.num_frames
            probes = promised if full else min(_PROBES, promised)
            indices = np.unique(np.linspace(0, promised - 1, probes).astype(np.int64))
            parts = np.array_split(indices, max(1, len(indices) // 64))  # a little at a time: memory
            shown = [indices[round(share * (len(indices) - 1))] for share in _SHARES]
            for number, (part, frames) in enumerate(zip(parts, read_each(reader, parts), strict=True), 1):
                begin(number)
                thumbs |= {at: _thumb(frame) for at, frame in zip(part, frames, strict=True) if at in shown}
                size = frames[-1].shape[1], frames[-1].shape[0]
            held = reader.num_frames
            whole = reader.whole if isinstance(reader, Excerpt) else reader
            rate = float(whole.timeline.rate) if isinstance(whole, PyAVReader) else 0.0
            if isinstance(reader, FrameFolder):
                held = count_frames(reader.path, reader.template)
    except (DataError, OSError, ValueError, cv2.error) as error:
        return VideoChecked(Problem(name, record.name, "unreadable", str(error), broken=True))
    pictures = np.stack([thumbs[at] for at in shown])
    look = Look(name, split.media, record.name, record.every, held, size, rate, pictures)
    listed = record.num_frames if record.num_frames is not None else promised
    wrong = None
    if held != listed:
        wrong = Problem(name, record.name, "frame count", f"{listed} frames are promised, {held} are there")
    elif held < num_segments:
        wrong = Problem(name, record.name, "short", f"{held} frames, fewer than the {num_segments} of a clip")
    return VideoChecked(wrong, look)


def _thumb(frame: Frame) -> NDArray[np.uint8]:
    small = cv2.resize(frame, (_THUMB_PX, _THUMB_PX), interpolation=cv2.INTER_AREA)
    grey: NDArray[np.uint8] = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
    return grey


def write_quarantine(report: CheckReport) -> Path:
    """Write `quarantine.txt`, which training and testing read: they count these videos without opening them."""
    path = report.folder / "quarantine.txt"
    broken = [p for p in report.problems if p.broken]
    if broken:
        write_text(path, "".join(f"{p.path}\t{' '.join(p.detail.split())}\n" for p in broken))
    else:
        remove(path)
    return path

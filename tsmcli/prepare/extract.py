"""Videos into another storage: folders of JPEG frames, ZIP files of JPEG frames, or videos that seek quickly.

One video, or one interval of it, is one job. A job writes under a temporary name and renames at its end, so what
has its final name is complete, and an interrupted run goes on where it stopped. The same video and options always
give the same bytes.
"""

from __future__ import annotations

import contextlib
import errno
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, repeat
from pathlib import Path
from typing import Literal

import av
import cv2

from tsmcli.config import LIMITS, DataConfig
from tsmcli.data.decode import Excerpt
from tsmcli.data.intervals import Span
from tsmcli.data.media import count_frames
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.data.spatial import Frame
from tsmcli.data.video_writer import VideoWriter
from tsmcli.data.workers import Begin, WorkerPool
from tsmcli.errors import DataError, EnvironmentProblem
from tsmcli.files import part_of, remove, remove_stale_parts

Target = Literal["frames", "zip", "seekable"]
_QUALITY = (cv2.IMWRITE_JPEG_QUALITY, 95)
"""OpenCV's default, which MMAction2's extraction uses."""


@dataclass(frozen=True)
class Size:
    """How large stored pictures are; all None: as they come.

    Attributes:
        short_side: the shorter side in pixels, aspect kept.
        height: the height in pixels, aspect kept.
        exact: (width, height) in pixels, aspect not kept.
    """

    short_side: int | None = None
    height: int | None = None
    exact: tuple[int, int] | None = None

    def of(self, width: int, height: int) -> tuple[int, int]:
        """Stored (width, height) of a picture; the other side is rounded down, as MMAction2's extraction does."""
        side = self.height or self.short_side
        if self.exact or not side:
            return self.exact or (width, height)
        scale = side / (height if self.height else min(width, height))
        scaled = max(int(scale * width), 2), max(int(scale * height), 2)
        return (side, scaled[1]) if self.short_side and width < height else (scaled[0], side)

    def __str__(self) -> str:
        if self.exact:
            return f"{self.exact[0]}x{self.exact[1]}"
        if self.short_side:
            return f"short side {self.short_side}"
        return f"height {self.height}" if self.height else "original"


FRAME_SEC = 120.0
"""How long a video may take for a frame before it counts as unreadable."""


@dataclass(frozen=True)
class Job:
    """One video to convert, or the interval `span` of it; `problem` says why it is not to be tried again."""

    source: Path
    target: Path
    kind: Target
    size: Size
    template: str
    start_index: int
    limits: DataConfig = LIMITS
    problem: str = ""
    span: Span | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.source}@{self.span}" if self.span else str(self.source)


@dataclass(frozen=True)
class VideosCounted:
    """`total` videos are to be converted or checked."""

    total: int


@dataclass(frozen=True)
class Extracted:
    """A finished job: how many frames it has, or why it failed; `fresh` if it was done just now."""

    job: Job
    frames: int
    error: str = ""
    fresh: bool = True


def run_jobs(jobs: list[Job], workers: int) -> Iterator[Extracted]:
    """Do all jobs that are not done yet, several at a time; yields each as it ends.

    A video that hangs, or that crashes the process that converts it, is a failed job.
    """
    todo = []
    for job in jobs:
        frames = stored_frames(job)
        if frames is None:
            todo.append(job)
        else:
            yield Extracted(job, frames, fresh=False)
    pool = WorkerPool(do_job, workers, timeout_sec=FRAME_SEC, what="converting", setting="--workers")
    with contextlib.closing(pool):
        yield from pool.run(todo, lambda job, _, why: replace(job, problem=f"{job.name}: {why}"), in_order=False)


def stored_frames(job: Job) -> int | None:
    """The number of frames of a job that is done, or None."""
    if not job.target.exists():
        return None
    if job.kind == "frames":
        return (count_frames(job.target, job.template) if job.target.is_dir() else 0) or None
    if job.kind == "zip":
        try:
            with zipfile.ZipFile(job.target) as file:
                return len(file.namelist())
        except (zipfile.BadZipFile, OSError):
            return None  # damaged since: made anew
    return 0  # lists of videos hold no frame counts


def do_job(job: Job, begin: Begin = lambda _frame: None) -> Extracted:
    """Convert one video; a video that cannot be read is a result with an error.

    Raises:
        EnvironmentProblem: the disk is full or cannot be written, which no other video would change.
    """
    if job.problem:
        return Extracted(job, 0, job.problem)
    part = part_of(job.target)
    write = {"frames": _write_frames, "zip": _write_zip, "seekable": _write_seekable}[job.kind]
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        remove(part)
        frames = write(job, part, begin)
        if job.kind == "frames" and count_frames(part, job.template) != frames:
            raise DataError(f"{job.target}: not all of its {frames} frames are there; something deleted them")
        part.replace(job.target)
    except DataError as error:
        return Extracted(job, 0, str(error))
    except (OSError, av.FFmpegError, ValueError, IndexError, cv2.error) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            hint = "make room there; the same command goes on where it stopped"
            raise EnvironmentProblem(f"{job.target}: {error.strerror}", hint) from None
        if (there := stored_frames(job)) is not None:  # another machine was quicker
            return Extracted(job, there)
        return Extracted(job, 0, f"{job.name}: cannot be converted to {job.target}: {error}")
    finally:
        with contextlib.suppress(OSError):
            remove(part)
    return Extracted(job, frames)


def remove_parts(jobs: list[Job]) -> None:
    """Delete what processes that are gone left half-written of these jobs, and nothing else."""
    targets = {job.target for job in jobs}
    for folder in {target.parent for target in targets if target.parent.is_dir()}:
        for path in list(folder.glob("*.part-*")):
            name = path.name
            while name := name.rpartition(".part-")[0]:
                if folder / name in targets:
                    remove_stale_parts(folder / name)


def wanted_frames(job: Job, reader: PyAVReader) -> slice:
    """Which frames are to be converted; without an interval also those that the file does not promise."""
    if job.span is None:
        return slice(0, None)
    part = Excerpt(reader, job.source, job.span, job.limits.fps)
    return slice(part.first, part.first + part.num_frames)


def _pictures(job: Job, reader: PyAVReader, begin: Begin) -> Iterator[Frame]:
    """The wanted frames of a video at their stored size, in OpenCV's order of colours."""
    wanted, number = wanted_frames(job, reader), 0
    begin(number)  # a file that is decoded from its start has been read once until now
    for number, frame in enumerate(reader.all_bgr(wanted.start, wanted.stop), 1):
        begin(number)
        size = job.size.of(frame.shape[1], frame.shape[0])
        same = size == (frame.shape[1], frame.shape[0])
        yield frame if same else cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)
    if not number:
        raise DataError(f"{job.name}: no frame can be decoded")


def _jpegs(job: Job, begin: Begin) -> Iterator[tuple[str, bytes]]:
    """Name and content of the file of each frame."""
    begin(0)
    with PyAVReader(job.source, limits=job.limits) as reader:
        for number, picture in enumerate(_pictures(job, reader, begin), job.start_index):
            yield job.template.format(number), cv2.imencode(".jpg", picture, _QUALITY)[1].tobytes()


def _write_frames(job: Job, part: Path, begin: Begin) -> int:
    part.mkdir()
    count = 0
    for name, jpeg in _jpegs(job, begin):
        (part / name).write_bytes(jpeg)  # OpenCV writes no names that are not ASCII on Windows
        count += 1
    return count


def _write_zip(job: Job, part: Path, begin: Begin) -> int:
    """Pictures are not compressed again, and carry no times, so that the bytes are always the same."""
    count = 0
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as file:
        for name, jpeg in _jpegs(job, begin):
            file.writestr(zipfile.ZipInfo(name), jpeg)
            count += 1
    return count


def _write_seekable(job: Job, part: Path, begin: Begin) -> int:
    """H.264 with a key frame every 8 frames and none that waits for a later one; frames keep their times."""
    options = {"g": "8", "bf": "0", "crf": "20", "tune": "fastdecode", "threads": "1"}
    begin(0)
    with PyAVReader(job.source, limits=job.limits) as reader:
        timeline, wanted = reader.timeline, wanted_frames(job, reader)
        mean_rate = timeline.rate.limit_denominator(100_000)
        ends = [*timeline.times[1:].tolist(), timeline.duration_sec][wanted]
        times = timeline.times[wanted].tolist()
        with VideoWriter(part, mean_rate, timeline.clock, **options) as video:
            shown = chain(zip(times, ends, strict=True), repeat((times[-1], ends[-1])))
            for picture, (start, end) in zip(_pictures(job, reader, begin), shown, strict=False):
                video.write(picture, start - times[0], shown_sec=end - start, colours="bgr24")
    return 0  # lists of videos hold no frame counts

"""Videos into another storage: folders of JPEG frames, ZIP files of JPEG frames, or videos that seek quickly.

One video is one job. A job writes under a temporary name and renames at its end, so what has its final name is
complete, and an interrupted run goes on where it stopped. The same video and options always give the same bytes.
"""

from __future__ import annotations

import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import cv2

from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.data.spatial import Frame
from tsmcli.data.video_writer import VideoWriter
from tsmcli.data.workers import start_worker
from tsmcli.errors import DataError, EnvironmentProblem

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
        if self.exact:
            return self.exact
        scale = 1.0
        if self.short_side:
            scale = self.short_side / min(width, height)
        elif self.height:
            scale = self.height / height
        scaled = (max(int(scale * width), 2), max(int(scale * height), 2))
        if self.height:
            return scaled[0], self.height
        if self.short_side:
            return (self.short_side, scaled[1]) if width < height else (scaled[0], self.short_side)
        return width, height

    def __str__(self) -> str:
        if self.exact:
            return f"{self.exact[0]}x{self.exact[1]}"
        if self.short_side:
            return f"short side {self.short_side}"
        return f"height {self.height}" if self.height else "original"


@dataclass(frozen=True)
class Job:
    """One video to convert."""

    source: Path
    target: Path
    kind: Target
    size: Size
    template: str
    start_index: int


@dataclass(frozen=True)
class Extracted:
    """A finished job: how many frames it has, or why it failed; `fresh` if it was done just now."""

    job: Job
    frames: int
    error: str = ""
    fresh: bool = True


def run_jobs(jobs: list[Job], workers: int) -> Iterator[Extracted]:
    """Do all jobs that are not done yet, several at a time; yields each as it ends.

    The processes die with this one, so that a later run never meets them.
    """
    todo = []
    for job in jobs:
        frames = stored_frames(job)
        if frames is None:
            todo.append(job)
        else:
            yield Extracted(job, frames, fresh=False)
    if workers <= 1:
        yield from map(do_job, todo)
        return
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=start_worker)
    try:
        futures = [pool.submit(do_job, job) for job in todo]
        for future in as_completed(futures):
            yield future.result()
    except BrokenProcessPool:
        raise EnvironmentProblem(
            "a converting process was killed, perhaps for want of memory",
            hint="run the same command with fewer --workers; it goes on where it stopped",
        ) from None
    finally:  # interrupted: finish the videos in work, start no other
        pool.shutdown(cancel_futures=True)


def stored_frames(job: Job) -> int | None:
    """The number of frames of a job that is done, or None."""
    if not job.target.exists():
        return None
    if job.kind == "frames":
        return sum(1 for _ in job.target.iterdir())
    if job.kind == "zip":
        try:
            with zipfile.ZipFile(job.target) as file:
                return len(file.namelist())
        except (zipfile.BadZipFile, OSError):
            return None  # damaged since: made anew
    return 0  # lists of videos hold no frame counts


def do_job(job: Job) -> Extracted:
    """Convert one video; a video that cannot be read is a result with an error."""
    part = job.target.with_name(f"{job.target.name}.part-{os.getpid()}")
    part.parent.mkdir(parents=True, exist_ok=True)
    remove(part)
    write = {"frames": _write_frames, "zip": _write_zip, "seekable": _write_seekable}[job.kind]
    try:
        frames = write(job, part)
        part.replace(job.target)
    except DataError as error:
        remove(part)
        return Extracted(job, 0, str(error))
    except (OSError, ValueError, IndexError, cv2.error) as error:
        remove(part)
        return Extracted(job, 0, f"{job.source}: cannot be converted to {job.target}: {error}")
    return Extracted(job, frames)


def remove_parts(jobs: list[Job]) -> None:
    """Delete what an interrupted run of these jobs left half-written, and nothing else."""
    targets = {job.target for job in jobs}
    for folder in {target.parent for target in targets}:
        for path in list(folder.iterdir()) if folder.is_dir() else []:
            match = re.fullmatch(r"(.+)\.part-\d+", path.name)
            if match and folder / match[1] in targets:
                remove(path)


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _pictures(job: Job) -> Iterator[Frame]:
    """The frames of a video at their stored size, in OpenCV's order of colours."""
    with PyAVReader(job.source) as reader:
        for frame in reader.all_bgr():
            size = job.size.of(frame.shape[1], frame.shape[0])
            same = size == (frame.shape[1], frame.shape[0])
            yield frame if same else cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR)


def _write_frames(job: Job, part: Path) -> int:
    part.mkdir()
    count = 0
    for count, picture in enumerate(_pictures(job), 1):
        name = job.template.format(count - 1 + job.start_index)
        if not cv2.imwrite(f"{part}/{name}", picture, _QUALITY):
            raise OSError(f"cannot write {part / name}")
    return count


def _write_zip(job: Job, part: Path) -> int:
    """Pictures are not compressed again, and carry no times, so that the bytes are always the same."""
    count = 0
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as file:
        for count, picture in enumerate(_pictures(job), 1):
            name = job.template.format(count - 1 + job.start_index)
            file.writestr(zipfile.ZipInfo(name), _jpeg(picture))
    return count


def _write_seekable(job: Job, part: Path) -> int:
    """H.264 with a key frame every 8 frames and none that waits for a later one."""
    options = {"g": "8", "bf": "0", "crf": "20", "tune": "fastdecode", "threads": "1"}
    with PyAVReader(job.source) as reader:
        rate = reader.frame_rate
    with VideoWriter(part, rate, **options) as video:
        for picture in _pictures(job):
            video.write(picture, colours="bgr24")
    if not part.exists():
        raise DataError(f"{job.source}: no frame can be decoded")
    return 0  # lists of videos hold no frame counts


def _jpeg(picture: Frame) -> bytes:
    return cv2.imencode(".jpg", picture, _QUALITY)[1].tobytes()

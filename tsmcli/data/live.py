"""Frames as they come, one after the other: from a camera, an address, a video file or a folder of pictures."""

from __future__ import annotations

import itertools
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np

from tsmcli.config import LIMITS, DataConfig
from tsmcli.data.container import Upright, check_limit, decoded, open_video, unreadable
from tsmcli.data.decode import FrameReader, clock_of, read_each
from tsmcli.data.spatial import Frame
from tsmcli.errors import DataError, EnvironmentProblem

_PATIENCE_SEC = 10.0
"""How long a network stream may take to answer, or to send the next packet."""


class Shot(NamedTuple):
    """The n-th frame of a source, from 0, its time since the first, and when it came by `time.perf_counter`."""

    number: int
    time_sec: float
    arrived: float
    frame: Frame
    source: str = ""


def is_live(source: str) -> bool:
    """Whether a source does not wait for us: a camera's number, or an address."""
    return _is_camera(source) or re.match(r"[a-z][a-z0-9+]*://", source) is not None


def _is_camera(source: str) -> bool:
    return re.fullmatch(r"[0-9]{1,3}", source) is not None


def open_source(source: str | Path, limits: DataConfig = LIMITS) -> Generator[Shot, None, None]:
    """The frames of a camera (its number), of an address (`rtsp://...`), or of a video file.

    A `Path` is always a file, also where its name looks like the others.

    Raises:
        DataError: it cannot be opened, or a frame cannot be decoded.
        EnvironmentProblem: there is no such camera.
    """
    if isinstance(source, Path) or not is_live(source):
        return _container(Path(source), limits)
    return _camera(int(source)) if _is_camera(source) else _container(source, limits)


def from_reader(reader: FrameReader, fps: float) -> Iterator[Shot]:
    """The frames of an interval, or of a folder or a ZIP of pictures, which have no frame rate of their own."""
    times, _ = clock_of(reader, fps)
    few = np.array_split(np.arange(reader.num_frames), -(-reader.num_frames // 16))  # each may need a seek
    shown = (frame for frames in read_each(reader, few) for frame in frames)
    for number, (sec, frame) in enumerate(zip(times.tolist(), shown, strict=True)):
        yield Shot(number, sec, time.perf_counter(), frame)


def _camera(number: int) -> Generator[Shot, None, None]:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # we report a missing camera
    camera = cv2.VideoCapture(number)
    try:
        if not camera.isOpened():
            hint = "cameras are numbered from 0; is another program using it?"
            raise EnvironmentProblem(f"no camera {number} can be opened", hint)
        camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        start = time.perf_counter()
        for count in range(1 << 62):
            there, picture = camera.read()
            if not there:
                raise DataError(f"camera {number} stopped after {count} frames")
            now = time.perf_counter()
            yield Shot(count, now - start, now, cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), str(number))
    finally:
        camera.release()


def _container(source: Path | str, limits: DataConfig) -> Generator[Shot, None, None]:
    """Every frame that FFmpeg decodes. An address that names a finished file is played at its own speed."""
    address = isinstance(source, str)
    try:
        container, stream = open_video(source, limits, _PATIENCE_SEC if address else None)
        with container:
            finished = not address or container.duration is not None  # a file, perhaps behind an address
            frames = decoded(container.demux(stream), source, limits.max_pixels, live=not finished)
            shots = _timed(frames, stream, str(source), None if address else limits)
            yield from at_their_time(shots) if address and finished else shots
    except av.error.ExitError as error:
        raise DataError(f"{source}: nothing came for {_PATIENCE_SEC:g} s") from error
    except (av.FFmpegError, ValueError) as error:
        refused = unreadable(source, error)
        if address:
            refused.hint = "is it right? a file with its index at the end needs a server that sends parts of files"
        raise refused from error


def _timed(frames: Iterator[Any], stream: Any, name: str, limits: DataConfig | None) -> Generator[Shot, None, None]:
    """Frames with their times, which count from the first. One without a time comes a step after the last.

    AVI has times of decoding only, which are as good.
    """
    of_decoding = stream.container.format.name == "avi"
    at, step = 0.0, float(1 / (stream.average_rate or Fraction(25)))
    offset: float | None = None
    upright = Upright()
    for number, frame in enumerate(frames):
        before, at = at, at + step if number else 0.0
        said = frame.dts if of_decoding else frame.pts
        if said is not None:
            told = float(said * frame.time_base)
            if offset is None or told + offset < before:  # the first time, or a clock that starts again
                offset = at - told
            at = told + offset
            step = at - before or step
        if limits:
            check_limit(name, "frames", number + 1, limits.max_frames)
            check_limit(name, "sec", at, limits.max_sec)
        pixels = upright.turn(frame, frame.to_ndarray(format="rgb24"))
        yield Shot(number, at, time.perf_counter(), pixels, name)


def at_their_time(shots: Generator[Shot, None, None]) -> Generator[Shot, None, None]:
    """Hold every frame back until its time has come, as a camera would deliver it."""
    start = time.perf_counter()
    for shot in shots:
        time.sleep(max(0.0, start + shot.time_sec - time.perf_counter()))
        yield shot._replace(arrived=time.perf_counter())


class InOrder:
    """Every frame of a source, when it is wanted, until `stop` says so."""

    dropped = 0

    def __init__(self, shots: Generator[Shot, None, None], stop: Callable[[], bool] = lambda: False) -> None:
        self._shots, self._stop_wanted = shots, stop

    def __iter__(self) -> Iterator[Shot]:
        return itertools.takewhile(lambda _: not self._stop_wanted(), self._shots)

    def close(self) -> None:
        """End the reading."""
        self._shots.close()


class Newest:
    """The newest frames of a source that a thread reads: while no frame is taken, new ones replace older ones.

    So latency and memory stay bounded, however slowly frames are taken.

    Attributes:
        dropped: frames that were replaced so far.

    Args:
        size: how many frames may wait.
        stop: asked again and again, also while no frame comes.
    """

    def __init__(
        self, shots: Generator[Shot, None, None], size: int = 1, stop: Callable[[], bool] = lambda: False
    ) -> None:
        self._shots, self._stop_wanted = shots, stop
        self._waiting: deque[Shot] = deque(maxlen=size)
        self.dropped = 0
        self._ended: Exception | bool = False
        self._stop = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[Shot]:
        """Frames as they are wanted, until the source ends or `stop` says so; what the source raises is raised."""
        while True:
            with self._changed:
                while not self._waiting and not self._ended and not self._stop_wanted():
                    self._changed.wait(0.1)
                if self._stop_wanted():
                    return
                if not self._waiting:
                    if isinstance(self._ended, Exception):
                        raise self._ended
                    return
                shot = self._waiting.popleft()
            yield shot

    def close(self) -> None:
        """End the reading, as soon as the source returns."""
        self._stop = True
        self._thread.join(timeout=2)

    def _read(self) -> None:
        ended: Exception | bool = True
        try:
            for shot in self._shots:
                if self._stop:
                    break
                with self._changed:
                    self.dropped += len(self._waiting) == self._waiting.maxlen
                    self._waiting.append(shot)  # drops the oldest if it is full
                    self._changed.notify()
        except Exception as error:  # whatever it is, it is raised again where the frames are taken
            ended = error
        finally:
            self._shots.close()
            with self._changed:
                self._ended = ended
                self._changed.notify()

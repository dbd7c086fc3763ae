"""What a network says of a camera, an address, a video or a folder, frame by frame."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tsmcli.config import Config, Views
from tsmcli.core.streaming import Step, Stream
from tsmcli.data.decode import open_reader
from tsmcli.data.find_videos import find_videos
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.live import InOrder, Newest, Shot, at_their_time, from_reader, is_live, open_source
from tsmcli.data.location import Split
from tsmcli.data.spatial import Frame, eval_views
from tsmcli.data.video_writer import annotated_video
from tsmcli.engine.device import choose_device
from tsmcli.engine.inference import Choice
from tsmcli.engine.processes import StopSignals, interrupted
from tsmcli.engine.scores import average_views, averaging
from tsmcli.errors import ConfigError, DataError
from tsmcli.intervals.find import EventRules
from tsmcli.intervals.live import LiveEvents, Pace
from tsmcli.intervals.tiou import Interval
from tsmcli.presets import Preset
from tsmcli.recipes.engines import open_step
from tsmcli.recipes.event_rules import Wanted
from tsmcli.recipes.events import Stage
from tsmcli.recipes.network import Opened, open_network

_REMEMBERED = 1000
"""Frames whose latency counts for the percentiles: the last ones, so that memory does not grow."""


@dataclass(frozen=True)
class Settings:
    """How a source is streamed.

    Attributes:
        smooth: average the logits of so many frames.
        every: let the network see every so many-th frame only.
        live: play a file at its own speed and drop frames that come too fast, as of a camera.
        queue: frames that may wait before older ones are dropped.
        fps: frames per second of folders of pictures; None: as the configuration says.
        seconds: stop after so long; None: at the end of the source.
        video: write the frames with their labels into this file.
        events: say events, as `tsm predict --events` does of files; `smooth` and `every` then have no meaning.
    """

    smooth: int = 1
    every: int = 1
    live: bool = False
    queue: int = 1
    fps: float | None = None
    seconds: float | None = None
    video: Path | None = None
    events: Wanted | None = None


@dataclass(frozen=True)
class StreamStarted:
    """Facts of the stream that is about to begin."""

    class_names: list[str]
    live: bool


@dataclass(frozen=True)
class Seen:
    """What the network says after a frame.

    Attributes:
        video: what the frame is of.
        frame, time_sec: number of the frame, of all videos one after the other, and seconds from the first.
        label, probability: the first guess.
        top: (class, probability) of the five best.
        latency_sec: from the arrival of the frame to this.
        p50_sec, p95_sec: of the latency of the last frames.
        frames_per_sec: that the network has seen, since the start.
        dropped: frames that were not looked at because newer ones had come.
        cache_bytes: what is kept of the past.
        labels: (class, probability) of those that it is said to be, where it may be several.
    """

    video: str
    frame: int
    time_sec: float
    label: int
    probability: float
    top: list[tuple[int, float]]
    latency_sec: float
    p50_sec: float
    p95_sec: float
    frames_per_sec: float
    dropped: int
    cache_bytes: int
    labels: list[tuple[int, float]] | None = None


@dataclass(frozen=True)
class Streamed:
    """The end of a stream: how many frames the network saw, what it said last, and the annotated video."""

    frames: int
    last: Seen | None
    video: Path | None


def stream(
    checkpoint: Path, preset: Preset | None, source: str, settings: Settings,
    *, overrides: Sequence[str] = (), device_name: str = "auto", engine: Choice | None = None,
    classes: Path | None = None,
) -> Generator[Any, None, Streamed]:  # fmt: skip
    """Let a unidirectional network look at a camera, an address, or videos one after the other.

    Yields `StreamStarted`, a `Seen` a frame, an `Interval` once an event is certain, and `Streamed`, also where the
    source then turns out to have failed.

    A camera or an address goes on by itself: frames that come too fast are dropped, the oldest first, so that the
    answer is never about a frame long gone. Of videos every frame is looked at, unless `settings.live`.

    Raises:
        ConfigError: the network needs frames of the future, or its rules for events are of windows.
    """
    opened = yield from open_network(checkpoint, preset, overrides, classes)
    device = choose_device(device_name)
    step, choice = yield from open_step(opened, engine or Choice(), device)
    live = settings.live or is_live(source)
    yield Stage(f"streaming {source} through {opened.path} ({opened.name}), device {device}, {choice}")
    yield StreamStarted(opened.class_names, live)
    rules = settings.events.rules(opened) if settings.events else None
    if rules and not rules.streamed:
        raise ConfigError("its events are found in windows, not frame by frame", "tsm events fit without --stride")
    fps = settings.fps or opened.config.data.fps
    paced = Paced(_open(source, opened.config, fps), rules.stride_sec) if rules else None
    every = (shot for shot in _open(source, opened.config, fps) if shot.number % settings.every == 0)
    finding = (paced, rules) if paced and rules else None
    shots = paced.shots() if paced else every
    if live and not is_live(source):
        shots = at_their_time(shots)
    with StopSignals() as signals:
        deadline = time.perf_counter() + settings.seconds if settings.seconds else float("inf")

        def stop() -> bool:
            return signals.number != 0 or time.perf_counter() > deadline

        with closing(Newest(shots, settings.queue, stop) if live else InOrder(shots, stop)) as frames:
            try:
                done = yield from _look(frames, step, opened, settings, finding)
            except DataError:
                if not signals.number:  # FFmpeg ends what it waits for when a signal comes
                    raise
        if signals.number:
            raise interrupted(signals.number)
    return done


def _open(source: str, config: Config, fps: float) -> Iterator[Shot]:
    """The frames of a source."""
    if is_live(source):
        yield from open_source(source, config.data)
        return
    start, begin = 0, 0.0
    split = find_videos([source])
    for record in split.records:
        count, last, step = 0, 0.0, 1 / fps
        for shot in frames_of(split, record, config, fps):
            step = shot.time_sec - last if count else step
            count, last = shot.number + 1, shot.time_sec
            yield shot._replace(number=start + shot.number, time_sec=begin + shot.time_sec)
        start, begin = start + count, begin + last + step


def frames_of(split: Split, record: VideoRecord, config: Config, fps: float) -> Iterator[Shot]:
    """The frames of one video."""
    if record.store == "video" and not record.span and record.path not in split.quarantine:
        yield from open_source(Path(record.path), config.data)
        return
    with open_reader(split, record, config.data) as reader:
        for shot in from_reader(reader, fps):
            yield shot._replace(source=record.name)


class Paced:
    """The frames of a source that a network is to see, one in each `step_sec`.

    Attributes:
        duration_sec: from the first frame to the end of the last one that came, chosen or not.
        pace: what chooses them.
    """

    def __init__(self, shots: Iterator[Shot], step_sec: float) -> None:
        self._all, self.pace, self.duration_sec = shots, Pace(step_sec), 0.0

    def shots(self) -> Generator[Shot, None, None]:
        """The chosen frames."""
        last = 0.0
        for shot in self._all:
            self.duration_sec, last = 2 * shot.time_sec - last, shot.time_sec
            if self.pace.takes(shot.time_sec):
                yield shot


def _look(
    frames: Newest | InOrder,
    step: Step,
    opened: Opened,
    settings: Settings,
    finding: tuple[Paced, EventRules] | None,
) -> Generator[Seen | Interval | Streamed, None, Streamed]:
    names, several = opened.class_names, opened.config.data.multi_label
    memory = Stream(step, smooth=opened.config.model.num_segments if finding else settings.smooth)
    latencies: deque[float] = deque(maxlen=_REMEMBERED)
    start, count, seen = time.perf_counter(), 0, None
    failures: list[DataError] = []
    events: LiveEvents | None = None
    with annotated_video(settings.video) if settings.video else nullcontext() as video:
        for shot in _until_failure(frames, failures):
            probabilities = probabilities_after(memory, shot.frame, opened)
            now, count = time.perf_counter(), count + 1
            latencies.append(now - shot.arrived)
            seen = _seen(shot, probabilities, latencies, count / (now - start), frames.dropped, memory.cache_bytes)
            if cuts := opened.thresholds:
                seen = replace(seen, labels=[(i, float(p)) for i, p in enumerate(probabilities) if p >= cuts[i]])
            yield seen
            if finding:
                paced, rules = finding
                events = events or LiveEvents(shot.source, rules, names, several=several)
                yield from events.push(
                    probabilities.astype(np.float64), paced.pace.span(shot.time_sec, rules.window_sec)
                )
            if video:
                said = [(seen.label, seen.probability)] if seen.labels is None else seen.labels
                video.write(shot.frame, shot.time_sec, ", ".join(f"{names[i]} {share:.0%}" for i, share in said))
    if finding and events:
        yield from events.finish(finding[0].duration_sec)
    done = Streamed(count, seen, settings.video if count else None)
    yield done
    if failures:
        raise failures[0]
    return done


def _until_failure(frames: Iterable[Shot], failures: list[DataError]) -> Iterator[Shot]:
    """The frames of a source until it fails; why is kept for when what came until then is told and written."""
    try:
        yield from frames
    except DataError as error:
        failures.append(error)


def probabilities_after(memory: Stream, frame: Frame, opened: Opened) -> NDArray[np.float32]:
    """Probabilities [K] after one more frame, cut as the test protocol does it, the middle crop only."""
    test = opened.config.test
    views = Views(crop_px=test.crop_px, resize_px=test.resize_px)
    pixels = torch.from_numpy(eval_views([frame], 1, views)[0]).movedim(-1, 1)  # uint8 [1, 3, H, W]
    logits = memory.push(pixels)[0]
    found: NDArray[np.float32] = average_views(logits[None], averaging(opened.config, views)).cpu().numpy()
    return found


def _seen(
    shot: Shot, probabilities: Any, latencies: deque[float], rate: float, dropped: int, cache_bytes: int
) -> Seen:
    order = np.argsort(-probabilities, kind="stable")[:5].tolist()
    p50, p95 = np.percentile(latencies, (50, 95)).tolist()
    top = [(i, float(probabilities[i])) for i in order]
    times = (latencies[-1], p50, p95)
    return Seen(shot.source, shot.number, shot.time_sec, *top[0], top, *times, rate, dropped, cache_bytes)

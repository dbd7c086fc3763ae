"""Events in long videos: scores of windows, which become intervals of classes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from tsmcli.config import Views
from tsmcli.core.streaming import Step, Stream
from tsmcli.data.decode import check_decoder, clock_of, open_reader
from tsmcli.data.find_videos import find_videos
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import Split
from tsmcli.data.messages import BadVideo
from tsmcli.data.shards import eval_shard
from tsmcli.data.sliding import Sliding
from tsmcli.engine.device import choose_device
from tsmcli.engine.events import VideoScored
from tsmcli.engine.inference import Choice
from tsmcli.engine.processes import ALONE, World
from tsmcli.errors import DataError
from tsmcli.intervals.find import EventRules, WindowScores, find_events
from tsmcli.intervals.tiou import Interval
from tsmcli.prepare.marks.write import Film
from tsmcli.presets import Preset
from tsmcli.recipes.engines import open_engine, open_step
from tsmcli.recipes.event_rules import Wanted
from tsmcli.recipes.events import Scoring, Stage
from tsmcli.recipes.network import Opened, choose_protocol, open_network
from tsmcli.recipes.predict import Found, VideoPrediction, Window, keep_window, kept_windows, windows_of_all
from tsmcli.recipes.score import PartialScores
from tsmcli.recipes.stream import Paced, frames_of, probabilities_after

_REMEMBERED = 512
"""Frames before the last kept one that are seen again: more than a network remembers."""


@dataclass(frozen=True)
class ScoredWindows:
    """Scores of the windows of videos, by path; the videos that could not be read; where the scores are kept."""

    scores: dict[str, WindowScores]
    bad: list[BadVideo]
    partial: PartialScores | None = None

    def forget(self) -> None:
        """The work is done: scores need not be kept."""
        if self.partial:
            self.partial.remove()


@dataclass(frozen=True)
class FoundEvents:
    """Events of videos.

    Attributes:
        durations: seconds of each video, also of those without an event.
        films: rates and sizes of the same videos, where they were asked for.
    """

    checkpoint: Path
    preset: str
    protocol: str
    class_names: list[str]
    rules: EventRules
    durations: dict[str, float]
    events: list[Interval]
    bad: list[BadVideo]
    films: dict[str, Film] = field(default_factory=dict)


def find_in_videos(
    checkpoint: Path, preset: Preset | None, sources: Sequence[str], wanted: Wanted,
    *, overrides: Sequence[str] = (), protocol: str | None = None, device_name: str = "auto",
    engine: Choice | None = None, classes: Path | None = None, world: World = ALONE,
    to: Path | None = None, films: bool = False, write: Callable[[FoundEvents], None] = lambda _: None,
) -> Generator[Stage | Scoring | VideoScored | BadVideo, None, FoundEvents]:  # fmt: skip
    """The events in every video that the sources name; other arguments as in `predict_videos`.

    Args:
        to: scores are kept beside this file on the way; the same command, started again, goes on from there.
        films: find out rates and sizes of the videos for `write`.
        write: gets the events before the scores are forgotten.
    """
    opened = yield from open_network(checkpoint, preset, overrides, classes)
    rules, several = wanted.rules(opened), opened.config.data.multi_label
    views, split = choose_protocol(opened.config, protocol), find_videos(sources)
    scored = yield from score_recordings(
        opened, split, views, rules, device_name=device_name, engine=engine, world=world, fps=wanted.fps, to=to
    )
    names, durations = opened.class_names, {video: one.duration_sec for video, one in scored.scores.items()}
    events = [e for v, s in scored.scores.items() for e in find_events(v, s, rules, names, several=several)]
    found = FoundEvents(opened.path, opened.name, views.name, names, rules, durations, events, scored.bad)
    if world.is_main:
        if films:
            there = (record for record in split.records if record.name in durations)
            found.films.update((record.name, _film(split, record, opened, wanted.fps)) for record in there)
        write(found)
        scored.forget()
    return found


def score_recordings(
    opened: Opened, split: Split, views: Views, rules: EventRules, *, device_name: str, engine: Choice | None,
    world: World = ALONE, fps: float | None = None, to: Path | None = None,
) -> Generator[Stage | Scoring | VideoScored | BadVideo, None, ScoredWindows]:  # fmt: skip
    """Score the windows of every video; arguments as in `find_in_videos`."""
    config, sliding = opened.config, Sliding(rules.window_sec, rules.stride_sec, fps)
    device, count = choose_device(device_name), len(split.records)
    check_decoder(config.data)
    if rules.streamed:
        step, choice = yield from open_step(opened, engine or Choice(), device)
        how = f"frame by frame, one each {rules.stride_sec:.3g} s"
    else:
        network = yield from open_engine(opened, engine or Choice(), device, views, count, windows=True)
        choice, how = network.choice, f"every {rules.stride_sec:.3g} s, protocol {views.name}"
    facts = (f"windows of {rules.window_sec:.3g} s {how}, device {device}, {choice}", *split.notes)
    yield Stage(f"events by {opened.path}, videos: {count}", facts)
    of = {
        **opened.describe(), "protocol": views.model_dump(), "sliding": sliding._asdict(), "videos": split.records,
        "folder": Path.cwd(), "config": config.model_dump(), **choice.identity(), "streamed": rules.streamed,
    }  # fmt: skip
    partial = PartialScores(to, of, world) if to else None
    with ExitStack() as stack:
        if partial:
            stack.callback(partial.close)
            if partial.kept:
                yield Stage(f"{len(partial.kept)} windows were scored before; going on from there")
        mine = eval_shard(len(split.records), rank=world.rank, world_size=world.size)
        if rules.streamed:
            parts = yield from _stream_all(step, opened, split, mine, rules, fps or config.data.fps, partial)
        else:
            parts = yield from windows_of_all(network, config, views, split, mine, sliding, partial)
        parts = {number: video for part in world.gather(parts) for number, video in part.items()}
        stack.pop_all()
    ordered = [video for _, video in sorted(parts.items(), key=lambda pair: pair[0])]
    scores = {video.path: _stacked(video) for video in ordered if isinstance(video, VideoPrediction)}
    return ScoredWindows(scores, [video for video in ordered if isinstance(video, BadVideo)], partial)


def _stream_all(
    step: Step, opened: Opened, split: Split, mine: Sequence[int], rules: EventRules, fps: float,
    partial: PartialScores | None,
) -> Generator[Scoring | VideoScored | BadVideo, None, Found]:  # fmt: skip
    """What a unidirectional network says frame by frame of every video, as windows that end with the frames.

    What was kept is not scored again, but for so many frames that the network remembers what it has to.
    """
    found: Found = {}
    for number in mine:
        record, windows = split.records[number], list[Window]()
        paced = Paced(frames_of(split, record, opened.config, fps), rules.stride_sec)
        known = [] if partial is None else kept_windows(partial, number)
        memory = Stream(step, smooth=opened.config.model.num_segments)
        try:
            with open_reader(split, record, opened.config.data) as reader:
                total = round(clock_of(reader, fps)[1] / rules.stride_sec)
            yield Scoring(Path(record.name).name, max(0, total - len(known)))
            for place, shot in enumerate(paced.shots()):
                span = paced.pace.span(shot.time_sec, rules.window_sec)
                if place >= len(known) - _REMEMBERED:
                    said = probabilities_after(memory, shot.frame, opened)
                if partial and place < len(known):
                    windows.append(Window(partial.read(known[place]), *span))
                    continue
                if partial:
                    keep_window(partial, number, place, said)
                windows.append(Window(said, *span))
                yield VideoScored(place, torch.from_numpy(said))
            if not windows:
                raise DataError(f"{record.name}: it has no frames")
        except DataError as error:
            found[number] = bad = BadVideo(number, record.name, str(error))
            yield bad
        else:
            found[number] = VideoPrediction(record.name, windows, paced.duration_sec)
    return found


def _stacked(video: VideoPrediction) -> WindowScores:
    probabilities = np.stack([window.probabilities for window in video.windows]).astype(np.float64)
    spans = np.array([(window.start_sec, window.end_sec) for window in video.windows], np.float64)
    return WindowScores(probabilities, spans, video.duration_sec or float(spans[-1, 1]))


def _film(split: Split, record: VideoRecord, opened: Opened, fps: float | None) -> Film:
    """Mean rate, number of frames, and size of a video, of its first frame."""
    data = opened.config.data
    with open_reader(split, record, data) as reader:
        height, width = reader.read(np.zeros(1, np.int64))[0].shape[:2]
        seconds = clock_of(reader, fps or data.fps)[1]
        return Film(reader.num_frames / seconds, reader.num_frames, width, height)

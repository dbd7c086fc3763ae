"""Events in long videos: scores of windows, which become intervals of classes."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from tsmcli.config import Views
from tsmcli.core.sampling import DENSE_WINDOW
from tsmcli.data.dataset import BadVideo
from tsmcli.data.decode import check_decoder, clock_of, open_reader
from tsmcli.data.find_videos import find_videos
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import Split
from tsmcli.data.shards import eval_shard
from tsmcli.data.sliding import Sliding
from tsmcli.engine.device import choose_device
from tsmcli.engine.inference import Choice
from tsmcli.engine.processes import ALONE, World
from tsmcli.engine.scores import VideoScored
from tsmcli.errors import UsageError
from tsmcli.intervals.find import EventRules, WindowScores, default_rules, find_events
from tsmcli.intervals.tiou import Interval
from tsmcli.prepare.marks.write import Film
from tsmcli.presets import Preset
from tsmcli.recipes.engines import open_engine
from tsmcli.recipes.events import Scoring, Stage
from tsmcli.recipes.network import Opened, choose_protocol, open_network
from tsmcli.recipes.predict import VideoPrediction, windows_of_all
from tsmcli.recipes.score import PartialScores

_USUAL_SEC, _USUAL_FPS = 2.0, 25.0
"""A window where nothing says how long training clips were; and frames per second of those of dense sampling."""


@dataclass(frozen=True)
class Wanted:
    """What was asked of events; None: as the checkpoint has it, else the default.

    Attributes:
        background, threshold, gap_sec, min_sec: of all classes; the rest as in `EventRules`.
        fps: of frame folders; None: as the configuration says.
    """

    window_sec: float | None = None
    stride_sec: float | None = None
    smooth_sec: float | None = None
    background: tuple[str, ...] | None = None
    threshold: float | None = None
    gap_sec: float | None = None
    min_sec: float | None = None
    fps: float | None = None

    def rules(self, opened: Opened) -> EventRules:
        """The rules for a network; UsageError for a background that is no class of it."""
        names, config = opened.class_names, opened.config
        if odd := [name for name in self.background or () if name not in names]:
            raise UsageError(f"no class is called {odd[0]!r}", f"the classes are {', '.join(names[:10])}")
        dense = config.augment.sampling == "dense"
        window = self.window_sec or (DENSE_WINDOW / _USUAL_FPS if dense else _USUAL_SEC)
        rules = opened.own.events if opened.own else None
        if rules is None or (self.window_sec and self.window_sec != rules.window_sec):
            fitted, rules = rules, default_rules(window, names, None)
            rules = replace(rules, background=fitted.background) if fitted else rules
        given = {"stride_sec": self.stride_sec, "smooth_sec": self.smooth_sec, "background": self.background}
        each = {"thresholds": self.threshold, "gap_sec": self.gap_sec, "min_sec": self.min_sec}
        every = {key: (value,) * len(names) for key, value in each.items() if value is not None}
        changed: dict[str, Any] = {key: value for key, value in given.items() if value is not None} | every
        return replace(rules, **changed)


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
    lists = [find_events(video, one, rules, names, several=several) for video, one in scored.scores.items()]
    events = list(chain.from_iterable(lists))
    found = FoundEvents(opened.path, opened.name, views.name, names, rules, durations, events, scored.bad)
    if world.is_main:
        if films:
            there = (record for record in split.records if record.path in durations)
            found.films.update((record.path, _film(split, record, opened, wanted.fps)) for record in there)
        write(found)
        scored.forget()
    return found


def score_recordings(
    opened: Opened, split: Split, views: Views, rules: EventRules, *, device_name: str, engine: Choice | None,
    world: World = ALONE, fps: float | None = None, to: Path | None = None,
) -> Generator[Stage | Scoring | VideoScored | BadVideo, None, ScoredWindows]:  # fmt: skip
    """Score the windows of every video; arguments as in `find_in_videos`."""
    config, sliding = opened.config, Sliding(rules.window_sec, rules.stride_sec, fps)
    device = choose_device(device_name)
    check_decoder(config.data)
    network = yield from open_engine(opened, engine or Choice(), device, views, len(split.records), windows=True)
    windows = f"windows of {rules.window_sec:.3g} s every {rules.stride_sec:.3g} s"
    facts = (f"{windows}, protocol {views.name}, device {device}, {network.choice}", *split.notes)
    yield Stage(f"events by {opened.path}, videos: {len(split.records)}", facts)
    of = {
        **opened.describe(), "protocol": views.model_dump(), "sliding": sliding._asdict(), "videos": split.records,
        "folder": Path.cwd(), "config": config.model_dump(), **network.choice.identity(),
    }  # fmt: skip
    partial = PartialScores(to, of, world) if to else None
    with ExitStack() as stack:
        if partial:
            stack.callback(partial.close)
            if partial.kept:
                yield Stage(f"{len(partial.kept)} windows were scored before; going on from there")
        mine = eval_shard(len(split.records), rank=world.rank, world_size=world.size)
        parts = yield from windows_of_all(network, config, views, split, mine, sliding, partial)
        parts = {number: video for part in world.gather(parts) for number, video in part.items()}
        stack.pop_all()
    ordered = [video for _, video in sorted(parts.items(), key=lambda pair: pair[0])]
    scores = {video.path: _stacked(video) for video in ordered if isinstance(video, VideoPrediction)}
    return ScoredWindows(scores, [video for video in ordered if isinstance(video, BadVideo)], partial)


def _stacked(video: VideoPrediction) -> WindowScores:
    probabilities = np.stack([window.probabilities for window in video.windows]).astype(np.float64)
    spans = np.array([(window.start_sec, window.end_sec) for window in video.windows], np.float64)
    return WindowScores(probabilities, spans, float(spans[-1, 1]))


def _film(split: Split, record: VideoRecord, opened: Opened, fps: float | None) -> Film:
    """Mean rate, number of frames, and size of a video, of its first frame."""
    data = opened.config.data
    with open_reader(split, record, data) as reader:
        height, width = reader.read(np.zeros(1, np.int64))[0].shape[:2]
        seconds = clock_of(reader, fps or data.fps)[1]
        return Film(reader.num_frames / seconds, reader.num_frames, width, height)

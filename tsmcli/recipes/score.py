"""Score every video of a list: the part that training's validation and `tsm test` share."""

from __future__ import annotations

import base64
import contextlib
import glob
import hashlib
import json
from collections.abc import Generator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tsmcli.config import Config, Views
from tsmcli.data.dataset import Loader, VideoDataset
from tsmcli.data.listfile import labels_of
from tsmcli.data.location import Split
from tsmcli.data.messages import BadVideo
from tsmcli.data.shards import eval_shard
from tsmcli.engine.events import VideoScored
from tsmcli.engine.inference import Engine
from tsmcli.engine.processes import ALONE, StopSignals, World, interrupted
from tsmcli.engine.scores import averaging, score_videos
from tsmcli.errors import DataError, TsmError
from tsmcli.files import append_text, write_text
from tsmcli.recipes.events import Scoring
from tsmcli.recipes.run_folder import take_lock
from tsmcli.results import Results

ScoreEvent = Scoring | VideoScored | BadVideo


def score_split(
    engine: Engine,
    split: Split,
    config: Config,
    views: Views,
    meta: dict[str, Any],
    *,
    world: World = ALONE,
    signals: StopSignals | None = None,
    partial: PartialScores | None = None,
) -> Generator[ScoreEvent, None, Results]:
    """Yield an event a video of this process, and return the results of all videos in every process.

    Args:
        partial: where scores are kept on the way; videos that it has already are not scored again.

    Raises:
        DataError: no video could be read.
        Interrupted: a signal came, to any process.
    """
    known = dict(partial.kept) if partial else {}
    left = [number for number in range(len(split.records)) if number not in known]
    shard = [left[i] for i in eval_shard(len(left), rank=world.rank, world_size=world.size)]
    yield Scoring("scoring", len(shard))
    mine: list[VideoScored | BadVideo] = []

    def stop() -> bool:
        return signals is not None and signals.number > 0

    with Loader(VideoDataset(split, config, views), stop=stop, pin=engine.pin) as loader:
        for event in score_videos(engine, loader.videos(shard), averaging(config, views)):
            if stop():
                break
            mine.append(event)
            if partial and isinstance(event, VideoScored):
                partial.add(event)
            yield event
    shards, stops = zip(*world.gather((mine, signals.number if signals else 0)), strict=True)
    if any(stops):
        raise interrupted(max(stops))
    scored: dict[int, Any] = {}
    bad: dict[int, BadVideo] = {}
    before = (VideoScored(n, torch.from_numpy(partial.read(k))) for n, k in known.items()) if partial else ()
    for event in chain(before, *shards):
        if event.number in scored or event.number in bad:
            raise TsmError(f"video {event.number} was scored twice")
        if isinstance(event, BadVideo):
            bad[event.number] = event
        else:
            scored[event.number] = event.scores.numpy()
    if len(scored) + len(bad) != len(split.records):
        raise TsmError(f"{len(scored) + len(bad)} of {len(split.records)} videos came back")
    if not scored:
        first = bad[min(bad)]
        raise DataError(
            f"none of the {len(bad)} videos of {split.list_file} could be read; {first.path}: {first.reason}"
        )
    order = sorted(scored)
    records, scores = [split.records[i] for i in order], np.stack([scored[i] for i in order]).astype(np.float32)
    return Results(
        paths=[record.name for record in records],
        labels=labels_of(records, scores.shape[1]),
        scores=scores,
        num_listed=len(split.records),
        bad=[(bad[i].path, bad[i].reason) for i in sorted(bad)],
        meta={"protocol": views.model_dump(), "protocol_name": views.name, **meta},
    )


class Kept(NamedTuple):
    """Where the numbers of a video are kept: the file, the offset of their line in it, and how many there are."""

    path: Path
    offset: int
    size: int


class PartialScores:
    """Numbers of each video (scores, or features): one JSON line, in a file of each process beside the final file.

    The first line is a hash of what they are of (weights, protocol, list, configuration); lines of other work are
    not taken. Unreadable videos are not kept: they are tried again. Only places are in memory. Until `close`, no
    other run can write these files.

    Args:
        target: the file to come.
        of: everything that decides the numbers.

    Raises:
        ConfigError: another run writes them.

    Attributes:
        kept: the videos that this process found when it began, and those that it added.
    """

    def __init__(self, target: Path, of: dict[str, Any], world: World) -> None:
        self.key = hashlib.sha256(json.dumps(of, sort_keys=True, default=str).encode()).hexdigest()
        self.folder, self.pattern = target.parent, f"{glob.escape(target.name)}.partial-*"
        self.path = self.folder / f"{target.name}.partial-{world.rank}"
        self.kept: dict[int, Kept] = {}
        self.folder.mkdir(parents=True, exist_ok=True)
        busy = f"{target} is being written by another process"
        self.lock = take_lock(self.path.with_suffix(".partial-lock"), busy) if world.is_main else None
        ours = [path for path in sorted(self.folder.glob(self.pattern)) if self._find(path)]
        world.gather(None)  # every process has read before one writes
        if self.path in ours:
            append_text(self.path, "\n")  # the last line may be cut short
        else:
            write_text(self.path, f"{self.key}\n")

    def add(self, scored: VideoScored) -> None:
        """Keep the numbers of a video."""
        place = Kept(self.path, self.path.stat().st_size, scored.scores.numel())
        text = base64.b64encode(scored.scores.numpy().astype("<f4").tobytes()).decode()
        append_text(self.path, json.dumps([scored.number, text]) + "\n")
        self.kept[scored.number] = place

    def read(self, place: Kept) -> NDArray[np.float32]:
        """The numbers of a video, float32 [size]."""
        with place.path.open("rb") as file:
            file.seek(place.offset)
            return _numbers(file.readline())[1]

    def close(self) -> None:
        """Let others go on."""
        if self.lock:
            self.lock.release()

    def remove(self) -> None:
        """Forget everything: the work is done."""
        self.close()
        for path in self.folder.glob(self.pattern):
            path.unlink()

    def _find(self, path: Path) -> bool:
        """Find what is kept in a file; whether the file is of the same work."""
        with path.open("rb") as file:
            if file.readline() != f"{self.key}\n".encode():
                return False
            at = file.tell()
            for line in file:
                with contextlib.suppress(ValueError, TypeError, RecursionError):  # damaged, cut short: done again
                    number, array = _numbers(line)
                    self.kept[number] = Kept(path, at, len(array))
                at += len(line)
        return True


def _numbers(line: bytes) -> tuple[int, NDArray[np.float32]]:
    number, text = json.loads(line)
    return number, np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4").astype(np.float32)

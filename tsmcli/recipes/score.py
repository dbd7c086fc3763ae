"""Score every video of a list: the part that training's validation and `tsm test` share."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Generator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsmcli.config import Config, Views
from tsmcli.core.tsm import TSM
from tsmcli.data.dataset import BadVideo, Loader, VideoDataset
from tsmcli.data.listfile import labels_of
from tsmcli.data.location import Split
from tsmcli.data.shards import eval_shard
from tsmcli.engine.processes import ALONE, StopSignals, World, interrupted
from tsmcli.engine.scores import VideoScored, averaging, score_videos
from tsmcli.errors import DataError, TsmError
from tsmcli.files import append_text, write_text
from tsmcli.recipes.events import Scoring
from tsmcli.results import Results

ScoreEvent = Scoring | VideoScored | BadVideo


def score_split(
    model: TSM,
    split: Split,
    config: Config,
    views: Views,
    device: torch.device,
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
    known = partial.scored if partial else {}
    left = [number for number in range(len(split.records)) if number not in known]
    shard = [left[i] for i in eval_shard(len(left), rank=world.rank, world_size=world.size)]
    yield Scoring("scoring", len(shard))
    mine: list[VideoScored | BadVideo] = []

    def stop() -> bool:
        return signals is not None and signals.number > 0

    with Loader(VideoDataset(split, config, views), stop=stop, pin=device.type == "cuda") as loader:
        for event in score_videos(model, loader.videos(shard), device, averaging(config, views)):
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
    for event in chain(known.values(), *shards):
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
        paths=[record.path for record in records],
        labels=labels_of(records, scores.shape[1]),
        scores=scores,
        num_listed=len(split.records),
        bad=[(bad[i].path, bad[i].reason) for i in sorted(bad)],
        meta={"protocol": views.model_dump(), "protocol_name": views.name, **meta},
    )


class PartialScores:
    """One JSON line a video, in a file of each process beside the final score file.

    The first line is a hash of what the scores are of (weights, protocol, list, configuration); lines of another
    test are not taken. Unreadable videos are not kept: they are tried again.

    Args:
        target: the score file to come.
        of: everything that decides a score.
    """

    def __init__(self, target: Path, of: dict[str, Any], world: World) -> None:
        self.key = hashlib.sha256(json.dumps(of, sort_keys=True, default=str).encode()).hexdigest()
        self.pattern = f"{target.name}.partial-*"
        self.folder = target.parent
        self.scored: dict[int, VideoScored] = {}
        for path in sorted(self.folder.glob(self.pattern)):
            self._read(path)
        world.gather(None)  # every process has read before one writes
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / f"{target.name}.partial-{world.rank}"
        lines = [self.key, *(_line(scored) for scored in self.scored.values() if world.is_main)]
        write_text(self.path, "".join(f"{line}\n" for line in lines))

    def add(self, scored: VideoScored) -> None:
        """Keep the scores of a video."""
        append_text(self.path, _line(scored) + "\n")

    def remove(self) -> None:
        """Forget everything: the test is done."""
        for path in self.folder.glob(self.pattern):
            path.unlink()

    def _read(self, path: Path) -> None:
        lines = path.read_text(encoding="ascii", errors="replace").split("\n")
        if lines[0] != self.key:
            return
        for line in lines[1:-1]:  # what follows the last line break was cut short
            try:
                number, scores = json.loads(line)
                array = np.frombuffer(base64.b64decode(scores, validate=True), dtype="<f4").copy()
                self.scored[number] = VideoScored(number, torch.from_numpy(array))
            except (ValueError, TypeError, RecursionError):
                continue  # damaged by a power cut, say: this video is scored again


def _line(scored: VideoScored) -> str:
    scores = scored.scores.numpy().astype("<f4").tobytes()
    return json.dumps([scored.number, base64.b64encode(scores).decode()])

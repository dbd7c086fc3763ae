"""Score every video of a list: the part that training's validation and `tsm test` share."""

from __future__ import annotations

from collections.abc import Generator
from itertools import chain
from typing import Any

import numpy as np
import torch

from tsmcli.config import Config, Views
from tsmcli.core.tsm import TSM
from tsmcli.data.dataset import BadVideo, VideoDataset, eval_loader
from tsmcli.data.location import Split
from tsmcli.data.shards import eval_shard
from tsmcli.engine.interrupt import StopSignals, interrupted
from tsmcli.engine.scores import VideoScored, score_videos
from tsmcli.engine.world import ALONE, World
from tsmcli.errors import DataError, TsmError
from tsmcli.recipes.events import Scoring
from tsmcli.recipes.partial import PartialScores
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
    loader = eval_loader(VideoDataset(split, config, views), shard)
    mine: list[VideoScored | BadVideo] = []
    for event in score_videos(model, loader, device, views.average):
        if signals and signals.number:
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
    return Results(
        paths=[split.records[i].path for i in order],
        labels=np.array([split.records[i].label for i in order], dtype=np.int64),
        scores=np.stack([scored[i] for i in order]).astype(np.float32),
        num_listed=len(split.records),
        bad=[(bad[i].path, bad[i].reason) for i in sorted(bad)],
        meta={"protocol": views.model_dump(), "protocol_name": views.name, **meta},
    )

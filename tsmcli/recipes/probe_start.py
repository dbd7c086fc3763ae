"""Before a training: how far the features that it starts from go by themselves."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from tsmcli.config import Config, Views
from tsmcli.data.dataset import Loader, VideoDataset
from tsmcli.data.location import Split
from tsmcli.engine.device import for_inference
from tsmcli.engine.events import VideoScored
from tsmcli.engine.inference import Engine, torch_engine
from tsmcli.engine.processes import StopSignals
from tsmcli.engine.scores import pool_videos
from tsmcli.engine.weight_file import read_weights
from tsmcli.errors import DataError, TsmError
from tsmcli.recipes.events import Probed, Scoring, Warned
from tsmcli.recipes.network import build_trunk
from tsmcli.recipes.probe import accuracy, check_classes, linear
from tsmcli.recipes.score import ScoreEvent
from tsmcli.recipes.train_plan import TrainPlan

MOST_VIDEOS = 2000
"""Of a list: with more, a probe would take long, and a training needs it less."""

_Found = tuple[list[NDArray[np.float32]], list[int]]
"""Features and labels of the videos of a list that could be read."""


def probe_start(
    plan: TrainPlan, source: str, signals: StopSignals
) -> Generator[ScoreEvent | Probed | Warned, None, Probed | None]:
    """Train a linear classifier on the features of the starting weights, and score the validation list.

    One clip of each video, cropped in the middle, by `config.val`; a trunk from ImageNet gets no shift. Only
    process 0 works; the others wait. Nothing of the training changes, and no failure of the probe ends it.

    Args:
        source: the file of starting weights, or `none`.

    Returns:
        None where the configuration asks for no probe, or there can be none.
    """
    if (
        not plan.config.train.probe
        or plan.config.data.multi_label
        or source == "none"
        or plan.val is None
        or plan.val is plan.train
    ):
        return None
    if max(len(plan.train.records), len(plan.val.records)) > MOST_VIDEOS:
        return None
    found = None
    if plan.world.is_main:
        try:
            found = yield from _probe(plan, plan.val, source, signals)
        except (TsmError, RuntimeError, ValueError) as error:  # of torch, too little memory; of scikit-learn, any
            yield Warned(f"no probe of the starting features: {error}")
    plan.world.gather(None)
    return found


def _probe(
    plan: TrainPlan, val: Split, source: str, signals: StopSignals
) -> Generator[ScoreEvent | Probed, None, Probed | None]:
    model, config, imagenet = build_trunk(plan.config, read_weights(source), len(plan.classes), source)
    engine = torch_engine(for_inference(model, plan.device), plan.device, features=True)
    views = config.val.model_copy(update={"clips": 1, "crop": "center"})
    yield Scoring("probing the starting features", len(plan.train.records) + len(val.records))
    x, labels = yield from _features(engine, plan.train, config, views, signals)
    others, truth = yield from _features(engine, val, config, views, signals)
    if signals.number:
        return None
    for split, read in ((plan.train, labels), (val, truth)):
        if not read:
            raise DataError(f"none of the {len(split.records)} videos of {split.list_file} could be read")
    check_classes(str(plan.train.list_file), np.array(labels), plan.classes, 1)
    said = linear(np.stack(x), np.array(labels), np.stack(others))
    right = accuracy(said, np.array(truth), len(plan.classes))
    coverage = f"{len(truth)} of {len(val.records)} videos"
    name = "ImageNet features" if imagenet else "features of the starting weights"
    found = Probed(name, right.top1, coverage, *right.top1_interval)
    yield found
    return found


def _features(
    engine: Engine, split: Split, config: Config, views: Views, signals: StopSignals
) -> Generator[ScoreEvent, None, _Found]:
    rows: list[NDArray[np.float32]] = []
    labels: list[int] = []

    def stop() -> bool:
        return signals.number > 0

    with Loader(VideoDataset(split, config, views), stop=stop, pin=engine.pin) as loader:
        for event in pool_videos(engine, loader.videos(range(len(split.records))), "video"):
            if isinstance(event, VideoScored):
                rows.append(event.scores.numpy())
                labels.append(split.records[event.number].label)
            yield event
            if stop():
                break
    return rows, labels

"""How much the order of frames matters: the same clips, shuffled and reversed, through the same network."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from tsmcli.data.dataset import Loader, VideoDataset
from tsmcli.data.messages import BadVideo
from tsmcli.engine.events import VideoScored
from tsmcli.engine.inference import Choice, score_in_order
from tsmcli.engine.scores import average_views
from tsmcli.errors import DataError
from tsmcli.metrics import confusion, mean_class, per_class, top_k
from tsmcli.recipes.engines import open_engine
from tsmcli.recipes.events import Scoring, Stage
from tsmcli.recipes.study.reopen import Reopened
from tsmcli.results import Results

ORDERS = ("in order", "shuffled", "reversed")


@dataclass(frozen=True)
class OrderStudy:
    """Accuracy of one network on the same videos with the frames of every clip in three orders.

    Attributes:
        videos, of: how many were looked at, of how many in the test.
        top1, mean_class: by order, fractions.
        classes: by order, the share of each class's videos that are right: [K], NaN where there is none.
    """

    videos: int
    of: int
    top1: dict[str, float]
    mean_class: dict[str, float]
    classes: dict[str, NDArray[np.float64]]


def study_order(
    results: Results, test: Reopened, wanted: Choice, device: torch.device, *, max_videos: int = 0, seed: int = 0
) -> Generator[Stage | Scoring | VideoScored | BadVideo, None, OrderStudy]:
    """Score the videos of a test with their frames shuffled and reversed; yields an event a video.

    Frames are reordered within each clip; all views of a video have the same random order, drawn from (seed,
    position in the test). The frames themselves, and the rest of the protocol, stay as they are. The accuracy in
    order is that of the saved scores.

    Args:
        max_videos: look at a random sample of this many; 0: at all.

    Raises:
        DataError: no video can be read.
    """
    count = len(results.paths)
    rows = np.arange(count)
    if 0 < max_videos < count:
        rows = np.sort(np.random.default_rng(seed).choice(count, max_videos, replace=False))
    split = replace(test.split, records=[test.split.records[row] for row in rows])
    engine = yield from open_engine(test.opened, wanted, device, test.views, 2 * len(rows), places=test.places)
    yield Scoring("shuffled, reversed", len(rows))
    scored: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
    with Loader(VideoDataset(split, test.config, test.views), pin=engine.pin) as loader:
        for batch in loader.videos(range(len(rows))):
            yield from batch.bad
            for number, video in zip(batch.numbers.tolist(), batch.views, strict=True):  # video [V, T, 3, h, w]
                frames = np.arange(video.shape[1])
                shuffled = np.random.default_rng([seed, int(rows[number])]).permutation(frames)
                orders = ((order, video[:, torch.from_numpy(order)]) for order in (shuffled, frames[::-1].copy()))
                both = [average_views(logits, test.views.average) for _, logits in score_in_order(engine, orders)]
                scored[number] = (both[0].numpy(), both[1].numpy())
                yield VideoScored(number, both[1])
    if not scored:
        raise DataError("none of the videos could be read again")
    seen = sorted(scored)
    tables = (results.scores[rows[seen]], *(np.stack([scored[i][which] for i in seen]) for which in (0, 1)))
    return compare_orders(dict(zip(ORDERS, tables, strict=True)), results.labels[rows[seen]], count)


def compare_orders(scores: dict[str, NDArray[np.float32]], labels: NDArray[np.int64], of: int) -> OrderStudy:
    """Accuracies from scores [N, K] by order."""
    top1 = {order: top_k(table, labels) for order, table in scores.items()}
    mean = {order: mean_class(table, labels) for order, table in scores.items()}
    classes = {order: per_class(confusion(table, labels)) for order, table in scores.items()}
    return OrderStudy(len(labels), of, top1, mean, classes)

"""Scores and features of whole videos: views through the network, averaged."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor

from tsmcli.config import Config, Views
from tsmcli.data.dataset import Batch
from tsmcli.data.messages import BadVideo
from tsmcli.engine.events import VideoScored
from tsmcli.engine.inference import Engine, score_in_order
from tsmcli.errors import WeightsError

Average = Literal["prob", "score", "sigmoid"]
"""`average` of a protocol; if a video may have several labels, `sigmoid` takes the place of `prob`."""


def averaging(config: Config, views: Views) -> Average:
    """How the views of a protocol are averaged."""
    return "sigmoid" if config.data.multi_label and views.average == "prob" else views.average


def score_videos(engine: Engine, batches: Iterable[Batch], average: Average) -> Iterator[VideoScored | BadVideo]:
    """Score every video of some batches; those that cannot be read come as BadVideo."""
    return _each(engine, batches, lambda logits: average_views(logits, average))


Pooling = Literal["video", "clip", "frame"]
"""What features are of: a video [C], each of its views [V, C], or each frame of them [V, T, C]."""


def pool_videos(engine: Engine, batches: Iterable[Batch], of: Pooling) -> Iterator[VideoScored | BadVideo]:
    """Features of every video of some batches, before dropout and classifier, averaged over frames and views."""
    return _each(engine, batches, lambda features: pool(features, of))


def _each(
    engine: Engine, batches: Iterable[Batch], finish: Callable[[Tensor], Tensor]
) -> Iterator[VideoScored | BadVideo]:
    bad: deque[BadVideo] = deque()

    def videos() -> Iterator[tuple[int, Tensor]]:
        for batch in batches:
            bad.extend(batch.bad)
            yield from zip(batch.numbers.tolist(), batch.views, strict=True)

    for number, numbers in score_in_order(engine, videos()):
        while bad:
            yield bad.popleft()
        yield VideoScored(number, finish(numbers))
    yield from bad


def pool(features: Tensor, of: Pooling) -> Tensor:
    """The features of each frame of each view, [V, T, C], averaged as `of` says."""
    over = {"video": (0, 1), "clip": (1,), "frame": ()}[of]
    return _finite(features.mean(over) if over else features, "features")


def average_views(logits: Tensor, how: Average) -> Tensor:
    """[V, K] -> [K]: the mean of softmax or sigmoid probabilities, or of raw scores (MMAction2: average_clips)."""
    each = logits.softmax(-1) if how == "prob" else logits.sigmoid() if how == "sigmoid" else logits
    return _finite(each.mean(0), "scores")


def _finite(numbers: Tensor, what: str) -> Tensor:
    if not torch.isfinite(numbers).all():
        hint = "its weights are damaged, or its training diverged"
        raise WeightsError(f"the network's {what} are not finite", hint)
    return numbers

"""Scores and features of whole videos: views through the network, averaged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tsmcli.config import Config, Views
from tsmcli.core.tsm import TSM, normalize
from tsmcli.data.dataset import BadVideo, Batch
from tsmcli.errors import WeightsError

Average = Literal["prob", "score", "sigmoid"]
"""`average` of a protocol; if a video may have several labels, `sigmoid` takes the place of `prob`."""


def averaging(config: Config, views: Views) -> Average:
    """How the views of a protocol are averaged."""
    return "sigmoid" if config.data.multi_label and views.average == "prob" else views.average


@dataclass(frozen=True)
class VideoScored:
    """A video's scores [K], or its features, by its position in the list."""

    number: int
    scores: Tensor


def score_videos(
    model: TSM, batches: Iterable[Batch], device: torch.device, average: Average
) -> Iterator[VideoScored | BadVideo]:
    """Score every video of some batches; those that cannot be read come as BadVideo."""
    return _each(model, batches, lambda views: average_views(view_logits(model, views, device), average))


Pooling = Literal["video", "clip", "frame"]
"""What features are of: a video [C], each of its views [V, C], or each frame of them [V, T, C]."""


def pool_videos(
    model: TSM, batches: Iterable[Batch], device: torch.device, of: Pooling
) -> Iterator[VideoScored | BadVideo]:
    """Features of every video of some batches, before dropout and classifier, averaged over frames and views."""
    return _each(model, batches, lambda views: view_features(model, views, device, of))


def _each(
    model: TSM, batches: Iterable[Batch], measure: Callable[[Tensor], Tensor]
) -> Iterator[VideoScored | BadVideo]:
    model.eval()
    for batch in batches:
        yield from batch.bad
        for number, views in zip(batch.numbers.tolist(), batch.views, strict=True):
            yield VideoScored(number, measure(views))


def view_features(model: TSM, views: Tensor, device: torch.device, of: Pooling) -> Tensor:
    """Features on the CPU of uint8 views [V, T, 3, h, w]: the trunk's map, averaged as `of` says."""
    features = view_logits(model.frame_features, views, device)
    over = {"video": (0, 1), "clip": (1,), "frame": ()}[of]
    return _finite(features.mean(over) if over else features, "features")


@torch.inference_mode()
def view_logits(model: Callable[[Tensor], Tensor], views: Tensor, device: torch.device) -> Tensor:
    """Logits [V, K] on the CPU of uint8 views [V, T, 3, h, w].

    A few views at a time, so that memory does not grow with V; on a CPU one by one, where batching gains nothing.
    """
    at_once = 1 if device.type == "cpu" else 16
    chunks = views.split(at_once)
    return torch.cat([model(normalize(chunk.to(device, non_blocking=True))).float().cpu() for chunk in chunks])


def average_views(logits: Tensor, how: Average) -> Tensor:
    """[V, K] -> [K]: the mean of softmax or sigmoid probabilities, or of raw scores (MMAction2: average_clips)."""
    each = logits.softmax(-1) if how == "prob" else logits.sigmoid() if how == "sigmoid" else logits
    return _finite(each.mean(0), "scores")


def _finite(numbers: Tensor, what: str) -> Tensor:
    if not torch.isfinite(numbers).all():
        hint = "its weights are damaged, or its training diverged"
        raise WeightsError(f"the network's {what} are not finite", hint)
    return numbers

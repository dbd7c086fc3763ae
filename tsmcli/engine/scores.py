"""Scores of whole videos: views through the network, averaged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tsmcli.core.tsm import TSM, normalize
from tsmcli.data.dataset import BadVideo, Batch
from tsmcli.errors import WeightsError


@dataclass(frozen=True)
class VideoScored:
    """A video's scores [K], by its position in the list."""

    number: int
    scores: Tensor


def score_videos(
    model: TSM, batches: Iterable[Batch], device: torch.device, average: Literal["prob", "score"]
) -> Iterator[VideoScored | BadVideo]:
    """Score every video of some batches; those that cannot be read come as BadVideo."""
    model.eval()
    for batch in batches:
        yield from batch.bad
        for number, views in zip(batch.numbers.tolist(), batch.views, strict=True):
            yield VideoScored(number, average_views(view_logits(model, views, device), average))


@torch.inference_mode()
def view_logits(model: TSM, views: Tensor, device: torch.device) -> Tensor:
    """Logits [V, K] on the CPU of uint8 views [V, T, 3, h, w].

    A few views at a time, so that memory does not grow with V; on a CPU one by one, where batching gains nothing.
    """
    at_once = 1 if device.type == "cpu" else 16
    chunks = views.split(at_once)
    return torch.cat([model(normalize(chunk.to(device, non_blocking=True))).float().cpu() for chunk in chunks])


def average_views(logits: Tensor, how: Literal["prob", "score"]) -> Tensor:
    """[V, K] -> [K]: the mean of softmax probabilities, or of the raw scores (MMAction2's `average_clips`)."""
    scores = (logits.softmax(-1) if how == "prob" else logits).mean(0)
    if not torch.isfinite(scores).all():
        hint = "its weights are damaged, or its training diverged"
        raise WeightsError("the network's scores are not finite", hint)
    return scores

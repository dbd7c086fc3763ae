"""Accuracy of saved scores, in numpy alone: `tsm eval` starts without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


def top_k(scores: Scores, labels: Labels, k: int = 1) -> float:
    """Share of videos whose label is among the k highest scores.

    Of equal scores the higher class index counts as higher: a stable ascending sort, of which the last k are
    taken. MMAction2 sorts with numpy's unstable default, which for short rows does the same.

    Args:
        scores: [N, K].
        labels: [N].

    Raises:
        ValueError: no videos, or k is not in 1..K.
    """
    _check(scores, labels)
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"top-{k} of {scores.shape[1]} classes")
    best = np.argsort(scores, axis=1, kind="stable")[:, -k:]
    return float((best == labels[:, None]).any(axis=1).mean())


def mean_class(scores: Scores, labels: Labels) -> float:
    """Mean over classes of the share of a class's videos that are predicted right.

    The prediction is the first of equal highest scores. Classes are those that occur as label or prediction; one
    that is predicted but never true counts as 0, as in MMAction2.
    """
    _check(scores, labels)
    predictions = scores.argmax(axis=1)
    classes = np.union1d(predictions, labels)
    videos = np.array([(labels == c).sum() for c in classes])
    hits = np.array([((labels == c) & (predictions == c)).sum() for c in classes])
    return float((hits / np.maximum(videos, 1)).mean())


def _check(scores: Scores, labels: Labels) -> None:
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(
            f"expected scores [N, K] and labels [N], got {list(scores.shape)} and {list(labels.shape)}"
        )
    if not len(scores):
        raise ValueError("no videos")

"""Accuracy of saved scores, in numpy alone: `tsm eval` starts without torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]
Labels = NDArray[np.integer[Any]]


def ranks(scores: Scores, labels: Labels) -> NDArray[np.int64]:
    """How many classes score higher than the true one: int64 [N], 0 where it is the first.

    Of equal scores the higher class index counts as higher: a stable ascending sort, read from its end. MMAction2
    sorts with numpy's unstable default, which for short rows does the same.

    Args:
        scores: [N, K].
        labels: [N].

    Raises:
        ValueError: no videos, scores that are not finite, or shapes that do not fit together.
    """
    _check(scores, labels)
    own = np.take_along_axis(scores, labels[:, None], axis=1)
    higher = np.count_nonzero(scores > own, axis=1)
    later = np.arange(scores.shape[1]) > labels[:, None]
    equal = np.count_nonzero((scores == own) & later, axis=1)
    return np.asarray(higher + equal, np.int64)


def top_k(scores: Scores, labels: Labels, k: int = 1) -> float:
    """Share of videos whose label is among the k highest scores, k in 1..K; see `ranks` for equal ones."""
    if not 1 <= k <= scores.shape[-1]:
        raise ValueError(f"top-{k} of {scores.shape[-1]} classes")
    return float((ranks(scores, labels) < k).mean())


def confusion(scores: Scores, labels: Labels) -> NDArray[np.int64]:
    """Number of videos of each true class (row) that were taken for each class (column): int64 [K, K].

    The prediction is the first of equal highest scores, as in MMAction2.
    """
    _check(scores, labels)
    classes = scores.shape[1]
    cells = labels * classes + scores.argmax(axis=1)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes).astype(np.int64)


def per_class(matrix: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of each class's videos that were predicted right: [K] from a confusion matrix, NaN for none."""
    videos = matrix.sum(axis=1)
    return np.where(videos > 0, matrix.diagonal() / np.maximum(videos, 1), np.nan)


def mean_class(scores: Scores, labels: Labels) -> float:
    """`mean_of_classes` of the predictions: the first of equal highest scores, as in MMAction2."""
    _check(scores, labels)
    return mean_of_classes(labels, scores.argmax(axis=1), scores.shape[1])


def mean_of_classes(labels: Labels, predictions: Labels, num_classes: int) -> float:
    """Mean over classes of the share of a class's videos that are predicted right; labels and predictions are [N].

    Classes are those that occur as label or prediction; one that is predicted but never true counts as 0, as in
    MMAction2.
    """
    videos = np.bincount(labels, minlength=num_classes)
    guesses = np.bincount(predictions, minlength=num_classes)
    hits = np.bincount(labels[labels == predictions], minlength=num_classes)
    seen = (videos > 0) | (guesses > 0)
    return float((hits[seen] / np.maximum(videos[seen], 1)).mean())


def mean_average_precision(scores: Scores, truth: NDArray[np.bool_]) -> float:
    """Mean over classes of the area under the precision-recall curve of videos sorted by a class's score.

    Equal scores are one threshold. Classes without a positive video are left out; NaN if none is left. This is
    MMAction2's `mean_average_precision`.

    Args:
        scores: [N, K].
        truth: many-hot labels [N, K].
    """
    if truth.shape != scores.shape:
        raise ValueError(f"expected truth {list(scores.shape)}, got {list(truth.shape)}")
    columns, truth = np.ascontiguousarray(scores.T), np.ascontiguousarray(truth.T)
    values = [average_precision(s, t) for s, t in zip(columns, truth, strict=True) if t.any()]
    return float(np.mean(values)) if values else float("nan")


def average_precision(scores: Scores, truth: NDArray[np.bool_]) -> float:
    """Sum over thresholds of precision times the recall that the threshold adds; both [N].

    Only thresholds at a positive's score add recall, so only those are looked at.
    """
    everyone, positives = np.sort(scores), np.sort(scores[truth])
    thresholds, added = np.unique(positives, return_counts=True)
    found = len(positives) - np.searchsorted(positives, thresholds)
    retrieved = len(everyone) - np.searchsorted(everyone, thresholds)
    return float((found / retrieved) @ added / len(positives))


def interval(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of `count` videos: Wilson's, which also holds near 0 and 1."""
    z2 = 1.959964**2
    centre, spread = share + z2 / (2 * count), (z2 * (share * (1 - share) + z2 / (4 * count)) / count) ** 0.5
    return float((centre - spread) / (1 + z2 / count)), float((centre + spread) / (1 + z2 / count))


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of several trainings' accuracies (Student's); 0 to 1 for one alone."""
    from scipy.stats import t

    if len(values) < 2:
        return 0.0, 1.0
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / len(values) ** 0.5
    reach = float(t.ppf(0.975, len(values) - 1)) * error
    return max(0.0, mean - reach), min(1.0, mean + reach)


def mean_class_interval(scores: Scores, labels: Labels) -> tuple[float, float]:
    """The 95 % interval of `mean_class`, from the intervals of its classes (MOVER, Zou and Donner 2008)."""
    matrix = confusion(scores, labels)
    pairs = [(s, n) for s, n in zip(per_class(matrix).tolist(), matrix.sum(axis=1).tolist(), strict=True) if n]
    ends = [(share, *interval(share, count)) for share, count in pairs]
    below = sum((share - low) ** 2 for share, low, _ in ends) ** 0.5 / len(ends)
    above = sum((high - share) ** 2 for share, _, high in ends) ** 0.5 / len(ends)
    value = mean_class(scores, labels)
    return max(0.0, value - below), min(1.0, value + above)


def _check(scores: Scores, labels: Labels) -> None:
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(
            f"expected scores [N, K] and labels [N], got {list(scores.shape)} and {list(labels.shape)}"
        )
    if not len(scores):
        raise ValueError("no videos")
    if not np.isfinite(scores).all():
        raise ValueError("scores that are not finite have no order")

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
    values = average_precisions(scores, truth)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def average_precision(scores: Scores, truth: NDArray[np.bool_]) -> float:
    """Sum over thresholds of precision times the recall that the threshold adds; both [N].

    Only thresholds at a positive's score add recall, so only those are looked at.
    """
    _, added, found, retrieved = _at_positives(scores, truth)
    return float((found / retrieved) @ added / added.sum())


def average_precisions(scores: Scores, truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """`average_precision` of every class: [K], NaN for one without a positive video."""
    columns = zip(np.ascontiguousarray(scores.T), np.ascontiguousarray(truth.T), strict=True)
    return np.array([average_precision(s, t) if t.any() else np.nan for s, t in columns])


def best_thresholds(scores: Scores, truth: NDArray[np.bool_]) -> list[float]:
    """For each class the threshold of the best F1 on these videos; 0.5 for one without a positive video.

    It lies in the middle between the lowest score that is taken and the next lower one, or 0. Of equally good
    ones the highest is taken.

    Args:
        scores: probabilities [N, K].
        truth: many-hot labels [N, K].
    """
    return [_best_threshold(s, t) if t.any() else 0.5 for s, t in zip(scores.T, truth.T, strict=True)]


def _best_threshold(scores: Scores, truth: NDArray[np.bool_]) -> float:
    cuts, added, found, retrieved = _at_positives(scores, truth)
    f1 = 2 * found / (retrieved + added.sum())
    lowest = cuts[f1 == f1.max()][-1]
    return (float(lowest) + float(scores[scores < lowest].max(initial=0))) / 2


def f1_scores(scores: Scores, truth: NDArray[np.bool_], thresholds: Sequence[float]) -> NDArray[np.float64]:
    """F1 of each class where scores from its threshold on say yes: [K], NaN for one without a positive video."""
    said, positives = scores >= np.asarray(thresholds), truth.sum(axis=0)
    right = (said & truth).sum(axis=0)
    return np.where(positives > 0, 2 * right / np.maximum(said.sum(axis=0) + positives, 1), np.nan)


def _at_positives(scores: Scores, truth: NDArray[np.bool_]) -> tuple[Any, Any, Any, Any]:
    """The different scores of positives, rising; how many have it, and how many positives and videos reach it."""
    everyone, positives = np.sort(scores), np.sort(scores[truth])
    thresholds, added = np.unique(positives, return_counts=True)
    found = len(positives) - np.searchsorted(positives, thresholds)
    retrieved = len(everyone) - np.searchsorted(everyone, thresholds)
    return thresholds, added, found, retrieved


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


def map_interval(scores: Scores, truth: NDArray[np.bool_], *, samples: int = 1000) -> tuple[float, float]:
    """The 95 % interval of `mean_average_precision` for so many videos, by the bootstrap.

    Videos are drawn with replacement, with a fixed seed. Each class is sorted once: a sample only changes how often
    a video counts. A class that has no positive video in a sample is left out of its mean.
    """
    count, rng = len(scores), np.random.default_rng(0)
    drawn = np.stack(
        [np.bincount(rng.integers(count, size=count), minlength=count) for _ in range(samples)], axis=1
    )
    drawn = drawn.astype(np.float32)  # [N, samples]: whole numbers below 2^24
    total, held = np.zeros(samples), np.zeros(samples)
    for s, t in zip(scores.T, truth.T, strict=True):
        order = np.argsort(-s, kind="stable")
        positives = order[t[order]]
        every, own = (np.cumsum(drawn.take(rows, axis=0), axis=0) for rows in (order, positives))
        last, last_own = (np.searchsorted(-s[rows], -s[positives], side="right") - 1 for rows in (order, positives))
        precision = own[last_own] / np.maximum(every[last], 1)
        counted = drawn[positives].sum(axis=0)
        total += (precision * drawn[positives]).sum(axis=0) / np.maximum(counted, 1)
        held += counted > 0
    low, high = np.percentile((total / np.maximum(held, 1))[held > 0], (2.5, 97.5))
    return float(low), float(high)


def _check(scores: Scores, labels: Labels) -> None:
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ValueError(
            f"expected scores [N, K] and labels [N], got {list(scores.shape)} and {list(labels.shape)}"
        )
    if not len(scores):
        raise ValueError("no videos")
    if not np.isfinite(scores).all():
        raise ValueError("scores that are not finite have no order")

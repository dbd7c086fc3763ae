"""Properties of the metrics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tsmcli.metrics import (
    average_precision,
    confusion,
    interval,
    mean_average_precision,
    mean_class,
    mean_class_interval,
    per_class,
    top_k,
)

K = 6
tables = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        arrays(np.float64, (n, K), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0])),
        arrays(np.int64, n, elements=st.integers(0, K - 1)),
    )
)


def slow_top_k(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """A label is hit if fewer than k classes beat it; of equal scores the higher index beats."""
    hits = 0
    for row, label in zip(scores, labels, strict=True):
        better = sum(s > row[label] or (s == row[label] and c > label) for c, s in enumerate(row))
        hits += better < k
    return hits / len(labels)


@settings(deadline=None)
@given(tables)
def test_top_k(table: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = table
    values = [top_k(scores, labels, k) for k in range(1, K + 1)]
    assert values == pytest.approx([slow_top_k(scores, labels, k) for k in range(1, K + 1)])
    assert values == sorted(values)
    assert values[-1] == 1


@given(tables)
def test_mean_class_does_not_depend_on_how_often_a_class_occurs(table: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = table
    again = labels == labels[0]
    more = np.concatenate([scores, scores[again]]), np.concatenate([labels, labels[again]])
    assert mean_class(*more) == pytest.approx(mean_class(scores, labels))


def test_wrong_input() -> None:
    scores, labels = np.zeros((3, 4)), np.zeros(3, int)
    with pytest.raises(ValueError, match="top-5 of 4 classes"):
        top_k(scores, labels, 5)
    with pytest.raises(ValueError, match="expected scores"):
        mean_class(scores, labels[:2])
    with pytest.raises(ValueError, match="no videos"):
        top_k(scores[:0], labels[:0])


def test_confusion_and_per_class() -> None:
    scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [0.4, 0.4, 0.2], [0.1, 0.1, 0.8]])
    labels = np.array([0, 0, 1, 1])
    matrix = confusion(scores, labels)
    assert matrix.tolist() == [[1, 1, 0], [1, 0, 1], [0, 0, 0]]  # the tie goes to the lower index
    assert per_class(matrix)[:2].tolist() == [0.5, 0.0]
    assert np.isnan(per_class(matrix)[2])


@given(tables)
def test_confusion_agrees_with_the_other_metrics(table: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = table
    matrix = confusion(scores, labels)
    assert matrix.sum() == len(labels)
    assert matrix.sum(axis=1).tolist() == np.bincount(labels, minlength=K).tolist()
    seen = (matrix.sum(axis=0) + matrix.sum(axis=1)) > 0
    assert np.nan_to_num(per_class(matrix))[seen].mean() == pytest.approx(mean_class(scores, labels))


def slow_average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """The area under the steps of recall and precision, threshold by threshold."""
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        retrieved = scores >= threshold
        hits = (retrieved & truth).sum()
        area += (hits / truth.sum() - recall) * hits / retrieved.sum()
        recall = hits / truth.sum()
    return area


@settings(deadline=None)
@given(tables)
def test_average_precision(table: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = table
    truth = labels[:, None] == np.arange(K)
    values = [slow_average_precision(scores[:, c], truth[:, c]) for c in range(K) if truth[:, c].any()]
    assert mean_average_precision(scores, truth) == pytest.approx(np.mean(values))


def test_average_precision_without_positives() -> None:
    assert np.isnan(mean_average_precision(np.ones((2, 3)), np.zeros((2, 3), bool)))
    with pytest.raises(ValueError, match="expected truth"):
        mean_average_precision(np.ones((2, 3)), np.zeros((2, 2), bool))
    assert average_precision(np.array([0.5, 0.5]), np.array([True, False])) == 0.5


def test_intervals_hold_the_truth_19_times_of_20() -> None:
    """3 classes of 5, 20 and 80 videos, recognised with known probabilities, drawn 2,000 times."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], [5, 20, 80])
    right = np.array([0.6, 0.9, 0.7])
    held = {"top1": 0, "mean_class": 0}
    for _ in range(2000):
        said = np.where(rng.random(len(labels)) < right[labels], labels, (labels + 1) % 3)
        scores = np.eye(3)[said]
        low, high = interval(top_k(scores, labels), len(labels))
        held["top1"] += low <= right[labels].mean() <= high
        low, high = mean_class_interval(scores, labels)
        held["mean_class"] += low <= right.mean() <= high
    assert all(0.93 <= count / 2000 <= 0.99 for count in held.values()), held

"""Properties of the metrics."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tsmcli.metrics import mean_class, top_k

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

"""Metrics against MMAction2 v0.24.1, ties and unseen classes included."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tsmcli.metrics import average_precision, confusion, mean_average_precision, mean_class, per_class, top_k

CASES = json.loads((Path(__file__).parent / "data_metrics.json").read_text())["cases"]


@pytest.mark.parametrize("name", sorted(CASES))
def test_metrics_equal_mmaction2(name: str) -> None:
    case = CASES[name]
    scores, labels = np.array(case["scores"]), np.array(case["labels"])
    for k, expected in case["top_k_if_stable_sort"].items():
        assert top_k(scores, labels, int(k)) == pytest.approx(expected, abs=1e-12)
    assert mean_class(scores, labels) == pytest.approx(case["mean_class_accuracy"], abs=1e-12)
    shares, predicted = per_class(confusion(scores, labels)), np.unique(scores.argmax(axis=1))
    classes = np.union1d(predicted, labels)
    assert np.nan_to_num(shares)[classes].mean() == pytest.approx(case["mean_class_accuracy"], abs=1e-12)
    if name == "tie_free":  # no tie, so their unstable sort gives the same
        assert case["top_k"] == case["top_k_if_stable_sort"]


def test_worked_example() -> None:
    scores = np.array([[0.1, 0.6, 0.3, 0.0], [0.4, 0.3, 0.2, 0.1], [0.25] * 4,
                       [0.0, 0.2, 0.5, 0.3], [0.7, 0.1, 0.1, 0.1], [0.2, 0.2, 0.3, 0.3]])  # fmt: skip
    labels = np.array([1, 1, 0, 3, 0, 2])
    assert top_k(scores, labels, 1) == pytest.approx(2 / 6)
    assert top_k(scores, labels, 2) == pytest.approx(5 / 6)
    assert mean_class(scores, labels) == pytest.approx(0.625)
    two = np.array([[1.0, 0, 0], [0, 0, 1.0]])
    assert mean_class(two, np.array([0, 0])) == pytest.approx(0.25)


def test_worked_example_of_many_labels() -> None:
    """The same scores with many-hot labels; the values are MMAction2's mean_average_precision, per class and video."""
    one = average_precision(np.array([0.9, 0.8, 0.8, 0.3, 0.1]), np.array([1, 0, 1, 1, 0], bool))
    assert one == pytest.approx(0.805556, abs=1e-6)
    scores = np.array([[0.1, 0.6, 0.3, 0.0], [0.4, 0.3, 0.2, 0.1], [0.25] * 4,
                       [0.0, 0.2, 0.5, 0.3], [0.7, 0.1, 0.1, 0.1], [0.2, 0.2, 0.3, 0.3]])  # fmt: skip
    truth = np.array([[c == "1" for c in row] for row in ("1010", "0100", "0110", "1000", "0010", "1100")])
    assert mean_average_precision(scores, truth) == pytest.approx(0.472222, abs=1e-6)
    assert mean_average_precision(scores.T, truth.T) == pytest.approx(0.430556, abs=1e-6)

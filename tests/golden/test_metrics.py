"""Metrics against MMAction2 v0.24.1, ties and unseen classes included."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tsmcli.metrics import mean_class, top_k

CASES = json.loads((Path(__file__).parent / "data_metrics.json").read_text())["cases"]


@pytest.mark.parametrize("name", sorted(CASES))
def test_metrics_equal_mmaction2(name: str) -> None:
    case = CASES[name]
    scores, labels = np.array(case["scores"]), np.array(case["labels"])
    for k, expected in case["top_k_if_stable_sort"].items():
        assert top_k(scores, labels, int(k)) == pytest.approx(expected, abs=1e-12)
    assert mean_class(scores, labels) == pytest.approx(case["mean_class_accuracy"], abs=1e-12)
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

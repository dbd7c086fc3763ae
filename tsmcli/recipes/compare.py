"""Is one test better than another, or is it chance? Two score files of the same videos. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tsmcli.errors import UsageError
from tsmcli.metrics import mean_of_classes, ranks
from tsmcli.recipes.ensemble import align
from tsmcli.recipes.evaluate import Evaluation, choose_metrics, summarise
from tsmcli.results import Results

ROUNDS = 2000
"""Samples that the bootstrap draws."""

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Difference:
    """A metric of A and of B, and B - A with its 95 % interval; all fractions."""

    a: float
    b: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Two tests of the same videos.

    Attributes:
        a, b: what is compared, with their protocols.
        differences: by metric.
        only_a, only_b: videos whose first guess is right in one of the two only.
        p: of McNemar's exact test: how likely so uneven a split is if both are equally good.
    """

    a: Evaluation
    b: Evaluation
    differences: dict[str, Difference]
    only_a: int
    only_b: int
    p: float


def compare(
    a: Results, b: Results, sources: tuple[Path, Path], metrics: Sequence[str] | None = None,
    topk: Sequence[int] | None = None, *, seed: int = 0,
) -> Comparison:  # fmt: skip
    """Compare two tests, video by video.

    The intervals are of the paired bootstrap: videos are drawn with replacement, the same ones for both.

    Args:
        metrics: top_k and mean_class.

    Raises:
        DataError: they are not of the same videos and classes.
        UsageError: an unknown metric, or one that is not compared.
    """
    if a.multi_label or b.multi_label:
        raise UsageError("--compare is of tests of videos with one label each", hint="tsm eval FILE says each mAP")
    if strange := [
        metric for metric in choose_metrics(metrics, multi_label=False) if metric not in ("top_k", "mean_class")
    ]:
        raise UsageError(f"--compare cannot compare {', '.join(strange)}", hint="it takes top_k and mean_class")
    b = align(a, b, *sources)
    of_a, of_b = (summarise(one, metrics, topk, str(file)) for one, file in zip((a, b), sources, strict=True))
    names, rng, count = list(of_a.values), np.random.default_rng(seed), len(a.paths)
    sample_a, sample_b = _sampler(a, names), _sampler(b, names)
    draws = (rng.integers(count, size=count) for _ in range(ROUNDS))
    samples = [sample_b(index) - sample_a(index) for index in draws]
    ends = np.percentile(samples, (2.5, 97.5), axis=0).T.tolist()
    values = zip(of_a.values.values(), of_b.values.values(), ends, strict=True)
    differences = {name: Difference(x, y, *both) for name, (x, y, both) in zip(names, values, strict=True)}
    right_a, right_b = (ranks(results.scores, results.labels) == 0 for results in (a, b))
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return Comparison(of_a, of_b, differences, only_a, only_b, mcnemar(only_a, only_b))


def _sampler(results: Results, names: Sequence[str]) -> Callable[[Index], NDArray[np.float64]]:
    """A function from the numbers of some videos to the metrics of those."""
    ranked, labels = ranks(results.scores, results.labels), results.labels
    predictions, classes = results.scores.argmax(axis=1), results.scores.shape[1]

    def metric(name: str, index: Index) -> float:
        if name == "mean_class":
            return mean_of_classes(labels[index], predictions[index], classes)
        return float((ranked[index] < int(name.removeprefix("top"))).mean())

    return lambda index: np.array([metric(name, index) for name in names])


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p-value of McNemar's exact test: a fair coin falls at least so unevenly.

    In whole numbers until the last division, so that it is exact for any count.
    """
    tosses, fewer = only_a + only_b, min(only_a, only_b)
    ways, total = 1, 0
    for i in range(fewer + 1):
        total += ways
        ways = ways * (tosses - i) // (i + 1)
    p: float = 2 * total / 2**tosses
    return min(1.0, p)

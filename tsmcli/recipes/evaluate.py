"""Metrics from saved scores. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tsmcli.errors import DataError, UsageError
from tsmcli.metrics import mean_class, top_k
from tsmcli.results import Results, load_results

METRICS = ("top_k", "mean_class")
ALIASES = {"top_k_accuracy": "top_k", "mean_class_accuracy": "mean_class"}
"""MMAction2's names."""


@dataclass(frozen=True)
class Evaluation:
    """Metric values (fractions) of a results file, with what they are of."""

    values: dict[str, float]
    coverage: str
    complete: bool
    protocol: str
    preset: str
    source: str


def evaluate(file: Path | None, metrics: Sequence[str], topk: Sequence[int] = (1, 5)) -> Evaluation:
    """Metrics of a results file, by default of the newest test run.

    Raises:
        DataError: there is no such file, or it is broken.
        UsageError: an unknown metric, or k above the number of classes.
    """
    path = file or newest_results()
    return summarise(load_results(path), metrics, topk, str(path))


def summarise(results: Results, metrics: Sequence[str], topk: Sequence[int], source: str) -> Evaluation:
    """Compute the requested metrics; see `evaluate`."""
    values: dict[str, float] = {}
    for metric in check_metrics(metrics):
        if metric == "mean_class":
            values["mean_class"] = mean_class(results.scores, results.labels)
            continue
        for k in topk:
            if not 1 <= k <= results.scores.shape[1]:
                raise UsageError(f"top-{k} of {results.scores.shape[1]} classes", hint="choose --topk")
            values[f"top{k}"] = top_k(results.scores, results.labels, k)
    meta = results.meta
    return Evaluation(
        values,
        results.coverage,
        not results.bad,
        meta.get("protocol_name", "unknown"),
        meta.get("preset", "unknown"),
        source,
    )


def check_metrics(metrics: Sequence[str]) -> list[str]:
    """Our names of the metrics asked for.

    Raises:
        UsageError: one of them is unknown.
    """
    names = [ALIASES.get(metric, metric) for metric in metrics]
    for name in names:
        if name not in METRICS:
            raise UsageError(f"no metric named {name!r}", hint=f"choose from {', '.join(METRICS)}")
    return names


def newest_results(root: Path = Path("runs")) -> Path:
    """The results file that was written last.

    Raises:
        DataError: there is none.
    """
    files = sorted(root.glob("**/scores*.npz"), key=lambda path: path.stat().st_mtime)
    if not files:
        raise DataError(
            f"no saved scores below {root.resolve()}: nothing was tested yet",
            hint="tsm test --checkpoint runs/.../best.pt, then again tsm eval; or name a results file",
        )
    return files[-1]

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


def evaluate(file: Path | None, metrics: Sequence[str], topk: Sequence[int] | None = None) -> Evaluation:
    """Metrics of a results file, by default of the newest test run.

    Args:
        topk: the k of top_k; None: 1, and 5 where there are as many classes.

    Raises:
        DataError: there is no such file, or it is broken.
        UsageError: an unknown metric, or k above the number of classes.
    """
    path = file or newest_results()
    return summarise(load_results(path), metrics, topk, str(path))


def summarise(results: Results, metrics: Sequence[str], topk: Sequence[int] | None, source: str) -> Evaluation:
    """Compute the requested metrics; see `evaluate`."""
    values: dict[str, float] = {}
    for metric in check_metrics(metrics):
        if metric == "mean_class":
            values["mean_class"] = mean_class(results.scores, results.labels)
            continue
        classes = results.scores.shape[1]
        for k in topk or [k for k in (1, 5) if k <= classes]:
            if not 1 <= k <= classes:
                raise UsageError(f"top-{k} of {classes} classes", hint="choose another --topk")
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


LATEST = "latest-scores"
"""File below `runs/` that holds the path of the last results, wherever they were written."""


def newest_results(root: Path = Path("runs")) -> Path:
    """The results file that was written last, below `runs/` or where `runs/latest-scores` points.

    Raises:
        DataError: there is none.
    """
    pointer = root / LATEST
    pointed = [Path(pointer.read_text(encoding="utf-8").strip())] if pointer.is_file() else []
    candidates = [*root.glob("**/scores*.npz"), *(path for path in pointed if path.is_file())]
    files = sorted(candidates, key=lambda path: path.stat().st_mtime)
    if not files:
        raise DataError(
            f"no saved scores below {root.resolve()}: nothing was tested yet",
            hint="tsm test --checkpoint runs/.../best.pt, then again tsm eval; or name a results file",
        )
    return files[-1]

"""Metrics from saved scores. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tsmcli.errors import DataError, UsageError
from tsmcli.metrics import (
    average_precisions,
    confusion,
    f1_scores,
    interval,
    map_interval,
    mean_average_precision,
    mean_class,
    mean_class_interval,
    per_class,
    ranks,
)  # fmt: skip
from tsmcli.recipes.ensemble import average, check_list_used, open_scores, to_probabilities
from tsmcli.recipes.zoo.against import AgainstZoo, against_zoo
from tsmcli.results import Results

METRICS = ("top_k", "mean_class", "per_class", "confusion", "map")
ALIASES = {"top_k_accuracy": "top_k", "mean_class_accuracy": "mean_class", "mean_average_precision": "map"}
"""MMAction2's names."""


@dataclass(frozen=True)
class ClassScore:
    """How well one class is recognised.

    Attributes:
        videos: how many there are of it; with none, `top1` is None.
        top1: share of them whose first guess is right.
        interval: that of 95 % for `top1`.
        taken_for: the class it is most often mistaken for, and the share of its videos that are.
        ap: average precision, in place of `top1` and `taken_for` where a video may have several labels.
        threshold, f1: the probability from which on a video has the class, and the F1 there.
    """

    index: int
    name: str
    videos: int
    top1: float | None
    taken_for: tuple[str, float] | None
    interval: tuple[float, float] | None = None
    ap: float | None = None
    threshold: float | None = None
    f1: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """Metric values (fractions) of saved scores, with what they are of.

    Attributes:
        intervals: of 95 % for so many videos, of the values that are accuracies.
        classes: of the metric per_class.
        matrix: of the metric confusion, [K, K]; rows are the true classes.
        names: of the classes.
        published: what the zoo says of the checkpoint; None for one that is not of the zoo.
        multi_label: a video may have several labels.
    """

    values: dict[str, float]
    coverage: str
    complete: bool
    protocol: str
    preset: str
    source: str
    intervals: dict[str, tuple[float, float]] = field(default_factory=dict)
    classes: list[ClassScore] = field(default_factory=list)
    matrix: NDArray[np.int64] | None = None
    names: list[str] = field(default_factory=list)
    published: AgainstZoo | None = None
    multi_label: bool = False


def evaluate(
    files: Sequence[Path], metrics: Sequence[str] | None = None, topk: Sequence[int] | None = None,
    *, weights: Sequence[float] | None = None, list_file: Path | None = None, softmax: bool = False,
) -> Evaluation:  # fmt: skip
    """Metrics of score files; of the newest test where none is named; of their weighted mean where several are.

    Args:
        metrics: as in `choose_metrics`.
        topk: the k of top_k; None: 1, and 5 where there are as many classes.
        list_file: the list of the videos, for files that hold scores alone.
        softmax: turn raw scores into probabilities first.

    Raises:
        DataError: there is no such file, or it is broken, or the files are not of the same videos.
        UsageError: an unknown metric, or k above the number of classes.
    """
    check_metrics(metrics or ())
    files = files or [newest_results()]
    parts = [open_scores(file, list_file) for file in files]
    check_list_used(parts, list_file)
    results = average([to_probabilities(part) for part in parts] if softmax else parts, files, weights)
    return summarise(results, metrics, topk, " + ".join(map(str, files)))


def summarise(
    results: Results, metrics: Sequence[str] | None, topk: Sequence[int] | None, source: str
) -> Evaluation:
    """Compute the requested metrics; see `evaluate`."""
    scores, labels, meta = results.scores, results.labels, results.meta
    names = class_names(results)
    found = Evaluation(
        {}, results.coverage, not results.bad,
        str(meta.get("protocol_name", "unknown")), str(meta.get("preset", "unknown")), source, names=names,
        multi_label=results.multi_label,
    )  # fmt: skip
    wanted = choose_metrics(metrics, multi_label=results.multi_label)
    if results.multi_label:
        return _of_several(results, wanted, found)
    for metric in wanted:
        match metric:
            case "top_k":
                check_topk(topk or (), len(names))
                ranked = ranks(scores, labels)
                ks = topk or [k for k in (1, 5) if k <= len(names)]
                shares = {f"top{k}": float((ranked < k).mean()) for k in ks}
                found.values.update(shares)
                found.intervals.update({name: interval(share, len(labels)) for name, share in shares.items()})
            case "mean_class":
                found.values["mean_class"] = mean_class(scores, labels)
                found.intervals["mean_class"] = mean_class_interval(scores, labels)
            case "map":
                found.values["map"] = mean_average_precision(scores, labels[:, None] == np.arange(scores.shape[1]))
            case "per_class":
                found = replace(found, classes=class_scores(confusion(scores, labels), names))
            case "confusion":
                found = replace(found, matrix=confusion(scores, labels))
    return replace(found, published=against_zoo(meta, found.values, len(labels)))


def _of_several(results: Results, wanted: Sequence[str], found: Evaluation) -> Evaluation:
    """The metrics of videos that may have several labels."""
    scores, truth, cuts = results.scores, results.labels, results.meta.get("thresholds")
    if not truth.any():
        raise DataError("no video that was scored has a label, so there is nothing to find", "test another list")
    each = average_precisions(scores, truth)
    f1 = f1_scores(to_probabilities(results).scores, truth, cuts) if cuts else np.full(len(each), np.nan)
    if "map" in wanted:
        found.values["map"], found.intervals["map"] = float(np.nanmean(each)), map_interval(scores, truth)
        found.values.update({"f1": float(np.nanmean(f1))} if cuts else {})
    if "per_class" in wanted:
        rows = zip(found.names, truth.sum(axis=0).tolist(), each.tolist(), f1.tolist(), strict=True)
        classes = [
            ClassScore(i, name, videos, None, None, ap=ap if videos else None, threshold=cuts[i] if cuts else None,
                       f1=score if videos and cuts else None)
            for i, (name, videos, ap, score) in enumerate(rows)
        ]  # fmt: skip
        found = replace(found, classes=classes)
    return found


def choose_metrics(metrics: Sequence[str] | None, *, multi_label: bool) -> list[str]:
    """Our names of the metrics asked for, None: the usual ones; UsageError for one that means nothing here."""
    if metrics is None:
        return ["map", "per_class"] if multi_label else ["top_k", "mean_class"]
    names = check_metrics(metrics)
    if multi_label and (odd := [name for name in names if name not in ("map", "per_class")]):
        wrong = f"{odd[0]} is of videos with one label each; these may have several"
        raise UsageError(wrong, "--metrics map per_class")
    return names


def check_topk(topk: Sequence[int], classes: int) -> None:
    """Raise UsageError for a k above the number of classes."""
    for k in topk:
        if not 1 <= k <= classes:
            raise UsageError(f"top-{k} of {classes} classes", hint="choose another --topk")


def class_names(results: Results) -> list[str]:
    """The names of the classes, or their numbers where nobody said."""
    return results.meta.get("class_names") or [str(i) for i in range(results.scores.shape[1])]


def class_scores(matrix: NDArray[np.int64], names: Sequence[str]) -> list[ClassScore]:
    """Every class of a confusion matrix, in index order."""
    shares = per_class(matrix)
    mistakes = matrix - np.diag(matrix.diagonal())
    rows = []
    for index, (row, videos) in enumerate(zip(mistakes, matrix.sum(axis=1).tolist(), strict=True)):
        worst = int(row.argmax())
        taken_for = (names[worst], row[worst] / videos) if row[worst] else None
        top1 = float(shares[index]) if videos else None
        ends = None if top1 is None else interval(top1, videos)
        rows.append(ClassScore(index, names[index], videos, top1, taken_for, ends))
    return rows


def most_confused(matrix: NDArray[np.int64], count: int) -> list[tuple[int, int, int]]:
    """(true class, taken for, videos) of the largest mistakes, most videos first."""
    mistakes = matrix - np.diag(matrix.diagonal())
    order = np.argsort(-mistakes, axis=None, kind="stable")[:count]
    pairs = [divmod(int(cell), len(matrix)) for cell in order]
    return [(true, said, int(mistakes[true, said])) for true, said in pairs if mistakes[true, said]]


def check_metrics(metrics: Sequence[str]) -> list[str]:
    """Our names of the metrics asked for; UsageError for an unknown one."""
    names = [ALIASES.get(metric, metric) for metric in metrics]
    for name in names:
        if name.startswith("tiou_map"):
            raise UsageError(f"{name} is of events", hint="tsm eval EVENTS.json --metrics tiou_map --list TRUE.csv")
        if name not in METRICS:
            files = "; files are named before --metrics" if Path(name).suffix else ""
            raise UsageError(f"no metric named {name!r}", hint=f"choose from {', '.join(METRICS)}{files}")
    return names


LATEST = "latest-scores"
"""File below `runs/` that holds the path of the last results, wherever they were written."""


def newest_results(root: Path = Path("runs")) -> Path:
    """The newest results file below `runs/` or where `runs/latest-scores` points; DataError without one."""
    pointer = root / LATEST
    pointed = [Path(pointer.read_text(encoding="utf-8").strip())] if pointer.is_file() else []
    files = [*root.glob("**/scores*.npz"), *(path for path in pointed if path.is_file())]
    if not files:
        hint = "tsm test --checkpoint runs/.../best.pt, then again tsm eval; or name a results file"
        raise DataError(f"no saved scores below {root.resolve()}: nothing was tested yet", hint)
    return sorted(files, key=lambda path: path.stat().st_mtime)[-1]

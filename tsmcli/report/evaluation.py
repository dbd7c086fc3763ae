"""Metrics of saved scores as tables and JSON, never without their protocol."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from tsmcli.recipes.compare import Comparison
from tsmcli.recipes.evaluate import Evaluation, most_confused
from tsmcli.recipes.probe import Probe
from tsmcli.recipes.zoo.against import AgainstZoo
from tsmcli.report.tables import between, percent, print_json, print_line, print_table

if TYPE_CHECKING:  # it needs torch, and saved scores do not
    from tsmcli.recipes.features import Extracted

_WHOLE_MATRIX = 12
"""Classes up to which a confusion matrix is a table; of more, the largest mistakes are listed."""
_PAIRS = 20


def print_evaluation(evaluation: Evaluation, *, as_json: bool) -> None:
    """The metrics, and tables of the classes and of the confusions where they were asked for."""
    if as_json:
        print_json(evaluation_json(evaluation))
        return
    title = f"{evaluation.preset}, protocol {evaluation.protocol}, {evaluation.coverage}"
    if evaluation.values:
        rows = [(n, percent(value), between(evaluation.intervals.get(n))) for n, value in evaluation.values.items()]
        print_table(("metric", "value", "95 % interval"), rows, title)
    else:
        print_line(title)
    if evaluation.published:
        _print_published(evaluation.published, evaluation)
    if evaluation.classes:
        _print_classes(evaluation)
    if evaluation.matrix is not None:
        _print_confusion(evaluation)
    print_line(f"scores: {evaluation.source}")


def evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    """Stable keys for scripts; `confusion` has a row for each true class."""
    tree: dict[str, Any] = {
        **evaluation.values,
        "intervals": {name: list(ends) for name, ends in evaluation.intervals.items()},
        "videos": evaluation.coverage,
        "complete": evaluation.complete,
        "protocol": evaluation.protocol,
        "preset": evaluation.preset,
        "scores": evaluation.source,
        "published": evaluation.published and _published_json(evaluation.published),
    }
    if evaluation.multi_label:
        keys = {
            "index": "class",
            "name": "name",
            "videos": "videos",
            "ap": "ap",
            "threshold": "threshold",
            "f1": "f1",
        }
        tree["per_class"] = [{said: vars(c)[key] for key, said in keys.items()} for c in evaluation.classes]
    elif evaluation.classes:
        tree["per_class"] = [
            {"class": c.index, "name": c.name, "videos": c.videos, "top1": c.top1,
             "interval": c.interval and list(c.interval),
             "taken_for": c.taken_for and {"name": c.taken_for[0], "share": c.taken_for[1]}}
            for c in evaluation.classes
        ]  # fmt: skip
    if evaluation.matrix is not None:
        tree |= {"confusion": evaluation.matrix.tolist(), "class_names": evaluation.names}
    return tree


def print_comparison(comparison: Comparison, *, as_json: bool) -> None:
    """Both tests, their difference, and whether it may be chance."""
    a, b, differences = comparison.a, comparison.b, comparison.differences
    if as_json:
        found = {name: {"b_minus_a": d.b - d.a, "low": d.low, "high": d.high} for name, d in differences.items()}
        chance = {"only_a": comparison.only_a, "only_b": comparison.only_b, "p": comparison.p}
        print_json({"a": evaluation_json(a), "b": evaluation_json(b), "difference": found, "mcnemar": chance})
        return
    print_line(f"A: {a.source} ({a.preset}, protocol {a.protocol})")
    print_line(f"B: {b.source} ({b.preset}, protocol {b.protocol})")
    if a.protocol != b.protocol:
        print_line("The protocols differ: this compares the protocols as well as the networks.")
    rows = [
        (name, percent(d.a), percent(d.b), _points(d.b - d.a), f"{_points(d.low)} to {_points(d.high)}")
        for name, d in differences.items()
    ]
    print_table(("metric", "A", "B", "B - A", "95 % interval"), rows, f"The same {a.coverage}")
    print_line(f"First guess right in A only: {comparison.only_a} videos, in B only: {comparison.only_b}.")
    verdict = "the difference may be chance" if comparison.p >= 0.05 else "hardly chance"
    print_line(f"McNemar's exact test: p = {comparison.p:.3g}, {verdict}.")


def print_extracted(found: Extracted, *, as_json: bool) -> None:
    """Where features were written, and what they are of."""
    if as_json:
        print_json({**asdict(found), "videos": found.coverage, "complete": not found.bad})
        return
    size = " x ".join(map(str, found.shape))
    print_line(f"{found.file}: {size} numbers, features of each {found.of}, {found.coverage}")


def print_probe(found: Probe, *, as_json: bool) -> None:
    """What the two classifiers of a probe got right."""
    if as_json:
        print_json(asdict(found))
        return
    rows = [
        (
            name,
            percent(one.top1),
            between(one.top1_interval),
            percent(one.mean_class),
            between(one.mean_class_interval),
        )
        for name, one in (("logistic regression", found.linear), ("nearest neighbours", found.neighbours))
    ]
    columns = ("classifier", "top1", "95 % interval", "mean_class", "95 % interval")
    print_table(columns, rows, f"Features of {found.features}; {found.coverage}")
    print_line(f"{found.how}.")


def _print_published(found: AgainstZoo, of: Evaluation) -> None:
    if not found.values:
        under = ", ".join(found.protocols)
        print_line(f"{found.id} has no published value under {of.protocol}, but under {under}.")
        return
    rows = [
        (metric, percent(a.ours), percent(a.published), _points(a.ours - a.published),
         between((a.low, a.high)), "within" if a.within else "outside")
        for metric, a in found.values.items()
    ]  # fmt: skip
    columns = ("metric", "ours", "published", "difference", "95 % interval of ours", "published is")
    print_table(columns, rows, f"Beside the zoo's {found.id}, which was tested on its whole validation list")


def _points(difference: float) -> str:
    return f"{100 * difference:+.2f}"


def _published_json(found: AgainstZoo) -> dict[str, Any]:
    values = {
        metric: {"ours": a.ours, "published": a.published, "difference": a.ours - a.published,
                 "low": a.low, "high": a.high, "within": a.within}
        for metric, a in found.values.items()
    }  # fmt: skip
    return {"id": found.id, "protocols": found.protocols, **values}


def _print_classes(evaluation: Evaluation) -> None:
    if evaluation.multi_label:
        shares = [(c.index, c.name, c.videos, _known(c.ap), c.threshold, _known(c.f1)) for c in evaluation.classes]
        print_table(("class", "name", "videos", "average precision", "threshold", "F1 there"), shares)
        return
    rows = [
        (c.index, c.name, c.videos, _known(c.top1), between(c.interval),
         f"{c.taken_for[0]} ({percent(c.taken_for[1])})" if c.taken_for else "")
        for c in evaluation.classes
    ]  # fmt: skip
    print_table(("class", "name", "videos", "top1", "95 % interval", "most often taken for"), rows)


def _known(share: float | None) -> str:
    return "" if share is None else percent(share)


def _print_confusion(evaluation: Evaluation) -> None:
    matrix, names = evaluation.matrix, evaluation.names
    if matrix is None:
        return
    if len(matrix) <= _WHOLE_MATRIX:
        rows = [(f"{i} {name}", *row) for i, (name, row) in enumerate(zip(names, matrix.tolist(), strict=True))]
        print_table(("true \\ said", *map(str, range(len(names)))), rows)
        return
    videos = matrix.sum(axis=1)
    mistakes = [
        (names[true], names[said], count, percent(count / videos[true]))
        for true, said, count in most_confused(matrix, _PAIRS)
    ]
    title = f"The {len(mistakes)} largest mistakes of {len(matrix)} classes; --json has the whole matrix"
    print_table(("true", "taken for", "videos", "of the class"), mistakes, title)

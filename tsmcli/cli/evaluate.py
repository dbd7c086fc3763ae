"""tsm eval"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tsmcli.cli.shared import Data, DataRoot, Device, Json


def evaluate(
    results: Annotated[
        list[Path] | None,
        typer.Argument(help="Results files, ours or MMAction2's; several are averaged.", show_default="the newest"),
    ] = None,
    metrics: Annotated[list[str], typer.Option(help="top_k mean_class per_class confusion map")] = [  # noqa: B006
        "top_k",
        "mean_class",
    ],
    topk: Annotated[list[int] | None, typer.Option(min=1, help="The k of top_k.", show_default="1 5")] = None,
    weights: Annotated[
        list[float] | None, typer.Option(help="A weight for each of several files.", show_default="all equal")
    ] = None,
    list_file: Annotated[
        Path | None, typer.Option("--list", help="List of the videos, for MMAction2's files, which have no labels.")
    ] = None,
    softmax: Annotated[
        bool, typer.Option("--softmax", help="Turn raw scores into probabilities before averaging.")
    ] = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A B", help="Is B better than A, or is it chance? Two results files."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the samples that --compare draws.")] = 0,
    checkpoint: Annotated[Path | None, typer.Option(help="Test this checkpoint first.")] = None,
    preset: Annotated[str | None, typer.Option(help="Preset of bare weights.")] = None,
    data_root: DataRoot = Path("data"),
    data: Data = None,
    device: Device = "auto",
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Exit 0 although videos could not be read.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compute metrics from saved scores, without torch; with --checkpoint, test it first.

    Examples: tsm eval --metrics top_k mean_class

    tsm eval rgb.npz flow.npz --weights 1 1.5

    tsm eval --compare old.npz new.npz
    """
    from tsmcli.errors import UsageError
    from tsmcli.recipes.evaluate import check_metrics

    check_metrics(metrics)
    if sum(map(bool, (results, compare, checkpoint))) > 1:
        raise UsageError("name results files, --compare or --checkpoint, not several of these")
    if checkpoint:
        if weights or list_file or softmax:
            raise UsageError("--weights, --list and --softmax are for saved scores")
        from tsmcli.cli.test import test

        test(checkpoint, preset, metrics=metrics, topk=topk, data_root=data_root, data=data, device=device,
             allow_missing=allow_missing, as_json=as_json)  # fmt: skip
        return
    if preset:
        raise UsageError("--preset needs --checkpoint", hint="a preset alone has no weights to test")
    if data or device != "auto":
        raise UsageError("--data and --device are for --checkpoint", hint="saved scores need neither")
    if compare:
        if weights:
            raise UsageError("--weights is for several files that are averaged, not for --compare")
        _compare(compare, metrics, topk, list_file, softmax=softmax, seed=seed, allow_missing=allow_missing,
                 as_json=as_json)  # fmt: skip
        return
    _evaluate(results or [], metrics, topk, weights, list_file, softmax=softmax, allow_missing=allow_missing,
              as_json=as_json)  # fmt: skip


def _evaluate(
    files: list[Path],
    metrics: list[str],
    topk: list[int] | None,
    weights: list[float] | None,
    list_file: Path | None,
    *,
    softmax: bool,
    allow_missing: bool,
    as_json: bool,
) -> None:
    from tsmcli.errors import DataError
    from tsmcli.recipes.evaluate import evaluate as run
    from tsmcli.report.evaluation import print_evaluation

    evaluation = run(files, metrics, topk, weights=weights, list_file=list_file, softmax=softmax)
    print_evaluation(evaluation, as_json=as_json)
    if not evaluation.complete and not allow_missing:
        raise DataError(f"this is the accuracy on {evaluation.coverage}", hint="--allow-missing accepts that")


def _compare(
    files: tuple[Path, Path],
    metrics: list[str],
    topk: list[int] | None,
    list_file: Path | None,
    *,
    softmax: bool,
    seed: int,
    allow_missing: bool,
    as_json: bool,
) -> None:
    from tsmcli.errors import DataError, UsageError
    from tsmcli.recipes.compare import compare
    from tsmcli.recipes.ensemble import check_list_used, open_scores
    from tsmcli.report.evaluation import print_comparison

    if softmax:
        raise UsageError("--softmax changes no ranking, so it is of no use to --compare")
    a, b = (open_scores(file, list_file) for file in files)
    check_list_used((a, b), list_file)
    comparison = compare(a, b, files, metrics, topk, seed=seed)
    print_comparison(comparison, as_json=as_json)
    if not (comparison.a.complete and comparison.b.complete) and not allow_missing:
        raise DataError(f"this compares the {comparison.a.coverage} that could be read",
                        hint="--allow-missing accepts that")  # fmt: skip

"""tsm eval"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsmcli.cli.shared import Data, DataRoot, Device, Json

if TYPE_CHECKING:
    from tsmcli.recipes.evaluate import Evaluation


def evaluate(
    results: Annotated[
        Path | None, typer.Argument(help="A results file [default: the newest below runs/].")
    ] = None,
    metrics: Annotated[list[str], typer.Option(help="top_k mean_class")] = ["top_k", "mean_class"],  # noqa: B006
    topk: Annotated[list[int] | None, typer.Option(min=1, help="The k of top_k [default: 1 5].")] = None,
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

    Example: tsm eval --metrics top_k mean_class
    """
    from tsmcli.errors import DataError, UsageError
    from tsmcli.recipes.evaluate import check_metrics
    from tsmcli.recipes.evaluate import evaluate as run

    check_metrics(metrics)
    if checkpoint is None:
        if preset:
            raise UsageError("--preset needs --checkpoint", hint="a preset alone has no weights to test")
        if data or device != "auto":
            raise UsageError("--data and --device are for --checkpoint", hint="saved scores need neither")
        evaluation = run(results, metrics, topk)
        print_evaluation(evaluation, as_json=as_json)
        if not evaluation.complete and not allow_missing:
            raise DataError(f"this is the accuracy on {evaluation.coverage}", hint="--allow-missing accepts that")
        return
    if results:
        raise UsageError("name a results file or --checkpoint, not both")
    from tsmcli.cli.test import test

    test(checkpoint, preset, metrics=metrics, topk=topk, data_root=data_root, data=data, device=device,
         allow_missing=allow_missing, as_json=as_json)  # fmt: skip


def print_evaluation(evaluation: Evaluation, *, as_json: bool) -> None:
    """The metrics, never without their protocol."""
    from tsmcli.report.tables import percent, print_json, print_line, print_table

    if as_json:
        print_json(
            {
                **evaluation.values,
                "videos": evaluation.coverage,
                "complete": evaluation.complete,
                "protocol": evaluation.protocol,
                "preset": evaluation.preset,
                "scores": evaluation.source,
            }
        )
        return
    title = f"{evaluation.preset}, protocol {evaluation.protocol}, {evaluation.coverage}"
    print_table(("metric", "value"), [(name, percent(value)) for name, value in evaluation.values.items()], title)
    print_line(f"scores: {evaluation.source}")

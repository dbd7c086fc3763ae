"""tsm test"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tsmcli.cli.shared import Classes, Data, DataRoot, Device, Gpus, Json, Media, Set, places

if TYPE_CHECKING:
    from tsmcli.recipes.test import Tested

Metrics = Annotated[list[str], typer.Option(help="top_k, mean_class, per_class, confusion, map.")]
TopK = Annotated[list[int] | None, typer.Option(min=1, help="The k of top_k.", show_default="1 5")]
AllowMissing = Annotated[bool, typer.Option("--allow-missing", help="Exit 0 although videos could not be read.")]


def test(
    checkpoint: Annotated[
        Path, typer.Option(help="A checkpoint of a run, an id of tsm zoo ls, or weights and --preset.")
    ],
    preset: Annotated[
        str | None, typer.Option(help="Preset of bare weights.", show_default="the checkpoint's own")
    ] = None,
    sets: Set = None,
    protocol: Annotated[
        str | None,
        typer.Option(help="efficient, accurate, dense10, dense10x3, ten-crop, val or test.", show_default="test"),
    ] = None,
    metrics: Metrics = ["top_k", "mean_class"],  # noqa: B006
    topk: TopK = None,
    data_root: DataRoot = Path("data"),
    data: Data = None,
    list_file: Annotated[Path | None, typer.Option("--list", help="List of the videos to test on.")] = None,
    media: Media = None,
    classes: Classes = None,
    out: Annotated[Path | None, typer.Option(help="Also write the scores here: .json, .npz or .csv.")] = None,
    average: Annotated[
        Literal["prob", "score"] | None, typer.Option(help="Of the views.", show_default="the protocol's own")
    ] = None,
    allow_missing: AllowMissing = False,
    device: Device = "auto",
    gpus: Gpus = 1,
    as_json: Json = False,
) -> None:
    """Score every video of the validation list and print the metrics.

    Accuracy is of the videos that could be read, and says so; if some could not, the exit code is 3.
    """
    from tsmcli.presets import resolve
    from tsmcli.recipes.evaluate import check_metrics

    check_metrics(metrics)
    resolved = resolve(preset, sets or ()) if preset else None
    where = places(data_root, data, val_list=list_file, media=media, classes=classes)

    from tsmcli.engine.processes import joined, launched
    from tsmcli.recipes.test import test as run
    from tsmcli.report.progress import follow

    if gpus > 1 and not launched():
        from tsmcli.engine.launch import launch

        raise typer.Exit(launch(gpus, device, sys.argv[1:]))
    own = () if preset else sets or ()
    with joined(device) as (world, at):
        events = run(
            checkpoint, resolved, where, overrides=own, protocol=protocol, device_name=str(at), out=out,
            average=average, topk=topk or (), world=world,
        )  # fmt: skip
        tested = follow(events, quiet=not world.is_main)
    if world.is_main:
        finish_test(tested, metrics, topk, allow_missing=allow_missing, as_json=as_json)


def finish_test(
    tested: Tested, metrics: list[str], topk: list[int] | None, *, allow_missing: bool, as_json: bool
) -> None:
    """Print the metrics of a test and exit 3 if videos were missing."""
    from tsmcli.errors import DataError
    from tsmcli.recipes.evaluate import summarise
    from tsmcli.report.evaluation import print_evaluation

    results = tested.results
    print_evaluation(summarise(results, metrics, topk, str(tested.files[0])), as_json=as_json)
    for copy in tested.files[1:]:
        typer.echo(f"scores also in {copy}", err=True)
    if results.bad and not allow_missing:
        names = "\n".join(f"  {path}: {reason}" for path, reason in results.bad)
        raise DataError(
            f"{len(results.bad)} of {results.num_listed} videos could not be read, so this is the accuracy on "
            f"{results.coverage}:\n{names}",
            hint="--allow-missing accepts that",
        )

"""tsm test"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Option

from tsmcli.cli.shared import (
    Classes,
    Data,
    Device,
    Engine,
    Gpus,
    Json,
    Media,
    Metrics,
    Missing,
    Precision,
    Preset,
    Root,
    Set,
    TopK,
)
from tsmcli.errors import DataError
from tsmcli.report.tables import on_one_line, print_note


def test(
    checkpoint: Annotated[
        Path, Option(help="A checkpoint of a run, an id of tsm zoo ls, or weights and --preset.")
    ],
    preset: Preset = None,
    sets: Set = None,
    protocol: Annotated[
        str | None,
        Option(help="efficient, accurate, dense10, ten-crop, ..., val or test.", show_default="the checkpoint's"),
    ] = None,
    metrics: Metrics = None,
    topk: TopK = None,
    data_root: Root = Path("data"),
    data: Data = None,
    list_file: Annotated[Path | None, Option("--list", help="List of the videos to test on.")] = None,
    media: Media = None,
    classes: Classes = None,
    out: Annotated[Path | None, Option(help="Also write the scores here: .json, .npz or .csv.")] = None,
    average: Annotated[
        Literal["prob", "score"] | None, Option(help="Of the views.", show_default="the protocol's own")
    ] = None,
    allow_missing: Missing = False,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "fp32",
    gpus: Gpus = 1,
    as_json: Json = False,
) -> None:
    """Score every video of the validation list and print the metrics.

    Accuracy is of the videos that could be read, and says so; if some could not, the exit code is 3.
    """
    from tsmcli.data.location import Places
    from tsmcli.presets import resolve
    from tsmcli.recipes.evaluate import check_metrics, summarise

    check_metrics(metrics or ())
    resolved = resolve(preset, sets or ()) if preset else None
    where = Places(data_root, data, val_list=list_file, media=media, classes=classes)

    from tsmcli.engine.inference import Choice
    from tsmcli.engine.processes import joined, launched
    from tsmcli.recipes.test import test as run
    from tsmcli.report.evaluation import print_evaluation
    from tsmcli.report.progress import follow

    if gpus > 1 and not launched():
        from tsmcli.engine.launch import launch

        raise typer.Exit(launch(gpus, device, sys.argv[1:]))
    with joined(device) as (world, at):
        events = run(
            checkpoint, resolved, where, overrides=sets or (), protocol=protocol, device_name=str(at),
            engine=Choice(engine, precision), out=out, average=average, topk=topk or (), metrics=metrics,
            world=world,
        )  # fmt: skip
        tested = follow(events, quiet=not world.is_main)
    if not world.is_main:
        return
    results = tested.results
    print_evaluation(summarise(results, metrics, topk, str(tested.files[0])), as_json=as_json)
    for copy in tested.files[1:]:
        print_note(f"scores also in {copy}")
    if results.bad and not allow_missing:
        names = "\n".join(f"  {on_one_line(f'{path}: {reason}')}" for path, reason in results.bad)
        raise DataError(
            f"{len(results.bad)} of {results.num_listed} videos could not be read, so this is the accuracy on "
            f"{results.coverage}:\n{names}",
            hint="--allow-missing accepts that",
        )

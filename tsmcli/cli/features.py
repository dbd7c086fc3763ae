"""tsm features, tsm probe"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from typer import Argument, Option

from tsmcli.cli.shared import (
    Classes,
    Data,
    Device,
    Engine,
    Gpus,
    Json,
    Media,
    Missing,
    Precision,
    Preset,
    Root,
    Set,
)
from tsmcli.errors import DataError, UsageError
from tsmcli.report.tables import on_one_line


def features(
    checkpoint: Annotated[
        Path, Argument(help="A checkpoint, an id of tsm zoo ls, or with --preset: imagenet, or a file of weights.")
    ],
    videos: Annotated[
        Path | None, Argument(metavar="LIST", help="List of the videos.", show_default="the dataset's")
    ] = None,
    out: Annotated[Path, Option(help="The file to write, .npz.")] = Path("features.npz"),
    of: Annotated[
        Literal["video", "clip", "frame", "window"], Option(help="What a row has features of.")
    ] = "video",
    split: Annotated[Literal["train", "val"], Option(help="Which list of the dataset.")] = "val",
    window: Annotated[float | None, Option(min=0.01, metavar="SEC", help="Length of a window.")] = None,
    stride: Annotated[
        float | None,
        Option(min=0.01, metavar="SEC", help="From window to window.", show_default="half a window"),
    ] = None,
    fps: Annotated[
        float | None, Option(min=0.01, help="Frames per second of frame folders; default data.fps.")
    ] = None,
    preset: Preset = None,
    sets: Set = None,
    protocol: Annotated[str | None, Option(help="As of tsm test.", show_default="test")] = None,
    data_root: Root = Path("data"),
    data: Data = None,
    list_file: Annotated[Path | None, Option("--list", help="The same as LIST.")] = None,
    media: Media = None,
    classes: Classes = None,
    allow_missing: Missing = False,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "fp32",
    gpus: Gpus = 1,
    as_json: Json = False,
) -> None:
    """Write the features of videos: what the network knows before its classifier, averaged over pixels and frames.

    Examples: tsm features best.pt --data data/gestures --split train --out train.npz

    tsm features imagenet --preset mbv2-folder --data data/gestures --out val.npz
    """
    from tsmcli.data.location import Places
    from tsmcli.presets import resolve

    if videos and list_file:
        raise UsageError("name one list of videos", hint="LIST and --list are the same")
    if (of == "window") != (window is not None) or (stride and not window):
        raise UsageError("--of window and --window SEC go together", hint="--stride SEC is from window to window")
    resolved = resolve(preset, sets or ()) if preset else None
    videos = videos or list_file
    where = Places(data_root, data, train_list=videos, val_list=videos, media=media, classes=classes)

    from tsmcli.data.sliding import Sliding
    from tsmcli.engine.inference import Choice
    from tsmcli.engine.processes import joined, launched
    from tsmcli.recipes.features import extract
    from tsmcli.report.evaluation import print_extracted
    from tsmcli.report.progress import follow

    if gpus > 1 and not launched():
        from tsmcli.engine.launch import launch

        raise typer.Exit(launch(gpus, device, sys.argv[1:]))
    sliding = Sliding(window, stride or window / 2, fps) if window else None
    with joined(device) as (world, at):
        events = extract(
            checkpoint, resolved, where, out, of="video" if of == "window" else of, sliding=sliding,
            split_name=split, overrides=sets or (), protocol=protocol, device_name=str(at),
            engine=Choice(engine, precision), world=world,
        )  # fmt: skip
        found = follow(events, quiet=not world.is_main)
    if found is None:
        return
    print_extracted(found, as_json=as_json)
    if found.bad and not allow_missing:
        names = "\n".join(f"  {on_one_line(f'{path}: {reason}')}" for path, reason in found.bad)
        wrong = f"{len(found.bad)} of {found.num_listed} videos could not be read and are not in {out}:\n{names}"
        raise DataError(wrong, hint="--allow-missing accepts that")


def probe(
    train: Annotated[Path, Argument(metavar="F.npz", help="Features of the videos to learn from.")],
    val: Annotated[
        Path | None,
        Argument(metavar="VAL.npz", help="Features of the videos to score.", show_default="cross-validation"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a linear classifier and the nearest neighbours make of features. A training should beat them.

    Example: tsm probe train.npz val.npz
    """
    from tsmcli.recipes.probe import probe as run
    from tsmcli.report.evaluation import print_probe

    print_probe(run(train, val), as_json=as_json)

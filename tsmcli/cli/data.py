"""tsm data show and tsm data check"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from tsmcli.cli.shared import (
    Classes,
    Data,
    Json,
    ManyValues,
    Media,
    Root,
    Set,
    TrainList,
    ValList,
    Workers,
    one_per_core,
)
from tsmcli.errors import DataError
from tsmcli.report.tables import on_one_line, print_json, print_line

data = typer.Typer(no_args_is_help=True, help="Look at what the network will see.")


@data.command(cls=ManyValues)
def show(
    target: Annotated[str, Argument(help="train, val, a list file, or a video.")] = "val",
    preset: Annotated[str, Option(help="Preset name, MMAction2 config name, or a .yaml file.")] = "demo",
    sets: Set = None,
    protocol: Annotated[
        str | None,
        Option(help="train, or a test protocol.", show_default="train for `train`, else the preset's"),
    ] = None,
    count: Annotated[int, Option(min=1, help="How many videos.")] = 6,
    data_root: Root = Path("data"),
    data: Data = None,
    media: Media = None,
    out: Annotated[Path, Option(help="The picture to write.")] = Path("clips.png"),
    seed: Annotated[int, Option(min=0)] = 0,
) -> None:
    """Write a picture of the frames, crops, flips and labels that the network will see."""
    from tsmcli.data.location import Places
    from tsmcli.presets import resolve

    config = resolve(preset, [*(sets or ()), f"train.seed={seed}"]).config

    from tsmcli.recipes.study.clips import load_clips
    from tsmcli.report.pictures import write_contact_sheet

    title, rows = load_clips(config, Places(data_root, data, media=media), target, protocol, count)
    write_contact_sheet(out, rows, title)
    print_line(f"{out}: {len(rows)} views")


@data.command(cls=ManyValues)
def check(
    preset: Annotated[str, Option(help="Preset name, MMAction2 config name, or a .yaml file.")] = "mbv2-folder",
    sets: Set = None,
    data_root: Root = Path("data"),
    data: Data = None,
    train_list: TrainList = None,
    val_list: ValList = None,
    media: Media = None,
    classes: Classes = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Say what will hurt a training, before it is begun: lists, class names, and a look into every video.

    Exit code 3 if videos cannot be used, else 0, whatever is found.
    """
    from tsmcli.data.location import Places
    from tsmcli.presets import resolve

    config = resolve(preset, sets or ()).config
    where = Places(data_root, data, train_list=train_list, val_list=val_list, media=media, classes=classes)

    from tsmcli.prepare.findings import SEVERITIES
    from tsmcli.prepare.inspect import inspect
    from tsmcli.report.progress import follow

    seen = follow(inspect(config, where, workers=one_per_core(workers)))
    if as_json:
        print_json([asdict(finding) for finding in seen.findings])
    elif not seen.findings:
        print_line(f"nothing to complain about: {seen.videos} videos, {seen.classes} classes")
    for severity in () if as_json else SEVERITIES:
        found = [finding for finding in seen.findings if finding.severity == severity]
        for line in [severity, *(f"  {on_one_line(str(finding))}" for finding in found)] if found else ():
            print_line(line)
    if unusable := sum(len(finding.where) for finding in seen.findings if finding.severity == SEVERITIES[0]):
        hint = "tsm prepare-data DATASET --check --quarantine makes training count them without opening them"
        raise DataError(f"{unusable} of {seen.videos} videos cannot be used", hint)

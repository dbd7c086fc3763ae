"""tsm data show"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from tsmcli.cli.shared import Data, ManyValues, Media, Root, Set
from tsmcli.report.tables import print_line

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

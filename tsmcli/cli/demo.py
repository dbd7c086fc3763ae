"""tsm demo"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tsmcli.cli.shared import Device, Json


def demo(
    data: Annotated[Path, typer.Option(help="Folder for the clips.")] = Path("data/demo"),
    work_dir: Annotated[
        Path | None, typer.Option(help="Folder for the results.", show_default="runs/demo/TIME")
    ] = None,
    device: Device = "auto",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Json = False,
) -> None:
    """See in two minutes that time matters: make clips, train with and without the shift, compare.

    Needs no data, no network and no GPU.
    """
    from tsmcli.recipes.demo import demo as run
    from tsmcli.recipes.study.clips import demo_clips
    from tsmcli.report.demo import demo_json, print_demo
    from tsmcli.report.pictures import write_contact_sheet
    from tsmcli.report.progress import follow
    from tsmcli.report.tables import print_json

    result = follow(run(data=data, run=work_dir, device_name=device, seed=seed))
    sheet = result.run / "clips.png"
    write_contact_sheet(sheet, demo_clips(result), "Validation clips, time runs to the right")
    if as_json:
        print_json(demo_json(result))
    else:
        print_demo(result, sheet)

"""tsm demo"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from tsmcli.cli.shared import Device, Json


def demo(
    data: Annotated[Path, Option(help="Folder for the clips.")] = Path("data/demo"),
    work_dir: Annotated[Path | None, Option(help="Folder for the results.", show_default="runs/demo/TIME")] = None,
    device: Device = "auto",
    seed: Annotated[int, Option(min=0)] = 0,
    as_json: Json = False,
) -> None:
    """See in two minutes that time matters: make clips, train with and without the shift, compare.

    Needs no data, no network and no GPU.
    """
    from tsmcli.recipes.demo import demo as run
    from tsmcli.recipes.study.clips import demo_clips
    from tsmcli.report.demo import print_demo
    from tsmcli.report.pictures import write_contact_sheet
    from tsmcli.report.progress import follow

    result = follow(run(data=data, run=work_dir, device_name=device, seed=seed))
    sheet = result.run / "clips.png"
    write_contact_sheet(sheet, demo_clips(result), "Validation clips, time runs to the right")
    print_demo(result, sheet, as_json=as_json)

"""tsm demo"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from tsmcli.catalog import CATALOG
from tsmcli.cli.shared import Device, Json
from tsmcli.report.tables import print_json, print_line


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


def make_clips(out: Path, seed: int, *, as_json: bool) -> None:
    """`tsm prepare-data demo`."""
    from tsmcli.prepare.demo import make_demo
    from tsmcli.report.progress import follow

    total = follow(make_demo(out, seed=seed))
    if as_json:
        print_json({"dataset": "demo", "folder": str(out), "videos": total})
        return
    print_line(f"{out}: {total} videos in 8 classes, with lists and class names")
    print_line("\nnext:  tsm train --preset demo")
    print_line("\nother datasets, from what you downloaded to DIR:")
    print_line("  tsm prepare-data folder --source DIR     your own videos, in one folder per class")
    print_line("  tsm prepare-data csv --source DIR --annotations table.csv")
    for name, facts in CATALOG.items():
        if facts.home:
            print_line(f"  tsm prepare-data {name:8} --source DIR   {facts.title}, from {facts.home}")


def make_long(out: Path, seed: int, *, as_json: bool) -> None:
    """`tsm prepare-data demo-long`."""
    from tsmcli.prepare.demo_long import PARTS, make_recordings
    from tsmcli.report.progress import follow

    total = follow(make_recordings(out, seed=seed))
    if as_json:
        print_json({"dataset": "demo-long", "folder": out, "videos": total})
        return
    print_line(f"{out}: {total} recordings, whose intervals are in {', '.join(f'{part}.csv' for part in PARTS)}")
    marks = f"--annotations {out}/train.csv --source {out}/videos"
    print_line(f"\nnext:  tsm prepare-data intervals {marks} --background still --out data/events")

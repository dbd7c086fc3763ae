"""tsm train"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tsmcli.cli.shared import Classes, Data, DataRoot, Device, Json, Media, Set, places

if TYPE_CHECKING:
    from tsmcli.data.location import Places


def train(
    preset: Annotated[str, typer.Option(help="Preset name, MMAction2 config name, or a .yaml file.")],
    sets: Set = None,
    data_root: DataRoot = Path("data"),
    data: Data = None,
    train_list: Annotated[Path | None, typer.Option(help="List of training videos.")] = None,
    val_list: Annotated[Path | None, typer.Option(help="List of validation videos.")] = None,
    media: Media = None,
    classes: Classes = None,
    init: Annotated[
        str | None, typer.Option(help="Starting weights: imagenet, none, or a file [default: the preset's].")
    ] = None,
    device: Device = "auto",
    work_dir: Annotated[Path | None, typer.Option(help="Folder of the run [default: runs/PRESET/TIME].")] = None,
    as_json: Json = False,
) -> None:
    """Train a preset, validating on the way.

    Example: tsm train --preset r50-sthv1-flip --set train.batch=16
    """
    from tsmcli.presets import resolve

    resolved = resolve(preset, sets or ())

    from tsmcli.recipes.train import train as run
    from tsmcli.report.progress import follow
    from tsmcli.report.tables import percent, print_json, print_line

    where = places(data_root, data, train_list=train_list, val_list=val_list, media=media, classes=classes)
    done = follow(run(resolved, where, device_name=device, run=work_dir, init=init))
    if as_json:
        print_json({"run": str(done.run), "last": str(done.last), "best": str(done.best), "top1": done.top1,
                    "best_top1": done.best_top1, "seconds": round(done.seconds, 1)})  # fmt: skip
        return
    print_line(f"val/top1 {percent(done.top1)} after the last epoch, {percent(done.best_top1)} at best")
    if done.skipped:
        print_line(f"{done.skipped} times a video could not be read and was skipped; log.jsonl names them")
    print_line(f"{done.run}: config.yaml, log.jsonl, last.pt, best.pt ({done.seconds:.0f} s)")
    print_line(f"next:  tsm test --checkpoint {done.best}{_data_options(where)}")


def _data_options(where: Places) -> str:
    """The options that `tsm test` needs to find the same data."""
    root = where.data_root if where.data_root != Path("data") else None
    given = {"--data-root": root, "--data": where.folder, "--list": where.val_list, "--media": where.media}
    return "".join(f" {option} {shlex.quote(str(value))}" for option, value in given.items() if value)

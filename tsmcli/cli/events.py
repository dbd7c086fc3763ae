"""tsm events"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from tsmcli.cli.shared import Background, Device, Engine, Json, ManyValues, Missing, Precision, Smooth

events = typer.Typer(no_args_is_help=True, help="Intervals of long videos, for tsm predict --events.")


@events.callback()
def _group() -> None:
    pass


@events.command(cls=ManyValues)
def fit(
    checkpoint: Annotated[Path, Argument(help="A checkpoint of a run.")],
    list_file: Annotated[Path, Option("--list", help="True intervals: path,start,end,label.")],
    media: Annotated[Path, Option(help="Folder of the recordings.")],
    out: Annotated[
        Path | None, Option(help="Write the checkpoint with its rules here.", show_default="CHECKPOINT itself")
    ] = None,
    window: Annotated[
        float | None,
        Option(min=0.01, metavar="SEC", help="Length of a window.", show_default="the median true interval"),
    ] = None,
    stride: Annotated[
        float | None,
        Option(min=0.01, metavar="SEC", help="From window to window.", show_default="a quarter of a window"),
    ] = None,
    smooth: Smooth = None,
    background: Background = None,
    fps: Annotated[
        float | None, Option(min=0.01, help="Frames per second of frame folders; default data.fps.")
    ] = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "fp32",
    allow_missing: Missing = False,
    as_json: Json = False,
) -> None:
    """Choose when a class is seen in long videos, on recordings whose true intervals are known.

    Finds the temperature of the probabilities, and for each class the threshold, the gap over which parts are
    joined, and the shortest length; keeps them in the checkpoint. Take other recordings than those of the training.

    Example: tsm events fit best.pt --list val-intervals.csv --media recordings
    """
    from tsmcli.cli.predict import check_read
    from tsmcli.engine.inference import Choice
    from tsmcli.recipes.event_rules import Wanted
    from tsmcli.recipes.fit_events import fit_events
    from tsmcli.report.events import print_fitted
    from tsmcli.report.progress import follow

    wanted = Wanted(window, stride, smooth, tuple(background) if background else None, fps=fps)
    choice = Choice(engine, precision)
    found = follow(
        fit_events(checkpoint, list_file, media, wanted, out or checkpoint, device_name=device, engine=choice)
    )
    print_fitted(found, as_json=as_json)
    if not allow_missing:
        check_read(found.bad, len(found.bad) + found.scores.num_videos)

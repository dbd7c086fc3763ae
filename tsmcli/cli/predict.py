"""tsm predict"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from tsmcli.cli.shared import Checkpoint, Classes, Device, Engine, Json, Precision, Preset, Set
from tsmcli.errors import DataError, UsageError
from tsmcli.report.tables import print_note


def predict(
    checkpoint: Checkpoint,
    videos: Annotated[
        list[str],
        Argument(metavar="VIDEO", help="Videos, folders of them, folders of JPEG frames, 'patterns*'."),
    ],
    top: Annotated[int, Option("--topk", min=1, help="How many classes to name.")] = 5,
    window: Annotated[
        float | None, Option(min=0.01, metavar="SEC", help="Predict windows of this length along the video.")
    ] = None,
    stride: Annotated[
        float | None,
        Option(min=0.01, metavar="SEC", help="From window to window.", show_default="half a window"),
    ] = None,
    plot: Annotated[
        Path | None, Option(help="With --window: draw the classes over time, as .png, .svg or .pdf.")
    ] = None,
    fps: Annotated[
        float | None, Option(min=0.01, help="Frames per second of frame folders; default data.fps.")
    ] = None,
    preset: Preset = None,
    sets: Set = None,
    protocol: Annotated[str | None, Option(help="As of tsm test.", show_default="test")] = None,
    classes: Classes = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "fp32",
    as_json: Json = False,
    as_csv: Annotated[bool, Option("--csv", help="Print CSV instead of a table.")] = False,
) -> None:
    """Say what is seen in videos of your own.

    Several processes (torchrun, srun) share the videos.

    Examples: tsm predict best.pt clip.mp4 more-clips/

    tsm predict best.pt long.mp4 --window 2 --stride 0.5 --plot timeline.png
    """
    from tsmcli.presets import resolve

    if not all(videos):
        raise UsageError("an empty name of a video", hint=". is this folder")
    if as_json and as_csv:
        raise UsageError("--json or --csv, not both")
    if window is None and (stride or plot):
        raise UsageError("--stride and --plot need --window SEC", hint="without it each video is one prediction")
    if plot and plot.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"{plot}: plots are written as .png, .svg or .pdf")
    if plot:
        plot.parent.mkdir(parents=True, exist_ok=True)
    resolved = resolve(preset, sets or ()) if preset else None

    from tsmcli.data.sliding import Sliding
    from tsmcli.engine.inference import Choice
    from tsmcli.engine.processes import joined
    from tsmcli.recipes.predict import predict_videos
    from tsmcli.report.predictions import print_predictions, reason
    from tsmcli.report.progress import follow

    sliding = Sliding(window, stride or window / 2, fps) if window else None
    with joined(device) as (world, at):
        events = predict_videos(
            checkpoint, resolved, videos, overrides=sets or (), protocol=protocol, sliding=sliding,
            device_name=str(at), engine=Choice(engine, precision), classes=classes, world=world,
        )  # fmt: skip
        found = follow(events, quiet=not world.is_main)
    if not world.is_main:
        return
    print_predictions(found, top, style="json" if as_json else "csv" if as_csv else "table")
    if plot and found.videos:
        from tsmcli.report.figures import write_timeline

        write_timeline(plot, found)
        print_note(f"timeline: {plot}")
    if found.bad:
        count = len(found.bad) + len(found.videos)
        reasons = "\n".join(f"  {reason(video)}" for video in found.bad)
        raise DataError(f"{len(found.bad)} of {count} videos could not be read:\n{reasons}")

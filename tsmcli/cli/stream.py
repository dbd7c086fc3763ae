"""tsm stream"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from tsmcli.cli.shared import Classes, Device, Engine, Precision, Preset, Set
from tsmcli.errors import UsageError


def stream(
    checkpoint: Annotated[Path, Argument(help="A unidirectional network: a checkpoint, or weights and --preset.")],
    source: Annotated[
        str,
        Option(metavar="SOURCE", help="A camera's number, rtsp://..., or a video, a folder, or a 'pattern*'."),
    ] = "0",
    smooth: Annotated[int, Option(min=1, help="Average the logits of so many frames.")] = 1,
    every: Annotated[int, Option(min=1, help="Show the network every so many-th frame only.")] = 1,
    live: Annotated[
        bool, Option("--live", help="Play a file at its own speed, and drop frames that come too fast.")
    ] = False,
    queue: Annotated[int, Option(min=1, help="Frames that may wait before the oldest is dropped.")] = 1,
    fps: Annotated[
        float | None, Option(min=0.01, help="Frames per second of frame folders; default data.fps.")
    ] = None,
    seconds: Annotated[float | None, Option(min=0.01, help="Stop after so long.")] = None,
    video: Annotated[Path | None, Option(help="Write the frames with their labels to this .mp4.")] = None,
    force: Annotated[bool, Option("--force", help="Overwrite the --video file.")] = False,
    events: Annotated[
        bool, Option("--events", help="Say when what happened, as tsm predict --events does of files.")
    ] = False,
    window: Annotated[
        float | None,
        Option(min=0.01, metavar="SEC", help="Of events: time of a clip.", show_default="fitted, else 2"),
    ] = None,
    preset: Preset = None,
    sets: Set = None,
    classes: Classes = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "fp32",
    as_json: Annotated[bool, Option("--json", help="Print a JSON document a frame, or an event.")] = False,
) -> None:
    """Say what is seen now, frame by frame, at the cost of a 2D network. Ctrl-C ends it.

    Needs a network trained with model.shift=unidirectional; what of the past it needs is kept, not computed again.

    Examples: tsm stream best.pt --source 0

    tsm stream best.pt --source long.mp4 --json

    tsm stream best.pt --source 0 --events
    """
    from tsmcli.presets import resolve

    if events and (smooth > 1 or every > 1):
        raise UsageError("--events chooses its frames and averages them as the clips of the training were")
    if window and not events:
        raise UsageError("--window needs --events")
    if not source:
        raise UsageError("--source is empty", hint="--source . is this folder")
    if video and video.suffix != ".mp4":
        raise UsageError(f"{video}: annotated videos are written as .mp4")
    if video and video.exists() and (not force or video.is_dir()):
        raise UsageError(f"{video} already exists", hint="--force overwrites a file")
    if video and Path(source).exists() and video.resolve() == Path(source).resolve():
        raise UsageError(f"{video} is the source itself", hint="choose another name for --video")
    resolved = resolve(preset, sets or ()) if preset else None

    from tsmcli.engine.inference import Choice
    from tsmcli.recipes.event_rules import Wanted
    from tsmcli.recipes.stream import Settings
    from tsmcli.recipes.stream import stream as run
    from tsmcli.report.streaming import show_stream

    wanted = Wanted(window) if events else None
    settings = Settings(smooth, every, live, queue, fps, seconds, video, wanted)
    told = run(
        checkpoint, resolved, source, settings, overrides=sets or (), device_name=device,
        engine=Choice(engine, precision), classes=classes,
    )  # fmt: skip
    show_stream(told, as_json=as_json, events=events)

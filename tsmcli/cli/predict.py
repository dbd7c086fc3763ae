"""tsm predict"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from tsmcli.cli.shared import Background, Checkpoint, Classes, Device, Engine, Json, Precision, Preset, Set, Smooth
from tsmcli.errors import DataError, UsageError
from tsmcli.report.tables import print_note

if TYPE_CHECKING:
    from tsmcli import presets
    from tsmcli.data.messages import BadVideo
    from tsmcli.recipes.event_rules import Wanted

Style = Literal["table", "json", "csv"]
Form = Literal["json", "csv", "srt", "vtt", "cvat", "elan", "labelstudio", "activitynet"]


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
    events: Annotated[bool, Option("--events", help="Say when what happens in long videos.")] = False,
    to: Annotated[
        Path | None,
        Option(help="With --events: write them, too: .json, .csv, .srt, .vtt, .xml (CVAT), .eaf (ELAN)."),
    ] = None,
    form: Annotated[
        Form | None, Option("--format", help="Of the --to file.", show_default="as its suffix says")
    ] = None,
    background: Background = None,
    threshold: Annotated[
        float | None,
        Option(min=0, max=1, help="Of events: probability of all classes.", show_default="fitted, else 0.5"),
    ] = None,
    gap: Annotated[
        float | None,
        Option(min=0, metavar="SEC", help="Of events: join over so long.", show_default="fitted, else 0"),
    ] = None,
    shortest: Annotated[
        float | None, Option(min=0, metavar="SEC", help="Of events: none shorter.", show_default="fitted, else 0")
    ] = None,
    smooth: Smooth = None,
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

    tsm predict best.pt recordings/ --events --to events.json
    """
    from tsmcli.presets import resolve

    if not all(videos):
        raise UsageError("an empty name of a video", hint=". is this folder")
    if as_json and as_csv:
        raise UsageError("--json or --csv, not both")
    if not events and any(x is not None for x in (to, form, background, threshold, gap, shortest, smooth)):
        raise UsageError("--to, --format, --background, --threshold, --gap, --shortest and --smooth need --events")
    if events and plot:
        raise UsageError("--plot draws the windows of --window, not --events")
    if window is None and (stride or plot) and not events:
        raise UsageError("--stride and --plot need --window SEC", hint="without it each video is one prediction")
    if plot:
        _check_plot(plot)
    resolved = resolve(preset, sets or ()) if preset else None

    from tsmcli.engine.inference import Choice

    how: dict[str, Any] = {"overrides": sets or (), "protocol": protocol, "classes": classes}
    how["engine"] = Choice(engine, precision)
    style: Style = "json" if as_json else "csv" if as_csv else "table"
    if events:
        from tsmcli.recipes.event_rules import Wanted

        nothing = tuple(background) if background else None
        wanted = Wanted(window, stride, smooth, nothing, threshold, gap, shortest, fps)
        _events(checkpoint, resolved, videos, wanted, to, form, device, style, how)
        return
    from tsmcli.data.sliding import Sliding
    from tsmcli.engine.processes import joined
    from tsmcli.recipes.predict import predict_videos
    from tsmcli.report.predictions import print_predictions
    from tsmcli.report.progress import follow

    sliding = Sliding(window, stride or window / 2, fps) if window else None
    with joined(device) as (world, at):
        run = predict_videos(checkpoint, resolved, videos, sliding=sliding, device_name=str(at), world=world, **how)
        found = follow(run, quiet=not world.is_main)
    if not world.is_main:
        return
    print_predictions(found, top, style=style)
    if plot and found.videos:
        from tsmcli.report.figures import write_timeline

        write_timeline(plot, found)
        print_note(f"timeline: {plot}")
    check_read(found.bad, len(found.bad) + len(found.videos))


def _check_plot(path: Path) -> None:
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"{path}: plots are written as .png, .svg or .pdf")
    path.parent.mkdir(parents=True, exist_ok=True)


def _events(
    checkpoint: Path, preset: presets.Preset | None, videos: list[str], wanted: Wanted, to: Path | None,
    form: Form | None, device: str, style: Style, how: dict[str, Any],
) -> None:  # fmt: skip
    """`tsm predict --events`."""
    from tsmcli.engine.processes import joined
    from tsmcli.recipes.find_events import FoundEvents, find_in_videos
    from tsmcli.report.events import COUNT_FRAMES, form_of, print_events, write_events
    from tsmcli.report.progress import follow

    if form and not to:
        raise UsageError("--format is of --to FILE")
    form = form_of(to, form) if to else None

    def write(found: FoundEvents) -> None:
        if to and form:
            for file in write_events(to, form, found):
                print_note(f"events: {file}")

    with joined(device) as (world, at):
        run = find_in_videos(
            checkpoint, preset, videos, wanted, device_name=str(at), world=world, to=to,
            films=form in COUNT_FRAMES, write=write, **how,
        )  # fmt: skip
        found = follow(run, quiet=not world.is_main)
    if world.is_main:
        print_events(found, style=style)
        check_read(found.bad, len(found.bad) + len(found.durations))


def check_read(bad: Sequence[BadVideo], count: int) -> None:
    """Raise DataError where videos could not be read."""
    from tsmcli.report.progress import reason

    if bad:
        reasons = "\n".join(f"  {reason(video)}" for video in bad)
        raise DataError(f"{len(bad)} of {count} videos could not be read:\n{reasons}")

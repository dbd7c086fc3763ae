"""tsm report"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Context, Option

from tsmcli.cli.shared import Data, Device, Engine, Json, Media, Precision, Root, Set
from tsmcli.errors import UsageError
from tsmcli.report.tables import percent, print_json, print_line, print_note

_EVENTS = "tsm report --events EVENTS.json --list INTERVALS.csv"


def report(
    ctx: Context,
    run: Annotated[
        Path | None, Argument(help="A run folder, or a folder of runs.", show_default="of the newest test")
    ] = None,
    scores: Annotated[Path | None, Option(help="Score file to look into.", show_default="the run's newest")] = None,
    compare_log: Annotated[
        Path | None, Option(help="Draw the curves of this log, too: MMAction2's .log.json, or a log.jsonl.")
    ] = None,
    no_order: Annotated[
        bool, Option("--no-order", help="Do not score the clips again with frames shuffled and reversed.")
    ] = False,
    max_videos: Annotated[
        int, Option(min=0, help="Shuffle and reverse a random sample of this many videos; 0: all.")
    ] = 1000,
    sets: Set = None,
    data_root: Root = Path("data"),
    data: Data = None,
    list_file: Annotated[
        Path | None, Option("--list", help="List of the test's videos; of --events, the true intervals.")
    ] = None,
    media: Media = None,
    events: Annotated[
        Path | None, Option(help="Events of tsm predict: write a page about them, with timelines.")
    ] = None,
    out: Annotated[
        Path | None,
        Option(help="The page to write.", show_default="RUN/report.html; of EVENTS.json, EVENTS.html"),
    ] = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "fp32",
    seed: Annotated[int, Option(min=0, help="Of the sample and of the shuffling.")] = 0,
    as_json: Json = False,
) -> None:
    """Write a page about a run: curves, accuracy, classes, confusions, mistakes, and how much time matters.

    One HTML file that needs no network, and plots as PNG. A run without a test is tested first.

    Examples: tsm report runs/demo/20260101-120000/tsm

    tsm report --events events.json --list true-intervals.csv
    """
    if events:
        _check_options(ctx)
        _events(events, list_file, out, as_json=as_json)
        return
    from tsmcli.data.location import Places
    from tsmcli.recipes.evaluate import newest_results

    if run is None:
        scores = scores or newest_results()
        run = scores.parent

    from tsmcli.engine.inference import Choice
    from tsmcli.recipes.study.study import find_runs, study
    from tsmcli.report.page import write_report
    from tsmcli.report.progress import follow

    runs = [run] if scores else find_runs(run)
    if out and len(runs) > 1:
        raise UsageError(f"--out is for one run, and {run} holds {len(runs)}")
    where = Places(data_root, data, val_list=list_file, media=media)
    written = []
    for folder in runs:
        found = follow(
            study(folder, where, scores=scores, overrides=sets or (), order=not no_order, max_videos=max_videos,
                  compare_log=compare_log, device_name=device, engine=Choice(engine, precision), seed=seed)
        )  # fmt: skip
        page, plots = write_report(found, out)
        test, order = found.tests[0], found.order
        written.append({
            "run": found.run, "report": page, "plots": plots, **test.values, "protocol": test.protocol,
            "videos": test.coverage,
            "order": order and {"videos": order.videos, "top1": order.top1, "mean_class": order.mean_class},
            "notes": found.notes,
        })  # fmt: skip
        if as_json:
            continue
        main, word = ("map", "mAP") if test.multi_label else ("top1", "top-1")
        print_line(f"{page}: {word} {percent(test.values[main])}, protocol {test.protocol}, {test.coverage}")
        if order:
            shares = ", ".join(f"{name} {percent(share)}" for name, share in order.top1.items())
            print_line(f"  frames {shares} (top-1 of {order.videos} videos)")
        print_line(f"  plots: {', '.join(map(str, plots))}")
    if as_json:
        print_json(written)


def _check_options(ctx: Context) -> None:
    """Raise UsageError for what was given and has no meaning with --events."""
    meant = ("events", "list_file", "out", "as_json")
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name or "")
        if parameter.name not in meant and source and source.name != "DEFAULT":
            name = parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.opts[0].upper()
            raise UsageError(f"{name} is for the page about a run, not for --events", hint=_EVENTS)


def _events(file: Path, list_file: Path | None, out: Path | None, *, as_json: bool) -> None:
    """`tsm report --events`."""
    if list_file is None:
        raise UsageError("--events needs the true intervals", hint=_EVENTS)
    page = out or file.with_suffix(".html")
    if page.resolve() in (file.resolve(), list_file.resolve()):
        raise UsageError(f"{page} is not overwritten by the page about it", hint="--out names another file")
    from tsmcli.recipes.eval_events import TIOU, read_both, score_events
    from tsmcli.recipes.event_timelines import timelines
    from tsmcli.report.event_page import SHOWN, write_event_page
    from tsmcli.report.event_scores import event_scores_json

    events, truth = read_both(file, list_file)
    scores = score_events(events, truth, list(TIOU), str(file), str(list_file))
    videos = timelines(events, truth)
    write_event_page(page, scores, videos, list_file)
    if scores.missing:
        print_note(f"{len(scores.missing)} videos of the list were not looked at: their true intervals are missed")
    if as_json:
        print_json({**event_scores_json(scores), "report": page})
        return
    average, found = scores.scores["activitynet"].average, f"found {scores.found} of {scores.true}"
    alarms = f"false alarms {scores.false_alarms}"
    print_line(f"{page}: mAP {percent(average)}, F1 {percent(scores.f1)}, {found}, {alarms}")
    if len(videos) > SHOWN:
        print_line(f"  timelines of the {SHOWN} videos with most mistakes, of {len(videos)}")

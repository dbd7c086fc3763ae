"""tsm report"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from tsmcli.cli.shared import Data, Device, Engine, Json, Media, Precision, Root, Set
from tsmcli.errors import UsageError
from tsmcli.report.tables import percent, print_json, print_line


def report(
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
    list_file: Annotated[Path | None, Option("--list", help="List of the test's videos.")] = None,
    media: Media = None,
    out: Annotated[Path | None, Option(help="The page to write.", show_default="RUN/report.html")] = None,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "fp32",
    seed: Annotated[int, Option(min=0, help="Of the sample and of the shuffling.")] = 0,
    as_json: Json = False,
) -> None:
    """Write a page about a run: curves, accuracy, classes, confusions, mistakes, and how much time matters.

    One HTML file that needs no network, and plots as PNG. A run without a test is tested first.

    Example: tsm report runs/demo/20260101-120000/tsm
    """
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

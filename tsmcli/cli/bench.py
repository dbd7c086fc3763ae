"""tsm bench"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from tsmcli.cli.shared import Device, Json, Media, Set
from tsmcli.errors import DataError, TsmError, UsageError
from tsmcli.report.tables import print_note

if TYPE_CHECKING:
    from tsmcli.data.location import Places
    from tsmcli.recipes.bench.case import Case


def bench(
    presets: Annotated[
        list[str] | None,
        Argument(metavar="PRESET...", help="Preset names or files.", show_default="r50-k400-8f"),
    ] = None,
    sets: Set = None,
    batch: Annotated[
        str | None,
        Option(metavar="N,N", help="Videos at a time.", show_default="1; with --train the recipe's"),
    ] = None,
    train: Annotated[bool, Option("--train", help="Measure steps of training.")] = False,
    protocol: Annotated[str | None, Option(help="Test protocol.", show_default="the preset's")] = None,
    checkpoint: Annotated[
        Path | None, Option(help="Measure an exported file, beside its network in PyTorch.")
    ] = None,
    engine: Annotated[
        Literal["torch", "openvino", "onnxruntime", "all"] | None,
        Option(help="What computes. all: those installed, in turn.", show_default="torch; the file's"),
    ] = None,
    precision: Annotated[
        str, Option(metavar="NAME,NAME", help="Number formats: fp32, bf16, fp16, int8, auto, or all.")
    ] = "fp32",
    compiled: Annotated[bool, Option("--compile", help="torch.compile the network.")] = False,
    channels_last: Annotated[
        bool, Option("--channels-last/--no-channels-last", help="Memory format; all commands use it.")
    ] = True,
    twin: Annotated[
        bool, Option("--twin/--no-twin", help="Also time the network without its shift, in turn.")
    ] = True,
    device: Device = "auto",
    threads: Annotated[int | None, Option(min=1, help="Of torch on a CPU.", show_default="torch's choice")] = None,
    seconds: Annotated[float, Option(min=0, help="How long to measure each; three rounds at least.")] = 15.0,
    data: Annotated[
        Path | None, Option(help="Also measure reading: a list file, or a prepared dataset's folder.")
    ] = None,
    media: Media = None,
    videos: Annotated[int, Option(min=2, help="With --data: how many videos to read.")] = 64,
    baseline: Annotated[Path | None, Option(help="Compare with an earlier --json output.")] = None,
    fail_if_slower: Annotated[
        str | None, Option(metavar="PERCENT", help="With --baseline: exit 6 if anything is that much slower.")
    ] = None,
    profile: Annotated[Path | None, Option(help="Write a trace of a call, for Perfetto.")] = None,
    plot: Annotated[Path | None, Option(help="Draw the speeds, as .png, .svg or .pdf.")] = None,
    form: Annotated[
        Literal["table", "markdown", "csv", "json"], Option("--format", help="How to print.")
    ] = "table",
    as_json: Json = False,
) -> None:
    """Measure how fast presets' networks are, how much memory they take, and what the temporal shift costs.

    No data needed: random weights and pixels, nothing is decoded. Each is measured in a process of its own.

    Examples: tsm bench r50-sthv1-8f mbv2-k400-dense --batch 1,8

    tsm bench --train --precision bf16

    tsm bench --engine all --precision all --threads 1

    tsm bench --json > old.json; tsm bench --baseline old.json --fail-if-slower 5%
    """
    from tsmcli.presets import resolve

    if batch and not re.fullmatch(r"[1-9]\d{0,8}(,[1-9]\d{0,8})*", batch):
        raise UsageError(f"--batch {batch!r}: expected numbers from 1 to 999999999, such as 1,8,32")
    percent = re.fullmatch(r"(\d+(?:\.\d+)?)\s*%?", fail_if_slower or "0")
    if not percent:
        raise UsageError(f"--fail-if-slower {fail_if_slower!r}: expected a percentage, such as 5%")
    if fail_if_slower and not baseline:
        raise UsageError("--fail-if-slower needs --baseline FILE")
    if train and protocol:
        raise UsageError("--protocol is of testing, not of --train")
    if checkpoint and presets:
        raise UsageError("--checkpoint says which network it is; leave out PRESET")
    if plot and plot.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"{plot}: plots are written as .png, .svg or .pdf")
    batches = [int(number) for number in batch.split(",")] if batch else []
    resolved = [] if checkpoint else [resolve(name, sets or ()) for name in presets or ["r50-k400-8f"]]
    networks = [(preset.name, preset.config) for preset in resolved]
    if len({name for name, _ in networks}) < len(networks):
        raise UsageError("two presets have the same name", hint="give one of the files another name")
    several = len(resolved) * max(1, len(batches)) > 1

    from tsmcli.recipes.bench.case import Case, in_engines
    from tsmcli.recipes.bench.engines import exported_network
    from tsmcli.recipes.network import choose_protocol

    file = None
    if checkpoint:
        name, config, file = exported_network(checkpoint, sets or ())
        networks = [(name, config)]
    cases = [
        case
        for name, config in networks
        for size in batches or [config.train.batch if train else 1]
        for case in in_engines(
            Case(
                name, config, choose_protocol(config, protocol), size, "training" if train else "inference", device,
                "fp32", compiled, channels_last, threads, seconds, twin,
                profile.with_stem(f"{profile.stem}-{name}-{size}") if profile and several else profile,
            ),
            engine, precision, file,
        )
    ]  # fmt: skip
    lists = places_of(data, media) if data else None
    limit = float(percent[1]) / 100 if fail_if_slower else None
    run(cases, lists, videos, baseline, limit, plot, "json" if as_json else form, (engine, precision))


def places_of(data: Path, media: Path | None) -> Places:
    """A list file, or a folder with lists."""
    from tsmcli.data.location import Places

    if not data.exists():
        raise DataError(f"no list file and no folder {data}")
    if data.is_file():
        return Places(train_list=data, val_list=data, media=media)
    return Places(folder=data, media=media)


def run(
    cases: list[Case], lists: Places | None, videos: int, baseline: Path | None, limit: float | None,
    plot: Path | None, form: str, asked: tuple[str | None, str],
) -> None:  # fmt: skip
    """Measure, print, draw, compare. What cannot be measured is an error, unless it was `asked` for by `all`."""
    from tsmcli.data.location import find_split
    from tsmcli.recipes.bench.compare import bench, bench_data, compare_with, judge, read_baseline
    from tsmcli.report.bench import draw, print_bench
    from tsmcli.report.progress import follow

    for path in (plot, *(case.trace for case in cases)):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
    before = read_baseline(baseline) if baseline else {}
    if lists:
        for case in cases:
            find_split(case.config.data, lists, "train" if case.mode == "training" else "val", None)
    measured = follow(bench(cases))
    unread: Exception | None = None
    try:
        reading = follow(bench_data(cases, lists, videos)) if lists else []
    except Exception as error:  # told after what was measured
        reading, unread = [], error
    beside = compare_with(before, measured) if baseline else []
    print_bench(measured, reading, beside, form)
    if plot and any(m.runs for m in measured):
        draw(plot, measured)
        print_note(f"plot: {plot}")
    if any(m.precision == "int8" and not m.file for m in measured):
        print_note("int8: the scales are of random pixels; such a network is good for timing only")
    for case, m in zip(cases, measured, strict=True):
        if case.trace and m.runs:
            print_note(f"trace: {case.trace}")
    failed = [m for m in measured if m.error]
    if failed and (len(failed) == len(measured) or "all" not in asked):
        raise TsmError(f"{len(failed)} of {len(measured)} could not be measured: {failed[0].error}")
    if unread:
        raise unread
    if baseline:
        judge(beside, baseline, limit)

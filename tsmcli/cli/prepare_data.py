"""tsm prepare-data"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tsmcli.cli.shared import Json

if TYPE_CHECKING:
    from tsmcli.prepare.annotations import Annotations
    from tsmcli.prepare.extract import Size


class Store(str, Enum):
    """The words of --store."""

    video = "video"
    frames = "frames"
    zip = "zip"
    seekable = "seekable"


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    dataset: str
    source: Path | None
    out: Path
    annotations: Path | None
    store: Store | None
    size: Size
    workers: int
    shard: tuple[int, int]
    val_share: float
    group: str | None
    seed: int
    dry_run: bool
    as_json: bool


def prepare_data(
    dataset: Annotated[
        str, typer.Argument(help="demo, folder, csv, k400, sthv1, sthv2, jester or diving48.")
    ] = "demo",
    source: Annotated[
        Path | None, typer.Option(help="Folder of downloaded media and label files, or of class folders.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder to write.", show_default="data/DATASET; csv: data/folder")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Folder of the label files; csv: the table.", show_default="--source")
    ] = None,
    store: Annotated[
        Store | None,
        typer.Option(
            help="video: the files as they are; frames: folders of JPEG; zip: a ZIP of JPEG per video; "
            "seekable: short-GOP H.264.",
            show_default="as found",
        ),
    ] = None,
    short_side: Annotated[int | None, typer.Option(min=16, help="Stored short side in pixels.")] = None,
    size: Annotated[
        str | None, typer.Option(metavar="WxH", help="Stored width and height, aspect not kept.")
    ] = None,
    height: Annotated[int | None, typer.Option(min=16, help="Stored height in pixels.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes.", show_default="one per core")] = None,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Convert part I of N, on one of N machines.")] = "1/1",
    val_share: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="folder, csv: share of videos for validation.")
    ] = 0.2,
    group: Annotated[
        str | None,
        typer.Option(
            help="folder: regular expression; videos in whose names it finds the same text "
            "(a person, a recording) stay in one split."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the clips (demo) or of the split (folder, csv).")] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and how much disk it takes.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Verify a prepared dataset instead.")] = False,
    full: Annotated[bool, typer.Option("--full", help="With --check: decode every frame.")] = False,
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="With --check: list broken videos so that training skips them.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="With --check: also write all problems to this CSV.")] = None,
    as_json: Json = False,
) -> None:
    """Prepare a dataset: lists, class names, and media where they are made or converted.

    Without an argument it makes the demo dataset. Videos are never deleted or changed; an interrupted conversion
    goes on where it stopped.
    """
    from tsmcli.catalog import CATALOG
    from tsmcli.errors import UsageError
    from tsmcli.prepare.extract import Size

    known = [*CATALOG, "csv"]
    if dataset not in known:
        raise UsageError(f"no dataset named {dataset!r}", hint=f"choose from {', '.join(known)}")
    out = out or Path("data") / CATALOG["folder" if dataset == "csv" else dataset].folder
    workers = workers or _cores()
    if check:
        from tsmcli.cli.check_data import check_data

        check_data(dataset, out, full, quarantine, report, workers, store, as_json)
        return
    if full or quarantine or report:
        raise UsageError("--full, --quarantine and --report are for --check")
    if sum(option is not None for option in (short_side, size, height)) > 1:
        raise UsageError("choose one of --short-side, --size and --height")
    wanted = Size(short_side, height, parse_pair(size, "x", "--size 340x256") if size else None)
    if wanted.exact and min(wanted.exact) < 16:
        raise UsageError(f"--size {size}: at least 16 pixels each way")
    part = parse_pair(shard, "/", "--shard 1/4")
    if not 1 <= part[0] <= part[1]:
        raise UsageError(f"--shard {shard}: part {part[0]} of {part[1]}")
    request = Request(
        dataset, source, out, annotations, store, wanted, workers, part, val_share, group, seed, dry_run, as_json
    )
    if dataset == "demo":
        if dry_run or store or size or short_side or height or source or annotations or group or shard != "1/1":
            raise UsageError("prepare-data demo takes --out and --seed only", hint="name the dataset you mean")
        _demo(request)
    elif source is None:
        raise UsageError(f"prepare-data {dataset} needs --source DIR", hint=_what_is_needed(dataset))
    elif dataset == "folder":
        _folder(request, source)
    else:
        _annotated(request, source)


def parse_pair(words: str, separator: str, example: str) -> tuple[int, int]:
    """`340x256` -> (340, 256)."""
    from tsmcli.errors import UsageError

    first, _, second = words.partition(separator)
    if not (first.isdigit() and second.isdigit() and int(first) > 0 and int(second) > 0):
        raise UsageError(f"{words!r} is not of the form {example}")
    return int(first), int(second)


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _what_is_needed(dataset: str) -> str:
    from tsmcli.catalog import CATALOG

    if dataset == "folder":
        return "DIR holds one folder of videos per class"
    if dataset == "csv":
        return "DIR is what the column `path` of --annotations FILE is relative to"
    facts = CATALOG[dataset]
    return f"DIR holds the official label files and the videos or frames of {facts.title}; get them at {facts.home}"


def _demo(request: Request) -> None:
    from tsmcli.catalog import CATALOG
    from tsmcli.prepare.demo import make_demo
    from tsmcli.report.progress import follow
    from tsmcli.report.tables import print_json, print_line

    done = follow(make_demo(request.out, seed=request.seed))
    if request.as_json:
        print_json({"dataset": "demo", "folder": str(request.out), "videos": done.total})
        return
    print_line(f"{request.out}: {done.total} videos in 8 classes, with lists and class names")
    print_line("\nnext:  tsm train --preset demo")
    print_line("\nother datasets, from what you downloaded to DIR:")
    print_line("  tsm prepare-data folder --source DIR     your own videos, in one folder per class")
    print_line("  tsm prepare-data csv --source DIR --annotations table.csv")
    for name, facts in CATALOG.items():
        if facts.home:
            print_line(f"  tsm prepare-data {name:8} --source DIR   {facts.title}, from {facts.home}")


def _folder(request: Request, source: Path) -> None:
    from tsmcli.errors import UsageError
    from tsmcli.prepare.folder import prepare_folder
    from tsmcli.report.tables import print_json, print_line, print_table

    changed = request.store not in (None, Store.video) or str(request.size) != "original"
    if changed or request.dry_run or request.shard != (1, 1):
        raise UsageError(
            "prepare-data folder uses the videos as they are", hint="csv can convert: --store, --short-side"
        )
    done = prepare_folder(source, request.out, val_share=request.val_share, group=request.group, seed=request.seed)
    rows = [(name, done.videos["train", name], done.videos["val", name]) for name in done.classes]
    if request.as_json:
        counts = {name: {"train": train, "val": val} for name, train, val in rows}
        print_json({"dataset": "folder", "folder": str(request.out), "classes": counts})
        return
    print_table(
        ("class", "train", "val"), rows, f"{sum(done.videos.values())} videos of {source}, lists in {request.out}"
    )
    data = "" if request.out == Path("data/folder") else f" --data {request.out}"
    print_line(f"next:  tsm train --preset mbv2-folder{data}")


def _read_annotations(request: Request, source: Path) -> Annotations:
    from tsmcli.errors import DataError
    from tsmcli.prepare import diving48, kinetics, something, table

    if not source.is_dir():
        raise DataError(f"no folder {source}")
    if request.dataset == "csv":
        return table.read(request.annotations or source / "annotations.csv", request.val_share, request.seed)
    readers = {"k400": kinetics.read, "sthv1": something.read_sthv1, "sthv2": something.read_sthv2,
               "jester": something.read_jester, "diving48": diving48.read}  # fmt: skip
    return readers[request.dataset](request.annotations or source)


def _annotated(request: Request, source: Path) -> None:
    from tsmcli.prepare.matching import plan_media
    from tsmcli.prepare.official import estimate_bytes, prepare
    from tsmcli.report.progress import follow
    from tsmcli.report.tables import print_json

    annotations = _read_annotations(request, source)
    name = "folder" if request.dataset == "csv" else request.dataset
    store = request.store.value if request.store else None
    plan = plan_media(name, annotations, source, request.out, store, request.size)
    if request.dry_run:
        from tsmcli.prepare.official import differences

        facts = {
            "annotated": len(annotations.items),
            "found": len(plan.found),
            "store": plan.store,
            "conversion": plan.target,
            "estimated_bytes": estimate_bytes(plan) if plan.target in ("frames", "zip") else None,
            "differences": differences(plan, {}),
        }
        print_json(facts) if request.as_json else _print_facts(facts)
        return
    done = follow(prepare(plan, workers=request.workers, shard=request.shard))
    _print_prepared(done, request)


def _print_facts(facts: dict[str, Any]) -> None:
    from tsmcli.report.tables import print_line, print_table

    disk = facts.pop("estimated_bytes")
    lines = facts.pop("differences")
    rows = [*facts.items(), ("disk, estimated", f"{disk / 1e9:.3f} GB" if disk else "no new media of known size")]
    print_table(("", "dry run: nothing was written"), rows)
    for line in lines:
        print_line(line)


def _print_prepared(done: Any, request: Request) -> None:
    from tsmcli.errors import DataError
    from tsmcli.report.tables import print_json, print_line

    if request.as_json:
        print_json(
            {
                "dataset": done.plan.dataset,
                "folder": str(request.out),
                "store": done.plan.store,
                "videos": done.counts,
                "differences": done.differences,
                "failures": len(done.failures),
                "complete": done.complete,
            }
        )
    elif done.complete:
        for split, count in done.counts.items():
            print_line(f"{split}: {count} videos")
        print_line(
            f"{request.out}: lists, classes.txt, manifest.json; read them with --set data.store={done.plan.store}"
        )
        for line in done.differences:
            print_line(f"difference: {line}")
    else:
        print_line(f"part {request.shard[0]} of {request.shard[1]} is done; the lists are written without --shard")
    if done.failures:
        first = "\n".join(f"  {video}: {reason}" for video, reason in done.failures[:5])
        raise DataError(
            f"{len(done.failures)} videos could not be used:\n{first}",
            hint=f"{request.out / 'failures.csv'} has them all",
        )

"""tsm prepare-data"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from tsmcli.catalog import CATALOG
from tsmcli.cli.shared import Json, Workers, one_per_core
from tsmcli.errors import DataError, UsageError
from tsmcli.report.prepared import print_intervals, print_plan, print_prepared
from tsmcli.report.tables import on_one_line, print_json, print_line, print_note, print_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tsmcli.config import DataConfig
    from tsmcli.prepare.extract import Size

_PROBLEMS = 20
_OWN = {"csv": "folder", "intervals": "folder", "demo-long": "demo"}
"""Ways to prepare -> the dataset that they make."""


def prepare_data(
    dataset: Annotated[
        str,
        Argument(
            help="folder, csv, intervals, k400, sthv1, sthv2, jester, diving48, ucf101, hmdb51, demo, demo-long."
        ),
    ] = "demo",
    source: Annotated[
        Path | None, Option(help="Folder or archive of media and label files, or class folders.")
    ] = None,
    out: Annotated[
        Path | None, Option(help="Folder to write.", show_default="data/DATASET; csv, intervals: data/folder")
    ] = None,
    annotations: Annotated[
        Path | None,
        Option(
            help="Folder or archive of the label files; csv: the table; intervals: a file or folder of CVAT, Label "
            "Studio, VIA, ELAN, Audacity, BORIS, ActivityNet, HACS, THUMOS14, EPIC-KITCHENS or a table.",
            show_default="--source",
        ),
    ] = None,
    store: Annotated[
        Literal["video", "frames", "zip", "seekable"] | None,
        Option(
            help="video: the files as they are; frames: folders of JPEG; zip: a ZIP of JPEG per video; "
            "seekable: short-GOP H.264. The last three cut intervals out of their videos.",
            show_default="as found",
        ),
    ] = None,
    short_side: Annotated[int | None, Option(min=16, help="Stored short side in pixels.")] = None,
    size: Annotated[str | None, Option(metavar="WxH", help="Stored size in pixels, aspect not kept.")] = None,
    height: Annotated[int | None, Option(min=16, help="Stored height in pixels.")] = None,
    workers: Workers = None,
    shard: Annotated[
        str | None,
        Option(
            metavar="I/N",
            help="Convert part I of N, on one of N machines. torchrun and srun say it by themselves.",
            show_default=False,
        ),
    ] = None,
    val_share: Annotated[
        float, Option(min=0.01, max=0.99, help="folder, csv, intervals: share for validation.")
    ] = 0.2,
    group: Annotated[
        str | None,
        Option(
            help="folder, intervals: regular expression; videos in whose names it finds the same text "
            "(a person, a recording) stay in one split."
        ),
    ] = None,
    seed: Annotated[int, Option(min=0, help="Of the clips (demo) or of the split (folder, csv, intervals).")] = 0,
    background: Annotated[
        str | None, Option(metavar="NAME", help="intervals: make a class of time that nobody marked.")
    ] = None,
    margin: Annotated[
        float, Option(min=0.0, metavar="SEC", help="intervals: its least distance from what is marked.")
    ] = 0.5,
    tick_rate: Annotated[
        float | None,
        Option(min=0.001, help="intervals: frameRate of Label Studio's timelines without one.", show_default="24"),
    ] = None,
    label: Annotated[
        str | None,
        Option(help="intervals: attribute of VIA, tier of ELAN or column with the label.", show_default=False),
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Say what would be done, on how much disk.")] = False,
    check: Annotated[bool, Option("--check", help="Verify a prepared dataset instead.")] = False,
    full: Annotated[bool, Option("--full", help="With --check: decode every frame.")] = False,
    quarantine: Annotated[bool, Option("--quarantine", help="With --check: write quarantine.txt.")] = False,
    report: Annotated[Path | None, Option(help="With --check: also write all problems to this CSV.")] = None,
    sets: Annotated[
        list[str] | None, Option("--set", metavar="KEY=VALUE", help="Limits of videos, such as data.max_frames=N.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Prepare a dataset: lists, class names, and media where they are made or converted.

    Without an argument it makes the demo dataset. Videos are never deleted or changed; an interrupted conversion
    goes on where it stopped. Several processes (torchrun, srun) share a conversion; the last one writes the lists.
    """
    from tsmcli.data.shards import rank_and_size

    rank, processes = rank_and_size()
    if dataset not in (known := [*CATALOG, *_OWN]):
        raise UsageError(f"no dataset named {dataset!r}", hint=f"choose from {', '.join(known)}")
    folder = dataset if dataset == "demo-long" else CATALOG[_OWN.get(dataset, dataset)].folder
    out = out or Path("data") / folder
    limits = _limits(dataset, sets or ())
    if rank and (check or dry_run or dataset in ("demo", "demo-long", "intervals")):
        return  # process 0 does that alone
    if check:
        _check(dataset, out, full, quarantine, report, one_per_core(workers), store, limits, as_json)
        return
    if full or quarantine or report:
        raise UsageError("--full, --quarantine and --report are for --check")
    if dataset in ("demo", "demo-long"):
        if dry_run or store or size or short_side or height or source or annotations or group or shard:
            raise UsageError(f"prepare-data {dataset} takes --out and --seed only", "name the dataset you mean")
        from tsmcli.cli.demo import make_clips, make_long

        (make_clips if dataset == "demo" else make_long)(out, seed, as_json=as_json)
        return
    if source is None:
        raise _no_source(dataset)
    stored = _size(short_side, height, size)
    if dataset == "intervals":
        if shard:
            raise UsageError("--shard is for other datasets than intervals")
        options = {"source": source, "out": out, "background": background, "margin_sec": margin, "limits": limits,
                   "val_share": val_share, "group": group, "seed": seed, "size": stored,
                   "cut": None if store == "video" else store}  # fmt: skip
        _intervals(annotations, tick_rate, label, options, one_per_core(workers), dry_run, as_json)
        return
    if background or tick_rate or label:
        raise UsageError("--background, --tick-rate and --label are for prepare-data intervals")
    from tsmcli.prepare.matching import plan_media
    from tsmcli.prepare.official import prepare
    from tsmcli.report.progress import follow

    part = _part(shard, rank, processes)
    source = _unpacked(source, out, dry_run=dry_run, quiet=rank != 0)
    plan = plan_media(
        dataset, source, out, annotations=annotations, store=store, size=stored,
        val_share=val_share, group=group, seed=seed, limits=limits,
    )  # fmt: skip
    if dry_run:
        print_plan(plan, as_json)
    else:
        done = follow(prepare(plan, workers=one_per_core(workers), shard=part), quiet=rank != 0)
        print_prepared(done, dataset, part, as_json)
        if done.failures and (done.complete or processes == 1):  # to fail early would end the other processes
            told = (why if video in why else f"{video}: {why}" for video, why in done.failures[:5])
            first = "\n".join(f"  {on_one_line(line)}" for line in told)
            hint = f"{out / 'failures.csv'} has them all" if done.complete else ""
            raise DataError(f"{len(done.failures)} videos could not be used:\n{first}", hint)


def _unpacked(source: Path, out: Path, *, dry_run: bool, quiet: bool) -> Path:
    """The source, or the folder that it is unpacked to."""
    from tsmcli.data.archive import ARCHIVES
    from tsmcli.prepare.official import unpack_source

    if source.suffix.lower() not in ARCHIVES or not source.is_file():
        return source
    if dry_run:
        raise UsageError(f"--dry-run writes nothing, but {source} is to be unpacked", "unpack it: --source DIR")
    if not quiet:
        print_note(f"{source} is unpacked below {out / 'unpacked'}, unless it is there")
    return unpack_source(source, out)


def _check(
    dataset: str, folder: Path, full: bool, quarantine: bool, report: Path | None, workers: int,
    store: str | None, limits: DataConfig, as_json: bool,
) -> None:  # fmt: skip
    """Verify a prepared dataset; exit 3 if something is wrong."""
    from tsmcli.data.location import Places, prepared_stores
    from tsmcli.prepare.annotations import write_csv
    from tsmcli.prepare.verify import check, write_quarantine
    from tsmcli.report.progress import follow

    name = _OWN.get(dataset, dataset)
    read_as = "video" if store == "seekable" else store or (prepared_stores(name, folder) or ["frames"])[0]
    data = limits.model_copy(update={"dataset": name, "store": read_as})
    result = follow(check(data, Places(folder=folder), num_segments=8, full=full, workers=workers))
    rows = [(p.split, p.path, p.kind, p.detail) for p in result.problems]
    if report:
        report.parent.mkdir(parents=True, exist_ok=True)
        write_csv(report, ("split", "video", "kind", "detail"), rows)
    if as_json:
        print_json({"folder": folder, "videos": result.videos, "problems": [asdict(p) for p in result.problems]})
    elif rows:
        title = f"{result.videos} videos of {folder} ({data.store})"
        print_table(("list", "video", "kind", "what"), rows[:_PROBLEMS], title)
        if len(rows) > _PROBLEMS:
            print_line(f"and {len(rows) - _PROBLEMS} more; --report FILE has them all")
    else:
        print_line(f"{result.videos} videos of {folder}: nothing wrong")
    broken = sum(p.broken for p in result.problems)
    if quarantine:
        path = write_quarantine(result)
        if broken and not as_json:
            print_line(f"{broken} videos in {path}")
    if rows:
        way = "--quarantine makes training and testing count them without opening them"
        hint = way if broken and not quarantine else ""
        raise DataError(f"{len(rows)} problems, {broken} of them broken videos", hint)


def _part(shard: str | None, rank: int, processes: int) -> tuple[int, int]:
    """Which part of how many this process does."""
    if shard and processes > 1:
        raise UsageError("--shard is for processes that no launcher started; leave it out")
    part = parse_pair(shard, "/", "--shard 1/4") if shard else (rank + 1, processes)
    if part[0] > part[1]:
        raise UsageError(f"--shard {shard}: part {part[0]} of {part[1]}")
    return part


def _intervals(
    annotations: Path | None, tick_rate: float | None, label: str | None, options: dict[str, Any], workers: int,
    dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Read annotations, and list their intervals."""
    from tsmcli.prepare.annotations import label_folder
    from tsmcli.prepare.intervals import IntervalPlan, prepare_intervals
    from tsmcli.prepare.marks.mark import Ask
    from tsmcli.prepare.marks.read import read_marks
    from tsmcli.report.progress import follow

    if annotations is None:
        raise UsageError("prepare-data intervals needs --annotations FILE or FOLDER")
    if options["limits"].multi_label:
        raise UsageError("an interval has one label; where there are several, intervals overlap")
    with label_folder(annotations) as where:
        marks = read_marks(where or annotations, Ask(tick_rate, label), options["out"])
    plan = IntervalPlan(marks, **options)
    print_intervals(follow(prepare_intervals(plan, workers=workers, write=not dry_run)), as_json)


def _no_source(dataset: str) -> UsageError:
    facts = CATALOG.get(dataset)
    needed = "one folder of videos per class, or what the paths in --annotations are relative to"
    if facts and facts.home:
        needed = f"the official label files and the videos or frames of {facts.title}; get them at {facts.home}"
    return UsageError(f"prepare-data {dataset} needs --source DIR", hint=f"DIR holds {needed}")


def _limits(dataset: str, sets: Sequence[str]) -> DataConfig:
    """What `--set` says of the videos that are read."""
    from tsmcli.config import Config
    from tsmcli.presets import override

    if odd := [word for word in sets if not word.startswith("data.")]:
        raise UsageError(f"--set {odd[0]}: prepare-data takes keys of data only")
    return override(Config(), [f"data.dataset={_OWN.get(dataset, dataset)}", *sets]).data


def _size(short_side: int | None, height: int | None, exact: str | None) -> Size:
    """The stored size that at most one of the three options gives."""
    from tsmcli.prepare.extract import Size

    if sum(option is not None for option in (short_side, exact, height)) > 1:
        raise UsageError("choose one of --short-side, --size and --height")
    wanted = Size(short_side, height, parse_pair(exact, "x", "--size 340x256") if exact is not None else None)
    if wanted.exact and min(wanted.exact) < 16:
        raise UsageError(f"--size {exact}: at least 16 pixels each way")
    return wanted


def parse_pair(words: str, separator: str, example: str) -> tuple[int, int]:
    """`340x256` -> (340, 256)."""
    from tsmcli.data.listfile import whole_number

    first, _, second = words.partition(separator)
    numbers = whole_number(first), whole_number(second)
    if not numbers[0] or not numbers[1]:
        raise UsageError(f"{words!r} is not of the form {example}")
    return numbers[0], numbers[1]

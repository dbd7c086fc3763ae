"""tsm prepare-data"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tsmcli.cli.shared import Json


def prepare_data(
    dataset: Annotated[
        str, typer.Argument(help="demo, folder, or a dataset of the zoo for how to prepare it.")
    ] = "demo",
    source: Annotated[Path | None, typer.Option(help="folder: the folder of class folders.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write [default: data/DATASET].")] = None,
    val_share: Annotated[
        float, typer.Option(min=0.01, max=0.99, help="folder: share of videos for validation.")
    ] = 0.2,
    group: Annotated[
        str | None,
        typer.Option(
            help="folder: regular expression; videos in whose names it finds the same text "
            "(a person, a recording) stay in one split."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the clips (demo) or of the split (folder).")] = 0,
    as_json: Json = False,
) -> None:
    """Prepare a dataset: lists, class names, and media where they are made.

    Without an argument it makes the demo dataset. `tsm prepare-data folder --source DIR` takes your own videos,
    sorted into one folder per class.
    """
    from tsmcli.catalog import CATALOG
    from tsmcli.errors import UsageError

    if dataset not in CATALOG:
        raise UsageError(f"no dataset named {dataset!r}", hint=f"choose from {', '.join(CATALOG)}")
    out = out or Path("data") / CATALOG[dataset].folder
    if dataset == "demo":
        _demo(out, seed, as_json)
    elif dataset == "folder":
        if source is None:
            raise UsageError(
                "prepare-data folder needs --source DIR", hint="DIR holds one folder of videos per class"
            )
        _folder(source, out, val_share, group, seed, as_json)
    else:
        _explain(dataset)


def _demo(out: Path, seed: int, as_json: bool) -> None:
    from tsmcli.catalog import CATALOG
    from tsmcli.prepare.demo import make_demo
    from tsmcli.report.progress import follow
    from tsmcli.report.tables import print_json, print_line

    done = follow(make_demo(out, seed=seed))
    if as_json:
        print_json({"dataset": "demo", "folder": str(out), "videos": done.total})
        return
    print_line(f"{out}: {done.total} videos in 8 classes, with lists and class names")
    print_line("\nnext:  tsm train --preset demo")
    print_line("\nother datasets:")
    print_line("  tsm prepare-data folder --source DIR   your own videos, in one folder per class")
    for name, facts in CATALOG.items():
        if facts.home:
            print_line(f"  tsm prepare-data {name:<21} {facts.title}: what goes where")


def _folder(source: Path, out: Path, val_share: float, group: str | None, seed: int, as_json: bool) -> None:
    from tsmcli.prepare.folder import prepare_folder
    from tsmcli.report.tables import print_json, print_line, print_table

    done = prepare_folder(source, out, val_share=val_share, group=group, seed=seed)
    rows = [(name, done.videos["train", name], done.videos["val", name]) for name in done.classes]
    if as_json:
        counts = {name: {"train": train, "val": val} for name, train, val in rows}
        print_json({"dataset": "folder", "folder": str(out), "classes": counts})
        return
    print_table(("class", "train", "val"), rows, f"{sum(done.videos.values())} videos of {source}, lists in {out}")
    data = "" if out == Path("data/folder") else f" --data {out}"
    print_line(f"next:  tsm train --preset mbv2-folder{data}")


def _explain(dataset: str) -> None:
    """What a dataset of the zoo needs; its lists have to be written by the user or by MMAction2's tools."""
    from tsmcli.catalog import CATALOG
    from tsmcli.errors import UsageError

    facts = CATALOG[dataset]
    store = "video" if dataset == "diving48" else "frames"
    line = "<file> <label>" if store == "video" else "<folder> <number of frames> <label>"
    folder = Path("data") / facts.folder
    raise UsageError(
        f"this version does not make the lists of {facts.title}; it reads lists in MMAction2's format",
        hint=f"get the videos at {facts.home}\n"
        f"put them below {folder / facts.media(store, 'train')} and {folder / facts.media(store, 'val')}"
        + (f" as folders of {facts.frame_template.format(facts.start_index)}, ..." if store == "frames" else "")
        + f"\nwrite {folder / facts.list_name(store, 'train')} and {folder / facts.list_name(store, 'val')}, "
        f"a line a video: {line}",
    )

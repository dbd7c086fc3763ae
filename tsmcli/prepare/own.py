"""One's own videos: a folder of class folders, or a table.

    clips/wave/anna_01.mp4      class "wave"
    clips/wave/ben_01.mp4
    clips/jump/anna_02.mp4      class "jump"

Class folders may also lie below `train/` and `val/`, which then are the split.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np

from tsmcli.data.listfile import whole_number
from tsmcli.data.media import VIDEO_SUFFIXES, Media
from tsmcli.errors import DataError, UsageError
from tsmcli.prepare.annotations import Annotations, Item, read_csv

T = TypeVar("T")


def read_folder(media: Media, val_share: float, group: str | None, seed: int) -> Annotations:
    """A class for each folder in `media` that has videos.

    Args:
        val_share: share of each class's videos (or groups) that goes to validation.
        group: a regular expression; videos whose names it finds the same text in stay in one split. Clips of one
            person or one recording in both splits make validation accuracy meaningless.

    Raises:
        DataError: fewer than two class folders with videos; a class without a video for one of the splits.
        UsageError: the regular expression is wrong, or does not match a file.
    """
    ready = all((media.root / split).is_dir() for split in ("train", "val"))
    depth = 1 if ready else 0
    paths = [path for path in sorted(chain(*media.videos.values())) if len(path.parts) > depth + 1]
    paths = [path for path in paths if not ready or path.parts[0] in ("train", "val")]
    labels = [path.parts[depth] for path in paths]
    classes = sorted(set(labels))
    if len(classes) < 2:
        wrong = f"{media.root}: {len(classes)} class folders with videos; at least 2 are needed"
        endings = " ".join(sorted(VIDEO_SUFFIXES))
        hint = f"expected {media.root}/<class name>/<video>, with videos ending in {endings}"
        raise DataError(f"{wrong}. Found {media.summary()}", hint)
    index = {name: i for i, name in enumerate(classes)}
    drawn: set[int] = set()
    if not ready:
        drawn = _draw_groups(paths, val_share, group, seed) if group else draw_val(labels, val_share, seed)
    items = []
    for number, (path, label) in enumerate(zip(paths, labels, strict=True)):
        split = path.parts[0] if ready else "val" if number in drawn else "train"
        items.append(Item(split, (path.as_posix(),), index[label], path.parent.as_posix()))
    for split in ("train", "val"):
        for absent in sorted({*range(len(classes))} - {item.label for item in items if item.split == split}):
            raise DataError(f"class {classes[absent]!r} has no {split} video", "add videos, or change --val-share")
    return Annotations(classes, items, [], facts={"seed": seed})


def read_table(path: Path, val_share: float, seed: int) -> Annotations:
    """A CSV or TSV file: columns `path` and `label`, and `split` (train or val) if it is known.

    Labels are class names, sorted into an order, or numbers, kept as they are. Without a split a share of each
    class, drawn with `seed`, becomes validation.

    Raises:
        DataError: a column is missing, or a value cannot be understood.
    """
    if not path.is_file():
        raise UsageError(f"no table {path}", hint="--annotations FILE is a CSV with the columns path,label[,split]")
    rows = read_csv(path, ("path", "label"))
    numeric = all(row["label"].isdigit() for _, row in rows)
    for where, row in rows:
        if not row["path"] or not row["label"]:
            raise DataError(f"{where}: no path or no label")
        if numeric and whole_number(row["label"]) is None:
            raise DataError(f"{where}: the label {row['label'][:40]!r} is not a whole number")
    labels = sorted({row["label"] for _, row in rows}, key=int if numeric else str)
    if numeric and labels != [str(i) for i in range(len(labels))]:
        raise DataError(f"{path}: the labels are not all of 0 to {labels[-1]}")
    index = {name: i for i, name in enumerate(labels)}
    drawn = draw_val([row["label"] for _, row in rows], val_share, seed)
    items = []
    for number, (where, row) in enumerate(rows):
        split = row.get("split") or ("val" if number in drawn else "train")
        split = {"validation": "val", "valid": "val"}.get(split, split)
        if split not in ("train", "val"):
            raise DataError(f"{where}: split {split[:40]!r} is neither train nor val")
        items.append(Item(split, (row["path"],), index[row["label"]], _inside(Path(row["path"]).parent)))
    for split in ("train", "val"):
        if not any(item.split == split for item in items):
            raise DataError(f"{path}: no row for {split}", hint="add some, or leave the column split out")
    classes = [f"class {n}" for n in labels] if numeric else labels
    return Annotations(classes, items, [path], facts={"seed": seed})


def _inside(folder: Path) -> str:
    """A folder without what leads out of the one it is joined to: `/clips/../wave` -> `clips/wave`."""
    return Path(*(part for part in folder.parts if part not in ("..", folder.anchor))).as_posix()


def draw_val(labels: Sequence[str], val_share: float, seed: int) -> set[int]:
    """Positions that become validation: a share of each class, at least one where a class has two."""
    rng = np.random.default_rng(seed)
    positions: dict[str, list[int]] = {}
    for position, label in enumerate(labels):
        positions.setdefault(label, []).append(position)
    return {i for label in sorted(positions) for i in choose(positions[label], val_share, rng)}


def _draw_groups(paths: list[Path], val_share: float, pattern: str, seed: int) -> set[int]:
    """Positions of the videos of whole groups, drawn at random, the same for all classes."""
    try:
        group = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--group {pattern}: not a regular expression: {error}") from None
    keys = []
    for path in paths:
        match = group.search(path.name)
        if not match:
            raise UsageError(f"--group {pattern} does not match {path.name}")
        keys.append((match[1] if match.groups() else match[0]) or "")
    drawn = {*choose(sorted(set(keys)), val_share, np.random.default_rng(seed))}
    return {i for i, key in enumerate(keys) if key in drawn}


def choose(items: list[T], share: float, rng: np.random.Generator) -> list[T]:
    """At least one of two or more, never all."""
    count = min(max(1, round(share * len(items))), len(items) - 1)
    return [items[i] for i in rng.permutation(len(items))[:count]]

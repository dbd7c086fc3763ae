"""Kinetics-400: the official CSV files, or the validation list that was published with the zoo."""

from __future__ import annotations

import re
from pathlib import Path

from tsmcli.catalog import CATALOG
from tsmcli.errors import DataError
from tsmcli.prepare.annotations import Annotations, Item, find_file, label_index, look_up, read_csv, read_lines

_FILES = {
    "train": ("kinetics_train.csv", "kinetics400_train.csv", "train.csv", "tiny_train.csv"),
    "val": ("kinetics_val.csv", "kinetics400_val.csv", "validate.csv", "val.csv", "tiny_val.csv"),
}
_LISTS = ("kinetics_val_list.txt", "valid_processed.txt")
_INDEX = ("kinetics_class2ind.txt",)


def read(root: Path) -> Annotations:
    """Videos are named `<id>_<start>_<end>` with six digits each, or by their id alone.

    Raises:
        DataError: no label file, or one that cannot be understood.
    """
    classes = CATALOG["k400"].class_names() or []
    index = label_index(classes, root)
    items: list[Item] = []
    files: list[Path] = []
    for split, names in _FILES.items():
        path = find_file(root, names, f"Kinetics {split} CSV", needed=False)
        if path:
            files.append(path)
            rows = read_csv(path, ("label", "youtube_id", "time_start", "time_end"))
            for line, row in enumerate(rows, 2):
                name = row["label"].replace('"', "")
                label = look_up(index, name.replace("_", " ") if name not in index else name, f"{path}:{line}")
                items.append(_item(split, row, label, classes, f"{path}:{line}"))
    if not any(item.split == "val" for item in items):
        path = find_file(root, _LISTS, "", needed=False)
        if path is None and not files:
            find_file(root, (*_FILES["train"], *_FILES["val"], *_LISTS), "Kinetics CSV or validation list")
        if path:
            files.append(path)
            _check_index(root, index)
            items += [_listed(line, number, path, classes) for number, line in enumerate(read_lines(path), 1)]
    return Annotations(classes, items, files)


def _item(split: str, row: dict[str, str], label: int, classes: list[str], where: str) -> Item:
    try:
        start, end = int(float(row["time_start"])), int(float(row["time_end"]))
    except ValueError:
        raise DataError(f"{where}: time_start and time_end are not numbers") from None
    video = row["youtube_id"]
    return Item(split, (f"{video}_{start:06}_{end:06}", video), label, folder_name(classes[label]))


def _listed(line: str, number: int, path: Path, classes: list[str]) -> Item:
    """`video_id, num_frames, label_index`; between them commas or blanks, before the label any numbers."""
    fields = [field for field in re.split(r"[,\s]+", line.strip()) if field]
    if len(fields) < 2 or not fields[-1].isdigit() or int(fields[-1]) >= len(classes):
        raise DataError(f"{path}:{number}: expected `video_id, num_frames, label_index`, got {line.strip()!r}")
    stem = Path(fields[0]).stem
    short = re.sub(r"_\d{6}_\d{6}$", "", stem)
    label = int(fields[-1])
    return Item("val", (stem, short), label, folder_name(classes[label]))


def _check_index(root: Path, index: dict[str, int]) -> None:
    """The published class index, where it lies beside the list, must be ours."""
    path = find_file(root, _INDEX, "class index", needed=False)
    for number, line in enumerate(read_lines(path) if path else [], 1):
        name, _, label = line.strip().rpartition(" ")
        name = name.replace("_", " ").strip().strip('"')
        if not label.isdigit() or index.get(name) != int(label):
            raise DataError(f"{path}:{number}: class {name!r} has index {label} there and {index.get(name)} here")


def folder_name(class_name: str) -> str:
    """`playing violin` -> `playing_violin`, as MMAction2 names class folders."""
    return class_name.replace(" ", "_")

"""Something-Something V1 and Jester (`id;label` CSV files), and Something-Something V2 (JSON files)."""

from __future__ import annotations

from pathlib import Path

from tsmcli.errors import DataError
from tsmcli.prepare.annotations import (
    Annotations,
    Item,
    find_file,
    label_index,
    look_up,
    read_json,
    read_lines,
    zoo_order,
)

_V2_FILES = {
    "labels": ("something-something-v2-labels.json", "labels.json"),
    "train": ("something-something-v2-train.json", "train.json"),
    "val": ("something-something-v2-validation.json", "validation.json"),
}


def read_sthv1(root: Path) -> Annotations:
    """Something-Something V1: the labels file holds a class name a line."""
    return _read_csv(root, "sthv1", "something-something-v1")


def read_jester(root: Path) -> Annotations:
    """Jester: the labels file holds a class name a line."""
    return _read_csv(root, "jester", "jester-v1")


def _read_csv(root: Path, dataset: str, prefix: str) -> Annotations:
    labels = find_file(root, (f"{prefix}-labels.csv",), "labels file")
    assert labels
    names = [line.strip() for line in read_lines(labels)]
    label_index(names, labels)
    classes, notes = zoo_order(dataset, names, labels)
    index = label_index(classes, labels)
    items, files = [], [labels]
    for split, name in (("train", "train"), ("val", "validation")):
        path = find_file(root, (f"{prefix}-{name}.csv",), f"{name} file", needed=split == "train")
        if path is None:
            continue
        files.append(path)
        for number, line in enumerate(read_lines(path), 1):
            video, separator, label = line.partition(";")
            if not separator:
                raise DataError(f"{path}:{number}: expected `id;label`, got {line.strip()!r}")
            where = f"{path}:{number}"
            items.append(Item(split, (video.strip(),), look_up(index, label.strip(), where)))
    return Annotations(classes, items, files, notes)


def read_sthv2(root: Path) -> Annotations:
    """Something-Something V2: a template with its brackets removed is a class name."""
    labels = find_file(root, _V2_FILES["labels"], "labels file")
    assert labels
    numbers = read_json(labels)
    try:
        index = {str(name): int(number) for name, number in numbers.items()}
    except (AttributeError, ValueError) as error:
        raise DataError(f"{labels}: expected class name -> number: {error}") from None
    classes = sorted(index, key=index.__getitem__)
    if [index[name] for name in classes] != list(range(len(classes))):
        raise DataError(f"{labels}: the class numbers are not 0 to {len(classes) - 1}")
    classes, notes = zoo_order("sthv2", classes, labels)
    index = label_index(classes, labels)
    items, files = [], [labels]
    for split in ("train", "val"):
        path = find_file(root, _V2_FILES[split], f"{split} file", needed=False)
        if path is None:
            continue
        files.append(path)
        for number, entry in enumerate(read_json(path)):
            where = f"{path}: entry {number}"
            if not isinstance(entry, dict) or "id" not in entry or "template" not in entry:
                raise DataError(f"{where}: has no id or no template")
            name = str(entry["template"]).replace("[", "").replace("]", "")
            items.append(Item(split, (str(entry["id"]),), look_up(index, name, where)))
    if not items:
        raise DataError(f"{root}: no train or validation file: looked for {_V2_FILES['train'] + _V2_FILES['val']}")
    return Annotations(classes, items, files, notes)

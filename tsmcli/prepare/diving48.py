"""Diving48, version 2: JSON files of videos, whose test split serves as validation; a vocabulary of attributes."""

from __future__ import annotations

from pathlib import Path

from tsmcli.catalog import CATALOG
from tsmcli.errors import DataError
from tsmcli.prepare.annotations import Annotations, Item, find_file, read_json


def read(root: Path) -> Annotations:
    """Labels are taken as they are; class names are the four attributes of the vocabulary, joined.

    Raises:
        DataError: no label file, or one that cannot be understood.
    """
    classes = CATALOG["diving48"].class_names() or []
    files: list[Path] = []
    vocabulary = find_file(root, ("Diving48_vocab.json",), "vocabulary", needed=False)
    if vocabulary:
        files.append(vocabulary)
        named = ["+".join(map(str, attributes)) for attributes in read_json(vocabulary)]
        if named != classes:
            raise DataError(f"{vocabulary}: its {len(named)} classes are not those of Diving48 version 2")
    items: list[Item] = []
    for split, name in (("train", "Diving48_V2_train.json"), ("val", "Diving48_V2_test.json")):
        path = find_file(root, (name,), f"{split} file", needed=split == "train")
        if path is None:
            continue
        files.append(path)
        for number, entry in enumerate(read_json(path)):
            try:
                item = Item(split, (str(entry["vid_name"]),), int(entry["label"]))
            except (KeyError, TypeError, ValueError):
                raise DataError(f"{path}: entry {number}: has no vid_name or no whole label") from None
            if not 0 <= item.label < len(classes):
                raise DataError(f"{path}: entry {number}: label {item.label}, but there are {len(classes)} classes")
            items.append(item)
    return Annotations(classes, items, files)

"""What official label files say: which video has which label, in which split."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tsmcli.catalog import CATALOG
from tsmcli.errors import DataError


class Item(NamedTuple):
    """One annotated video.

    Attributes:
        names: file stems or folder names it may have on disk, the likeliest first.
        folder: class folder that extracted media go to; "" where the dataset has none.
    """

    split: str
    names: tuple[str, ...]
    label: int
    folder: str = ""


@dataclass(frozen=True)
class Annotations:
    """The label files of a dataset.

    Attributes:
        classes: class names in official order.
        items: every annotated video of the train and val splits.
        files: the label files that were read.
        notes: what is unusual about them.
    """

    classes: list[str]
    items: list[Item]
    files: list[Path]
    notes: tuple[str, ...] = ()


def find_file(root: Path, names: Sequence[str], what: str, *, needed: bool = True) -> Path | None:
    """The file below `root` with one of these names (case does not matter), the first name first.

    Raises:
        DataError: there is none, or there are several with different contents.
    """
    by_name: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in (".csv", ".json", ".txt") and path.is_file():
            by_name.setdefault(path.name.lower(), []).append(path)
    for name in names:
        found = by_name.get(name.lower(), [])
        if len({path.read_bytes() for path in found}) > 1:
            raise DataError(f"{root}: several different files named {name}: {', '.join(map(str, found))}",
                            hint="--annotations DIR says which folder to use")  # fmt: skip
        if found:
            return found[0]
    if needed:
        seen = ", ".join(sorted(by_name)[:8]) or "no .csv, .json or .txt at all"
        raise DataError(f"{root}: no {what}: looked for {', '.join(names)}; found {seen}",
                        hint="--annotations DIR says where the official label files are")  # fmt: skip
    return None


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        DataError: it is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not JSON: {error}") from None


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that say something.

    Raises:
        DataError: it is not text.
    """
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a CSV or TSV file with a header.

    Raises:
        DataError: a column is missing.
    """
    lines = read_lines(path)
    delimiter = "\t" if lines and "\t" in lines[0] else ","
    rows = list(csv.DictReader(lines, delimiter=delimiter))
    header = [name.strip() for name in (lines[0].split(delimiter) if lines else [])]
    absent = [name for name in columns if name not in header]
    if absent:
        raise DataError(f"{path}:1: no column {', '.join(absent)}; the columns are {', '.join(header) or 'none'}")
    return [{str(key).strip(): (value or "").strip() for key, value in row.items()} for row in rows]


def zoo_order(dataset: str, names: list[str], path: Path) -> tuple[list[str], tuple[str, ...]]:
    """Class names in the order of the published checkpoints, and a note if a label file has another one.

    Copies of a label file circulate whose lines are in another order (of Jester's, classes 4 and 5). The same names
    get the catalog's order, so that labels mean what they mean to the checkpoints; other names keep their own.
    """
    known = CATALOG[dataset].class_names() or []
    if names == known:
        return names, ()
    if sorted(names) != sorted(known):
        return names, (f"{path.name}: its {len(names)} class names are not the {len(known)} official ones",)
    first = next(i for i, (a, b) in enumerate(zip(names, known, strict=True)) if a != b)
    return known, (
        f"{path.name}: its order is not the published one, first at line {first + 1}; the published one is used",
    )


def label_index(classes: Sequence[str], path: Path) -> dict[str, int]:
    """Class name -> index, refusing names that repeat."""
    index = {name: i for i, name in enumerate(classes)}
    if len(index) != len(classes):
        raise DataError(f"{path}: class names repeat")
    return index


def look_up(index: dict[str, int], name: str, where: str) -> int:
    """The index of a class name, or a DataError that says where the unknown name stands."""
    if name not in index:
        raise DataError(f"{where}: no class named {name!r}")
    return index[name]

"""What official label files say: which video has which label, in which split."""

from __future__ import annotations

import contextlib
import csv
import io
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tsmcli.catalog import CATALOG
from tsmcli.data.archive import ARCHIVES, unpack
from tsmcli.data.listfile import read_json, read_lines
from tsmcli.data.media import walk
from tsmcli.errors import DataError
from tsmcli.files import write_text

BY_HAND = "or unpack it yourself (unrar x, 7z x or unzip), and give the folder: {} DIR"


class Item(NamedTuple):
    """One annotated video.

    Attributes:
        split: the part of the dataset: `train`, `val`, `train_split_2`.
        names: file stems or folder names it may have on disk, the likeliest first.
        folder: class folder that extracted media go to; "" where the dataset has none.
        labels: all of them, where there may be several; then `label` is the first, or -1.
    """

    split: str
    names: tuple[str, ...]
    label: int
    folder: str = ""
    labels: tuple[int, ...] | None = None

    @property
    def every(self) -> tuple[int, ...]:
        """All its labels, however many it may have."""
        return (self.label,) if self.labels is None else self.labels


@dataclass(frozen=True)
class Annotations:
    """The label files of a dataset.

    Attributes:
        classes: class names in official order.
        items: every annotated video of every part: train and val, of each split where there are several.
        files: the label files that were read.
        notes: what is unusual about them.
        facts: what the manifest is to say about how they were made.
    """

    classes: list[str]
    items: list[Item]
    files: list[Path]
    notes: tuple[str, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)


@contextlib.contextmanager
def label_folder(where: Path | None) -> Iterator[Path | None]:
    """The folder of label files; while in use, that of those in an archive."""
    if where is None or where.suffix.lower() not in ARCHIVES or not where.is_file():
        yield where
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder, by_hand = Path(temporary) / where.stem, BY_HAND.format("--annotations")
        yield unpack(where, folder, wrong=DataError, otherwise=by_hand)


class LabelFiles:
    """The files below a folder that may hold labels; `used` are those that were asked for and found."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.used: list[Path] = []
        self._by_name: dict[str, list[Path]] = {}
        for folder in walk(root):
            for name in folder.files:
                if name.lower().endswith((".csv", ".json", ".txt")):
                    self._by_name.setdefault(name.lower(), []).append(Path(folder.where) / name)

    def find(self, names: Sequence[str]) -> Path | None:
        """The file of these names, in any case, the first name first; DataError where copies of it differ."""
        for name in names:
            found = self._by_name.get(name.lower(), [])
            if len({path.read_bytes() for path in found}) > 1:
                raise DataError(f"{self.root}: several different files named {name}: {', '.join(map(str, found))}",
                                hint="--annotations DIR says which folder to use")  # fmt: skip
            if found:
                self.used += [] if found[0] in self.used else [found[0]]
                return found[0]
        return None

    def need(self, names: Sequence[str], what: str) -> Path:
        """The same file; DataError where there is none."""
        if path := self.find(names):
            return path
        seen = ", ".join(sorted(self._by_name)[:8]) or "no .csv, .json or .txt at all"
        raise DataError(f"{self.root}: no {what}: looked for {', '.join(names)}; found {seen}",
                        hint="--annotations DIR or FILE.zip says where the official label files are")  # fmt: skip


def read_entries(path: Path, name: str, label: str) -> Iterator[tuple[str, str, str]]:
    """Where it stands, video name and label of each object of a JSON array; DataError without these keys."""
    for number, entry in enumerate(read_json(path, list)):
        where = f"{path}: entry {number}"
        if not isinstance(entry, dict) or name not in entry or label not in entry:
            raise DataError(f"{where}: has no {name} or no {label}")
        yield where, str(entry[name]), str(entry[label])


def read_csv(path: Path, columns: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """The rows of a table with a header, each with its `file:line`; DataError where one is wrong.

    Fields are divided by tabs, semicolons or commas, whichever the header has. Names of columns are in lower case.
    """
    numbered = read_lines(path, "a table")
    if numbered and re.fullmatch(r"sep=.", numbered[0][1].strip()):  # Excel
        numbered = numbered[1:]
    lines = [f"{line}\n" for _, line in numbered]
    delimiter = next((mark for mark in "\t;," if lines and _has(lines[0], mark, columns)), ",")
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    rows: list[tuple[str, dict[str, str]]] = []
    header: list[str] = []
    try:
        for fields in reader:
            where = f"{path}:{numbered[reader.line_num - 1][0]}"
            values = [field.strip() for field in fields]
            if not header:
                header = [value.lower() for value in values]
                if twice := [name for name in columns if header.count(name) > 1]:
                    raise DataError(f"{where}: the column {twice[0]} is there twice")
                absent = [name for name in columns if name not in header]
                if absent:
                    raise DataError(f"{where}: no column {', '.join(absent)}; the columns are {', '.join(values)}")
            elif not any(values):
                continue
            elif any(values[len(header) :]):
                raise DataError(f"{where}: more fields than columns", hint='write a field with a comma as "a, b"')
            else:
                rows.append((where, dict.fromkeys(header, "") | dict(zip(header, values, strict=False))))
    except csv.Error as error:
        raise DataError(f"{path}:{numbered[reader.line_num - 1][0]}: {error}") from None
    if not rows:
        raise DataError(f"{path}: no rows")
    return rows


def _has(heading: str, delimiter: str, columns: Sequence[str]) -> bool:
    """Whether a line, divided so, names all columns."""
    try:
        fields = next(csv.reader([heading], delimiter=delimiter, skipinitialspace=True))
    except csv.Error:
        return False
    return {*columns} <= {field.strip().lower() for field in fields}


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A CSV file, whole or not at all."""
    buffer = io.StringIO()
    csv.writer(buffer).writerows([header, *rows])
    write_text(path, buffer.getvalue(), "backslashreplace")  # names of files may be any bytes


def zoo_order(dataset: str, names: list[str], path: Path) -> tuple[list[str], tuple[str, ...]]:
    """Class names in the order of the published checkpoints, and a note if a label file has another one.

    Copies of a label file circulate whose lines are in another order (of Jester's, classes 4 and 5). The same names
    get the catalog's order, so that labels mean what they mean to the checkpoints; other names keep their own.
    """
    known = CATALOG[dataset].class_names() or []
    if len(set(names)) != len(names):
        raise DataError(f"{path}: class names repeat")
    if names == known:
        return names, ()
    if sorted(names) != sorted(known):
        return names, (f"{path.name}: its {len(names)} class names are not the {len(known)} official ones",)
    first = next(i for i, (a, b) in enumerate(zip(names, known, strict=True)) if a != b)
    return known, (
        f"{path.name}: its order is not the published one, first at line {first + 1}; the published one is used",
    )


def look_up(index: dict[str, int], name: str, where: str) -> int:
    """The index of a class name, or a DataError that says where the unknown name stands."""
    if name not in index:
        raise DataError(f"{where}: no class named {name[:80]!r}")
    return index[name]

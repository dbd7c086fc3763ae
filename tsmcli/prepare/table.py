"""One's own CSV or TSV file: columns `path` and `label`, and `split` (train or val) if it is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tsmcli.errors import DataError, UsageError
from tsmcli.prepare.annotations import Annotations, Item, read_csv
from tsmcli.prepare.folder import choose


def read(path: Path, val_share: float, seed: int) -> Annotations:
    """Labels are class names, sorted into an order, or numbers, kept as they are.

    Without a `split` column a share of each class, drawn with `seed`, becomes validation.

    Raises:
        DataError: a column is missing, or a value cannot be understood.
    """
    if not path.is_file():
        raise UsageError(f"no table {path}", hint="--annotations FILE is a CSV with the columns path,label[,split]")
    rows = read_csv(path, ("path", "label"))
    if not rows:
        raise DataError(f"{path}: no rows")
    numeric = all(row["label"].isdigit() for row in rows)
    labels = sorted({row["label"] for row in rows}, key=int if numeric else str)
    if numeric and labels != [str(i) for i in range(len(labels))]:
        raise DataError(f"{path}: the labels are not all of 0 to {labels[-1]}")
    index = {name: i for i, name in enumerate(labels)}
    drawn = _draw_val(rows, val_share, seed)
    items = []
    for line, row in enumerate(rows, 2):
        split = row.get("split") or ("val" if line - 2 in drawn else "train")
        split = {"validation": "val", "valid": "val"}.get(split, split)
        if split not in ("train", "val"):
            raise DataError(f"{path}:{line}: split {split!r} is neither train nor val")
        folder = Path(row["path"]).parent.as_posix()
        items.append(Item(split, (row["path"],), index[row["label"]], folder))
    for split in ("train", "val"):
        if not any(item.split == split for item in items):
            raise DataError(f"{path}: no row for {split}", hint="add some, or leave the column split out")
    return Annotations([f"class {n}" for n in labels] if numeric else labels, items, [path])


def _draw_val(rows: list[dict[str, str]], val_share: float, seed: int) -> set[int]:
    """Row numbers that become validation: a share of each class, at least one where a class has two."""
    rng = np.random.default_rng(seed)
    drawn: set[int] = set()
    for label in sorted({row["label"] for row in rows}):
        numbers = [str(i) for i, row in enumerate(rows) if row["label"] == label]
        drawn |= {int(i) for i in choose(numbers, val_share, rng)}
    return drawn

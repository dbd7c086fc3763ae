"""One's own CSV or TSV file: columns `path` and `label`, and `split` (train or val) if it is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tsmcli.errors import DataError, UsageError
from tsmcli.prepare.annotations import Annotations, Item, read_csv


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
    rng = np.random.default_rng(seed)
    items = []
    for line, row in enumerate(rows, 2):
        split = row.get("split") or ("val" if rng.random() < val_share else "train")
        split = {"validation": "val", "test": "val", "valid": "val"}.get(split, split)
        if split not in ("train", "val"):
            raise DataError(f"{path}:{line}: split {split!r} is neither train nor val")
        items.append(Item(split, (row["path"],), index[row["label"]]))
    return Annotations([f"class {n}" for n in labels] if numeric else labels, items, [path])

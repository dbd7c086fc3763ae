"""Training curves from logs: our `log.jsonl`, and the JSON log of MMAction2 0.x. No torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsmcli.errors import DataError

Series = list[tuple[float, float]]
"""Points (epochs done, value)."""
Point = tuple[float, dict[str, float | None]]

OURS = ("train/loss", "train/top1", "train/lr", "val/top1", "val/mean_class", "val/map")
THEIRS = {
    "train": {"loss": "train/loss", "top1_acc": "train/top1", "lr": "train/lr"},
    "val": {"top1_acc": "val/top1", "mean_class_accuracy": "val/mean_class"},
}
"""MMAction2's keys, by mode."""


@dataclass(frozen=True)
class Curves:
    """What a log says, by our keys; accuracies are fractions. Keys without a point are absent."""

    name: str
    series: dict[str, Series]


def read_log(path: Path, name: str = "") -> Curves:
    """The curves of a log of either kind.

    A last line that is cut short is left out: the run may still be writing it.

    Raises:
        DataError: there is no such file, a line is not JSON, or it holds no curves.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise DataError(f"no log {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as a log: {error}") from None
    entries: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines) and entries:
                break
            raise DataError(f"{path}:{number}: not a line of a JSON log: {error}") from None
        if not isinstance(entry, dict):
            raise DataError(f"{path}:{number}: not a line of a JSON log: no object")
        entries.append(entry)
    series: dict[str, Series] = {}
    try:
        for at, values in _theirs(entries) if any("mode" in entry for entry in entries) else _ours(entries):
            for key, value in values.items():
                if value is not None:
                    series.setdefault(key, []).append((float(at), float(value)))
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: a line of this log has no or a strange {error}") from None
    except (ValueError, ArithmeticError) as error:
        raise DataError(f"{path}: a line of this log has a strange number: {error}") from None
    if not series:
        raise DataError(f"{path}: no training curves in this file", "it takes log.jsonl or MMAction2's .log.json")
    return Curves(name or str(Path(path.parent.name, path.name)), series)


def _ours(entries: list[dict[str, Any]]) -> Iterator[Point]:
    """A step lies within its epoch; a validation at its end."""
    for entry in entries:
        values = {key: entry.get(key) for key in OURS}
        if "train/step" in entry:
            yield entry["train/epoch"] + entry["train/step"] / entry["train/steps"], values
        elif "val/epoch" in entry:
            yield entry["val/epoch"] + 1, values


def _theirs(entries: list[dict[str, Any]]) -> Iterator[Point]:
    """Epochs and iterations count from 1; the highest iteration of the log is taken for an epoch's last."""
    steps = max((entry["iter"] for entry in entries if entry.get("mode") == "train"), default=1)
    for entry in entries:
        if (mode := entry.get("mode")) in THEIRS:
            at = entry["epoch"] - 1 + entry["iter"] / steps if mode == "train" else entry["epoch"]
            yield at, {ours: entry.get(theirs) for theirs, ours in THEIRS[mode].items()}

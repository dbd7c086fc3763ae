"""Results as tables for people and as JSON for scripts, on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_WIDE = 1000  # columns of a pipe: nothing is folded


def print_json(tree: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(tree, indent=2) + "\n")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """A table on stdout; numbers to the right. Piped, it is as wide as it needs to be."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[i], int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(text(cell)) for cell in row))
    if title:
        print_line(title)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    with console.capture() as drawn:
        console.print(table)
    sys.stdout.write(drawn.get())


def print_line(line: str) -> None:
    """One line on stdout."""
    sys.stdout.write(line + "\n")


def text(value: object) -> str:
    """A cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    return str(value)


def percent(value: float) -> str:
    """0.4558 -> 45.58 %."""
    return f"{100 * value:.2f} %"

"""Results on stdout: tables for people, JSON and CSV for scripts."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

_WIDE = 1000  # columns of a pipe: nothing is folded
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with what a terminal would obey, or cannot encode, as escapes such as `\\x1b`; lines stay lines."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def on_one_line(text: str) -> str:
    """The same, with line breaks and tabs as escapes, too."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def print_note(line: str) -> None:
    """A line beside the results, on stderr."""
    sys.stderr.write(on_one_line(line) + "\n")


def write_out(text: str, *, flush: bool = False) -> None:
    """Write to stdout. All output goes through here, so that an OSError says that it is of stdout."""
    try:
        sys.stdout.write(text)
        if flush:
            sys.stdout.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, "stdout") from error


def print_line(line: str, *, flush: bool = False) -> None:
    """One line on stdout."""
    write_out(printable(line) + "\n", flush=flush)


def print_json(tree: Any, *, one_line: bool = False) -> None:
    """One JSON document on stdout, paths as text. On one line it is flushed: its reader wants it as it comes."""
    write_out(json.dumps(tree, indent=None if one_line else 2, default=os.fspath) + "\n", flush=one_line)


def print_csv(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """CSV with a heading: the exact text to files and pipes, a printable one to a terminal."""
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows([columns, *rows])
    write_out(printable(lines.getvalue()) if sys.stdout.isatty() else lines.getvalue())


def print_markdown(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table in Markdown."""
    for row in (columns, [":--"] * len(columns), *rows):
        print_line(f"| {' | '.join(row)} |")


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> None:
    """A table on stdout; numbers to the right. Piped, it is as wide as it needs to be."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[i], int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(on_one_line(text(cell))) for cell in row))
    if title:
        print_line(title)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    with console.capture() as drawn:
        console.print(table)
    write_out(drawn.get())


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


def between(ends: tuple[float, float] | None) -> str:
    """`41.2 to 63.0 %`, or nothing."""
    return f"{100 * ends[0]:.1f} to {100 * ends[1]:.1f} %" if ends else ""

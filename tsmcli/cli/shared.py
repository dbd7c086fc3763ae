"""Options that several commands share, and options that take several words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from tsmcli.data.location import Places

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps. A missing device is an error.")]
Gpus = Annotated[int, typer.Option(min=1, help="Processes on this machine, one per GPU.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override values of the preset, such as train.lr=0.005."),
]
DataRoot = Annotated[Path, typer.Option(help="Folder of all prepared datasets.")]
Data = Annotated[Path | None, typer.Option(help="Folder of this dataset.", show_default="below --data-root")]
Media = Annotated[Path | None, typer.Option(help="Folder that the paths in the lists are relative to.")]
Classes = Annotated[Path | None, typer.Option(help="File of class names, one a line, in index order.")]

MANY_VALUES = frozenset({"--metrics", "--topk", "--set", "--weights", "--with"})


class ManyValues(TyperCommand):
    """A command in which `--metrics a b` means `--metrics a --metrics b`."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        return super().parse_args(ctx, list(repeat_options(args)))


def repeat_options(args: list[str]) -> Iterator[str]:
    """Put the option again before each further word that follows it, up to the next option."""
    option, values = "", 0
    for position, word in enumerate(args):
        if word == "--":
            yield from args[position:]
            return
        if word in MANY_VALUES:
            option, values = word, 0
        elif word.startswith("-") and not word.lstrip("-").replace(".", "").isdigit():
            option = ""
        elif option:
            if values:
                yield option
            values += 1
        yield word


def places(data_root: Path, data: Path | None, **rest: Path | None) -> Places:
    """Where the command line says the data lies."""
    from tsmcli.data.location import Places

    return Places(data_root, data, **rest)

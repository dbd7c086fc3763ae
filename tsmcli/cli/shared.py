"""Options that several commands share, and options that take several words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from typer import Argument, Option
from typer.core import TyperCommand

Checkpoint = Annotated[Path, Argument(help="A checkpoint of a run, an id of tsm zoo ls, or weights and --preset.")]
Preset = Annotated[str | None, Option(help="Preset of bare weights.", show_default="the checkpoint's own")]
Json = Annotated[bool, Option("--json", help="Print one JSON document instead of a table.")]
Device = Annotated[str, Option(help="auto, cpu, cuda, cuda:N or mps. A missing device is an error.")]
Engine = Annotated[
    Literal["auto", "torch", "torch-compile", "openvino", "onnxruntime"],
    Option(help="What computes. auto: the fastest that fits."),
]
Precision = Annotated[
    Literal["fp32", "bf16", "fp16", "int8"],
    Option(help="Number format: bf16 and fp16 where the machine has it, int8 calibrated on training videos."),
]
Gpus = Annotated[int, Option(min=1, help="Processes on this machine, one per GPU.")]
Set = Annotated[
    list[str] | None,
    Option("--set", metavar="KEY=VALUE", help="Override values of the preset, such as train.lr=0.005."),
]
Root = Annotated[Path, Option(help="Folder of all prepared datasets.")]
Data = Annotated[Path | None, Option(help="Folder of this dataset.", show_default="below --data-root")]
TrainList = Annotated[Path | None, Option(help="List of training videos.")]
ValList = Annotated[Path | None, Option(help="List of validation videos.")]
Media = Annotated[Path | None, Option(help="Folder that the paths in the lists are relative to.")]
Classes = Annotated[Path | None, Option(help="File of class names, one a line, in index order.")]
Workers = Annotated[int | None, Option(min=1, help="Processes.", show_default="one per core")]

Background = Annotated[
    list[str] | None,
    Option(
        metavar="NAME",
        help="A class that is never an event; may be repeated.",
        show_default="fitted, else the one called background",
    ),
]
Smooth = Annotated[
    float | None,
    Option(
        min=0,
        metavar="SEC",
        help="Of events: average scores over so long.",
        show_default="fitted, else half a window",
    ),
]

Form = Literal["table", "markdown", "csv", "json"]
Metrics = Annotated[
    list[str] | None,
    Option(
        help="top_k, mean_class, per_class, confusion, map; of events: tiou_map, tiou_map=thumos14.",
        show_default="top_k mean_class; map per_class where videos may have several labels",
    ),
]
TopK = Annotated[list[int] | None, Option(min=1, help="The k of top_k.", show_default="1 5")]
Missing = Annotated[bool, Option("--allow-missing", help="Exit 0 although videos could not be read.")]

MANY_VALUES = frozenset({"--metrics", "--topk", "--set", "--weights", "--with", "--splits"})


def one_per_core(workers: int | None) -> int:
    """As many processes as were asked for, or one per core that this process may use."""
    if workers is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return workers


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

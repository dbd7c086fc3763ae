"""tsm export"""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from tsmcli.cli.shared import Classes, Data, DataRoot, Json, Media, Set, places


class Kind(str, Enum):
    """The words of --format."""

    onnx = "onnx"
    torch_export = "torch-export"
    safetensors = "safetensors"


SUFFIXES = {Kind.onnx: ".onnx", Kind.torch_export: ".pt2", Kind.safetensors: ".safetensors"}


def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint of a run, an id of tsm zoo ls, or weights and --preset.")
    ],
    target: Annotated[
        Path | None,
        typer.Argument(
            metavar="[OUT]",
            help="File to write: .onnx, .pt2 or .safetensors.",
            show_default="named like the checkpoint, in this folder",
        ),
    ] = None,
    form: Annotated[
        Kind | None, typer.Option("--format", help="How to write it.", show_default="by the suffix of OUT")
    ] = None,
    stream: Annotated[
        bool, typer.Option("--stream", help="One frame and what is kept of those before, not clips.")
    ] = False,
    preprocess: Annotated[
        bool, typer.Option("--preprocess", help="Take uint8 RGB pixels [.., H, W, 3] and normalise them inside.")
    ] = False,
    softmax: Annotated[bool, typer.Option("--softmax", help="Give probabilities instead of logits.")] = False,
    tolerance: Annotated[float, typer.Option(min=0, help="Largest difference from PyTorch.")] = 1e-4,
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantise to 8 bits; prints the accuracy before and after.")
    ] = False,
    calibrate: Annotated[int, typer.Option(min=1, help="With --int8: training videos to calibrate with.")] = 32,
    preset: Annotated[
        str | None, typer.Option(help="Preset of bare weights.", show_default="the checkpoint's own")
    ] = None,
    sets: Set = None,
    data_root: DataRoot = Path("data"),
    data: Data = None,
    list_file: Annotated[
        Path | None, typer.Option("--list", help="Videos to compare on, and with --int8 to test on.")
    ] = None,
    train_list: Annotated[Path | None, typer.Option(help="With --int8: videos to calibrate with.")] = None,
    media: Media = None,
    classes: Classes = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.")] = False,
    as_json: Json = False,
) -> None:
    """Write a network as ONNX, for torch.export, or as safetensors; run the file and compare it with PyTorch.

    The batch is free. OUT.json says what goes in and comes out. ONNX needs the packages of the extra "export".

    Examples: tsm export best.pt model.onnx --preprocess --softmax

    tsm export best.pt --format onnx --stream
    """
    from tsmcli.errors import UsageError
    from tsmcli.presets import resolve

    form = form or next((kind for kind, suffix in SUFFIXES.items() if target and target.suffix == suffix), None)
    if form is None:
        raise UsageError(
            f"{target or 'no OUT'}: does not say in which format",
            hint="end it in .onnx, .pt2 or .safetensors, or give --format",
        )
    target = target or Path(checkpoint.stem + ("-stream" if stream else "") + SUFFIXES[form])
    if target.suffix != SUFFIXES[form]:
        raise UsageError(f"{target}: files of format {form.value} end in {SUFFIXES[form]}")
    resolved = resolve(preset, sets or ()) if preset else None
    where = places(data_root, data, train_list=train_list, val_list=list_file, media=media)

    from dataclasses import asdict

    from tsmcli.recipes.export.export import Wanted
    from tsmcli.recipes.export.export import export as run
    from tsmcli.report.progress import follow
    from tsmcli.report.tables import percent, print_json, print_line

    wanted = Wanted(form.value, stream, preprocess, softmax, tolerance, calibrate if int8 else 0)
    done = follow(
        run(checkpoint, resolved, target, wanted, where, overrides=() if preset else sets or (), classes=classes,
            force=force)
    )  # fmt: skip
    if as_json:
        tree = asdict(done)
        print_json({**tree, "path": str(done.path), "sidecar": str(done.sidecar)})
        return
    if form == Kind.safetensors:
        print_line(f"{done.path}: {done.bytes / 1e6:.1f} MB, described in {done.sidecar}")
        print_line("  reads back as the same weights, to the bit, with the same logits on random pixels")
        return
    real = "no videos (no validation list was found)" if done.videos is None else f"{done.videos} videos"
    before = "before quantising, it " if done.quantised else ""
    print_line(f"{done.path}: {done.bytes / 1e6:.1f} MB, described in {done.sidecar}")
    print_line(f"  {before}differs from PyTorch by {done.difference:.1e} at most, on random pixels and {real}")
    if q := done.quantised:
        print_line(
            f"  int8: top-1 {percent(q.top1)} after, {percent(q.top1_before)} before, on {q.tested_on} of "
            f"{q.tested_on + q.bad} videos "
            f"(95 % interval {percent(q.low)} to {percent(q.high)}); both say the same of {percent(q.agreement)}"
        )

"""tsm export"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from tsmcli.cli.shared import Checkpoint, Classes, Data, Json, Media, Preset, Root, Set
from tsmcli.errors import UsageError
from tsmcli.report.tables import percent, print_json, print_line

Form = Literal["onnx", "openvino", "torch-export", "safetensors"]
SUFFIXES: dict[Form, str] = {
    "onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2", "safetensors": ".safetensors",
}  # fmt: skip


def export(
    checkpoint: Checkpoint,
    target: Annotated[
        Path | None,
        Argument(
            metavar="[OUT]",
            help="File to write: .onnx, .xml (OpenVINO), .pt2 or .safetensors.",
            show_default="named like the checkpoint, in this folder",
        ),
    ] = None,
    form: Annotated[
        Form | None, Option("--format", help="How to write it.", show_default="by the suffix of OUT")
    ] = None,
    stream: Annotated[
        bool, Option("--stream", help="One frame and what is kept of those before, not clips.")
    ] = False,
    preprocess: Annotated[
        bool, Option("--preprocess", help="Take uint8 RGB pixels [.., H, W, 3] and normalise them inside.")
    ] = False,
    softmax: Annotated[bool, Option("--softmax", help="Give probabilities instead of logits.")] = False,
    tolerance: Annotated[float, Option(min=0, help="Largest difference from PyTorch.")] = 1e-4,
    int8: Annotated[
        bool, Option("--int8", help="Quantise to 8 bits; prints the accuracy before and after.")
    ] = False,
    calibrate: Annotated[int, Option(min=1, help="With --int8: training videos to calibrate with.")] = 32,
    preset: Preset = None,
    sets: Set = None,
    data_root: Root = Path("data"),
    data: Data = None,
    list_file: Annotated[
        Path | None, Option("--list", help="Videos to compare on, and with --int8 to test on.")
    ] = None,
    train_list: Annotated[Path | None, Option(help="With --int8: videos to calibrate with.")] = None,
    media: Media = None,
    classes: Classes = None,
    force: Annotated[bool, Option("--force", help="Overwrite OUT.")] = False,
    as_json: Json = False,
) -> None:
    """Write a network as ONNX, for OpenVINO or torch.export, or as safetensors; run the file, compare with PyTorch.

    The batch is free; OpenVINO's is 1. OUT.json says what goes in and comes out; with it beside, tsm test, predict
    and stream take the file in place of the checkpoint. ONNX needs the packages of the extra "export".

    Examples: tsm export best.pt model.onnx --preprocess --softmax

    tsm export best.pt --format onnx --stream
    """
    from tsmcli.data.location import Places
    from tsmcli.presets import resolve

    form = form or next((form for form, suffix in SUFFIXES.items() if target and target.suffix == suffix), None)
    if form is None:
        hint = "end it in .onnx, .xml, .pt2 or .safetensors, or give --format"
        raise UsageError(f"{target or 'no OUT'}: does not say in which format", hint)
    target = target or Path(checkpoint.stem + ("-stream" if stream else "") + SUFFIXES[form])
    if target.suffix != SUFFIXES[form]:
        raise UsageError(f"{target}: files of format {form} end in {SUFFIXES[form]}")
    resolved = resolve(preset, sets or ()) if preset else None
    where = Places(data_root, data, train_list=train_list, val_list=list_file, media=media)

    from tsmcli.recipes.export.export import Wanted
    from tsmcli.recipes.export.export import export as run
    from tsmcli.report.progress import follow

    wanted = Wanted(form, stream, preprocess, softmax, tolerance, calibrate if int8 else 0)
    done = follow(
        run(checkpoint, resolved, target, wanted, where, overrides=sets or (), classes=classes, force=force)
    )
    if as_json:
        print_json(asdict(done))
        return
    print_line(f"{done.path}: {done.bytes / 1e6:.1f} MB, described in {done.sidecar}")
    if form == "safetensors":
        print_line("  reads back as the same weights, to the bit, with the same logits on random pixels")
        return
    real = "no videos (no validation list was found)" if done.videos is None else f"{done.videos} videos"
    before = "before quantising, it " if done.quantised else ""
    print_line(f"  {before}differs from PyTorch by {done.difference:.1e} at most, on random pixels and {real}")
    if q := done.quantised:
        of = f"{q.tested_on} of {q.tested_on + q.bad} videos (95 % interval {percent(q.low)} to {percent(q.high)})"
        metric = "mAP" if q.p is None else "top-1"
        print_line(f"  int8: {metric} {percent(q.after)} after, {percent(q.before)} before, on {of}")
        chance = "" if q.p is None else f"; p = {q.p:.2g} (McNemar), the probability of such a difference by chance"
        print_line(f"  both say the same of {percent(q.agreement)}{chance}")
        kept = ", ".join(q.layers.kept_float) or "no layer"
        error = f"{q.layers.error:.2g}, with all layers in 8 bits {q.layers.error_all:.2g}"
        print_line(f"  in floating point: {kept}; relative error of the logits {error}")

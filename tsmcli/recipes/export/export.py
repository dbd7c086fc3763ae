"""Write a network for use outside of Python, and check the file before it gets its name."""

from __future__ import annotations

import copy
import json
import shutil
import tempfile
from collections.abc import Generator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from tsmcli import __version__
from tsmcli.config import Config
from tsmcli.core.exportable import ClipNetwork, Signature, StreamNetwork, example_input
from tsmcli.core.inference import fold_batch_norms, for_single_clips
from tsmcli.core.tsm import MEAN, STD, TSM
from tsmcli.data.location import Places, Split, find_split
from tsmcli.engine.checkpoint import Checkpoint, Progress, safetensors_facts
from tsmcli.engine.exported_file import Runner, open_file, trace, write_onnx, write_openvino, write_program
from tsmcli.engine.packages import need
from tsmcli.engine.sidecar import sidecar_of
from tsmcli.engine.weight_file import write_safetensors
from tsmcli.errors import EnvironmentProblem, UsageError
from tsmcli.files import replacing, sha256, write_text
from tsmcli.presets import Preset
from tsmcli.recipes.events import Stage
from tsmcli.recipes.export.check import BATCHES, compare_clips, compare_streams, find_videos_to_try, real_clips
from tsmcli.recipes.export.quantise import Quantised, quantise
from tsmcli.recipes.network import Opened, load_checkpoint, open_network

Format = Literal["onnx", "openvino", "torch-export", "safetensors"]
SAMPLING_RULES = {
    "uniform": "frame int(i * n / T + n / T / 2) of n, for i = 0 ... T - 1; a second clip: int(i * n / T)",
    "dense": "frame (start + i * (64 // T)) % n of n, for i = 0 ... T - 1; the clips' starts are the whole parts "
    "of numbers that lie evenly from 0 to max(0, n - 64)",
}


@dataclass(frozen=True)
class Wanted:
    """What to write.

    Attributes:
        stream: one frame and the cache instead of clips.
        pixels: take uint8 pixels and normalise them inside.
        softmax: give probabilities.
        tolerance: largest difference from PyTorch that is accepted, over the largest number but at least 1.
        int8: also quantise, with calibration on so many training videos; 0: do not.
    """

    format: Format = "onnx"
    stream: bool = False
    pixels: bool = False
    softmax: bool = False
    tolerance: float = 1e-4
    int8: int = 0


@dataclass(frozen=True)
class Exported:
    """What was written and how it was checked.

    Attributes:
        difference: the largest one from PyTorch; with 8 bits, of the float32 network that was quantised.
        videos: real videos that it was compared on, beside random pixels; None: no list was found, or needed.
    """

    path: Path
    sidecar: Path
    format: str
    bytes: int
    difference: float
    tolerance: float
    videos: int | None
    quantised: Quantised | None


def export(
    checkpoint: Path, preset: Preset | None, target: Path, wanted: Wanted, places: Places,
    *, overrides: Sequence[str] = (), classes: Path | None = None, force: bool = False,
) -> Generator[Any, None, Exported]:  # fmt: skip
    """Write a network to a file, run the file, compare it with PyTorch, and describe it in a JSON file beside it.

    The comparison is on random pixels with batches of 1, 2 and 5, and on videos of the validation list where that
    is found. A file that differs by more than the tolerance is not kept.

    Raises:
        ConfigError: a stream of a network that needs frames of the future.
        EnvironmentProblem: a package is missing, or the file computes something else.
    """
    check_target(target, wanted, force=force)
    if wanted.format == "onnx":
        need("onnx", "onnxscript", "onnxruntime")
    elif wanted.format == "openvino":
        need("openvino")
    opened = yield from open_network(checkpoint, preset, overrides, classes)
    config, names, model = opened.config, opened.class_names, opened.model
    if config.data.multi_label and wanted.softmax:
        hint = "export logits: the sigmoid of each is the probability of its class"
        raise UsageError("--softmax is of networks that give one label a video", hint)
    if target.resolve() == opened.path.resolve():
        raise UsageError(f"{target} is the checkpoint itself", hint="choose another name for OUT")
    check_space(target, model)
    split = find_videos_to_try(config, places)
    lists = [find_split(config.data, places, name, names) for name in ("train", "val") if wanted.int8]
    yield Stage(f"writing {opened.name} as {wanted.format} and comparing it with PyTorch")
    quantised, sidecar, beside = None, sidecar_of(target), weights_of(target, wanted)
    with replacing(target) as draft, replacing(beside) if beside else nullcontext(draft) as weights:
        if wanted.format == "safetensors":
            difference, videos, signature = 0.0, 0, None
            _write_weights(draft, _as_checkpoint(opened), model)
        else:
            difference, videos, signature = _write_network(draft, weights, model, config, wanted, split)
        if wanted.int8 and signature:
            yield Stage(f"quantising with {wanted.int8} training videos and testing on the validation list")
            quantised = yield from quantise(draft, config, lists, wanted.int8, signature, opened.thresholds)
        facts = describe(opened, wanted, signature)
        facts |= {"sha256": sha256(draft), "largest_difference": difference, "tolerance": wanted.tolerance,
                  "largest_difference_of": "the float32 network, before quantising" if quantised else "this file",
                  "compared_on_videos": videos, "int8": quantised and asdict(quantised)}  # fmt: skip
        if beside:
            facts["weights"] = {"file": beside.name, "sha256": sha256(weights)}
        size = draft.stat().st_size + (weights.stat().st_size if beside else 0)
        write_text(sidecar, json.dumps(facts, indent=2) + "\n")
    listed = videos if split and signature else None
    return Exported(target, sidecar, wanted.format, size, difference, wanted.tolerance, listed, quantised)


def check_target(target: Path, wanted: Wanted, *, force: bool) -> None:
    """Raise UsageError where the target exists or has no folder, or the wishes do not fit the format."""
    for path in filter(None, (target, sidecar_of(target), weights_of(target, wanted))):
        if path.is_dir() or (path.exists() and not force):
            raise UsageError(f"{path} already exists", hint="--force overwrites a file")
    if not target.parent.is_dir():
        raise UsageError(f"{target}: there is no folder {target.parent}")
    if wanted.format == "safetensors" and (wanted.stream or wanted.pixels or wanted.softmax):
        raise UsageError("safetensors holds weights; --stream, --preprocess and --softmax are of networks")
    if wanted.int8 and wanted.format != "onnx":
        raise UsageError("--int8 is of ONNX files")


def weights_of(target: Path, wanted: Wanted) -> Path | None:
    """The second file of a format that has two: OpenVINO's weights."""
    return target.with_suffix(".bin") if wanted.format == "openvino" else None


def check_space(target: Path, model: TSM) -> None:
    """Raise EnvironmentProblem where the disk is too small; exporters end the whole process when it is full."""
    needed, free = 3 * sum(p.nbytes for p in model.parameters()), shutil.disk_usage(target.parent).free
    if free < needed:
        raise EnvironmentProblem(f"{target.parent}: {free / 1e6:.0f} MB free, {needed / 1e6:.0f} MB may be needed")


def _as_checkpoint(opened: Opened) -> Checkpoint:
    return opened.own or Checkpoint(opened.name, opened.config, opened.class_names, Progress(), {})


def _write_weights(draft: Path, checkpoint: Checkpoint, model: TSM) -> None:
    """A checkpoint of ours as safetensors, read back: weights to the bit, and the same logits."""
    write_safetensors(draft, model.state_dict(), safetensors_facts(checkpoint))
    again, config = load_checkpoint(draft)
    same = all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
    clips = example_input([1, config.model.num_segments], config.test.crop_px, pixels=False)
    with torch.no_grad():
        same = same and torch.equal(model(clips), again(clips))
    if not same:
        raise EnvironmentProblem("the weights do not read back as they were written")


def _write_network(
    draft: Path, weights: Path, model: TSM, config: Config, wanted: Wanted, split: Split | None
) -> tuple[float, int, Signature]:
    """Write the network and compare it: (largest difference, number of videos, its tensors).

    OpenVINO's files take one clip, or one stream: so its convolutions keep their memory layout.
    """
    one = wanted.format == "openvino"
    kind = StreamNetwork if wanted.stream else ClipNetwork
    plain = kind(model, pixels=wanted.pixels, softmax=wanted.softmax)
    ready = fold_batch_norms(copy.deepcopy(model))
    if one and not wanted.stream:
        for_single_clips(ready)
    folded = kind(ready, pixels=wanted.pixels, softmax=wanted.softmax)
    size = config.test.crop_px
    signature, batches = folded.signature(size, 1 if one else 2), (1,) if one else BATCHES
    if one:
        run = _write_openvino(draft, weights, folded, signature)
    else:
        program = trace(folded, signature)
        run = write_onnx(draft, program, signature) if wanted.format == "onnx" else write_program(draft, program)
    clips = real_clips(split, config) if split else []
    if isinstance(plain, StreamNetwork):
        difference = compare_streams(plain, run, signature, size, clips, batches)
    else:
        difference = compare_clips(plain, run, size, clips, batches)
    if not difference <= wanted.tolerance:
        wrong = f"the {wanted.format} file differs from PyTorch by {difference:.2g}, more than {wanted.tolerance:g}"
        hint = "nothing was written; another version of torch or onnxruntime may help, or --tolerance"
        raise EnvironmentProblem(wrong, hint)
    return difference, len(clips), signature


def _write_openvino(draft: Path, weights: Path, network: torch.nn.Module, signature: Signature) -> Runner:
    with tempfile.TemporaryDirectory(dir=draft.parent, prefix=".tsm-openvino-") as folder:
        file = write_openvino(Path(folder), network, signature)
        run = open_file(file, "openvino")
        file.with_suffix(".bin").replace(weights)
        file.replace(draft)
    return run


def describe(opened: Opened, wanted: Wanted, signature: Signature | None) -> dict[str, Any]:
    """Everything that a program needs to feed the file and to read its answers."""
    config, names, test = opened.config, opened.class_names, opened.config.test
    of = f", {'stream' if wanted.stream else 'clips'}" if signature else ""
    facts: dict[str, Any] = {
        "format": 1,
        "written_by": f"tsmcli {__version__}",
        "kind": f"{wanted.format}{of}",
        "checkpoint": {
            "file": opened.path.name,
            "sha256": opened.sha256,
            "tsm": json.loads(safetensors_facts(_as_checkpoint(opened))["tsm"]),
        },
        "preset": opened.name,
        "network": config.model.identity(),
        "class_names": names,
        **({"labels": "several: sigmoid", "thresholds": opened.thresholds} if opened.thresholds else {}),
        "frames": {
            "colour": "RGB",
            "orientation": "upright: turned as the video file says, if it says so",
            "num_segments": 1 if wanted.stream else config.model.num_segments,
            "resize_short_side_px": test.resize_px,
            "resize": "bilinear, half-pixel centres, no antialiasing; sides are int(side * scale + 0.5)",
            "crop_px": test.crop_px,
            "crop": "the middle: left (width - crop_px) // 2, top (height - crop_px) // 2",
            "which": "every frame, in order" if wanted.stream else SAMPLING_RULES[test.sampling],
        },
        "test_protocol": None if wanted.stream else {"name": test.name, **test.model_dump()},
        "normalisation": {"inside": wanted.pixels, "mean": MEAN, "std": STD, "of": "pixels from 0 to 255"},
        "versions": {
            package: version(package) for package in ("torch", "onnx", "onnxruntime", "openvino") if _has(package)
        },
    }
    if signature:
        layout = "[batch, T, H, W, 3]" if wanted.pixels else "[batch, T, 3, H, W]"
        facts["layout"] = layout.replace(" T,", "") if wanted.stream else layout
        batch = 1 if wanted.format == "openvino" else "batch"
        facts["inputs"] = [
            {"name": key, "type": str(value.dtype).removeprefix("torch."), "shape": [batch, *value.shape[1:]]}
            for key, value in signature.inputs.items()
        ]
        shapes = [[len(names)], *(value.shape[1:] for name, value in signature.inputs.items() if name != "frames")]
        facts["outputs"] = [
            {"name": name, "type": "float32", "shape": [batch, *shape]}
            for name, shape in zip(signature.outputs, shapes if wanted.stream else shapes[:1], strict=True)
        ]
        if wanted.stream:
            facts["cache"] = "zeros when a stream begins; then the next_cache_* of the frame before"
    return facts


def _has(package: str) -> bool:
    try:
        version(package)
    except ModuleNotFoundError:
        return False
    return True

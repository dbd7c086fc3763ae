"""Convert weights between the layouts of MMAction2, the authors, torchvision and ours, exactly."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from tsmcli import __version__
from tsmcli.catalog import CATALOG
from tsmcli.config import ModelConfig
from tsmcli.core.layouts import Layout
from tsmcli.core.mobileone import MobileOne
from tsmcli.core.recognise import recognise, strip_prefix
from tsmcli.core.tsm import TSM
from tsmcli.core.weights import authors_class_order, match_all, rename_state
from tsmcli.engine.checkpoint import Checkpoint, Progress, checkpoint_tree, safetensors_facts
from tsmcli.engine.weight_file import read_weights, weights_of, write_safetensors, write_torch
from tsmcli.errors import UsageError, WeightsError
from tsmcli.files import replacing
from tsmcli.presets import Preset
from tsmcli.recipes.network import ReadFile, read_weight_file

Target = Literal["mmaction", "mit", "tsm", "safetensors", "torchvision"]
TARGETS: tuple[Target, ...] = get_args(Target)


@dataclass(frozen=True)
class Converted:
    """What was written: how many tensors, how many under another name, and whether the classes changed places."""

    source: Path
    layout: str
    target: Path
    to: str
    network: str
    tensors: int
    renamed: int
    reordered: bool


@dataclass(frozen=True)
class _Weights:
    """Tensors under our names, and what is known of them; `checkpoint` is None where T or class names are not.

    Attributes:
        names: what the tensors are called in the file.
    """

    names: frozenset[str]
    tensors: dict[str, Tensor]
    model: TSM
    layout: Layout
    dataset: str | None
    checkpoint: Checkpoint | None


def convert(
    source: Path, target: Path, to: Target,
    *, preset: Preset | None = None, dataset: str | None = None, classes: Sequence[str] | None = None,
    force: bool = False,
) -> Generator[Any, None, Converted]:  # fmt: skip
    """Write the weights of a file, or of a name of the zoo, in another layout; read them back and compare.

    Args:
        preset: what network it is; by default read off the file, which does not show T.
        dataset: whose class order the classifier has; default the preset's or the checkpoint's.
        classes: class names for a checkpoint of ours; default the dataset's.

    Raises:
        UsageError: something has to be said that the file does not tell, or the target exists already.
        WeightsError: the file cannot be read, or is of an unknown network or of another one than the preset's.
    """
    check_target(target, to, force=force)
    file = yield from read_weight_file(source, preset)
    weights = read(file, dataset, classes)
    if to in ("mit", "torchvision") and isinstance(weights.model.backbone, MobileOne):
        raise UsageError(f"--to {to}: that layout has no MobileOne", hint="--to mmaction, tsm or safetensors")
    tensors, reordered = in_class_order(weights, to)
    layout: Layout = "tsm" if to == "safetensors" else to
    state = rename_state(weights.model, tensors, layout)
    with replacing(target) as draft:
        write(draft, to, state, weights)
        compare(draft, tensors, weights.model)
    renamed = sum(theirs not in weights.names for theirs in state)
    network = str(recognise(weights.tensors))
    return Converted(file.path, weights.layout, target, to, network, len(state), renamed, reordered)


def check_target(target: Path, to: Target, *, force: bool) -> None:
    """Raise UsageError where the target exists, or its name would mislead."""
    if target.exists() and not force:
        raise UsageError(f"{target} already exists", hint="--force overwrites it")
    if (target.suffix == ".safetensors") != (to == "safetensors"):
        raise UsageError(f"{target}: a file that ends in .safetensors is for --to safetensors, and only for that")
    if not target.parent.is_dir():
        raise UsageError(f"{target}: there is no folder {target.parent}")


def read(file: ReadFile, dataset: str | None, classes: Sequence[str] | None) -> _Weights:
    """Find out what network the tensors of a file are of, in whatever layout they are."""
    own, preset, source = file.own, file.preset, file.path
    state = dict(own.model) if own else weights_of(file.tree)
    found = recognise(state)
    whole = own.config if own else preset.config if preset else None
    config = whole.model if whole else found.model_config()
    if config is None or found.classes is None:
        raise WeightsError(f"{source}: {found}; it cannot be converted", hint="--preset NAME says what it is")
    dataset = dataset or (whole.data.dataset if whole else None)
    model = empty_network(config, found.classes)
    report, tensors = match_all(model, state)
    names = classes or (CATALOG[dataset].class_names() if dataset else None)
    if names and len(names) != found.classes:
        raise WeightsError(f"{source} has {found.classes} classes, and there are {len(names)} class names for it")
    if preset and names and own is None:
        own = Checkpoint(preset.name, preset.config, list(names), Progress(), tensors)
    return _Weights(frozenset(strip_prefix(state)), tensors, model, report.layout, dataset, own)


def empty_network(config: ModelConfig, num_classes: int) -> TSM:
    """A network with names and shapes, and no memory behind them."""
    with torch.device("meta"):
        return TSM(config, num_classes)


def in_class_order(weights: _Weights, to: Target) -> tuple[dict[str, Tensor], bool]:
    """The tensors with the classifier in the target's class order, and whether that is another order.

    Raises:
        UsageError: the number of classes is that of a dataset whose order differs, and nobody says which it is.
    """
    same = (weights.layout == "mit") == (to == "mit")
    rows = None if same else authors_class_order(weights.dataset, weights.tensors["fc.bias"].shape[0])
    if rows is None:
        return weights.tensors, False
    if to == "mit":
        rows = [rows.index(row) for row in range(len(rows))]
    moved = {key: weights.tensors[key][rows] for key in ("fc.weight", "fc.bias")}
    return {**weights.tensors, **moved}, True


def write(path: Path, to: Target, state: dict[str, Tensor], weights: _Weights) -> None:
    """Write a state dict as its users expect it; UsageError where T or class names are needed and not known."""
    match to:
        case "tsm":
            if weights.checkpoint is None:
                hint = "the file does not say: --preset NAME, and --classes FILE where the dataset is your own"
                needed = "a checkpoint of tsm knows how many frames it takes and what its classes are called"
                raise UsageError(needed, hint)
            write_torch(path, {**checkpoint_tree(weights.checkpoint), "model": state, "training": None})
        case "safetensors":
            write_safetensors(path, state, safetensors_facts(weights.checkpoint))
        case "mmaction":
            write_torch(path, {"meta": {"written_by": f"tsmcli {__version__}"}, "state_dict": state})
        case "mit":
            arch = (recognise(weights.tensors).backbone or "").replace("_", "")
            theirs = {f"module.{key}": tensor for key, tensor in state.items()}
            write_torch(path, {"epoch": 0, "arch": arch, "best_prec1": 0.0, "state_dict": theirs})
        case "torchvision":
            write_torch(path, state)


def compare(path: Path, tensors: dict[str, Tensor], model: TSM) -> None:
    """Read a file and match it back to our names: WeightsError unless every tensor is the same to the bit."""
    _, back = match_all(model, read_weights(path))
    wrong = [key for key in tensors if key not in back or not same_bits(back[key], tensors[key])]
    if wrong or len(back) != len(tensors):
        raise WeightsError(f"{path}: what was written does not read back as it was: {', '.join(wrong[:3])}")


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors are equal in type, shape and every bit."""
    bits = (tensor.contiguous().flatten().view(torch.uint8) for tensor in (a, b))
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*bits)

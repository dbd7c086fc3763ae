"""Names of every tensor in the layouts of torchvision, MMAction2 (new and old) and mit-han-lab.

Our names are torchvision's (of MobileOne our own) with `backbone.` in front, plus `fc.` for the classifier and
`non_local.` for the block of that name. A layout only renames them. The network shows which blocks have a shift
(`.net`) or a non-local block (`.block`), so the same map is used in both directions and a round trip is exact.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from tsmcli.core.nonlocal_block import NonLocal
from tsmcli.core.resnet import Block
from tsmcli.core.shift import TemporalPool, TemporalShift
from tsmcli.core.tsm import TSM

Layout = Literal["tsm", "mmaction", "mmaction-old", "mit", "torchvision"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


def layout_names(model: TSM, layout: Layout) -> dict[str, str]:
    """Our name -> the name in a layout, for every tensor of a network."""
    if layout == "tsm":
        return {key: key for key in model.state_dict()}
    if layout == "torchvision":
        return {key: _torchvision(key, hasattr(model.backbone, "features")) for key in model.state_dict()}
    places, rename = _Places.of(model), {"mmaction": _mmaction, "mmaction-old": _mmaction_old, "mit": _mit}[layout]
    return {key: rename(key, places) for key in model.state_dict()}


@dataclass(frozen=True)
class _Places:
    """Where a network differs from the plain trunk; block names such as `layer2.0` or `features.3`."""

    shifted: frozenset[str]
    non_local: frozenset[str]
    whole_block: bool
    time_pool: bool

    @classmethod
    def of(cls, model: TSM) -> _Places:
        """Find them among the modules of a network."""
        modules = dict(model.backbone.named_modules())
        owner = {kind: frozenset(n.rpartition(".")[0] for n, m in modules.items() if isinstance(m, kind))
                 for kind in (TemporalShift, NonLocal)}  # fmt: skip
        return cls(
            owner[TemporalShift],
            owner[NonLocal],
            any(isinstance(m, Block) and m.shift_shortcut for m in modules.values()),
            any(isinstance(m, TemporalPool) for m in modules.values()),
        )


def _torchvision(key: str, mobilenet: bool) -> str:
    if mobilenet and key.startswith("fc."):
        return key.replace("fc.", "classifier.1.")
    return key.removeprefix("backbone.")


def _mmaction(key: str, places: _Places) -> str:
    """ConvModule units: a convolution is `.conv`, its batch norm `.bn` of the same unit."""
    if key.startswith("fc."):
        return key.replace("fc.", "cls_head.fc_cls.")
    name = key.removeprefix("backbone.")
    if name.startswith("features."):
        return "backbone." + _mmaction_mobilenet(name, places)
    if name.startswith("stage"):
        return "backbone." + _mmaction_mobileone(name, places)
    block, rest = _split_block(name)
    if rest.startswith("non_local."):
        unit, tail = rest.split(".")[1:]
        return f"backbone.{_block_path(block, places)}.non_local_block.{_NON_LOCAL_UNITS[unit][0]}.{tail}"
    rest = re.sub(r"^bn(\d)\.", r"conv\1.bn.", rest)
    rest = re.sub(r"^conv(\d)\.weight$", r"conv\1.conv.weight", rest)
    rest = rest.replace("downsample.0.", "downsample.conv.").replace("downsample.1.", "downsample.bn.")
    if not block:
        return f"backbone.{rest}"
    if block in places.shifted and not places.whole_block:
        rest = rest.replace("conv1.conv.", "conv1.conv.net.")
    return f"backbone.{_block_path(block, places, inner=True)}.{rest}"


def _mmaction_old(key: str, places: _Places) -> str:
    """Before July 2020: torchvision's names for the units of a ResNet."""
    if key.startswith(("fc.", "backbone.features.", "backbone.stage")) or ".non_local." in key:
        return _mmaction(key, places)
    return "backbone." + _plain_resnet(key.removeprefix("backbone."), places)


def _plain_resnet(name: str, places: _Places) -> str:
    """torchvision's name with the wrappers around shifted layers and blocks."""
    block, rest = _split_block(name)
    if block in places.shifted and not places.whole_block:
        rest = rest.replace("conv1.", "conv1.net.")
    return f"{_block_path(block, places, inner=True)}.{rest}" if block else name


def _mit(key: str, places: _Places) -> str:
    """The authors' code: `base_model.` and torchvision's names, MobileNetV2 with flat units."""
    if key.startswith("fc."):
        return f"new_{key}"
    name = key.removeprefix("backbone.")
    if name.startswith("features."):
        return "base_model." + _mit_mobilenet(name, places)
    block, rest = _split_block(name)
    if rest.startswith("non_local."):
        unit, tail = rest.split(".")[1:]
        return f"base_model.{_block_path(block, places)}.nl.{_NON_LOCAL_UNITS[unit][1]}.{tail}"
    return "base_model." + _plain_resnet(name, places)


def _split_block(name: str) -> tuple[str, str]:
    """`layer2.0.conv1.weight` -> (`layer2.0`, `conv1.weight`); ("", name) outside the stages."""
    match = re.match(r"(layer\d\.\d+)\.(.*)", name)
    return (match[1], match[2]) if match else ("", name)


def _block_path(block: str, places: _Places, *, inner: bool = False) -> str:
    """The block's name with the wrappers around it; `inner`: down to its own layers."""
    path = block.replace("layer2.", "layer2.net.") if places.time_pool else block
    if inner and block in places.non_local:
        path += ".block"
    if inner and places.whole_block and block in places.shifted:
        path += ".net"
    return path


_NON_LOCAL_UNITS = {"g": ("g.0.conv", "g.0"), "theta": ("theta.conv", "theta"), "phi": ("phi.0.conv", "phi.0"),
                    "out": ("conv_out.conv", "W.0"), "norm": ("conv_out.bn", "W.1")}  # fmt: skip
"""Our layer of a non-local block -> MMAction2's and the authors' names."""

_MOBILENET_STARTS = (1, 2, 4, 7, 11, 14, 17)
"""`features.{i}` at which MMAction2's layer1 ... layer7 start."""


def _mobilenet_unit(name: str) -> tuple[int, int, str, str]:
    """`features.3.conv.2.weight` -> (block 3, unit 2, `conv` or `bn`, tail); the last unit has no activation."""
    parts = name.split(".")
    block, numbers, tail = int(parts[1]), [int(p) for p in parts[2:] if p.isdigit()], parts[-1]
    if "conv" not in parts:  # stem and last convolution
        return block, 0, ("conv", "bn")[numbers[0]], tail
    if len(numbers) == 2:
        return block, numbers[0], ("conv", "bn")[numbers[1]], tail
    last = 1 if block == 1 else 2
    return block, last, ("conv", "bn")[numbers[0] - last], tail


def _mmaction_mobilenet(name: str, places: _Places) -> str:
    block, unit, kind, tail = _mobilenet_unit(name)
    if block in (0, 18):
        return f"{'conv1' if block == 0 else 'conv2'}.{kind}.{tail}"
    layer = max(i for i, start in enumerate(_MOBILENET_STARTS) if start <= block)
    net = ".net" if unit == 0 and f"features.{block}" in places.shifted else ""
    return f"layer{layer + 1}.{block - _MOBILENET_STARTS[layer]}.conv.{unit}{net}.{kind}.{tail}"


_MOBILEONE_UNITS = {
    "branches.identity": "branch_norm", "branches.folded": "branch_reparam",
    "branches.scale.0": "branch_scale.conv", "branches.scale.1": "branch_scale.norm",
    "branches.conv.0": "branch_conv_list.0.conv", "branches.conv.1": "branch_conv_list.0.norm",
    "se.fc1": "se.conv1.conv", "se.fc2": "se.conv2.conv",
}  # fmt: skip
"""The layers of a MobileOne block -> MMAction2's names, which are mmpretrain's with `.net` behind the block."""


def _mmaction_mobileone(name: str, places: _Places) -> str:
    """Every block is wrapped, the stem too, in which no channel moves."""
    stage, block, rest = name.split(".", 2)
    path = stage if stage == "stage0" else f"{stage}.{block}"
    unit, _, tail = rest.rpartition(".")
    return f"{path}{'.net' if places.shifted else ''}.{_MOBILEONE_UNITS[unit]}.{tail}"


def _mit_mobilenet(name: str, places: _Places) -> str:
    block, unit, kind, tail = _mobilenet_unit(name)
    if block in (0, 18):
        return f"features.{block}.{('conv', 'bn').index(kind)}.{tail}"
    index = 3 * unit + ("conv", "bn").index(kind)
    net = ".net" if index == 0 and f"features.{block}" in places.shifted else ""
    return f"features.{block}.conv.{index}{net}.{tail}"

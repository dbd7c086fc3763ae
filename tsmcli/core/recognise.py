"""Recognise the network of a state dict by the names and shapes of its tensors, never by a file name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from tsmcli.config import Backbone, ModelConfig, NonLocalMode

HEADS = (
    "fc.weight", "cls_head.fc_cls.weight", "new_fc.weight", "base_model.classifier.weight", "classifier.weight",
    "classifier.1.weight", "head.fc.weight",
)  # fmt: skip
"""Names of the classifier in the layouts we know."""
_STEM = re.compile(r"(backbone\.|base_model\.)?(conv1|features\.0\.0)(\.conv)?\.weight")


@dataclass(frozen=True)
class Recognised:
    """What names and shapes show of a network. They show neither T nor the function that compares embeddings.

    Attributes:
        backbone: None for an unknown one.
        classes: K, or None without a classifier.
        channels: of the input; anything but 3 is no RGB.
        non_local: `embedded_gaussian` stands for both kinds with embeddings.
        shifted: None in layouts in which a shifted layer has an ordinary name.
        whole_block: whether the shift stands in front of whole blocks.
        temporal_pool: whether T is halved after the first stage.
        folded: whether a MobileOne has one convolution in the place of its branches.
    """

    backbone: Backbone | None
    classes: int | None
    channels: int = 3
    non_local: NonLocalMode = "none"
    shifted: bool | None = None
    whole_block: bool = False
    temporal_pool: bool = False
    folded: bool = False

    def __str__(self) -> str:
        """`a ResNet-50 with non-local blocks, 400 classes`."""
        mobile = {"mobilenet_v2": "a MobileNetV2", "mobileone_s4": "a MobileOne-S4"}
        name = mobile.get(self.backbone or "", "an unknown network")
        if self.backbone and self.backbone.startswith("resnet"):
            name = f"a ResNet-{self.backbone.removeprefix('resnet')}"
        if self.folded:
            name += " with folded branches"
        if self.non_local != "none":
            name += f" with {'gaussian ' if self.non_local == 'gaussian' else ''}non-local blocks"
        if self.shifted is False:
            name += " without temporal shifts"
        if self.whole_block:
            name += " with shifts in front of whole blocks"
        if self.temporal_pool:
            name += " with temporal pooling"
        if self.channels != 3:
            name = f"a network of optical flow ({self.channels} input channels; tsm reads RGB), otherwise {name}"
        return f"{name}, {self.classes} classes" if self.classes else name

    def model_config(self) -> ModelConfig | None:
        """A configuration whose network has these names and shapes; None for an unknown network."""
        if self.backbone is None or self.channels != 3:
            return None
        return ModelConfig(
            backbone=self.backbone,
            shift="none" if self.shifted is False else "bidirectional",
            shift_place="block" if self.whole_block else "blockres",
            non_local=self.non_local,
            temporal_pool=self.temporal_pool,
            folded=self.folded,
            num_classes=self.classes,
            init="none",
        )


def strip_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Drop what data-parallel training (`module.`), torch.compile (`_orig_mod.`) and Lightning (`model.`) prepend.

    It is dropped only where all names begin with it, in any order and number. Of a distillation, which holds a
    student (`architecture.`) and its teacher, the student is left.
    """
    if any(key.startswith("teacher.") for key in state):
        state = {key: value for key, value in state.items() if key.startswith("architecture.")}
    for prefix in ("module.", "_orig_mod.", "model.", "architecture."):
        if state and all(key.startswith(prefix) for key in state):
            return strip_prefix({key.removeprefix(prefix): value for key, value in state.items()})
    return dict(state)


def recognise(state: Mapping[str, Tensor]) -> Recognised:
    """Recognise the network of a state dict in any known layout."""
    keys = strip_prefix(state)
    non_local: NonLocalMode = "none"
    if any(".non_local" in key or ".nl." in key for key in keys):
        non_local = "embedded_gaussian" if any(".theta." in key for key in keys) else "gaussian"
    return Recognised(
        backbone=_backbone(keys),
        classes=next((keys[head].shape[0] for head in HEADS if head in keys), None),
        channels=next((t.shape[1] for key, t in keys.items() if _STEM.fullmatch(key) and t.ndim == 4), 3),
        non_local=non_local,
        shifted=_shifted(keys),
        whole_block=any(re.search(r"layer\d\.(net\.)?\d+\.net\.", key) for key in keys),
        temporal_pool=any("layer2.net." in key for key in keys),
        folded=any(".branch_reparam." in key or ".branches.folded." in key for key in keys),
    )


def _backbone(keys: Iterable[str]) -> Backbone | None:
    # MMAction2 calls the seven groups of MobileNetV2 layer1 to layer7
    if any(re.search(r"(^|\.)features\.|layer7\.", key) for key in keys):
        return "mobilenet_v2"
    # of all sizes of MobileOne, only S4 has squeeze-and-excitation
    if any(re.search(r"(^|\.)stage4\.1\.(net\.)?se\.", key) for key in keys):
        return "mobileone_s4"
    bottleneck = any(re.search(r"layer1\.0\.(.*\.)?conv3", key) for key in keys)
    depths: dict[tuple[int, ...], Backbone] = {
        (2, 2, 2, 2): "resnet18",
        (3, 4, 6, 3): "resnet50" if bottleneck else "resnet34",
        (3, 4, 23, 3): "resnet101",
        (3, 8, 36, 3): "resnet152",
    }
    blocks = {match.groups() for key in keys if (match := re.search(r"layer([1-4])\.(?:net\.)?(\d+)\.", key))}
    counts = [1 + max((int(block) for stage, block in blocks if stage == s), default=-1) for s in "1234"]
    return depths.get(tuple(counts))


def _shifted(keys: Iterable[str]) -> bool | None:
    """MMAction2 and the authors put `.net` into the name of a shifted layer; torchvision's names don't tell."""
    if any(".net." in key for key in keys):
        return True
    return False if any(key.startswith(("cls_head.", "base_model.")) for key in keys) else None

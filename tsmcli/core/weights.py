"""Load a state dict in any known layout into a network, strictly and with a full report; and back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tsmcli.catalog import CATALOG
from tsmcli.core.layouts import LAYOUTS, Layout, layout_names
from tsmcli.core.recognise import HEADS, recognise, strip_prefix
from tsmcli.core.tsm import TSM
from tsmcli.errors import UsageError, WeightsError

_COUNTER = "num_batches_tracked"
_FLAT_UNIT = re.compile(r"features\.\d+\.conv\.[4-7]\.")
_MIT_EXTRA_BIAS = re.compile(r"(.*\.nl\.W)\.0\.bias$")


@dataclass(frozen=True)
class LoadReport:
    """Which tensors of a checkpoint were loaded, and which were not.

    Attributes:
        layout: the layout it was recognised as.
        loaded: how many tensors were copied.
        renamed: our name -> name in the checkpoint, where they differ.
        missing: our names the checkpoint lacks.
        unexpected: names of the checkpoint that the network has no place for.
        mismatched: our name -> (shape in the checkpoint, shape in the network).
        fresh: our names that were left at their initialisation on purpose.
    """

    layout: Layout
    loaded: int
    renamed: dict[str, str]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    fresh: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether every tensor was loaded, except those left fresh on purpose."""
        return not (self.missing or self.unexpected or self.mismatched)

    def summary(self) -> str:
        """One line a kind, naming the first few of each."""
        lines = [f"{self.loaded} tensors loaded from {self.layout} layout, {len(self.renamed)} renamed"]
        for title, names in (("missing", self.missing), ("not wanted", self.unexpected), ("new", self.fresh)):
            if names:
                lines.append(f"{len(names)} {title}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}")
        for name, (theirs, ours) in list(self.mismatched.items())[:3]:
            lines.append(f"{name}: {list(theirs)} in the checkpoint, {list(ours)} in the network")
        return "\n".join(lines)


def load_state(model: TSM, state: Mapping[str, Tensor], *, new_classifier: bool = False) -> LoadReport:
    """Copy a state dict in any known layout into a network, all of it or none; see `match_all`.

    Args:
        new_classifier: leave the classifier at its initialisation and ignore the checkpoint's (starting from
            ImageNet, or fine-tuning on other classes). The checkpoint may then be of a plain 2D network: shifts
            have no weights, and non-local blocks start as identities.
    """
    report, translated = match_all(model, state, new_classifier=new_classifier)
    model.load_state_dict(translated, strict=False)
    return report


def match_all(
    model: TSM, state: Mapping[str, Tensor], *, new_classifier: bool = False
) -> tuple[LoadReport, dict[str, Tensor]]:
    """`match_state`; WeightsError where a tensor is missing, left over, or of another shape."""
    report, translated = match_state(model, state, new_classifier=new_classifier)
    if not report.complete:
        theirs, ours = recognise(state), recognise(model.state_dict())
        hint = "choose the preset that the checkpoint was trained with"
        if theirs.backbone == ours.backbone and theirs.folded != ours.folded:
            hint = f"--set model.folded={str(theirs.folded).lower()}"
        raise WeightsError(
            f"the checkpoint is of another network: it looks like {theirs}; this one is {ours}\n{report.summary()}",
            hint=hint,
        )
    return report, translated


def match_state(
    model: TSM, state: Mapping[str, Tensor], *, new_classifier: bool = False
) -> tuple[LoadReport, dict[str, Tensor]]:
    """Match a state dict in any known layout against a network: (report, the tensors under our names)."""
    state = fold_mit_bias(authors_variants(model, strip_prefix(state)))
    layout = detect_layout(model, state)
    names = layout_names(model, layout)
    ours_state = model.state_dict()
    translated: dict[str, Tensor] = {}
    missing, mismatched = [], {}
    fresh: tuple[str, ...] = ()
    if new_classifier:
        if not any(".net." in key for key in state):  # of the same trunk before shifts were put into it
            names = {ours: theirs.replace(".net.", ".") for ours, theirs in names.items()}
        new_blocks = not any(theirs in state for ours, theirs in names.items() if ".non_local." in ours)
        fresh = tuple(key for key in ours_state if key.startswith("fc.") or (new_blocks and ".non_local." in key))
    classifier = {head.replace("weight", end) for head in HEADS for end in ("weight", "bias") if fresh}
    for key, tensor in ours_state.items():
        if key in fresh:
            continue
        theirs = state.get(names[key])
        if theirs is None:
            if not key.endswith(_COUNTER):  # older files lack it, and it plays no part in the result
                missing.append(key)
        elif theirs.shape != tensor.shape:
            mismatched[key] = (tuple(theirs.shape), tuple(tensor.shape))
        else:
            translated[key] = theirs
    wanted = set(names.values()) | classifier
    report = LoadReport(
        layout=layout,
        loaded=len(translated),
        renamed={key: names[key] for key in translated if names[key] != key},
        missing=tuple(missing),
        unexpected=tuple(key for key in state if key not in wanted),
        mismatched=mismatched,
        fresh=fresh,
    )
    return report, translated


def export_state(model: TSM, layout: Layout) -> dict[str, Tensor]:
    """The weights of a network under the names of a layout: the inverse of loading."""
    return rename_state(model, model.state_dict(), layout)


def rename_state(model: TSM, tensors: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Tensors under our names, of a network like `model`, under the names of a layout."""
    state = {theirs: tensors[ours] for ours, theirs in layout_names(model, layout).items() if ours in tensors}
    if layout == "mit":  # their non-local convolution has a bias that ours lacks; zero is the same function
        for name, tensor in list(state.items()):
            if name.endswith(".nl.W.0.weight"):
                state[name.removesuffix("weight") + "bias"] = torch.zeros(tensor.shape[0], dtype=tensor.dtype)
    return state


def fold_mit_bias(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Fold the bias of the authors' non-local output convolution into the batch norm behind it.

    Exact in evaluation: (x + b - mean) is (x - (mean - b)).
    """
    folded = dict(state)
    for key in state:
        match = _MIT_EXTRA_BIAS.match(key)
        mean = f"{match[1]}.1.running_mean" if match else ""
        if mean in folded:
            folded[mean] = folded[mean] - folded.pop(key)
    return folded


def detect_layout(model: TSM, state: Mapping[str, Tensor]) -> Layout:
    """The layout in which most names of the state dict are names of this network, or of it without shifts."""

    def found(layout: Layout) -> tuple[int, int]:
        names = set(layout_names(model, layout).values())
        return len(state.keys() & names), len(state.keys() & {name.replace(".net.", ".") for name in names})

    return max(LAYOUTS, key=found)


def mit_class_order(names: Sequence[str]) -> list[int]:
    """For each class in official order, its row in the authors' file, where that is in alphabetical order.

    `weight[mit_class_order(names)]` puts their classifier in official order.
    """
    rank = {name: row for row, name in enumerate(sorted(names))}
    return [rank[name] for name in names]


def authors_class_order(dataset: str | None, classes: int) -> list[int] | None:
    """`mit_class_order` of a dataset whose classes the authors sort (the catalog knows); None: both orders agree.

    Raises:
        UsageError: no dataset is named, and the number of classes is that of one that they sort.
    """
    if dataset is not None and dataset not in CATALOG:
        raise UsageError(f"no dataset named {dataset!r}", hint=f"choose from {', '.join(CATALOG)}")
    theirs = [d for d in CATALOG.values() if d.authors_sort_classes and d.num_classes == classes]
    if dataset is None and theirs:
        raise UsageError(
            f"{classes} classes: the authors order those of Something-Something V1 and Jester by the alphabet, "
            "others do not",
            hint="--dataset sthv1, sthv2 or jester says which it is; --preset does too, and in Python a network "
            "built of a whole configuration, or load_weights(..., dataset=NAME)",
        )
    return next((mit_class_order(d.class_names() or []) for d in theirs if d.name == dataset), None)


def authors_variants(model: TSM, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring two variants of the authors' names to their usual ones.

    Older MobileNetV2 files call the classifier `base_model.classifier`. The files of their online demo have neither
    `base_model.` nor `.net`.
    """
    if any(_FLAT_UNIT.match(key) for key in state):
        renamed = dict(state)
        for usual in layout_names(model, "mit").values():
            bare = usual.removeprefix("base_model.").replace(".net.", ".").replace("new_fc.", "classifier.")
            if bare in renamed:
                renamed[usual] = renamed.pop(bare)
        return renamed
    return {key.replace("base_model.classifier.", "new_fc."): value for key, value in state.items()}

"""Checkpoints: our own, which rebuild their network, and weight files of others."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from torch import Tensor

from tsmcli.config import Config
from tsmcli.core.tsm import TSM
from tsmcli.core.weights import LoadReport, authors_class_order, match_all
from tsmcli.engine.weight_file import check_weights, read_file, weights_of, write_torch
from tsmcli.errors import UsageError, WeightsError
from tsmcli.files import replacing
from tsmcli.intervals.find import EventRules
from tsmcli.presets import check_name, is_gone

FORMAT = 2
"""Number of the checkpoint format; a higher one comes from a newer tsm."""

_Count = Annotated[int, Field(ge=0, le=2**53)]
_Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Random states are not stored: every draw comes from (seed, epoch, step or video, rank).

    Attributes:
        epoch: epochs done, with their validation.
        step: optimiser steps done of the epoch after those; all of them if only its validation is missing.
        total_batch: videos per step, over all processes.
        videos: in the training list.
        top1, best_top1: last and best validation accuracy, or None before the first; mean average precision where a
            video may have several labels.
        scored: videos of the last validation.
        stale: validations since the best one.
        skipped, bad: unreadable videos so far, and those of the current epoch.
        log_bytes: length of the log at this point.
        window: what was measured in the steps after the log's last line.
        seconds: spent so far.
    """

    epoch: Annotated[int, Field(ge=0, le=10**6)] = 0
    step: _Count = 0
    total_batch: _Count = 0
    videos: _Count = 0
    top1: _Share | None = None
    best_top1: _Share | None = None
    scored: _Count = 0
    stale: _Count = 0
    skipped: _Count = 0
    bad: _Count = 0
    log_bytes: _Count = 0
    window: tuple[dict[str, float | None], ...] = ()
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """A network, and what training needs to go on with it.

    Attributes:
        preset: name of the preset it was trained with.
        class_names: K names in index order.
        model: weights, averaged ones where `train.ema` is on.
        thresholds: of K probabilities, from which on a video is said to have a label; None where it has one.
        training: `Learner.state()`, or None in a file for use only.
        notes: a line for each stored key that this version does not know.
        events: how windows of long videos become events, where that was fitted.
    """

    preset: Annotated[str, AfterValidator(check_name)]
    config: Config
    class_names: list[str]
    progress: Progress
    model: dict[str, Any]
    training: dict[str, Any] | None = None
    notes: tuple[str, ...] = ()
    thresholds: tuple[Annotated[_Share, Field(strict=True)], ...] | None = None
    events: EventRules | None = None


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint over the one before, which stays until the new one is whole."""
    write_torch(path, checkpoint_tree(checkpoint))


def checkpoint_tree(checkpoint: Checkpoint) -> dict[str, Any]:
    """A checkpoint as it stands in a file."""
    several = {"thresholds": list(checkpoint.thresholds)} if checkpoint.thresholds else {}
    return {
        "format": FORMAT,
        "preset": checkpoint.preset,
        "config": checkpoint.config.model_dump_json(),
        "class_names": list(checkpoint.class_names),
        "progress": asdict(checkpoint.progress),
        "model": dict(checkpoint.model),
        "training": checkpoint.training,
        **several,
        **({"events": asdict(checkpoint.events)} if checkpoint.events else {}),
    }


def safetensors_facts(checkpoint: Checkpoint | None) -> dict[str, str]:
    """The metadata of a safetensors file of ours: a checkpoint without its tensors."""
    tree = checkpoint_tree(checkpoint) if checkpoint else {}
    facts = {key: value for key, value in tree.items() if key not in ("model", "training")}
    return {"tsm": json.dumps(facts)} if facts else {}


def copy_checkpoint(source: Path, target: Path) -> None:
    """Give a checkpoint a second name; it costs no space where the file system has hard links."""
    with replacing(target) as part:
        try:
            os.link(source, part)
        except OSError:
            shutil.copyfile(source, part)


def open_checkpoint(path: Path | str) -> Checkpoint | None:
    """One of our checkpoints; None for another readable file, such as bare weights. See `checkpoint_of`."""
    return checkpoint_of(read_file(path), path)


def checkpoint_of(tree: Mapping[str, Any], path: Path | str) -> Checkpoint | None:
    """What was read from a file, as one of our checkpoints; None for anything else.

    Raises:
        WeightsError: it is incomplete, or from a newer tsm.
    """
    if not isinstance(tree.get("format"), int):
        return None
    if not 1 <= tree["format"] <= FORMAT:
        message = f"{path}: checkpoint format {tree['format']}; this tsm reads up to {FORMAT}"
        raise WeightsError(message, hint="pip install --upgrade tsmcli")
    try:
        config, notes = _stored_config(tree["config"])
        checkpoint = _CHECKPOINT.validate_python({**tree, "config": config, "notes": notes})
    except KeyError as error:
        raise WeightsError(f"{path}: the checkpoint is incomplete: there is no {error}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        what = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
        raise WeightsError(f"{path}: the checkpoint is damaged or of another version: {key} {what}") from None
    check_weights(checkpoint.model, path)
    names, bias = len(checkpoint.class_names), checkpoint.model.get("fc.bias")
    if bias is not None and (classes := bias.numel()) != names:
        raise WeightsError(f"{path}: {names} class names for a classifier of {classes} classes")
    if checkpoint.thresholds is not None and len(checkpoint.thresholds) != names:
        raise WeightsError(f"{path}: {len(checkpoint.thresholds)} thresholds for {names} classes")
    if (rules := checkpoint.events) and {*map(len, (rules.thresholds, rules.gap_sec, rules.min_sec))} != {names}:
        raise WeightsError(f"{path}: its rules for events are not of {names} classes")
    return checkpoint


_CHECKPOINT = TypeAdapter(Checkpoint)


def _stored_config(text: str) -> tuple[Config, tuple[str, ...]]:
    """A stored configuration, and notes of what was left out because this version does not know it.

    Keys of the training may be left out. Keys of the network and its tests may not, unless they are switched off.
    Anything else that is wrong is a ValidationError.
    """
    try:
        return Config.model_validate_json(text), ()
    except ValidationError as error:
        problems = error.errors(include_url=False)
        if not all(problem["loc"] for problem in problems):  # no JSON, or values that do not go together
            raise
    tree, notes = json.loads(text), []
    for problem in problems:
        *sections, key = map(str, problem["loc"][:2])
        how = sections and sections[0] in ("data", "augment", "train") and problem["type"] != "value_error"
        if how or is_gone(problem):
            (tree[sections[0]] if sections else tree).pop(key, None)
            told = f"{'.'.join([*sections, key])} was {problem['input']!r:.60}"
            notes.append(f"{told} in the checkpoint's configuration; this version does not know that")
    return Config.model_validate_json(json.dumps(tree)), tuple(notes)


def load_weights(
    model: TSM,
    source: Path | str | Mapping[str, Tensor],
    *,
    new_classifier: bool = False,
    dataset: str | None = None,
    of: Path | str = "",
) -> LoadReport:
    """Load weights in any known layout into a network: ours, MMAction2's, the authors', torchvision's.

    The authors' files of Something-Something V1 and Jester have their classes in alphabetical order; they are put
    into the official one.

    Args:
        source: a file, or a state dict.
        new_classifier: leave the classifier fresh and ignore the file's.
        dataset: catalog name of the data it was trained on; default what `model` was built for.
        of: the file that a state dict was read from, for messages.

    Raises:
        WeightsError: the file cannot be read, or is of another network; the network is then unchanged.
        UsageError: the order of the classes depends on a dataset that is not known.
    """
    state = source if isinstance(source, Mapping) else weights_of(read_file(source))
    of = (of or "these weights") if isinstance(source, Mapping) else source
    check_weights(state, of)
    try:
        report, tensors = match_all(model, state, new_classifier=new_classifier)
        rows = None
        if report.layout == "mit" and not new_classifier:
            rows = authors_class_order(dataset or model.dataset, model.fc.out_features)
    except (WeightsError, UsageError) as error:
        raise type(error)(f"{of}: {error}", error.hint) from None
    if rows:
        tensors |= {key: tensors[key][rows] for key in ("fc.weight", "fc.bias")}
    model.load_state_dict(tensors, strict=False)
    return report

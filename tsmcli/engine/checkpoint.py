"""Checkpoints: our own, which rebuild their network, and weight files of anyone else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from tsmcli.config import Config
from tsmcli.core.tsm import TSM
from tsmcli.core.weights import LoadReport, load_state
from tsmcli.engine.weight_file import read_file, read_weights, write_torch
from tsmcli.errors import WeightsError

FORMAT = 2
"""Number of the checkpoint format; a higher one comes from a newer tsm."""


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Random states need no place here: every draw comes from (seed, epoch, step or video, rank).

    Attributes:
        epoch: epochs done, with their validation.
        step: optimiser steps done of the epoch after those; all of them if only its validation is missing.
        total_batch: videos per step, over all processes.
        videos: in the training list.
        top1, best_top1: last and best validation accuracy, or None before the first.
        skipped, bad: unreadable videos so far, and those of the epoch at work.
        log_bytes: length of the log at this point.
        seconds: spent so far.
    """

    epoch: int = 0
    step: int = 0
    total_batch: int = 0
    videos: int = 0
    top1: float | None = None
    best_top1: float | None = None
    skipped: int = 0
    bad: int = 0
    log_bytes: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """A network, and what training needs to go on with it.

    Attributes:
        preset: name of the preset it was trained with.
        config: its complete configuration.
        class_names: K names in index order.
        progress: where the training stands.
        model: weights, averaged ones where `train.ema` is on.
        training: `Learner.state()`, or None in a file for use only.
    """

    preset: str
    config: Config
    class_names: list[str]
    progress: Progress
    model: Mapping[str, Tensor]
    training: Mapping[str, Any] | None = None


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint over the one before, which stays until the new one is whole."""
    write_torch(path, checkpoint_tree(checkpoint))


def checkpoint_tree(checkpoint: Checkpoint) -> dict[str, Any]:
    """A checkpoint as it stands in a file."""
    return {
        "format": FORMAT,
        "preset": checkpoint.preset,
        "config": checkpoint.config.model_dump_json(),
        "class_names": list(checkpoint.class_names),
        "progress": asdict(checkpoint.progress),
        "model": dict(checkpoint.model),
        "training": checkpoint.training,
    }


def copy_checkpoint(source: Path, target: Path) -> None:
    """Give a checkpoint a second name; it costs no space where the file system has hard links."""
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
    part.replace(target)


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read one of our checkpoints.

    Raises:
        WeightsError: the file is missing, damaged, not one of ours, or from a newer tsm.
    """
    checkpoint = open_checkpoint(path)
    if checkpoint is None:
        raise WeightsError(
            f"{path}: weights without a configuration, not a checkpoint of tsm",
            hint="say which network it is: --preset NAME",
        )
    return checkpoint


def open_checkpoint(path: Path | str) -> Checkpoint | None:
    """One of our checkpoints, or None for a readable file that is none: bare weights, say.

    Raises:
        WeightsError: the file is missing, damaged, or from a newer tsm.
    """
    return checkpoint_of(read_file(path), path)


def checkpoint_of(tree: Mapping[str, Any], path: Path | str) -> Checkpoint | None:
    """What was read from a file, as one of our checkpoints; None for anything else.

    Raises:
        WeightsError: it is incomplete, or from a newer tsm.
    """
    if not isinstance(tree.get("format"), int):
        return None
    if tree["format"] > FORMAT:
        raise WeightsError(
            f"{path}: checkpoint format {tree['format']}; this tsm reads up to {FORMAT}",
            hint="pip install --upgrade tsmcli",
        )
    try:
        return Checkpoint(
            preset=tree["preset"],
            config=Config.model_validate_json(tree["config"]),
            class_names=tree["class_names"],
            progress=Progress(**tree["progress"]),
            model=tree["model"],
            training=tree.get("training"),
        )
    except (KeyError, TypeError, ValidationError) as error:
        raise WeightsError(f"{path}: the checkpoint is incomplete: {error}") from None


def load_weights(
    model: TSM, source: Path | str | Mapping[str, Tensor], *, new_classifier: bool = False, of: Path | str = ""
) -> LoadReport:
    """Load weights in any known layout into a network: ours, MMAction2's, the authors', torchvision's.

    Args:
        source: a file, or a state dict.
        new_classifier: leave the classifier fresh and ignore the file's.
        of: the file that a state dict was read from, for messages.

    Raises:
        WeightsError: the file cannot be read, or is of another network; the network is then unchanged.
    """
    state, of = (source, of) if isinstance(source, Mapping) else (read_weights(source), source)
    try:
        return load_state(model, state, new_classifier=new_classifier)
    except WeightsError as error:
        raise WeightsError(f"{of}: {error}" if of else str(error), error.hint) from None

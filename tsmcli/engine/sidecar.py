"""The JSON file beside an exported one: what goes in, what comes out, and what a checkpoint says of itself."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tsmcli.engine.checkpoint import Checkpoint, checkpoint_of
from tsmcli.errors import WeightsError
from tsmcli.files import sha256

EXPORTED = (".onnx", ".xml", ".pt2")
"""Suffixes of exported networks: ONNX, OpenVINO, torch.export."""
_HINT = "tsm export writes both files; keep them together"


@dataclass(frozen=True)
class Exported:
    """An exported network.

    Attributes:
        stream: of single frames and what is kept of those before; else of clips.
        pixels: takes uint8 pixels; else normalised ones.
        probabilities: gives them; else logits.
        int8: computes in whole numbers.
        crop_px: width and height of its frames.
    """

    path: Path
    stream: bool
    pixels: bool
    probabilities: bool
    int8: bool
    crop_px: int


def sidecar_of(target: Path) -> Path:
    """The name of the description beside a file."""
    return target.with_name(target.name + ".json")


def read_exported(path: Path) -> tuple[Exported, Checkpoint, str]:
    """What stands beside an exported file: how it is used, a checkpoint without weights, and the file's SHA-256.

    Raises:
        WeightsError: there is no description, or it is of another file, damaged or of an older tsm.
    """
    sidecar, digest = sidecar_of(path), sha256(path)
    if not sidecar.is_file():
        raise WeightsError(f"{path}: there is no {sidecar.name} beside it that says what it takes", _HINT)
    try:
        facts = json.loads(sidecar.read_text(encoding="utf-8"))
        classes, frames, outputs = facts["class_names"], facts["frames"], facts["outputs"]
        none = {"fc.bias": torch.zeros(len(classes))}  # a checkpoint must have some weight
        own = checkpoint_of({**facts["checkpoint"]["tsm"], "model": none, "training": None}, sidecar)
        weights = facts.get("weights") or {}
        same = facts["sha256"] == digest
        if weights:
            same &= sha256(path.with_name(weights["file"])) == weights["sha256"]
        if own is None or not same:
            raise WeightsError(f"{sidecar} describes another file than {path}", _HINT)
        exported = Exported(
            path, str(facts["kind"]).endswith("stream"), facts["normalisation"]["inside"] is True,
            outputs[0]["name"] == "probabilities", bool(facts["int8"]), int(frames["crop_px"]),
        )  # fmt: skip
    except (ValueError, LookupError, TypeError, AttributeError, FileNotFoundError) as error:
        what = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise WeightsError(
            f"{sidecar}: not what this tsm writes beside a file: {what}", "export it again"
        ) from None
    return exported, replace(own, model={}), digest

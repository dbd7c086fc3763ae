"""An ONNX file in 8-bit whole numbers, and what that costs in accuracy on a list."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from tsmcli.config import Config
from tsmcli.core.exportable import Signature
from tsmcli.data.dataset import Loader, VideoDataset
from tsmcli.data.location import Split
from tsmcli.engine.events import VideoScored
from tsmcli.engine.exported_file import Runner, open_onnx
from tsmcli.engine.inference import as_input
from tsmcli.engine.quantiser import Feeds, Int8, write_int8
from tsmcli.engine.scores import average_views, averaging
from tsmcli.errors import DataError
from tsmcli.metrics import interval, map_interval, mean_average_precision
from tsmcli.recipes.compare import mcnemar
from tsmcli.recipes.events import Scoring


@dataclass(frozen=True)
class Quantised:
    """A quantised network beside the one it was made from, on the same videos.

    Attributes:
        layers: which layers stayed in floating point, and why.
        calibrated_on, tested_on, bad: videos; `bad` could not be read.
        metric: mAP where a video may have several labels.
        after, before: the metric as a fraction, under the preset's test protocol; of a stream, that of the mean
            over the frames of each view.
        low, high: 95 % interval of `after`.
        p: of McNemar's exact test of top-1; None with several labels.
        agreement: share of videos on which both say the same; with several labels, the same of each class.
        bytes_before: size of the file in float32.
    """

    layers: Int8
    calibrated_on: int
    tested_on: int
    bad: int
    metric: Literal["top1", "mAP"]
    after: float
    before: float
    low: float
    high: float
    p: float | None
    agreement: float
    bytes_before: int


def quantise(
    path: Path, config: Config, lists: Sequence[Split], videos: int, signature: Signature,
    thresholds: Sequence[float] | None = None,
) -> Generator[Scoring | VideoScored, None, Quantised]:  # fmt: skip
    """Replace an ONNX file by its 8-bit form, and test both.

    Args:
        lists: of training and validation.
        videos: how many training videos, spread over the list, the ranges are taken from.
        signature: of the file.
        thresholds: above which a class is said to be shown, where a video may have several.

    Raises:
        DataError: no video of a list can be read.
    """
    train, val = lists
    bytes_before, first = path.stat().st_size, open_onnx(path)
    layers, calibrated_on = calibrate(path, config, train, videos, signature)
    second = open_onnx(path)
    yield Scoring("testing both", len(val.records))
    labels, one, other = list[Tensor](), list[Tensor](), list[Tensor]()
    average = averaging(config, config.test) if thresholds is None else "sigmoid"
    for clips, label in _clips(config, val, signature, len(val.records)):
        labels.append(label)
        for run, scores in ((first, one), (second, other)):
            logits = torch.stack([_logits(run, view, signature) for view in clips.split(1)])
            scores.append(average_views(logits, average))
        yield VideoScored(len(labels) - 1, other[-1])
    if not labels:
        raise DataError("no video of the validation list could be read")
    truth, before, after = (torch.stack(rows).numpy() for rows in (labels, one, other))
    tested, bad = len(labels), len(val.records) - len(labels)
    if thresholds is not None:
        shown, limits = truth > 0, np.asarray(thresholds)
        agreement = float(((before >= limits) == (after >= limits)).all(axis=1).mean())
        value, value_before = (mean_average_precision(scores, shown) for scores in (after, before))
        low, high = map_interval(after, shown)
        return Quantised(
            layers, calibrated_on, tested, bad, "mAP", value, value_before, low, high, None, agreement, bytes_before
        )
    right, right_before = (scores.argmax(axis=1) == truth for scores in (after, before))
    top1, top1_before = float(right.mean()), float(right_before.mean())
    agreement = float((before.argmax(axis=1) == after.argmax(axis=1)).mean())
    p = mcnemar(int((right_before & ~right).sum()), int((right & ~right_before).sum()))
    low, high = interval(top1, tested)
    return Quantised(
        layers, calibrated_on, tested, bad, "top1", top1, top1_before, low, high, p, agreement, bytes_before
    )


def calibrate(path: Path, config: Config, train: Split, videos: int, signature: Signature) -> tuple[Int8, int]:
    """Replace an ONNX file by its 8-bit form; what became of its layers, and how many videos could be read.

    Raises:
        DataError: no video can be read.
    """
    read, run = list[int](), open_onnx(path)
    layers = write_int8(path, path, _feeds(run, _clips(config, train, signature, videos), signature, read))
    return layers, len(read)


def _clips(config: Config, split: Split, signature: Signature, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    """So many videos, spread over a list, as the file takes them, and their labels, without unreadable ones."""
    total = len(split.records)
    shard = np.linspace(0, total - 1, min(count, total)).astype(int).tolist()
    pixels = next(iter(signature.inputs.values())).dtype == torch.uint8
    with Loader(VideoDataset(split, config, config.test)) as loader:
        for batch in loader.videos(shard):
            for views, label in zip(batch.views, batch.labels, strict=True):
                yield as_input(views, pixels=pixels), label


def _feeds(
    run: Runner, clips: Iterator[tuple[Tensor, Tensor]], signature: Signature, read: list[int]
) -> Iterator[Feeds]:
    """What the network is fed with, run after run; `read` gets the number of views of each video."""
    for views, _ in clips:
        read.append(len(views))
        for view in views.split(1):
            pieces, cache = _begin(view, signature)
            for piece in pieces:
                inputs = [piece, *cache]
                yield {name: tensor.numpy() for name, tensor in zip(signature.inputs, inputs, strict=True)}
                if cache:
                    _, *cache = run(inputs)
    if not read:
        raise DataError("none of the training videos to calibrate with could be read")


def _logits(run: Runner, view: Tensor, signature: Signature) -> Tensor:
    """Logits [K] of one view; of a stream, their mean over its frames."""
    pieces, cache = _begin(view, signature)
    scores = list[Tensor]()
    for piece in pieces:
        found, *cache = run([piece, *cache])
        scores.append(found)
    said = torch.cat(scores)
    return (said.clamp(min=1e-30).log() if signature.outputs[0] == "probabilities" else said).mean(0)


def _begin(view: Tensor, signature: Signature) -> tuple[list[Tensor], list[Tensor]]:
    """A view [1, T, ...] as the inputs of one run after the other, and the cache of the first one."""
    _, *cache = signature.inputs.values()
    if "frames" not in signature.inputs:
        return [view], []
    return [frame.contiguous() for frame in view.unbind(1)], [kept.new_zeros(1, *kept.shape[1:]) for kept in cache]

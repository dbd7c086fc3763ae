"""An ONNX file in 8-bit whole numbers, and what that costs in accuracy on a list."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsmcli.config import Config
from tsmcli.core.tsm import normalize
from tsmcli.data.dataset import Loader, VideoDataset
from tsmcli.data.location import Places, find_split
from tsmcli.engine.exported_file import Runner, open_onnx
from tsmcli.errors import DataError
from tsmcli.metrics import interval


@dataclass(frozen=True)
class Quantised:
    """A quantised network beside the one it was made from, on the same videos.

    Attributes:
        calibrated_on, tested_on, bad: videos; `bad` could not be read.
        top1, top1_before: accuracy, as fractions, under the preset's test protocol.
        low, high: 95 % interval of `top1`.
        agreement: share of videos on which both say the same.
        bytes_before: size of the file in float32.
    """

    calibrated_on: int
    tested_on: int
    bad: int
    top1: float
    top1_before: float
    low: float
    high: float
    agreement: float
    bytes_before: int


def quantise(
    path: Path, config: Config, places: Places, num_classes: int, videos: int, *, pixels: bool, softmax: bool
) -> Quantised:
    """Replace an ONNX file by its 8-bit form: static, weights per channel, ranges from training videos.

    Args:
        videos: how many training videos, spread over the list, the ranges are taken from.
        pixels, softmax: the file takes uint8 pixels, and gives probabilities.

    Raises:
        DataError: there are no lists, or no video can be read.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    samples = _Samples(_clips(config, places, "train", num_classes, pixels, videos))
    before = path.stat().st_size
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".tsm-quantise-") as folder:
        plain, prepared, small = (Path(folder) / name for name in ("a.onnx", "b.onnx", "c.onnx"))
        plain.write_bytes(path.read_bytes())
        quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        try:
            quantize_static(
                str(prepared), str(small), samples, quant_format=QuantFormat.QDQ, per_channel=True,
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )  # fmt: skip
        except ValueError:
            if samples.videos:
                raise
            raise DataError("none of the training videos to calibrate with could be read") from None
        first, second = open_onnx(plain), open_onnx(small)
        said = [
            (label, *(_predict(run, clips, softmax=softmax) for run in (first, second)))
            for clips, label in _clips(config, places, "val", num_classes, pixels, None)
        ]
        if not said:
            raise DataError("no video of the validation list could be read")
        small.replace(path)
    labels, one, other = np.array(said).T
    listed = len(find_split(config.data, places, "val", num_classes).records)
    top1 = float((other == labels).mean())
    return Quantised(
        calibrated_on=samples.videos,
        tested_on=len(said),
        bad=listed - len(said),
        top1=top1,
        top1_before=float((one == labels).mean()),
        low=interval(top1, len(said))[0],
        high=interval(top1, len(said))[1],
        agreement=float((one == other).mean()),
        bytes_before=before,
    )


def _clips(
    config: Config, places: Places, split: str, num_classes: int, pixels: bool, count: int | None
) -> Iterator[tuple[Tensor, int]]:
    """The views of the videos of a list, as the file takes them, and their labels, without unreadable videos."""
    found = find_split(config.data, places, split, num_classes)
    total = len(found.records)
    shard = np.linspace(0, total - 1, min(count or total, total)).astype(int).tolist()
    with Loader(VideoDataset(found, config, config.test)) as loader:
        for batch in loader.videos(shard):
            for views, label in zip(batch.views, batch.labels.tolist(), strict=True):  # [V, T, 3, h, w]
                yield (views.movedim(2, -1) if pixels else normalize(views)).contiguous(), label


def _predict(run: Runner, clips: Tensor, *, softmax: bool) -> int:
    """The class with the highest mean probability over views, one view at a time."""
    scores = torch.cat([run([view])[0] for view in clips.split(1)])
    return int((scores if softmax else scores.softmax(-1)).mean(0).argmax())


class _Samples:
    """Clips, one view after the other, as onnxruntime's calibration asks for them.

    Attributes:
        videos: how many there were so far.
    """

    def __init__(self, clips: Iterator[tuple[Tensor, int]]) -> None:
        self.videos = 0
        self.views = self._views(clips)

    def get_next(self) -> dict[str, Any] | None:
        view = next(self.views, None)
        return None if view is None else {"clips": view.numpy()}

    def _views(self, clips: Iterator[tuple[Tensor, int]]) -> Iterator[Tensor]:
        for views, _ in clips:
            self.videos += 1
            yield from views.split(1)

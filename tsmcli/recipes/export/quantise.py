"""An ONNX file in 8-bit whole numbers, and what that costs in accuracy on a list."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsmcli.config import Config
from tsmcli.data.dataset import Loader, VideoDataset
from tsmcli.data.location import Split
from tsmcli.engine.exported_file import Runner, open_onnx
from tsmcli.engine.inference import as_input
from tsmcli.engine.scores import VideoScored
from tsmcli.errors import DataError
from tsmcli.metrics import interval
from tsmcli.recipes.events import Scoring


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
    path: Path, config: Config, lists: Sequence[Split], videos: int, *, pixels: bool, softmax: bool
) -> Generator[Scoring | VideoScored, None, Quantised]:
    """Replace an ONNX file by its 8-bit form: static, weights per channel, ranges from training videos.

    Args:
        lists: of training and validation.
        videos: how many training videos, spread over the list, the ranges are taken from.
        pixels, softmax: the file takes uint8 pixels, and gives probabilities.

    Raises:
        DataError: no video of a list can be read.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    train, val = lists
    samples = _Samples(_clips(config, train, pixels, videos))
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
        yield Scoring("testing both", len(val.records))
        said = []
        for clips, label in _clips(config, val, pixels, len(val.records)):
            said.append((label, *(_predict(run, clips, softmax=softmax) for run in (first, second))))
            yield VideoScored(len(said) - 1, clips.new_empty(0))
        if not said:
            raise DataError("no video of the validation list could be read")
        small.replace(path)
    labels, one, other = np.array(said).T
    tested, bad = len(said), len(val.records) - len(said)
    pairs = ((other, labels), (one, labels), (one, other))
    top1, top1_before, agreement = (float((a == b).mean()) for a, b in pairs)
    ends = interval(top1, tested)
    return Quantised(samples.videos, tested, bad, top1, top1_before, *ends, agreement, bytes_before=before)


def _clips(config: Config, split: Split, pixels: bool, count: int) -> Iterator[tuple[Tensor, int]]:
    """So many videos, spread over a list, as the file takes them, and their labels, without unreadable ones."""
    total = len(split.records)
    shard = np.linspace(0, total - 1, min(count, total)).astype(int).tolist()
    with Loader(VideoDataset(split, config, config.test)) as loader:
        for batch in loader.videos(shard):
            for views, label in zip(batch.views, batch.labels.tolist(), strict=True):
                yield as_input(views, pixels=pixels), label


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

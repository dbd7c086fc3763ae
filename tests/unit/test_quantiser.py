"""8-bit files: the layer that loses too much is found, stays in floating point, and is not quantised again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from tsmcli.core.exportable import Signature
from tsmcli.engine import packages
from tsmcli.engine.exported_file import open_onnx, trace, write_onnx
from tsmcli.engine.quantiser import Feeds, write_int8
from tsmcli.errors import EnvironmentProblem


class Small(nn.Module):
    """Pictures [B, 3, 8, 8] -> [B, 4]; the weights of `deep` are large and cancel each other where all is even."""

    def __init__(self, size: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.wide, self.deep, self.out = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=8), nn.Linear(8, 4)
        with torch.no_grad():
            weight = self.deep.weight
            weight += size * torch.randn(weight.shape)
            weight += (torch.randn(8, 1, 1, 1) - weight.sum((1, 2, 3), keepdim=True)) / 9

    def forward(self, frames: Tensor) -> Tensor:
        return self.out(self.deep(self.wide(frames).relu()).relu().mean((-2, -1)))


def write(path: Path, size: float, softmax: bool = False) -> Path:
    network = nn.Sequential(Small(size), nn.Softmax(-1)) if softmax else Small(size)
    signature = Signature({"frames": torch.rand(2, 3, 8, 8)}, ["probabilities" if softmax else "logits"])
    write_onnx(path, trace(network.eval(), signature), signature)
    return path


def colours(count: int = 12) -> list[Feeds]:
    """Pictures of one colour each."""
    drawn = np.random.default_rng(0).random((count, 1, 3, 1, 1), np.float32)
    return [{"frames": np.ascontiguousarray(np.broadcast_to(one, (1, 3, 8, 8)))} for one in drawn]


def as_run(path: Path) -> list[str]:
    """The operations that onnxruntime makes of a file."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(path) + ".run", 3
    onnxruntime.InferenceSession(path, options)
    return [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]


@pytest.mark.parametrize("softmax", [False, True])
def test_the_layer_that_loses_too_much_stays_in_floating_point(tmp_path: Path, softmax: bool) -> None:
    plain, small = write(tmp_path / "plain.onnx", 200, softmax), tmp_path / "small.onnx"
    done = write_int8(plain, small, iter(colours()))
    assert [name.rpartition(".")[2] for name in done.kept_float] == ["deep"]
    assert done.error < 0.05 < 0.2 < done.error_all
    frames = [torch.from_numpy(feed["frames"]) for feed in colours()]
    one, other = (torch.cat([run([frame])[0] for frame in frames]) for run in map(open_onnx, (plain, small)))
    assert (one - other).abs().max() < 0.05 * one.abs().max()
    assert sorted(kind for kind in as_run(small) if "Conv" in kind or "Gemm" in kind) == [
        "Conv",
        "QGemm",
        "QLinearConv",
    ]
    kinds = {value.name: value.data_type for value in onnx.load(small).graph.initializer}
    of = {name: kind for name, kind in kinds.items() if name.endswith(("weight", "weight_quantized"))}
    assert {name.partition(".weight")[0].rpartition(".")[2]: kind for name, kind in of.items()} == {
        "wide": onnx.TensorProto.INT8, "deep": onnx.TensorProto.FLOAT, "out": onnx.TensorProto.INT8,
    }  # fmt: skip


def test_all_layers_in_8_bits_where_that_costs_little(tmp_path: Path) -> None:
    plain = write(tmp_path / "plain.onnx", 0)
    done = write_int8(plain, plain, colours())
    assert (done.kept_float, done.error) == ([], done.error_all)
    kinds = {node.op_type for node in onnx.load(plain).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert "Clip" not in kinds
    assert [path.name for path in tmp_path.iterdir()] == ["plain.onnx"]


def test_without_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "installed", lambda name: name != "onnxruntime")
    with pytest.raises(EnvironmentProblem, match="not installed: onnxruntime"):
        write_int8(tmp_path / "a.onnx", tmp_path / "b.onnx", [])

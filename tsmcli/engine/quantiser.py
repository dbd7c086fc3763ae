"""An ONNX file in 8-bit whole numbers. Layers that lose too much by it stay in floating point.

Which layers these are is measured: the scores of the quantised file are compared with those of the plain one while
one layer after the other keeps its weights. Statistics of single tensors point at the wrong layers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsmcli.engine.exported_file import open_session
from tsmcli.engine.packages import need

Feeds = dict[str, NDArray[Any]]
"""Input name to array."""

LIMIT = 0.05
"""Largest error of the scores that needs no search; see `Int8.error`."""
GAIN = 0.9
"""A layer stays in floating point if the error is then at most this share of what it was."""
CANDIDATES = 8
"""Layers that are tried in combinations: those that help most alone."""
TRIES = 4
"""Samples that the error is measured on."""


@dataclass(frozen=True)
class Int8:
    """What was written.

    Attributes:
        kept_float: the layers in floating point, in the order in which they were chosen, named like their weights.
        error: of the file's scores on some samples, after the mean over classes was taken away: the length of the
            difference from the plain file's scores over the length of those.
        error_all: the same with all layers in 8 bits.
    """

    kept_float: list[str]
    error: float
    error_all: float


def write_int8(plain: Path, target: Path, samples: Iterable[Feeds], *, limit: float = LIMIT) -> Int8:
    """Write the 8-bit form of an ONNX file: static, weights per channel, ranges of activations from samples.

    The first output holds scores [B, K]: logits, or probabilities if that is its name. It stays in floating point.

    Args:
        samples: inputs of the network; they are taken one after the other, once.

    Raises:
        EnvironmentProblem: the packages of the extra "export" are not installed.
        ValueError: there are no samples.
    """
    need("onnx", "onnxruntime")
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    reader = _Reader(samples)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".tsm-quantise-") as folder:
        prepared, all_small = Path(folder, "prepared.onnx"), Path(folder, "small.onnx")
        quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        before = onnx.load(prepared)
        quantize_static(
            str(prepared), str(all_small), reader, calibrate_method=CalibrationMethod.MinMax, per_channel=True,
            quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            nodes_to_exclude=[node.name for node in before.graph.node if node.op_type == "Softmax"],
            extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm"]},
        )  # fmt: skip
        after = onnx.load(all_small)
    expected = _scores(plain.read_bytes(), reader.some)

    def measure(nodes: Sequence[str]) -> float:
        found = _scores(_with_float(after, before, nodes).SerializeToString(), reader.some)
        return float(np.linalg.norm(found - expected) / max(float(np.linalg.norm(expected)), 1e-30))

    error_all = measure([])
    kept, error = _search(_layers(after, before), measure, error_all, limit)
    target.write_bytes(_with_float(after, before, kept).SerializeToString())
    names = {node.name: node.input[1].removesuffix(".weight") for node in before.graph.node if len(node.input) > 1}
    return Int8([names[node] for node in kept], error, error_all)


def _search(
    nodes: Sequence[str], measure: Callable[[Sequence[str]], float], error: float, limit: float
) -> tuple[list[str], float]:
    """Nodes to keep in floating point, each the best one beside those before it, and the error that is left."""
    kept: list[str] = []
    if not error > limit:
        return kept, error
    ranked = sorted((measure([node]), node) for node in nodes)[:CANDIDATES]
    while ranked and ranked[0][0] <= GAIN * error:
        (error, best), *others = ranked
        kept.append(best)
        if error <= limit:
            break
        ranked = sorted((measure([*kept, node]), node) for _, node in others)
    return kept, error


def _layers(after: Any, before: Any) -> list[str]:
    """The nodes whose weights were quantised."""
    weights = {value.name for value in before.graph.initializer}
    small = {node.name: node for node in after.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")}
    return [
        node.name
        for node in before.graph.node
        if node.name in small and node.input[1] in weights and small[node.name].input[1] != node.input[1]
    ]


def _with_float(after: Any, before: Any, names: Sequence[str]) -> Any:
    """The quantised network, in which some nodes have their weights in floating point.

    Their biases stay whole numbers, of 32 bits. If both were floats, onnxruntime would quantise them again when it
    opens the file, and not even per channel.
    """
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(after)
    graph = model.graph
    weight_of = {node.name: node.input[1] for node in before.graph.node if node.name in names}
    for node in graph.node:
        if node.name in weight_of:
            node.input[1] = weight_of[node.name]
    graph.initializer.extend(value for value in before.graph.initializer if value.name in weight_of.values())
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    nodes = [node for node in graph.node if used.intersection(node.output)]
    used = {name for node in nodes for name in node.input}
    constants = [value for value in graph.initializer if value.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(constants)
    return model


def _scores(model: bytes, feeds: Sequence[Feeds]) -> NDArray[np.float64]:
    """The logits [N, K] of a network in memory, without their mean over classes."""
    session = open_session(model)
    name = session.get_outputs()[0].name
    scores = np.concatenate([session.run([name], feed)[0] for feed in feeds]).astype(np.float64)
    if name == "probabilities":
        scores = np.log(np.maximum(scores, 1e-30))
    centred: NDArray[np.float64] = scores - scores.mean(axis=-1, keepdims=True)
    return centred


class _Reader:
    """Samples as onnxruntime's calibration asks for them.

    Attributes:
        some: TRIES of them, drawn from all; every n-th one would be the first frame of a clip in a stream.
    """

    def __init__(self, samples: Iterable[Feeds]) -> None:
        self.samples: Iterator[Feeds] = iter(samples)
        self.some: list[Feeds] = []
        self.count, self.rng = 0, np.random.default_rng(0)

    def get_next(self) -> Feeds | None:
        feed = next(self.samples, None)
        if feed is not None:
            self.count += 1
            place = len(self.some) if self.count <= TRIES else int(self.rng.integers(self.count))
            if place < TRIES:
                self.some[place : place + 1] = [feed]
        return feed

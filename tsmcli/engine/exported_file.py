"""Write a network as ONNX, for OpenVINO or as a program of torch.export, and run such files."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import queue
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tsmcli.core.exportable import Signature
from tsmcli.engine.packages import need


@dataclass(frozen=True)
class Runner:
    """An opened file: inputs in the order of its signature -> outputs. Threads may call it at the same time.

    Attributes:
        shapes: of the inputs; a free dimension is 1.
        at_once: how many calls at a time keep the processor busy.
    """

    call: Callable[[Sequence[Tensor]], list[Tensor]]
    shapes: list[list[int]]
    at_once: int = 1

    def __call__(self, inputs: Sequence[Tensor]) -> list[Tensor]:
        return self.call(inputs)


def trace(network: nn.Module, signature: Signature) -> torch.export.ExportedProgram:
    """The network as a graph for any batch size."""
    batch = torch.export.Dim("batch", min=1)
    first, *others = ({0: batch} for _ in signature.inputs)
    shapes = (first, tuple(others)) if others else (first,)
    with torch.no_grad(), _quiet():
        return torch.export.export(network, tuple(signature.inputs.values()), dynamic_shapes=shapes)


def write_program(path: Path, program: torch.export.ExportedProgram) -> Runner:
    """Save a program of torch.export, and open the file again."""
    with _quiet():
        torch.export.save(program, path)
    return open_program(path)


def open_program(path: Path) -> Runner:
    """A file of torch.export, in PyTorch on the CPU. What torch would unpickle in it, it refuses."""
    with _quiet(), _no_pickled_code():
        program = torch.export.load(path)
    loaded: Any = program.module()
    wanted = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            outputs = loaded(*inputs)
        return list(outputs) if isinstance(outputs, tuple | list) else [outputs]

    return Runner(run, [_sizes(node.meta["val"].shape) for node in wanted])


def write_onnx(path: Path, program: torch.export.ExportedProgram, signature: Signature) -> Runner:
    """Save a program as one ONNX file with its weights inside, and open the file again."""
    need("onnx", "onnxscript", "onnxruntime")
    with _quiet():
        written: Any = torch.onnx.export(
            program, (), dynamo=True, external_data=False, verbose=False,
            input_names=list(signature.inputs), output_names=signature.outputs,
        )  # fmt: skip
        _name_batch(written.model)
        written.save(path, external_data=False)
    return open_onnx(path)


def open_session(model: Path | bytes, threads: int = 0) -> Any:
    """An ONNX file, or what would be in one, in onnxruntime, on the CPU; 0 threads: its own choice."""
    need("onnxruntime")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors
    given = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])


def open_onnx(path: Path, threads: int = 0, *, many: bool = False) -> Runner:
    """An ONNX file as a function; see `open_openvino`."""
    session = open_session(path, 1 if many else threads)
    names = [value.name for value in session.get_inputs()]

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        arrays = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return [torch.from_numpy(array) for array in session.run(None, arrays)]

    return Runner(run, [_sizes(value.shape) for value in session.get_inputs()], max(1, threads) if many else 1)


def write_openvino(folder: Path, network: nn.Module, signature: Signature) -> Path:
    """Save a network as `model.xml` and `model.bin` in a folder, for inputs of exactly the shapes of the examples.

    OpenVINO's own `convert_model` is not called: it reports its use over the network.
    """
    need("openvino")
    import openvino
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    examples = tuple(signature.inputs.values())
    with torch.no_grad(), _quiet():
        traced = torch.jit.trace(network, examples, check_trace=False)
        front = FrontEndManager().load_by_framework("pytorch")
        decoder = TorchScriptPythonDecoder(traced, example_input=examples)  # must live until it is converted
        model = front.convert(front.load(decoder))
    for port, (name, example) in zip(model.inputs, signature.inputs.items(), strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_partial_shape(openvino.PartialShape(list(example.shape)))
    for port, name in zip(model.outputs, signature.outputs, strict=True):
        port.get_tensor().set_names({name})
    model.validate_nodes_and_infer_types()
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return folder / "model.xml"


def open_openvino(path: Path, precision: str = "fp32", threads: int = 0, *, many: bool = False) -> Runner:
    """A file of OpenVINO or ONNX in OpenVINO, on the CPU.

    Args:
        precision: OpenVINO would choose bf16 by itself where the processor has it. 8 bits of a file stay 8 bits.
        threads: of all calls together; 0: its own choice.
        many: get many calls done soon, not each of them.
    """
    need("openvino")
    import openvino

    hints = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
        "PERFORMANCE_HINT": "THROUGHPUT" if many else "LATENCY",
        "ENABLE_CPU_PINNING": False,  # several processes would be pinned to the same core
        **({"INFERENCE_NUM_THREADS": threads} if threads else {}),
    }
    model = _read_openvino(path)
    compiled = openvino.Core().compile_model(model, "CPU", hints)
    at_once = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") if many else 1
    free: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for _ in range(at_once):
        free.put(compiled.create_infer_request())

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        request = free.get()
        try:
            outputs = request.infer([tensor.numpy() for tensor in inputs], share_inputs=True)
            return [torch.from_numpy(array.copy()) for array in outputs.values()]
        finally:
            free.put(request)

    return Runner(run, [list(port.shape) for port in compiled.inputs], at_once)


def onnx_to_openvino(path: Path) -> Path:
    """Write what is in an ONNX file of ours for OpenVINO, beside it, for inputs of one clip or stream."""
    import openvino

    openvino.save_model(_read_openvino(path), path.with_suffix(".xml"), compress_to_fp16=False)
    return path.with_suffix(".xml")


def _read_openvino(path: Path) -> Any:
    import openvino

    core = openvino.Core()
    core.set_property({"ENABLE_MMAP": False})  # a file that is open may be renamed or replaced
    model = core.read_model(path)
    if model.is_dynamic():  # a free batch, as in ONNX files of ours
        model.reshape({port: [1, *list(port.partial_shape)[1:]] for port in model.inputs})
    return model


def open_file(path: Path, engine: str, precision: str = "fp32", threads: int = 0, *, many: bool = False) -> Runner:
    """An exported file in one of the three engines; see `open_openvino`."""
    if engine == "openvino":
        return open_openvino(path, precision, threads, many=many)
    return open_onnx(path, threads, many=many) if engine == "onnxruntime" else open_program(path)


def _sizes(shape: Sequence[Any]) -> list[int]:
    return [side if isinstance(side, int) else 1 for side in shape]


def _name_batch(model: Any) -> None:
    """Call the free dimension `batch`; the exporter gives it a number of its own."""
    own = {str(value.shape[0]) for value in model.graph.inputs}
    for value in (*model.graph.inputs, *model.graph.outputs):
        if str(value.shape[0]) in own:
            value.shape[0] = "batch"


@contextlib.contextmanager
def _no_pickled_code() -> Iterator[None]:
    """Let `torch.load` refuse what can run code, even where the caller would allow it."""
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before


@contextlib.contextmanager
def _quiet() -> Any:
    """Silence the exporters, whose messages are of no use here."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)

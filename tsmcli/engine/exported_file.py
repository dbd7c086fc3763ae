"""Write a network as ONNX or as a program of torch.export, and run such files."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tsmcli.core.exportable import Signature
from tsmcli.errors import EnvironmentProblem

Runner = Callable[[Sequence[Tensor]], list[Tensor]]
"""Inputs in the order of the signature to outputs in its order."""


def need(*packages: str) -> None:
    """Raise EnvironmentProblem unless these are installed."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        raise EnvironmentProblem(f"not installed: {', '.join(missing)}", hint="pip install 'tsmcli[export]'")


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
        loaded: Any = torch.export.load(path).module()

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        with torch.no_grad():
            outputs = loaded(*inputs)
        return list(outputs) if isinstance(outputs, tuple | list) else [outputs]

    return run


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


def open_onnx(path: Path, threads: int = 0) -> Runner:
    """An ONNX file as a function; see `open_session`."""
    session = open_session(path, threads)
    names = [value.name for value in session.get_inputs()]

    def run(inputs: Sequence[Tensor]) -> list[Tensor]:
        arrays = {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)}
        return [torch.from_numpy(array) for array in session.run(None, arrays)]

    return run


def _name_batch(model: Any) -> None:
    """Call the free dimension `batch`; the exporter gives it a number of its own."""
    own = {str(value.shape[0]) for value in model.graph.inputs}
    for value in (*model.graph.inputs, *model.graph.outputs):
        if str(value.shape[0]) in own:
            value.shape[0] = "batch"


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

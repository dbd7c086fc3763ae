"""Networks in other engines than PyTorch, for timing, and what the processor could reach at most."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import nn

from tsmcli.config import Config
from tsmcli.core.exportable import ClipNetwork, Signature, example_input
from tsmcli.core.inference import fold_batch_norms, for_single_clips
from tsmcli.core.tsm import TSM
from tsmcli.engine.device import dtype_of
from tsmcli.engine.exported_file import open_file, open_openvino, write_openvino
from tsmcli.engine.inference import Choice, Engine, Numbers, file_engine
from tsmcli.engine.quantiser import write_int8
from tsmcli.engine.sidecar import Exported
from tsmcli.errors import EnvironmentProblem, UsageError
from tsmcli.presets import override
from tsmcli.recipes.bench.case import Case
from tsmcli.recipes.conversion import write_for
from tsmcli.recipes.engines import open_engine
from tsmcli.recipes.events import result_of
from tsmcli.recipes.network import open_network

_CALIBRATED_ON = 4
"""Random clips that an 8-bit network gets its scales from."""


def exported_network(path: Path, overrides: Sequence[str]) -> tuple[str, Config, Exported]:
    """The preset's name, the configuration and the use of an exported file; UsageError where it is none."""
    opened = result_of(open_network(path, None, overrides))
    if not opened.exported:
        hint = "--checkpoint takes what tsm export wrote; weights are as fast as those of a PRESET"
        raise UsageError(f"{path} is no exported network", hint)
    return opened.name, override(opened.config, [f"model.num_classes={len(opened.class_names)}"]), opened.exported


def open_for(case: Case, model: TSM, device: torch.device) -> Engine:
    """The network of a case as `tsm test` makes it ready, or its exported file; nothing is kept on disk."""
    choice, px = Choice(case.engine, case.precision), case.views.crop_px
    if case.file:
        opened = result_of(open_network(case.file))
        return result_of(open_engine(opened, choice, device, case.views, case.batch))
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ready, int8 = fold_batch_norms(model.eval()), case.precision == "int8"
        if case.engine == "openvino" and not int8:
            for_single_clips(ready)
        write_for("onnxruntime" if int8 else case.engine, folder, ClipNetwork(ready, pixels=True), px)
        file = next(folder.glob("model.[xo]*"))
        if int8:
            lead = [1, model.num_segments]
            clips = (example_input(lead, px, pixels=True, seed=seed) for seed in range(_CALIBRATED_ON))
            samples = ({"clips": clip.numpy()} for clip in clips)
            write_int8(file, folder / "int8.onnx", samples, limit=float("inf"))  # random weights: nothing to keep
            file = folder / "int8.onnx"
        many = case.batch * case.views.views > 2 * threads
        try:
            return file_engine(open_file(file, choice.engine, choice.precision, threads, many=many), choice)
        except RuntimeError as error:
            wrong = f"{choice.engine} does not take this network in {choice.precision}"
            raise EnvironmentProblem(wrong, "another --engine") from error


Product = tuple[int, Callable[[], object]]
"""How many multiply-adds a call is, and the call."""


def products(precision: Numbers, *, openvino: bool) -> dict[str, Product]:
    """Large products on the CPU, by name: of what the limit of the processor is the quickest of. All threads work.

    A 3x3 convolution is one, too: some libraries reach with it what their product of two matrices does not.
    """
    threads, side = torch.get_num_threads(), 1024
    size = threads * side**3
    if precision == "int8":
        left, right = (torch.randint(-128, 128, (n, side), dtype=torch.int8) for n in (threads * side, side))
        return {"torch's matrix product": (size, lambda: torch._int_mm(left, right))}
    dtype = dtype_of(precision, torch.device("cpu"))
    a, b = (torch.randn(n, side).to(dtype) for n in (threads * side, side))
    convolution = nn.Conv2d(256, 256, 3, padding=1).requires_grad_(False)
    pixels = torch.randn(2 * threads, 256, 28, 28)
    macs = pixels[:, 0].numel() * convolution.weight.numel()
    found: dict[str, Product] = {"torch's matrix product": (size, lambda: a @ b)}
    if openvino:
        with tempfile.TemporaryDirectory() as folder:
            file = write_openvino(Path(folder), convolution, Signature({"x": pixels}, ["y"]))
            run = open_openvino(file, precision, threads)
        found["openvino's convolution"] = macs, lambda: run([pixels])
    own = copy.deepcopy(convolution).to(dtype).to(memory_format=torch.channels_last)
    x = pixels.to(dtype).to(memory_format=torch.channels_last)
    return found | {"torch's convolution": (macs, lambda: own(x))}

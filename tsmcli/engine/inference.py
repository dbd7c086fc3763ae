"""Networks made ready to score views: by PyTorch, OpenVINO or onnxruntime, in one of four number formats."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor

from tsmcli.core.tsm import TSM, normalize
from tsmcli.engine.device import choose_precision
from tsmcli.engine.exported_file import Runner
from tsmcli.engine.packages import installed, need, version_of
from tsmcli.errors import EnvironmentProblem, is_out_of_memory

EngineName = Literal["auto", "torch", "torch-compile", "openvino", "onnxruntime"]
Numbers = Literal["fp32", "bf16", "fp16", "int8"]
_AT_ONCE = 8
"""Calls of PyTorch at a time on a CPU. The threads of one call wait for each other, and for cores that read videos;
those of several calls do not. But of many, Python runs one at a time."""

Tag = TypeVar("Tag")
Out = TypeVar("Out")


@dataclass(frozen=True)
class Choice:
    """An engine, and the number format that it computes in; `auto` while it is not chosen.

    Attributes:
        file: SHA-256 of the 8-bit form that was made of a checkpoint.
    """

    engine: EngineName = "auto"
    precision: Numbers = "fp32"
    file: str = ""

    def describe(self) -> dict[str, str]:
        """What is stored with scores."""
        facts = {"name": self.engine, "version": version_of(self._package), "precision": self.precision}
        return facts | ({"sha256": self.file} if self.file else {})

    def identity(self) -> dict[str, str]:
        """What scores depend on: the number format and its calibration; all engines give the same in fp32."""
        of = {"precision": self.precision} if self.precision != "fp32" else {}
        return of | ({"calibrated": self.file} if self.file else {})

    def __str__(self) -> str:
        """`openvino 2026.4.1, fp32`."""
        return f"{self.engine} {version_of(self._package).partition('-')[0]}, {self.precision}"

    @property
    def _package(self) -> str:
        return self.engine.partition("-")[0]


@dataclass(frozen=True)
class Engine:
    """A network made ready.

    Attributes:
        run: uint8 views [V, T, 3, h, w] -> float32 [V, ...] on the CPU: logits, or features.
        at_once: how many calls at a time keep the device busy, each of one view.
        pin: whether views should lie in memory that a GPU reads directly.
    """

    choice: Choice
    run: Callable[[Tensor], Tensor]
    at_once: int = 1
    pin: bool = False


def torch_engine(
    model: TSM, device: torch.device, choice: Choice | None = None, *, features: bool = False, many: bool = False
) -> Engine:
    """PyTorch with a network as it is; `for_inference` makes it fast.

    Args:
        features: give what the classifier gets, [V, T, C], instead of logits [V, K].
        many: on a CPU, get many calls done soon, not each of them.
    """
    network, dtype = model.frame_features if features else model, next(model.parameters()).dtype
    choice, pin = choice or Choice("torch"), device.type == "cuda"
    if choice.engine == "torch-compile":
        network = compiled(network, device)

    def score(views: Tensor) -> Tensor:
        return view_logits(network, views, device, dtype, at_once=1 if device.type == "cpu" else 16)

    several = many and device.type == "cpu" and choice.engine == "torch"
    return Engine(choice, score, min(torch.get_num_threads(), _AT_ONCE) if several else 1, pin)


def compiled(network: Callable[..., Out], device: torch.device) -> Callable[..., Out]:
    """A network compiled by torch for each shape of its inputs: on a CPU with constant weights.

    Nothing is compiled before the first call, which is a RuntimeError where there is no C++ compiler.
    """
    made: Any = torch.compile(network, dynamic=False, options={"freezing": True} if device.type == "cpu" else None)
    return cast(Callable[..., Out], made)


def file_engine(run: Runner, choice: Choice, *, pixels: bool = True, probabilities: bool = False) -> Engine:
    """An opened file of a network of clips; its probabilities become logits, of which they are the softmax."""

    def score(views: Tensor) -> Tensor:
        outputs = [run([as_input(view, pixels=pixels)])[0] for view in views.split(1)]
        return torch.cat([scores.log() if probabilities else scores for scores in outputs]).float()

    return Engine(choice, score, run.at_once)


def as_input(views: Tensor, *, pixels: bool) -> Tensor:
    """Views, uint8 [V, T, 3, h, w], as an exported network of clips takes them; see `ClipNetwork`."""
    return (views.movedim(2, -1) if pixels else normalize(views)).contiguous()


def score_in_order(engine: Engine, items: Iterable[tuple[Tag, Tensor]]) -> Iterator[tuple[Tag, Tensor]]:
    """What an engine says of views [V, T, 3, h, w], several at a time where that keeps the device busy.

    The next views are taken from `items` while the engine works; the results come in the order of the items.
    """
    if engine.at_once == 1:
        for tag, views in items:
            yield tag, engine.run(views)
        return
    threads = torch.get_num_threads()
    each = max(1, threads // engine.at_once)
    pool = ThreadPoolExecutor(engine.at_once, initializer=torch.set_num_threads, initargs=(each,))
    waiting: deque[tuple[Tag, list[Future[Tensor]]]] = deque()
    try:
        for tag, views in items:
            own = views.clone()  # out of the memory shared with workers, which was measured for those that are read
            waiting.append((tag, [pool.submit(engine.run, view) for view in own.split(1)]))
            while len(waiting) > engine.at_once:
                first, parts = waiting.popleft()
                yield first, torch.cat([part.result() for part in parts])
        for first, parts in waiting:
            yield first, torch.cat([part.result() for part in parts])
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


@torch.inference_mode()
def view_logits(
    model: Callable[[Tensor], Tensor],
    views: Tensor,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    *,
    at_once: int = 1,
) -> Tensor:
    """Logits [V, K] on the CPU of uint8 views [V, T, 3, h, w], by PyTorch with weights of a number format.

    Several at once are faster on a GPU, not on a CPU; half as many where they do not fit into its memory.
    """
    while True:
        try:
            chunks = (normalize(chunk.to(device, non_blocking=True)).to(dtype) for chunk in views.split(at_once))
            return torch.cat([model(chunk).float().cpu() for chunk in chunks])
        except RuntimeError as error:
            if at_once == 1 or not is_out_of_memory(error):
                raise
            at_once = -(-at_once // 2)


ABLE: dict[Numbers, tuple[EngineName, ...]] = {
    "fp32": ("torch", "torch-compile", "openvino", "onnxruntime"), "bf16": ("torch", "torch-compile", "openvino"),
    "int8": ("onnxruntime", "openvino"),
}  # fmt: skip
"""What computes in a number format on a CPU."""


NEEDED: dict[EngineName, tuple[str, ...]] = {
    "openvino": ("openvino",), "onnxruntime": ("onnx", "onnxscript", "onnxruntime"),
}  # fmt: skip
"""The packages of an engine, best known first."""


def choose_engine(wanted: Choice, device: torch.device) -> Choice:
    """What computes in a number format on a device; `auto` stays in fp32 and int8 on a CPU: it is measured.

    Raises:
        EnvironmentProblem: nothing does, or not the engine that is asked for, or it is not installed.
    """
    engine, precision = wanted.engine, wanted.precision
    if device.type != "cpu" and (precision == "int8" or engine not in ("auto", "torch", "torch-compile")):
        what = "int8" if precision == "int8" else engine
        raise EnvironmentProblem(f"{what} runs on a CPU, not on {device}", hint="--device cpu")
    if precision != "int8":
        choose_precision(precision, device)
    if device.type != "cpu":
        return Choice("torch" if engine == "auto" else engine, precision)
    if engine == "auto" and precision == "bf16":
        engine = "openvino" if installed("openvino") and openvino_has_bf16() else "torch"
    if engine != "auto" and engine not in ABLE[precision]:
        hint = f"--engine {' or '.join(ABLE[precision])}"
        raise EnvironmentProblem(f"{engine} does not compute in {precision} here", hint)
    need(*NEEDED.get(engine, ()))
    if engine == "openvino" and precision == "bf16" and not openvino_has_bf16():
        hint = "--engine torch, or --precision fp32"
        raise EnvironmentProblem("OpenVINO has no bf16 on this processor", hint)
    return Choice(engine, precision)


def openvino_has_bf16() -> bool:
    """Whether OpenVINO multiplies in bf16 on this processor; it would take fp32 instead without a word."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")

"""How much memory a training step takes, and the largest batch that fits."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks

from tsmcli.config import Config
from tsmcli.core.tsm import TSM, build_model

HEADROOM = 1.25
"""Workspaces of convolutions and the gradients in flight come on top of what is counted."""


def saved_bytes(model: TSM, clips: Tensor) -> int:
    """Bytes of activations that a forward pass in training mode keeps for the backward pass.

    Counts every storage once that autograd saves, and the inputs of recomputed blocks, but no parameters.
    """
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    def keep_input(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        keep(inputs[0])

    how, trunk = model.backbone.recompute, model.backbone.stages[1:]
    again = [] if how == "none" else [m for stage in trunk for m in ([stage] if how == "stage" else stage)]
    hooks = [module.register_forward_pre_hook(keep_input) for module in again]
    own = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers())}
    try:
        with saved_tensors_hooks(keep, lambda tensor: tensor):
            model(clips)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in own)


def activation_bytes(config: Config, num_classes: int, batch: int) -> int:
    """`saved_bytes` of a training step of a configuration in fp32, without computing anything."""
    size, segments = config.augment.crop_px, config.model.num_segments
    with FakeTensorMode():
        model = build_model(config.model, num_classes).train()
        model.backbone.recompute = config.train.recompute
        return saved_bytes(model, torch.empty(batch, segments, 3, size, size))


def num_parameters(config: Config, num_classes: int) -> int:
    """How many numbers a network learns, without building it."""
    with torch.device("meta"):
        return sum(p.numel() for p in TSM(config.model, num_classes).parameters())


def kept_numbers(config: Config) -> int:
    """How many numbers a training keeps for each that it learns: itself, the optimiser's, and its average."""
    return 1 + {"sgd": 1, "adamw": 2}[config.train.optimizer] + (config.train.ema > 0)


def step_bytes(config: Config, num_classes: int, batch: int) -> int:
    """An estimate of the memory of one training step in fp32, without computing anything.

    Weights, gradients, what the optimiser keeps, average, clips, and activations kept for the backward pass.
    """
    clips = batch * config.model.num_segments * 3 * config.augment.crop_px**2
    numbers = num_parameters(config, num_classes) * (1 + kept_numbers(config)) + clips
    return 4 * numbers + activation_bytes(config, num_classes, batch)


def largest_batch(
    config: Config, num_classes: int, free_bytes: int, try_step: Callable[[int], None] | None = None
) -> int:
    """The largest `train.batch` whose step fits into `free_bytes`; 1 at least.

    The estimate is linear in the batch. Where `try_step` is given, it takes a real step with a batch and raises
    `torch.OutOfMemoryError` if that does not fit; the batch is then lowered by a tenth until it does.
    """
    one, two = (step_bytes(config, num_classes, batch) for batch in (1, 2))
    fixed, per_video = 2 * one - two, two - one
    batch = max(1, int((free_bytes / HEADROOM - fixed) // per_video))
    while try_step and batch > 1:
        try:
            try_step(batch)
        except torch.OutOfMemoryError:
            batch = max(1, min(batch - 1, batch * 9 // 10))
        else:
            break
    return batch


@dataclass(frozen=True)
class PeakMemory:
    """The largest use of memory so far, in bytes; None where the system does not tell.

    Attributes:
        kind: what is counted.
        reserved_bytes: on a GPU, what torch took from the driver for it.
        before_bytes: the same as `peak_bytes` at an earlier time, such as before a network was built.
    """

    kind: str
    peak_bytes: int | None
    reserved_bytes: int | None = None
    before_bytes: int | None = None


def peak_memory(device: torch.device) -> PeakMemory:
    """Of a GPU what torch has allocated there, else the resident size of this process with all its libraries.

    Apple's Metal keeps no record of the peak; the memory in use now is given instead.
    """
    if device.type == "cuda":
        most, reserved = torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
        return PeakMemory("GPU memory allocated", most, reserved)
    if device.type == "mps":
        return PeakMemory("Metal memory in use now", torch.mps.driver_allocated_memory())
    return PeakMemory("resident size of the process", _largest_resident())


def _largest_resident() -> int | None:
    status = Path("/proc/self/status")
    if status.is_file():  # unlike getrusage, this leaves out the process that started this one
        most = re.search(r"^VmHWM:\s*(\d+)", status.read_text(), re.MULTILINE)
        return 1024 * int(most[1]) if most else None
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def free_memory(device: torch.device) -> int | None:
    """Bytes that can still be allocated on a device; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):  # Windows, macOS
        return None

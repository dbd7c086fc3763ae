"""The number format of the forward pass; weights, gradients and batch norm statistics stay float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch

from tsmcli.config import Precision
from tsmcli.errors import EnvironmentProblem

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(name: Precision, device: torch.device) -> Literal["fp32", "bf16", "fp16"]:
    """What `auto` means on a device: bf16 where a GPU computes in it, else fp32.

    Raises:
        EnvironmentProblem: fp16 without a GPU.
    """
    gpu = device.type == "cuda"
    if name == "auto":
        return "bf16" if gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if name == "fp16" and not gpu:
        raise EnvironmentProblem(f"fp16 needs a GPU, not {device}", hint="--precision fp32, or bf16")
    return name


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """The type of the numbers of a format on a device.

    Raises:
        EnvironmentProblem: see `choose_precision`.
    """
    return _DTYPES[choose_precision(precision, device)]


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """A context in which convolutions and matrix products run in the given format."""
    chosen = choose_precision(precision, device)
    return nullcontext() if chosen == "fp32" else torch.autocast(device.type, _DTYPES[chosen])

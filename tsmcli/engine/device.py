"""The device a run uses, its seeds, and what the machine is."""

from __future__ import annotations

import ctypes
import os
import platform
import random
import re
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from tsmcli import __version__
from tsmcli.config import Precision
from tsmcli.core.inference import Network, fold_batch_norms, join_shifts
from tsmcli.errors import EnvironmentProblem


def choose_device(name: str = "auto") -> torch.device:
    """`auto`, `cpu`, `cuda`, `cuda:1` or `mps` -> a device that is really there.

    On a CPU the process keeps memory that it frees from then on; see `keep_freed_memory`.

    Raises:
        EnvironmentProblem: the named device is missing. It is never replaced by another.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise EnvironmentProblem(f"no device named {name!r}", hint="use auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        hint = "`tsm doctor` says what torch sees; --device cpu works everywhere"
        raise EnvironmentProblem(f"--device {name}: torch sees {count} CUDA devices", hint)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise EnvironmentProblem(f"--device {name}: torch sees no such device", "--device cpu works everywhere")
    if device.type == "cpu":
        keep_freed_memory()
    if device.type == "cuda":
        allow_tf32(False)
    return device


def keep_freed_memory() -> bool:
    """Make glibc keep large freed blocks for the next allocation; False where the C library is another.

    By default it gives every block above 32 MiB back to the system, and gets the same pages anew for the next
    activation; that costs a fifth of a training step (benchmarks/README.md). A process stays as large as it was.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, -1))


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch (dropout); samples have generators of their own."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  for libraries that use the global generator; ours do not
    torch.manual_seed(seed)


def use_channels_last(model: nn.Module) -> None:
    """Store the weights of 2D convolutions channels-last, the faster format for our trunks on CPU and GPU."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.to(memory_format=torch.channels_last)


def for_inference(
    model: Network, device: torch.device, *, dtype: torch.dtype | None = None, channels_last: bool = True
) -> Network:
    """Prepare a network for inference on a device: fold batch norms and, on a CPU, join shifts.

    Its function stays the same, up to rounding. It is changed in place.
    """
    model = fold_batch_norms(model.eval())
    if channels_last and device.type == "cpu":
        join_shifts(model)
    model.to(device, dtype)
    if channels_last:
        use_channels_last(model)
    return model


def set_determinism(deterministic: bool) -> None:
    """Deterministic GPU operations, or the fastest ones. A CPU is deterministic either way."""
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    torch.backends.cudnn.benchmark = not deterministic


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """Versions and hardware, as written beside every result; `gpu` is the one that `device` names, if any."""
    return {
        "tsm": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device and device.type == "cuda" else None,
        "command": sys.argv,
    }


def _processor() -> str:
    """The processor's name, or its kind where the system does not tell."""
    listing = Path("/proc/cpuinfo")
    text = listing.read_text() if listing.is_file() else ""
    named = re.search(r"^model name[ \t]*:[ \t]*(.*\S)", text, re.MULTILINE)
    return named[1] if named else platform.processor() or platform.machine()


_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_precision(name: Precision, device: torch.device) -> Literal["fp32", "tf32", "bf16", "fp16"]:
    """What `auto` means on a device: bf16 where a GPU computes in it, else fp32. fp16 and tf32 need a GPU."""
    gpu = device.type == "cuda"
    if name == "auto":
        return "bf16" if gpu and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if name in ("fp16", "tf32") and not gpu:
        raise EnvironmentProblem(f"{name} needs a GPU, not {device}", hint="--precision fp32, or bf16")
    return name


def allow_tf32(allowed: bool) -> None:
    """Let float32 products on a GPU keep 10 bits of their factors, which newer GPUs do faster, or all 23.

    torch allows it in convolutions by default. Here it is off unless asked for, so that fp32 is float32.
    """
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """The type of the numbers of a format on a device."""
    return _DTYPES[choose_precision(precision, device)]


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """A context in which convolutions and matrix products run in the given format."""
    chosen = choose_precision(precision, device)
    return nullcontext() if _DTYPES[chosen] == torch.float32 else torch.autocast(device.type, _DTYPES[chosen])

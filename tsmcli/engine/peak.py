"""The most memory that a process has used so far."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch


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

    Apple's Metal keeps no record of the most: what is in use now stands for it.
    """
    if device.type == "cuda":
        return PeakMemory(
            "GPU memory allocated", torch.cuda.max_memory_allocated(device), torch.cuda.max_memory_reserved(device)
        )
    if device.type == "mps":
        return PeakMemory("Metal memory in use now", torch.mps.driver_allocated_memory())
    return PeakMemory("resident size of the process", _largest_resident())


def _largest_resident() -> int | None:
    status = Path("/proc/self/status")
    if status.is_file():  # unlike getrusage, this leaves out the process that started this one
        line = next((line for line in status.read_text().splitlines() if line.startswith("VmHWM:")), None)
        return 1024 * int(line.split()[1]) if line else None
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

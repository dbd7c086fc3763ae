"""Deterministic weights and inputs, the same on every machine, for the golden tests.

Every tensor depends on its MMAction2 name and shape alone: a PCG64 generator seeded with the first eight bytes
of the name's SHA-256 draws in float64, C order, and the result is rounded to float32. By kind of tensor:

    *.num_batches_tracked   0
    *.running_mean          0.1 * standard normal
    *.running_var           uniform [0.5, 1.5)
    2 or more dimensions    sqrt(gain / fan_in) * standard normal (nl_gain in a non-local block)
    1-D weight              uniform [0.5, 1.5)
    1-D bias                0.1 * standard normal
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor


def fill(shapes: dict[str, tuple[int, ...]], gain: float = 1.0, nl_gain: float = 0.5) -> dict[str, Tensor]:
    """Tensors for the given names and shapes."""
    return {
        name: torch.from_numpy(np.asarray(_draw(name, tuple(shape), gain, nl_gain)))
        for name, shape in shapes.items()
    }


def make_input(batch: int, segments: int, size: int, seed: int = 0) -> Tensor:
    """Standard normal clips [batch, segments, 3, size, size], float32."""
    rng = np.random.Generator(np.random.PCG64(seed))
    return torch.from_numpy(rng.standard_normal((batch, segments, 3, size, size)).astype(np.float32))


def digest(tensor: Tensor) -> str:
    """First 16 hex digits of the SHA-256 of a tensor's bytes."""
    return hashlib.sha256(np.ascontiguousarray(tensor.numpy()).tobytes()).hexdigest()[:16]


def _draw(name: str, shape: tuple[int, ...], gain: float, nl_gain: float) -> np.ndarray:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    rng = np.random.Generator(np.random.PCG64(seed))
    kind = name.rsplit(".", 1)[-1]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if kind == "running_mean":
        values = 0.1 * rng.standard_normal(shape)
    elif kind == "running_var":
        values = rng.uniform(0.5, 1.5, shape)
    elif len(shape) >= 2:
        values = np.sqrt(
            (nl_gain if "non_local_block" in name else gain) / np.prod(shape[1:])
        ) * rng.standard_normal(shape)
    elif kind == "weight":
        values = rng.uniform(0.5, 1.5, shape)
    else:
        values = 0.1 * rng.standard_normal(shape)
    return values.astype(np.float32)

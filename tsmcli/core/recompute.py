"""Activations that are computed again in the backward pass instead of being kept (Chen et al., 2016)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tsmcli.config import Recompute


def recomputed(function: Callable[[Tensor], Tensor], x: Tensor, owner: nn.Module) -> Tensor:
    """`function(x)`, keeping only `x` for the backward pass.

    The second computation does not change the running statistics of the batch norms in `owner`, so they see every
    batch once. Without gradients, and under a compiler, which decides what to keep, it is a plain call.
    """
    if not (owner.training and torch.is_grad_enabled()) or torch.compiler.is_compiling():
        return function(x)
    again = checkpoint(
        function,
        x,
        use_reentrant=False,
        preserve_rng_state=False,  # no random numbers in a trunk
        context_fn=lambda: (nullcontext(), statistics_kept(owner)),
    )
    assert isinstance(again, Tensor)
    return again


def run_stage(stage: nn.Sequential, x: Tensor, recompute: Recompute) -> Tensor:
    """A stage of a trunk: as it is, or recomputed as a whole or block by block."""
    if recompute == "stage":
        return recomputed(stage, x, stage)
    if recompute == "block":
        for block in stage:
            x = recomputed(block, x, block)
        return x
    return stage(x)


@contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Batch norms in training mode normalise by the batch, and leave their running statistics as they are."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    kept = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        batches = norm.num_batches_tracked
        norm.momentum, norm.num_batches_tracked = 0.0, None if batches is None else batches.clone()
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, kept, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches

"""Networks for inference: the same function in fewer passes over memory.

They can no longer be trained, and no layout has names for their tensors.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tsmcli.core.mobileone import MobileOneBlock
from tsmcli.core.resnet import Block
from tsmcli.core.shift import TemporalShift

Network = TypeVar("Network", bound=nn.Module)


def fold_batch_norms(model: Network) -> Network:
    """Fold every batch norm into the convolution before it, in place, and the branches of a MobileOne into one.

    In all our networks a batch norm is defined right after the convolution whose output it reads.

    Raises:
        ValueError: the network is in training mode, where a batch norm depends on the batch.
    """
    if model.training:
        raise ValueError("only a network in evaluation mode can be folded")
    for block in [module for module in model.modules() if isinstance(module, MobileOneBlock)]:
        block.fold()
    for parent in list(model.modules()):
        previous: tuple[str, nn.Module] = ("", parent)
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.modules.batchnorm._BatchNorm):
                convolution = previous[1]
                assert isinstance(convolution, nn.Conv2d | nn.Conv3d)
                setattr(parent, previous[0], fuse_conv_bn_eval(convolution, child))
                setattr(parent, name, nn.Identity())
            previous = name, child
    return model


def join_shifts(model: Network) -> Network:
    """Join the shifts of bottlenecks and MobileOne with the 1x1 convolutions behind (`ShiftedConv1x1`), in place.

    For a CPU, where this is faster than a copy. Batch norms must be folded already. MobileNetV2 would gain nothing:
    its shifted tensors are small, and a compiler joins its convolutions with their ReLU6 instead.
    """
    for block in list(model.modules()):
        if isinstance(block, Block | MobileOneBlock):
            block.join_shift()
    return model


class SingleClipShift(nn.Module):
    """`TemporalShift` of a single clip: [T, C, H, W] to the same shape, where T takes the place of the batch.

    For engines with a memory layout of their own: without a dimension for the clips they need not change it.
    """

    def __init__(self, shift: TemporalShift) -> None:
        super().__init__()
        self.num_segments, self.shift_div, self.direction = shift.num_segments, shift.shift_div, shift.direction

    def forward(self, x: Tensor) -> Tensor:
        windows = [self._shifted(window) for window in x.split(self.num_segments)]  # a single one, or shift_window
        return torch.cat(windows) if len(windows) > 1 else windows[0]

    def _shifted(self, x: Tensor) -> Tensor:
        fold = x.shape[1] // self.shift_div
        after = fold if self.direction == "bidirectional" else 0
        parts = x.split([after, fold, x.shape[1] - after - fold], 1)
        nothing = torch.zeros_like(parts[1][:1])
        from_next = [torch.cat((parts[0][1:], nothing))] if after else []
        return torch.cat((*from_next, torch.cat((nothing, parts[1][:-1])), parts[2]), 1)


def for_single_clips(model: Network) -> Network:
    """Replace every shift by one that takes a single clip, in place."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, TemporalShift):
                setattr(parent, name, SingleClipShift(child))
    return model

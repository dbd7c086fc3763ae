"""Networks for inference: the same function in fewer passes over memory.

They can no longer be trained, and no layout has names for their tensors.
"""

from __future__ import annotations

from typing import TypeVar

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tsmcli.core.resnet import Block

Network = TypeVar("Network", bound=nn.Module)


def fold_batch_norms(model: Network) -> Network:
    """Fold every batch norm into the convolution before it, in place.

    In all our networks a batch norm is defined right after the convolution whose output it reads.

    Raises:
        ValueError: the network is in training mode, where a batch norm depends on the batch.
    """
    if model.training:
        raise ValueError("only a network in evaluation mode can be folded")
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
    """Join every shift of a bottleneck ResNet with the 1x1 convolution behind it, in place (`ShiftedConv1x1`).

    For a CPU, where this is faster than a copy. Batch norms must be folded already. MobileNetV2 would gain nothing:
    its shifted tensors are small, and a compiler joins its convolutions with their ReLU6 instead.
    """
    for block in model.modules():
        if isinstance(block, Block):
            block.join_shift()
    return model

"""How much a network computes for a clip: multiply-adds, counted in two ways that differ and are both in use."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tsmcli.config import ModelConfig
from tsmcli.core.mobilenet import MobileNetV2
from tsmcli.core.mobileone import MobileOne
from tsmcli.core.resnet import ResNet
from tsmcli.core.tsm import TSM


@dataclass(frozen=True)
class Cost:
    """What one clip costs.

    Attributes:
        parameters: trained numbers.
        macs: multiply-adds of convolutions and matrix products, as torch counts them. FLOPs are twice as many.
        mmaction_count: what MMAction2's `get_flops` prints as FLOPs: multiply-adds of convolutions and the
            classifier, and 2 for an element of a batch norm, 1 for one of an activation, 1 for one that is pooled;
            but not the products of non-local blocks.
    """

    parameters: int
    macs: int
    mmaction_count: int

    @property
    def flops(self) -> int:
        """Multiplications and additions counted apart."""
        return 2 * self.macs


def count_cost(config: ModelConfig, num_classes: int, crop_px: int) -> Cost:
    """Count for one clip of T frames of `crop_px` pixels each way. Nothing is computed."""
    with torch.device("meta"):
        model = TSM(config, num_classes).eval()
        clip = torch.empty(1, config.num_segments, 3, crop_px, crop_px)
    counted = 0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal counted
        counted += _mmaction_rule(module, inputs[0], output)

    for module in model.modules():
        module.register_forward_hook(count)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(clip)
    return Cost(sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2, counted)


def _mmaction_rule(module: nn.Module, x: Tensor, y: Tensor) -> int:
    """Operations of one call of a module, with input x and output y."""
    match module:
        case nn.Conv2d() | nn.Conv3d():
            return y.numel() * (module.weight[0].numel() + (module.bias is not None))
        case nn.Linear():
            return x.numel() * module.out_features
        case nn.modules.batchnorm._BatchNorm():
            return 2 * x.numel()
        case nn.ReLU() | nn.ReLU6():
            return y.numel()
        case nn.MaxPool2d() | nn.MaxPool3d() | nn.AdaptiveAvgPool2d():
            return x.numel()
        case ResNet() | MobileNetV2() | MobileOne():
            return y.numel()  # the mean over positions that follows
        case _:
            return 0

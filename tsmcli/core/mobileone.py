"""MobileOne (Vasu et al., 2023), size S4, with the temporal shift in front of every convolution.

While it is trained, a block adds up several branches. They are one linear map, so for use one convolution takes
their place. Channels are filtered one by one (depthwise) and mixed (pointwise) in turn.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tsmcli.config import ModelConfig, Recompute
from tsmcli.core.recompute import run_stage
from tsmcli.core.shift import TemporalShift
from tsmcli.core.shifted_conv import ShiftedConv1x1, is_pointwise

STAGES = ((192, 2, 0), (448, 8, 0), (896, 10, 5), (2048, 1, 1))
"""(channels, pairs of blocks, how many of the last pairs weigh their channels by squeeze-and-excitation)."""


def conv_bn(in_channels: int, out_channels: int, kernel: int, stride: int, groups: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


def excitation(channels: int) -> nn.Module:
    """Squeeze-and-excitation with a sixteenth of the channels between."""
    from torchvision.ops import SqueezeExcitation  # takes a second, and only this network needs it

    return SqueezeExcitation(channels, channels // 16)


class PixelConv(nn.Conv2d):
    """A 1x1 convolution of every `step`-th pixel each way, which it picks before.

    With a stride instead, the backward pass of the 3 channels of a frame, stored channels-last on a CPU, writes
    past its memory (oneDNN, issue 6035).
    """

    def __init__(self, in_channels: int, out_channels: int, step: int, groups: int) -> None:
        super().__init__(in_channels, out_channels, 1, groups=groups, bias=False)
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, :, :: self.step, :: self.step])


class MobileOneBlock(nn.Module):
    """Shift, the sum of the branches, squeeze-and-excitation, ReLU.

    The branches: a convolution; where its kernel is larger than 1, one of single pixels; and where the shape stays
    the same, the input itself. Each has a batch norm. `folded`: one convolution with a bias instead.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, groups: int, excite: bool,
        config: ModelConfig,
    ) -> None:  # fmt: skip
        super().__init__()
        self.shift: nn.Module = nn.Identity()
        if config.shift != "none" and in_channels >= config.shift_div:  # not the 3 of the stem: none would move
            self.shift = TemporalShift(config.shift_window or config.num_segments, config.shift_div, config.shift)
        self.branches = nn.ModuleDict()
        if in_channels == out_channels and stride == 1:
            self.branches["identity"] = nn.BatchNorm2d(out_channels)
        if kernel > 1:
            pixels = PixelConv(in_channels, out_channels, stride, groups)
            self.branches["scale"] = nn.Sequential(pixels, nn.BatchNorm2d(out_channels))
        self.branches["conv"] = conv_bn(in_channels, out_channels, kernel, stride, groups)
        if config.folded:
            conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups)
            self.branches = nn.ModuleDict({"folded": conv})
        self.se: nn.Module = excitation(out_channels) if excite else nn.Identity()
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B*T, C, H, W] -> [B*T, C', H', W']; half of H and W where the stride is 2."""
        x = self.shift(x)
        first, *others = self.branches.values()
        y = first(x)
        for branch in others:
            y = y + branch(x)
        return self.relu(self.se(y))

    @torch.no_grad()
    def fold(self) -> None:
        """Put one convolution with a bias in the place of all branches. Only right in evaluation mode."""
        branches: dict[str, Any] = dict(self.branches.items())
        if "folded" in branches:
            return
        conv, norm = branches["conv"]
        folded, others = fuse_conv_bn_eval(conv, norm), []
        if "scale" in branches:
            others.append(fuse_conv_bn_eval(*branches["scale"]))
        if "identity" in branches:
            same = copy.deepcopy(conv)
            nn.init.dirac_(same.weight, same.groups)  # a convolution that changes nothing
            others.append(fuse_conv_bn_eval(same, branches["identity"]))
        for other in others:
            around = (folded.kernel_size[0] - other.kernel_size[0]) // 2
            folded.weight += F.pad(other.weight, [around] * 4)
            folded.bias += other.bias
        self.branches = nn.ModuleDict({"folded": folded})

    def join_shift(self) -> None:
        """Make one module of the shift and a 1x1 convolution behind it; see `core.inference`."""
        conv = self.branches["folded"]
        if isinstance(self.shift, TemporalShift) and is_pointwise(conv):
            self.branches["folded"], self.shift = ShiftedConv1x1(self.shift, conv), nn.Identity()


class MobileOne(nn.Module):
    """A MobileOne-S4 trunk: frames [B*T, 3, H, W] -> feature maps [B*T, 2048, H/32, W/32]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = round(64 * config.width)
        self.stage0 = nn.Sequential(MobileOneBlock(3, channels, 3, 2, 1, False, config))
        stages = []
        for width, pairs, excited in STAGES:
            out, blocks = round(width * config.width), []
            for pair in range(pairs):
                stride, excite = 2 if pair == 0 else 1, pair >= pairs - excited
                blocks.append(MobileOneBlock(channels, channels, 3, stride, channels, excite, config))
                blocks.append(MobileOneBlock(channels, out, 1, 1, 1, excite, config))
                channels = out
            stages.append(nn.Sequential(*blocks))
        self.stage1, self.stage2, self.stage3, self.stage4 = stages
        self.out_channels = channels
        self.recompute: Recompute = "none"

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = run_stage(stage, x, self.recompute)
        return x

    @property
    def stages(self) -> list[nn.Sequential]:
        """The stem and the four stages."""
        return [self.stage0, self.stage1, self.stage2, self.stage3, self.stage4]

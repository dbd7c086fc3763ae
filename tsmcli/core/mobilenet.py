"""MobileNetV2 (Sandler et al., 2018) with the temporal shift in its residual blocks.

Parameter names are torchvision's.
"""

from __future__ import annotations

from itertools import accumulate

from torch import Tensor, nn

from tsmcli.config import ModelConfig, Recompute
from tsmcli.core.recompute import run_stage
from tsmcli.core.shift import TemporalShift

GROUPS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
"""(expansion, channels, blocks, stride of the first block)."""


def round_channels(channels: float) -> int:
    """The nearest multiple of 8 that is not more than 10 % below `channels`, and at least 8."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def conv_bn_relu6(in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """Expand, filter per channel, project; the shift is in front of the expansion of blocks with a shortcut."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int, expansion: int, config: ModelConfig
    ) -> None:
        super().__init__()
        inner = in_channels * expansion
        self.shortcut = stride == 1 and in_channels == out_channels
        self.shift: nn.Module = nn.Identity()
        if self.shortcut and expansion != 1 and config.shift != "none":
            self.shift = TemporalShift(config.shift_window or config.num_segments, config.shift_div, config.shift)
        self.conv = nn.Sequential(
            *([conv_bn_relu6(in_channels, inner, 1)] if expansion != 1 else []),
            conv_bn_relu6(inner, inner, 3, stride, groups=inner),
            nn.Conv2d(inner, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(self.shift(x))
        return x + y if self.shortcut else y


class MobileNetV2(nn.Module):
    """A MobileNetV2 trunk: frames [B*T, 3, H, W] -> feature maps [B*T, 1280, H/32, W/32]."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = round_channels(32 * config.width)
        self.out_channels = round_channels(1280 * max(1.0, config.width))
        layers = [conv_bn_relu6(3, channels, 3, 2)]
        for expansion, width, blocks, stride in GROUPS:
            for index in range(blocks):
                out = round_channels(width * config.width)
                layers.append(InvertedResidual(channels, out, stride if index == 0 else 1, expansion, config))
                channels = out
        layers.append(conv_bn_relu6(channels, self.out_channels, 1))
        self.features = nn.Sequential(*layers)
        self.recompute: Recompute = "none"

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x = run_stage(stage, x, self.recompute)
        return x

    @property
    def stages(self) -> list[nn.Sequential]:
        """The stem, the groups of blocks, and the last convolution."""
        ends = list(accumulate([1, *(blocks for _, _, blocks, _ in GROUPS), 1]))
        return [self.features[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]

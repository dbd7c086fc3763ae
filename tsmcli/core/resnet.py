"""ResNet (He et al., 2016) with the temporal shift in its residual blocks.

Parameter names are torchvision's. Stride 2 is in the 3x3 convolution of a bottleneck.
"""

from __future__ import annotations

from torch import Tensor, nn

from tsmcli.config import ModelConfig, Recompute
from tsmcli.core.nonlocal_block import NonLocal
from tsmcli.core.recompute import recomputed, run_stage
from tsmcli.core.shift import TemporalPool, TemporalShift
from tsmcli.core.shifted_conv import ShiftedConv1x1, is_pointwise

DEPTHS = {
    "resnet18": (2, 2, 2, 2),
    "resnet34": (3, 4, 6, 3),
    "resnet50": (3, 4, 6, 3),
    "resnet101": (3, 4, 23, 3),
    "resnet152": (3, 8, 36, 3),
}
NON_LOCAL_BLOCKS = {2: (0, 2), 3: (0, 2, 4)}
"""Stage -> blocks of a ResNet-50 that are followed by a non-local block."""


class Block(nn.Module):
    """A residual block: shift, convolutions, shortcut, ReLU, and an optional non-local block.

    Args:
        shift: applied to what the residual branch reads.
        shift_shortcut: whether the shortcut reads the shifted frames too (`shift_place: block`).
    """

    expansion = 1

    def __init__(
        self, in_channels: int, channels: int, stride: int, shift: nn.Module, shift_shortcut: bool, tail: nn.Module
    ) -> None:
        super().__init__()
        self.shift, self.shift_shortcut = shift, shift_shortcut
        self.add_convolutions(in_channels, channels, stride)
        self.relu = nn.ReLU(inplace=True)
        out_channels = channels * self.expansion
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
            )
        self.non_local = tail

    def add_convolutions(self, in_channels: int, channels: int, stride: int) -> None:
        self.conv1: nn.Module = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def after_conv1(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(self.relu(self.bn1(x))))

    def shift_conv1(self, x: Tensor) -> Tensor:
        return self.conv1(self.shift(x))

    def join_shift(self) -> None:
        """Make one module of the shift and a 1x1 convolution behind it; see `core.inference`."""
        if isinstance(self.shift, TemporalShift) and not self.shift_shortcut and is_pointwise(self.conv1):
            self.conv1, self.shift = ShiftedConv1x1(self.shift, self.conv1), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B*T, C, H, W] -> [B*T, C', H', W']; half of H and W where the stride is 2."""
        if self.shift_shortcut:
            x = self.shift(x)
            y = self.conv1(x)
        elif isinstance(self.shift, TemporalShift):
            # The shifted copy is not kept for the backward pass; x is kept anyway, by the ReLU that made it.
            y = recomputed(self.shift_conv1, x, self)
        else:
            y = self.shift_conv1(x)
        x = self.relu(self.after_conv1(y) + self.downsample(x))
        return self.non_local(x)


class Bottleneck(Block):
    """The 1x1, 3x3, 1x1 block of ResNet-50 and deeper."""

    expansion = 4

    def add_convolutions(self, in_channels: int, channels: int, stride: int) -> None:
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels * 4, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels * 4)

    def after_conv1(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn2(self.conv2(self.relu(self.bn1(x)))))
        return self.bn3(self.conv3(x))


class ResNet(nn.Module):
    """A ResNet trunk: frames [B*T, 3, H, W] -> feature maps [B*T, C, H/32, W/32] (T/2 with temporal pooling)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        depths = DEPTHS[config.backbone]
        block = Block if config.backbone in ("resnet18", "resnet34") else Bottleneck
        width = round(64 * config.width)
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.out_channels = width
        self.layer1 = self._stage(config, block, 1, depths)
        self.time_pool = TemporalPool(config.num_segments) if config.temporal_pool else nn.Identity()
        self.layer2 = self._stage(config, block, 2, depths)
        self.layer3 = self._stage(config, block, 3, depths)
        self.layer4 = self._stage(config, block, 4, depths)
        self.recompute: Recompute = "none"

    def _stage(self, config: ModelConfig, block: type[Block], stage: int, depths: tuple[int, ...]) -> nn.Sequential:
        channels = round(64 * config.width) * 2 ** (stage - 1)
        segments = config.num_segments // 2 if config.temporal_pool and stage > 1 else config.num_segments
        blocks: list[nn.Module] = []
        for index in range(depths[stage - 1]):
            shift: nn.Module = nn.Identity()
            if config.shift != "none" and is_shifted(depths, index, config.shift_place):
                shift = TemporalShift(config.shift_window or segments, config.shift_div, config.shift)
            tail: nn.Module = nn.Identity()
            if config.non_local != "none" and index in NON_LOCAL_BLOCKS.get(stage, ()):
                causal = config.shift == "unidirectional"
                tail = NonLocal(channels * block.expansion, segments, config.non_local, causal=causal)
            stride = 2 if index == 0 and stage > 1 else 1
            place = config.shift_place == "block"
            blocks.append(block(self.out_channels, channels, stride, shift, place, tail))
            self.out_channels = channels * block.expansion
        return nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = run_stage(self.layer1, x, self.recompute)
        x = run_stage(self.layer2, self.time_pool(x), self.recompute)
        x = run_stage(self.layer3, x, self.recompute)
        return run_stage(self.layer4, x, self.recompute)

    @property
    def stages(self) -> list[nn.Sequential]:
        """The stem and the four stages."""
        return [nn.Sequential(self.conv1, self.bn1), self.layer1, self.layer2, self.layer3, self.layer4]


def is_shifted(depths: tuple[int, ...], index: int, place: str) -> bool:
    """Whether the block with this index within its stage is shifted.

    `blockres`: every block, but every second one of all four stages where the third stage has 23 or more blocks
    (ResNet-101 and 152). `block`: every block. Both as in the authors' code and MMAction2.
    """
    every = 2 if place == "blockres" and depths[2] >= 23 else 1
    return index % every == 0

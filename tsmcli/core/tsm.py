"""The network: a 2D trunk with temporal shifts, a classifier per frame, and a mean over the frames of a clip."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tsmcli.catalog import CATALOG
from tsmcli.config import Config, ModelConfig
from tsmcli.core.mobilenet import MobileNetV2
from tsmcli.core.mobileone import MobileOne
from tsmcli.core.nonlocal_block import NonLocal
from tsmcli.core.resnet import ResNet
from tsmcli.errors import ConfigError


class TSM(nn.Module):
    """Video classifier: normalised clips [B, T, 3, H, W] -> logits [B, K].

    The trunk works on frames; the classifier scores every frame and the consensus is the mean of those logits
    over time, before any softmax (paper section 4; the segment consensus of TSN). Folding clips into frames
    happens here and nowhere else, so one video can never leak into another.

    Attributes:
        dataset: catalog name of the dataset that the classes are of, if `build_model` got it; it decides the class
            order of the authors' weights.
    """

    dataset: str | None = None

    def __init__(self, config: ModelConfig, num_classes: int) -> None:
        super().__init__()
        self.num_segments = config.num_segments
        small: dict[str, type[MobileNetV2 | MobileOne]] = {"mobilenet_v2": MobileNetV2, "mobileone_s4": MobileOne}
        self.backbone = small.get(config.backbone, ResNet)(config)
        self.dropout = nn.Dropout(config.dropout)
        self.fc = nn.Linear(self.backbone.out_channels, num_classes)

    def forward(self, clips: Tensor) -> Tensor:
        """[B, T, 3, H, W] -> [B, K].

        Raises:
            ValueError: another shape, or another number of frames than the network was built for.
        """
        return self.frame_logits(clips).mean(1)

    def frame_logits(self, clips: Tensor) -> Tensor:
        """[B, T, 3, H, W] -> [B, T, K], before the consensus (T/2 with temporal pooling)."""
        return self.fc(self.dropout(self._pooled(clips))).unflatten(0, (clips.shape[0], -1))

    def frame_features(self, clips: Tensor) -> Tensor:
        """[B, T, 3, H, W] -> [B, T, C]: what the classifier gets of each frame (T/2 with temporal pooling)."""
        return self._pooled(clips).unflatten(0, (clips.shape[0], -1))

    def _pooled(self, clips: Tensor) -> Tensor:
        """[B, T, 3, H, W] -> [B*T, C]: the trunk's map of every frame, averaged over its pixels."""
        if clips.ndim != 5 or clips.shape[2] != 3:
            raise ValueError(f"expected clips [B, T, 3, H, W], got {list(clips.shape)}")
        if clips.shape[1] != self.num_segments:
            raise ValueError(f"this network takes clips of T={self.num_segments} frames, got T={clips.shape[1]}")
        return self.backbone(clips.flatten(0, 1)).mean((2, 3))  # of [B*T, C, h, w]


MEAN = (123.675, 116.28, 103.53)
STD = (58.395, 57.12, 57.375)
"""Of ImageNet, red, green and blue, on the scale 0 to 255: the normalisation of every recipe."""


def normalize(views: Tensor) -> Tensor:
    """uint8 [..., 3, H, W] -> float32 of the same shape, on the tensor's own device."""
    mean, std = (torch.tensor(v, device=views.device).view(3, 1, 1) for v in (MEAN, STD))
    return (views.float() - mean) / std


def build_model(config: Config | ModelConfig, num_classes: int | None = None, *, seed: int | None = None) -> TSM:
    """Build a network with fresh weights.

    Convolutions are Kaiming normal (fan out), the classifier is N(0, 0.001²) with zero bias, and a non-local
    block starts as an identity. Starting from ImageNet is `engine.checkpoint.load_weights`.

    Args:
        num_classes: K where the configuration leaves it to the dataset.
        seed: draw the weights from their own generator, leaving torch's global one as it was.

    Raises:
        ConfigError: the number of classes is not known.
    """
    model_config = config.model if isinstance(config, Config) else config
    classes = model_config.num_classes or num_classes
    if classes is None and isinstance(config, Config):
        classes = CATALOG[config.data.dataset].num_classes
    if classes is None:
        raise ConfigError("the number of classes is not known", hint="--set model.num_classes=K")
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        model = TSM(model_config, classes)
        reset_parameters(model)
    if isinstance(config, Config):
        model.dataset = config.data.dataset
    return model


def reset_parameters(model: TSM) -> None:
    """Initialise every parameter, by the published rules."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, NonLocal):
            module.reset_parameters()
    nn.init.normal_(model.fc.weight, std=0.001)
    nn.init.zeros_(model.fc.bias)

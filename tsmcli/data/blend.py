"""MixUp (Zhang et al., 2018) and CutMix (Yun et al., 2019) of a batch of clips, on its own device.

One blend for the whole batch: the same weight, partner order and box for all its videos, frames and channels.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tsmcli.config import AugmentConfig

PastedArea = tuple[int, int, int, int]
"""A box in pixels: x1, y1, x2, y2, of [x1, x2) by [y1, y2)."""


def blend(
    clips: Tensor, labels: Tensor, num_classes: int, config: AugmentConfig, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Blend a batch as the configuration says: (clips [N, T, 3, H, W], soft labels [N, K]).

    Args:
        clips: normalised [N, T, 3, H, W].
        labels: int64 [N], or many-hot [N, K].
    """
    soft = (labels if labels.ndim == 2 else F.one_hot(labels, num_classes)).to(clips.dtype)
    weight = float(rng.beta(config.mix_alpha, config.mix_alpha))
    partners = torch.from_numpy(rng.permutation(len(clips))).to(clips.device)
    if config.mix == "mixup":
        return mixup(clips, soft, weight, partners)
    width, height = clips.shape[-1], clips.shape[-2]
    box = cutmix_box(width, height, weight, int(rng.integers(width)), int(rng.integers(height)))
    return cutmix(clips, soft, box, partners)


def mixup(clips: Tensor, soft: Tensor, weight: float, partners: Tensor) -> tuple[Tensor, Tensor]:
    """weight * own + (1 - weight) * partner, pixels and labels alike."""
    mixed, labels = (weight * own + (1 - weight) * own[partners] for own in (clips, soft))
    return mixed, labels


def cutmix(clips: Tensor, soft: Tensor, box: PastedArea, partners: Tensor) -> tuple[Tensor, Tensor]:
    """The partner's pixels inside the box; labels by the share of the picture that remains one's own."""
    mixed, (x1, y1, x2, y2) = clips.clone(), box
    mixed[..., y1:y2, x1:x2] = clips[partners][..., y1:y2, x1:x2]
    own = 1 - (x2 - x1) * (y2 - y1) / (clips.shape[-1] * clips.shape[-2])
    return mixed, own * soft + (1 - own) * soft[partners]


def cutmix_box(width: int, height: int, weight: float, x: int, y: int) -> PastedArea:
    """The box around (x, y) with about (1 - weight) of the area, cut off at the border.

    Half sides are rounded down, so that an odd side loses a pixel, as in MMAction2.
    """
    share = (1 - weight) ** 0.5
    half_w, half_h = int(width * share) // 2, int(height * share) // 2
    return max(x - half_w, 0), max(y - half_h, 0), min(x + half_w, width), min(y + half_h, height)

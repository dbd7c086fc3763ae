"""Non-local block over space and time (Wang et al., CVPR 2018), as the TSM zoo uses it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Mode = Literal["gaussian", "embedded_gaussian", "dot_product"]


class NonLocal(nn.Module):
    """x + W(attention over all positions of the clip), an identity at initialisation.

    Every position of a clip attends to all positions of its spatially halved copy. `gaussian` compares the
    features themselves, `embedded_gaussian` and `dot_product` compare two learned embeddings; the first two
    normalise by softmax, the last by the number of keys.

    Args:
        channels: C of the input; the embeddings have C // 2.
        num_segments: T, to regroup frames into clips.
        sub_sample: halve the keys' height and width by max pooling.
        use_scale: divide embedded products by sqrt(C // 2); off in every published recipe.
    """

    def __init__(
        self,
        channels: int,
        num_segments: int,
        mode: Mode = "embedded_gaussian",
        *,
        sub_sample: bool = True,
        use_scale: bool = False,
    ) -> None:
        super().__init__()
        inner = max(channels // 2, 1)
        self.num_segments = num_segments
        self.mode = mode
        self.scale = inner**-0.5 if use_scale else 1.0
        # In this order parameters are met by the optimiser, as in MMAction2.
        self.g = nn.Conv3d(channels, inner, 1)
        self.out = nn.Conv3d(inner, channels, 1, bias=False)
        self.norm = nn.BatchNorm3d(channels)
        if mode != "gaussian":
            self.theta = nn.Conv3d(channels, inner, 1)
            self.phi = nn.Conv3d(channels, inner, 1)
        self.pool = nn.MaxPool3d((1, 2, 2)) if sub_sample else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[B*T, C, H, W] -> the same shape."""
        clips = x.unflatten(0, (-1, self.num_segments)).transpose(1, 2)  # [B, C, T, H, W]
        values = self.pool(self.g(clips)).flatten(2).transpose(1, 2)  # [B, keys, C/2]
        if self.mode == "gaussian":
            queries, keys = clips, self.pool(clips)
        else:
            queries, keys = self.theta(clips), self.pool(self.phi(clips))
        products = queries.flatten(2).transpose(1, 2) @ keys.flatten(2)  # [B, positions, keys]
        if self.mode == "dot_product":
            weights = products / products.shape[-1]
        else:
            scale = self.scale if self.mode == "embedded_gaussian" else 1.0
            weights = torch.softmax(products * scale, -1)
        attended = (weights @ values).transpose(1, 2).unflatten(2, clips.shape[2:])  # [B, C/2, T, H, W]
        return x + self.norm(self.out(attended)).transpose(1, 2).flatten(0, 1)

    def reset_parameters(self) -> None:
        """Small random embeddings, and a zero batch norm scale so that the block starts as an identity."""
        for name in ("g", "theta", "phi"):
            if hasattr(self, name):
                nn.init.normal_(getattr(self, name).weight, std=0.01)
                nn.init.zeros_(getattr(self, name).bias)
        nn.init.kaiming_normal_(self.out.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)

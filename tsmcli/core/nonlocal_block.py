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
        causal: a position attends only to its own frame and those before it, for networks without future frames.
    """

    def __init__(
        self,
        channels: int,
        num_segments: int,
        mode: Mode = "embedded_gaussian",
        *,
        sub_sample: bool = True,
        use_scale: bool = False,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.num_segments, self.mode, self.causal = num_segments, mode, causal
        inner = max(channels // 2, 1)
        self.scale = inner**-0.5 if use_scale else 1.0
        # The optimiser meets the parameters in this order, as in MMAction2.
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
        queries, keys, values = self.embed(clips)
        return x + self.attend(queries, keys, values, self._visible(clips, keys)).transpose(1, 2).flatten(0, 1)

    def embed(self, clips: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries [B, C', T, H, W]; keys [B, C', T, h, w] and values [B, C/2, T, h, w] of the pooled positions."""
        values = self.pool(self.g(clips))
        if self.mode == "gaussian":
            return clips, self.pool(clips), values
        return self.theta(clips), self.pool(self.phi(clips)), values

    def attend(self, queries: Tensor, keys: Tensor, values: Tensor, visible: Tensor | None = None) -> Tensor:
        """What the block adds to its input: [B, C, T, H, W].

        Args:
            queries, keys, values: as `embed` makes them; keys and values may be of other frames than the queries.
            visible: whether a position may attend to a key, [B or 1, positions or 1, keys]; None: to all.
        """
        products = queries.flatten(2).transpose(1, 2) @ keys.flatten(2)  # [B, positions, keys]
        if self.mode == "dot_product":
            if visible is None:
                weights = products / products.shape[-1]
            else:
                weights = products * visible / visible.sum(-1, keepdim=True)
        else:
            products = products * (self.scale if self.mode == "embedded_gaussian" else 1.0)
            if visible is not None:
                products = products.masked_fill(~visible, -torch.inf)
            weights = torch.softmax(products, -1)
        attended = (weights @ values.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, queries.shape[2:])
        added: Tensor = self.norm(self.out(attended))
        return added

    def _visible(self, clips: Tensor, keys: Tensor) -> Tensor | None:
        """[1, positions, keys]: the frame of the key is that of the position or one before it."""
        if not self.causal:
            return None
        frames = torch.arange(self.num_segments, device=clips.device)
        of_query = frames.repeat_interleave(clips.shape[3] * clips.shape[4])
        of_key = frames.repeat_interleave(keys.shape[3] * keys.shape[4])
        return (of_key <= of_query[:, None])[None]

    def reset_parameters(self) -> None:
        """Small random embeddings, and a zero batch norm scale so that the block starts as an identity."""
        for name in ("g", "theta", "phi"):
            if hasattr(self, name):
                nn.init.normal_(getattr(self, name).weight, std=0.01)
                nn.init.zeros_(getattr(self, name).bias)
        nn.init.kaiming_normal_(self.out.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.norm.weight)
        nn.init.zeros_(self.norm.bias)

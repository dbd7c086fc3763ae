"""Networks for export: they take pixels or normalised tensors and give scores, and their tensors have names."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tsmcli.core.streaming import StreamingTSM
from tsmcli.core.tsm import TSM, normalize


@dataclass(frozen=True)
class Signature:
    """The tensors of an exported network; the first dimension of each is the batch, of any size.

    Attributes:
        inputs: name -> an example.
        outputs: names; of a stream those of the scores, then of the cache for the next frame.
    """

    inputs: dict[str, Tensor]
    outputs: list[str]


class ClipNetwork(nn.Module):
    """Clips to scores.

    Args:
        pixels: take RGB pixels, uint8 [B, T, H, W, 3], and normalise them; else normalised float32 [B, T, 3, H, W].
        softmax: give probabilities instead of logits.
        features: give what the classifier gets of each frame instead, [B, T, C].
    """

    def __init__(self, model: TSM, *, pixels: bool = False, softmax: bool = False, features: bool = False) -> None:
        super().__init__()
        self.model = model.eval()
        self.pixels, self.softmax, self.features = pixels, softmax, features

    def forward(self, clips: Tensor) -> Tensor:
        """-> [B, K]."""
        clips = normalize(clips.movedim(-1, 2)) if self.pixels else clips
        if self.features:
            return self.model.frame_features(clips)
        logits = self.model(clips)
        return logits.softmax(-1) if self.softmax else logits

    def signature(self, size_px: int, batch: int = 2) -> Signature:
        """For clips of `size_px` pixels each way."""
        example = example_input([batch, self.model.num_segments], size_px, pixels=self.pixels)
        given = "features" if self.features else "probabilities" if self.softmax else "logits"
        return Signature({"clips": example}, [given])


class StreamNetwork(nn.Module):
    """A frame of each of B streams and the cache -> scores and the next cache.

    A stream begins with a cache of zeros. The arguments are those of `ClipNetwork`; frames have no T.
    """

    def __init__(self, model: TSM, *, pixels: bool = False, softmax: bool = False) -> None:
        super().__init__()
        self.step = StreamingTSM(model)
        self.pixels, self.softmax = pixels, softmax

    def forward(self, frames: Tensor, *cache: Tensor) -> tuple[Tensor, ...]:
        """-> [B, K], and as many tensors as `cache` has, of the same shapes."""
        logits, kept = self.step(normalize(frames.movedim(-1, 1)) if self.pixels else frames, cache)
        return (logits.softmax(-1) if self.softmax else logits, *kept)

    @torch.no_grad()
    def signature(self, size_px: int, batch: int = 2) -> Signature:
        """For frames of `size_px` pixels each way. One frame is run to find the shapes of the cache."""
        frames = example_input([batch], size_px, pixels=self.pixels)
        _, *kept = self(frames)
        cache = {f"cache_{i}": torch.zeros_like(tensor) for i, tensor in enumerate(kept)}
        scores = "probabilities" if self.softmax else "logits"
        return Signature({"frames": frames, **cache}, [scores, *(f"next_{name}" for name in cache)])


def example_input(lead: list[int], size_px: int, *, pixels: bool, seed: int = 0) -> Tensor:
    """Random pixels, uint8 [*lead, px, px, 3], or normalised ones, float32 [*lead, 3, px, px]."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(0, 256, (*lead, size_px, size_px, 3), dtype=torch.uint8, generator=generator)
    return drawn if pixels else normalize(drawn.movedim(-1, -3)).contiguous()

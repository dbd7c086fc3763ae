"""RandAugment and AugMix (Hendrycks et al., 2020) of a clip as pytorchvideo 0.1.5 has them; two recipes use them.

One draw for a clip: all its frames get the same operations with the same strength. The operations are those of
torchvision, as in the source. What differs from it: random numbers come from the sample's generator.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class Strength(NamedTuple):
    """How strong an operation is at a level of 0 to 10."""

    rule: Literal["up", "up_or_down", "down", "down_int"]
    base: float
    span: float

    def at(self, level: float, up: bool) -> float:
        """The operation's argument; `up` is the direction of `up_or_down`."""
        part = level / 10 * self.span
        part = int(part) if self.rule == "down_int" else part
        return self.base + part if self.rule == "up" or (self.rule == "up_or_down" and up) else self.base - part


_FILL = [0.5, 0.5, 0.5]  # meant for pixels of 0 to 1: on 0 to 255 it is black
_COLOURS = ("brightness", "contrast", "saturation", "sharpness")
_SHARED = {
    "autocontrast": None,
    "equalize": None,
    "rotate": Strength("up_or_down", 0, 30),  # degrees
    "posterize": Strength("down_int", 4, 4),  # bits that are kept
    "solarize": Strength("down", 1, 1),  # threshold, as a share of 255
    "shear_x": Strength("up_or_down", 0, 0.3),
    "shear_y": Strength("up_or_down", 0, 0.3),
}
RAND_AUGMENT: dict[str, Strength | None] = {
    **_SHARED,
    **dict.fromkeys(_COLOURS, Strength("up_or_down", 1, 0.9)),
    **dict.fromkeys(("translate_x", "translate_y"), Strength("up_or_down", 0, 0.45)),  # of width or height
    "invert": None,
}
AUG_MIX: dict[str, Strength | None] = {
    **_SHARED,
    **dict.fromkeys(_COLOURS, Strength("up", 0.1, 1.8)),
    **dict.fromkeys(("translate_x", "translate_y"), Strength("up_or_down", 0, 1 / 3)),
}


def augment_clip(
    frames: NDArray[np.uint8], kind: Literal["rand_augment", "aug_mix"], rng: np.random.Generator
) -> None:
    """Change a clip uint8 [T, px, px, 3] in place."""
    clip = torch.from_numpy(frames).movedim(-1, 1)
    changed = rand_augment(clip, rng) if kind == "rand_augment" else aug_mix(clip, rng)
    frames[:] = changed.movedim(1, -1).numpy()


def rand_augment(clip: Tensor, rng: np.random.Generator) -> Tensor:
    """Two different operations at about level 9, each with a probability of 1/2. Clips are uint8 [T, 3, h, w]."""
    for name in rng.choice(list(RAND_AUGMENT), 2, replace=False):
        if rng.random() < 0.5:
            level = min(max(rng.normal(9, 0.5), 0), 10)
            clip = _operate(clip, name, RAND_AUGMENT[name], level, rng)
    return clip


def aug_mix(clip: Tensor, rng: np.random.Generator) -> Tensor:
    """Three chains of one to three operations at levels up to 3, blended with each other and with the clip."""
    weights, keep = rng.dirichlet((1, 1, 1)), float(rng.beta(1, 1))
    mixed = torch.zeros(clip.shape)
    for weight in weights.tolist():
        chain = clip
        for name in rng.choice(list(AUG_MIX), rng.integers(1, 4)):
            chain = _operate(chain, name, AUG_MIX[name], rng.uniform(0.1, 3), rng)
        mixed += weight * chain
    return (keep * clip + (1 - keep) * mixed).to(torch.uint8)


def _operate(clip: Tensor, name: str, strength: Strength | None, level: float, rng: np.random.Generator) -> Tensor:
    up = bool(rng.random() < 0.5)
    return operate(clip, name, strength.at(level, up) if strength else 0)


def operate(clip: Tensor, name: str, value: float) -> Tensor:
    """An operation on a clip uint8 [T, 3, h, w]; `value` is its strength, without meaning where it has none.

    A shear keeps the first row (or column). A positive shift moves the picture left (or up).
    """
    from torchvision.transforms import functional as F  # takes seconds, and only two recipes need it

    changed: Tensor
    if name in _COLOURS:
        changed = getattr(F, f"adjust_{name}")(clip, value)
    elif name in ("posterize", "solarize"):
        changed = getattr(F, name)(clip, int(value * 255 if name == "solarize" else value))
    elif name == "rotate":
        changed = F.rotate(clip, value, F.InterpolationMode.BILINEAR, fill=_FILL)
    elif name[-2:] in ("_x", "_y"):
        width_or_height = clip.shape[-1 if name[-1] == "x" else -2]
        shear = name.startswith("shear")
        amount = math.degrees(math.atan(value)) if shear else -value * width_or_height
        along = [amount, 0.0] if name[-1] == "x" else [0.0, amount]
        shift, angles = ([0.0, 0.0], along) if shear else (along, [0.0, 0.0])
        changed = F.affine(clip, 0, shift, 1, angles, F.InterpolationMode.BILINEAR, _FILL, [0, 0])
    else:
        changed = getattr(F, name)(clip)
    return changed

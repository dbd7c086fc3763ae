"""RandAugment (Cubuk et al., 2020) as the published recipes use it: 2 of 15 operations, magnitude 9 of 10.

One draw for a clip: all its frames get the same operations with the same parameters. Pictures are uint8 RGB and
square. The operations are those of imgaug's set as MMAction2 configures it; geometric ones are warped by OpenCV
around the centre with a black border, enhancements are Pillow's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from tsmcli.data.spatial import Frame

Operation = Callable[[Frame], Frame]

_SHEAR = math.radians(17.19 * 0.9)
_ROTATION = math.radians(30 * 0.9)
_SHIFT = 0.18
_FACTOR = 1.8 * 0.9 + 0.1
_CUTOUT = 0.09  # half a side, as a share of the width
_SIGNED = 5  # the first five operations have a direction
NUM_OPERATIONS = 15


def rand_augment(
    frames: NDArray[np.uint8], rng: np.random.Generator, signs: NDArray[np.int64] | None = None
) -> None:
    """Change a clip uint8 [T, px, px, 3] in place: two different operations, in the order of the list.

    Args:
        signs: directions (1 or -1) of the five geometric operations; None draws them for this clip.
    """
    chosen = np.sort(rng.choice(NUM_OPERATIONS, 2, replace=False))
    signs = draw_signs(rng) if signs is None else signs
    place = rng.uniform(size=2)
    for index in chosen.tolist():
        sign = int(signs[index]) if index < _SIGNED else 1
        operation = make_operation(index, frames.shape[1], sign, (float(place[0]), float(place[1])))
        for t, frame in enumerate(frames):
            frames[t] = operation(frame)


def draw_signs(rng: np.random.Generator) -> NDArray[np.int64]:
    """Directions of the five geometric operations."""
    return rng.choice(np.array([-1, 1]), _SIGNED)


def make_operation(index: int, px: int, sign: Literal[-1, 1] | int, place: tuple[float, float]) -> Operation:
    """Operation `index` for pictures of `px` pixels.

    Args:
        sign: direction of a geometric operation.
        place: centre of the cut-out as shares of width and height.
    """
    if index < _SIGNED:
        matrix = _matrix(index, px, sign)
        return lambda image: cv2.warpAffine(image, matrix, (px, px), flags=cv2.INTER_LINEAR)
    return (
        lambda image: image & np.uint8(0xE0),  # posterise to 3 bits
        lambda image: np.where(image >= 230, 255 - image, image),  # solarise
        lambda image: _enhance(ImageEnhance.Color, image),
        lambda image: _enhance(ImageEnhance.Contrast, image),
        lambda image: _enhance(ImageEnhance.Brightness, image),
        lambda image: _enhance(ImageEnhance.Sharpness, image),
        lambda image: np.asarray(ImageOps.autocontrast(Image.fromarray(image))),
        equalise,
        lambda image: 255 - image,
        lambda image: cut_out(image, place),
    )[index - _SIGNED]


def _matrix(index: int, px: int, sign: int) -> NDArray[np.float64]:
    """The forward map [2, 3] of a geometric operation, in image coordinates around the centre.

    Shears have the form of the scikit-image versions of the time: one side is scaled by the cosine.
    """
    c = px / 2 - 0.5
    d, angle = sign * _SHIFT * px, sign * (_ROTATION if index == 4 else _SHEAR)
    a, b = math.sin(angle), math.cos(angle)
    return np.array((
        [[1, -a, a * c], [0, b, c - b * c]],  # shear x
        [[b, 0, c - b * c], [a, 1, -a * c]],  # shear y
        [[1, 0, d], [0, 1, 0]],
        [[1, 0, 0], [0, 1, d]],
        [[b, -a, c - b * c + a * c], [a, b, c - a * c - b * c]],
    )[index])  # fmt: skip


def _enhance(kind: Callable[[Image.Image], ImageEnhance._Enhance], image: Frame) -> Frame:
    return np.asarray(kind(Image.fromarray(image)).enhance(_FACTOR))


def equalise(image: Frame) -> Frame:
    """Histogram equalisation per channel, with the step computed from all bins but the last (imgaug's way)."""
    return np.stack([_equalise(image[..., c]) for c in range(3)], axis=-1)


def _equalise(channel: NDArray[np.uint8]) -> NDArray[np.uint8]:
    histogram = np.bincount(channel.ravel(), minlength=256)
    step = (histogram.sum() - histogram[255]) // 255
    if np.count_nonzero(histogram) <= 1 or step == 0:
        return channel
    before = np.concatenate([[0], np.cumsum(histogram)[:-1]])
    table: NDArray[np.uint8] = np.minimum((step // 2 + before) // step, 255).astype(np.uint8)
    return table[channel]


def cut_out(image: Frame, place: tuple[float, float]) -> Frame:
    """A grey square of 18 % of the width around a place, cut off at the border."""
    px = image.shape[1]
    (x1, x2), (y1, y2) = ((max(int((p - _CUTOUT) * px), 0), max(int((p + _CUTOUT) * px), 0)) for p in place)
    image = image.copy()
    image[y1:y2, x1:x2] = 128
    return image

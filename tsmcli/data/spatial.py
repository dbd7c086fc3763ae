"""Resize, crop and flip. Boxes are pure arithmetic; pixels are moved by OpenCV, uint8 in and uint8 out.

Sizes, offsets and rounding are MMAction2's, and so are the pixels: OpenCV's bilinear resize, half-pixel centres,
no antialiasing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from tsmcli.config import AugmentConfig, Views
from tsmcli.errors import DataError

Frame = NDArray[np.uint8]
"""One picture [H, W, 3], RGB."""

Labels = TypeVar("Labels", int, tuple[int, ...])
"""One label, or any number of them."""

SCALES = (1.0, 0.875, 0.75, 0.66)


class Box(NamedTuple):
    """A rectangle in pixels: left, top, width, height, and whether its content is mirrored."""

    x: int
    y: int
    w: int
    h: int
    flip: bool = False


def short_side_size(w: int, h: int, short_px: int) -> tuple[int, int]:
    """(width, height) after scaling the short side to `short_px`, both rounded half up."""
    scale = short_px / min(w, h)
    return int(w * scale + 0.5), int(h * scale + 0.5)


def multi_scale_sizes(w: int, h: int, crop_px: int) -> list[tuple[int, int]]:
    """Candidate (width, height) of a multi-scale crop, in draw order.

    Scales of the short side, with width and height at most one scale apart; a side within 2 px of `crop_px`
    snaps to it.
    """
    sides = [int(min(w, h) * scale) for scale in SCALES]
    sides = [crop_px if abs(side - crop_px) < 3 else side for side in sides]
    return [(sides[j], sides[i]) for i in range(4) for j in range(4) if abs(i - j) <= 1]


def multi_scale_offsets(w: int, h: int, crop_w: int, crop_h: int) -> list[tuple[int, int]]:
    """The 13 (x, y) positions of a multi-scale crop, in draw order: corners, centre, edges, quarters."""
    dx, dy = (w - crop_w) // 4, (h - crop_h) // 4
    grid = ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2), (0, 2), (4, 2), (2, 4), (2, 0), (1, 1), (3, 1), (1, 3), (3, 3))
    return [(i * dx, j * dy) for i, j in grid]


def multi_scale_crop(w: int, h: int, crop_px: int, rng: np.random.Generator) -> Box:
    """A random multi-scale crop of a w x h picture (TSN's corner cropping with scale jitter)."""
    sizes = multi_scale_sizes(w, h, crop_px)
    crop_w, crop_h = sizes[rng.integers(len(sizes))]
    crop_w, crop_h = min(crop_w, w), min(crop_h, h)  # a side of crop_px - 1 snaps up, beyond the picture
    offsets = multi_scale_offsets(w, h, crop_w, crop_h)
    return Box(*offsets[rng.integers(len(offsets))], crop_w, crop_h)


def random_resized_crop(w: int, h: int, rng: np.random.Generator) -> Box:
    """A crop of 8 to 100 % of the area with an aspect ratio of 3/4 to 4/3; the Jester recipe's.

    The first of ten draws that fits, else the largest central square.
    """
    ratios = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3), 10))
    areas = rng.uniform(0.08, 1.0, 10) * w * h
    widths = np.round(np.sqrt(areas * ratios)).astype(int)
    heights = np.round(np.sqrt(areas / ratios)).astype(int)
    for crop_w, crop_h in zip(widths.tolist(), heights.tolist(), strict=True):
        if 1 <= crop_w <= w and 1 <= crop_h <= h:
            x, y = rng.integers(w - crop_w + 1), rng.integers(h - crop_h + 1)
            return Box(int(x), int(y), crop_w, crop_h)
    side = min(w, h)
    return Box((w - side) // 2, (h - side) // 2, side, side)


def center_crop(w: int, h: int, crop_px: int) -> list[Box]:
    """The one central crop."""
    return [Box((w - crop_px) // 2, (h - crop_px) // 2, crop_px, crop_px)]


def three_crops(w: int, h: int, crop_px: int) -> list[Box]:
    """Left (or top), right (or bottom), middle; ValueError unless the crop is as large as the short side."""
    if crop_px not in (w, h):
        raise ValueError(f"three crops of {crop_px} px need a side of that length, not {w}x{h}")
    if crop_px == h:
        step = (w - crop_px) // 2
        return [Box(x, 0, crop_px, crop_px) for x in (0, 2 * step, step)]
    step = (h - crop_px) // 2
    return [Box(0, y, crop_px, crop_px) for y in (0, 2 * step, step)]


def ten_crops(w: int, h: int, crop_px: int) -> list[Box]:
    """Four corners and the centre, each followed by its mirror image."""
    dx, dy = (w - crop_px) // 4, (h - crop_px) // 4
    corners = ((0, 0), (4, 0), (0, 4), (4, 4), (2, 2))
    return [Box(i * dx, j * dy, crop_px, crop_px, flip) for i, j in corners for flip in (False, True)]


def train_view(
    frames: Sequence[Frame], label: Labels, config: AugmentConfig, flip_map: dict[int, int],
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], Labels]:  # fmt: skip
    """Cut one random training view out of T frames: (uint8 [1, T, px, px, 3], label or labels).

    All frames get the same box and flip. A flip changes the label where the configuration and `flip_map` say so.
    """
    frames = resize_short_side(frames, config.resize_px)
    h, w = frames[0].shape[:2]
    if config.crop == "multi_scale":
        box = multi_scale_crop(w, h, config.crop_px, rng)
    else:
        box = random_resized_crop(w, h, rng)
    if rng.random() < config.flip_prob:
        box = box._replace(flip=True)
        label = mirrored(label, flip_map) if config.flip_swaps_labels else label
    out = np.empty((1, len(frames), config.crop_px, config.crop_px, 3), np.uint8)
    for frame, target in zip(frames, out[0], strict=True):
        cut(frame, box, target)
    return out, label


def mirrored(label: Labels, flip_map: dict[int, int]) -> Labels:
    """What a mirror image shows."""
    if isinstance(label, tuple):
        return tuple(flip_map.get(one, one) for one in label)
    return flip_map.get(label, label)


def eval_views(frames: Sequence[Frame], num_segments: int, views: Views) -> NDArray[np.uint8]:
    """All views of a test protocol: uint8 [V, T, px, px, 3] from clips * T frames.

    Crops are outermost: every clip of the first crop, then every clip of the second.
    """
    frames = resize_short_side(frames, views.resize_px)
    boxes = eval_boxes(frames[0].shape[1], frames[0].shape[0], views)
    out = np.empty((len(boxes), len(frames), views.crop_px, views.crop_px, 3), np.uint8)
    for box, targets in zip(boxes, out, strict=True):
        for frame, target in zip(frames, targets, strict=True):
            cut(frame, box, target)
    return out.reshape(-1, num_segments, *out.shape[2:])


def eval_boxes(w: int, h: int, views: Views) -> list[Box]:
    """The crops of a test protocol in a w x h picture; DataError where it is smaller than a crop."""
    if views.crop_px > min(w, h):
        words = f"a crop of {views.crop_px} px does not fit frames of {w}x{h}"
        raise DataError(words, hint="--set test.resize_px=256, say")
    crops = {"center": center_crop, "three": three_crops, "ten": ten_crops}[views.crop]
    return crops(w, h, views.crop_px)


def resize_short_side(frames: Sequence[Frame], short_px: int | None) -> Sequence[Frame]:
    """Scale frames so that their short side is `short_px`; None, or the size they have, leaves them alone."""
    h, w = frames[0].shape[:2]
    if short_px is None or (size := short_side_size(w, h, short_px)) == (w, h):
        return frames
    return [cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR) for frame in frames]


def cut(frame: Frame, box: Box, target: Frame) -> None:
    """Crop, scale to the target's size, mirror, into the target's memory."""
    crop = frame[box.y : box.y + box.h, box.x : box.x + box.w]
    if crop.shape == target.shape:
        target[:] = crop
    else:
        cv2.resize(crop, target.shape[1::-1], dst=target, interpolation=cv2.INTER_LINEAR)
    if box.flip:
        cv2.flip(target, 1, dst=target)

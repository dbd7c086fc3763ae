"""RandAugment operation by operation, on pictures worked out by hand; MixUp and CutMix in a batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps

from tsmcli.config import AugmentConfig
from tsmcli.data.blend import blend, cutmix_box
from tsmcli.data.rand_augment import NUM_OPERATIONS, cut_out, draw_signs, equalise, make_operation, rand_augment

PX = 64
PICTURE = np.random.default_rng(0).integers(0, 256, (PX, PX, 3), np.uint8)


def apply(index: int, sign: int = 1, image: np.ndarray = PICTURE) -> np.ndarray:
    return make_operation(index, image.shape[1], sign, (0.5, 0.5))(image)


def where_goes(index: int, sign: int, x: float, y: float) -> tuple[float, float]:
    """The published maps: a point (x, y) of the picture goes there."""
    c = PX / 2 - 0.5
    shear, turn = sign * math.radians(15.471), sign * math.radians(27)
    return [
        (x - math.sin(shear) * (y - c), c + math.cos(shear) * (y - c)),
        (c + math.cos(shear) * (x - c), y + math.sin(shear) * (x - c)),
        (x + sign * 0.18 * PX, y),
        (x, y + sign * 0.18 * PX),
        (
            c + math.cos(turn) * (x - c) - math.sin(turn) * (y - c),
            c + math.sin(turn) * (x - c) + math.cos(turn) * (y - c),
        ),
    ][index]


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("index", range(5))
def test_geometric_operations_move_a_spot_where_they_should(index: int, sign: int) -> None:
    ys, xs = np.mgrid[0:PX, 0:PX]
    for x, y in ((30, 24), (40, 36), (31, 31)):
        spot = 250 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / 8)
        moved = apply(index, sign, np.stack([spot.astype(np.uint8)] * 3, -1))[..., 0].astype(float)
        place = (moved * xs).sum() / moved.sum(), (moved * ys).sum() / moved.sum()
        assert place == pytest.approx(where_goes(index, sign, x, y), abs=0.15)


def test_operations_on_single_values() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = np.stack([values] * 3, -1)
    assert np.array_equal(apply(5, image=image)[..., 0], values // 32 * 32)  # posterise
    assert np.array_equal(apply(6, image=image)[..., 0], np.where(values >= 230, 255 - values, values))  # solarise
    assert np.array_equal(apply(13, image=image)[..., 0], 255 - values)  # invert
    bright = np.minimum(values * 1.72, 255)
    assert np.abs(apply(9, image=image)[..., 0] - bright).max() <= 1


@pytest.mark.parametrize(("index", "kind"), [(7, "Color"), (8, "Contrast"), (9, "Brightness"), (10, "Sharpness")])
def test_enhancements_are_pillows(index: int, kind: str) -> None:
    expected = np.asarray(getattr(ImageEnhance, kind)(Image.fromarray(PICTURE)).enhance(1.72))
    assert np.array_equal(apply(index), expected)


def test_auto_contrast_stretches_each_channel() -> None:
    dull = (PICTURE // 4 + 60).astype(np.uint8)
    out = apply(11, image=dull)
    assert np.array_equal(out, np.asarray(ImageOps.autocontrast(Image.fromarray(dull))))
    assert (out.min((0, 1)) == 0).all()
    assert (out.max((0, 1)) == 255).all()


def test_equalise_by_its_definition() -> None:
    channel = PICTURE[..., 0] // 3
    histogram = [int((channel == v).sum()) for v in range(256)]
    step = (sum(histogram) - histogram[255]) // 255
    table = [min(255, (step // 2 + sum(histogram[:v])) // step) for v in range(256)]
    out = equalise(np.stack([channel] * 3, -1))
    assert np.array_equal(out[..., 0], np.array(table)[channel])
    flat = np.full((8, 8, 3), 7, np.uint8)
    assert np.array_equal(equalise(flat), flat)


def test_cut_out_is_a_grey_square_cut_off_at_the_border() -> None:
    out = cut_out(PICTURE, (0.5, 0.0))
    side = int(0.59 * PX) - int(0.41 * PX)
    assert (out[: int(0.09 * PX), int(0.41 * PX) : int(0.59 * PX)] == 128).all()
    assert (out != PICTURE).any(axis=2).sum() <= side * int(0.09 * PX)
    assert np.array_equal(cut_out(PICTURE, (0.0, 0.0))[20:], PICTURE[20:])


def test_a_clip_gets_one_draw_of_two_different_operations() -> None:
    for seed in range(30):
        clip = np.stack([PICTURE] * 4)
        rand_augment(clip, np.random.default_rng(seed))
        assert all(np.array_equal(clip[0], frame) for frame in clip[1:])
        again = np.stack([PICTURE] * 4)
        rand_augment(again, np.random.default_rng(seed))
        assert np.array_equal(clip, again)
        two = sorted(np.random.default_rng(seed).choice(NUM_OPERATIONS, 2, replace=False).tolist())
        assert two[0] != two[1]


def test_signs_can_be_fixed_for_a_run() -> None:
    signs = draw_signs(np.random.default_rng(0))
    assert set(signs.tolist()) <= {-1, 1}
    a, b = (np.stack([PICTURE]) for _ in range(2))
    rand_augment(a, np.random.default_rng(3), signs)
    rand_augment(b, np.random.default_rng(3), signs)
    assert np.array_equal(a, b)


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_a_blended_batch_keeps_its_labels_weight(mix: str) -> None:
    clips, labels = torch.randn(4, 2, 3, 16, 16), torch.tensor([0, 1, 2, 2])
    out, soft = blend(clips, labels, 3, AugmentConfig(mix=mix), np.random.default_rng(0))  # type: ignore[arg-type]
    assert out.shape == clips.shape
    assert torch.allclose(soft.sum(1), torch.ones(4))
    same, _ = blend(clips, labels, 3, AugmentConfig(mix=mix), np.random.default_rng(0))  # type: ignore[arg-type]
    assert torch.equal(out, same)


def test_an_odd_box_loses_a_pixel() -> None:
    x1, _, x2, _ = cutmix_box(224, 224, 0.36, 112, 112)  # side 179
    assert x2 - x1 == 178

"""Crop boxes, views and flips."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tsmcli.config import AugmentConfig, Views
from tsmcli.data.spatial import (
    center_crop,
    eval_views,
    multi_scale_crop,
    random_resized_crop,
    short_side_size,
    ten_crops,
    three_crops,
    train_view,
)
from tsmcli.errors import DataError

sides = st.integers(8, 700)
seeds = st.integers(0, 2**32 - 1)


def inside(box: tuple[int, ...], w: int, h: int) -> bool:
    return (
        box[0] >= 0
        and box[1] >= 0
        and box[2] >= 1
        and box[3] >= 1
        and box[0] + box[2] <= w
        and box[1] + box[3] <= h
    )


@given(sides, sides, seeds)
def test_multi_scale_crop_is_inside(w: int, h: int, seed: int) -> None:
    assert inside(multi_scale_crop(w, h, 224, np.random.default_rng(seed)), w, h)


@given(sides, sides, seeds)
def test_random_resized_crop_is_inside(w: int, h: int, seed: int) -> None:
    assert inside(random_resized_crop(w, h, np.random.default_rng(seed)), w, h)


def test_random_resized_crop_has_the_published_range() -> None:
    rng = np.random.default_rng(0)
    boxes = [random_resized_crop(340, 256, rng) for _ in range(2000)]
    areas = np.array([box.w * box.h / (340 * 256) for box in boxes])
    aspects = np.array([box.w / box.h for box in boxes])
    assert 0.07 < areas.min() < 0.12
    assert areas.max() > 0.9
    assert 0.73 < aspects.min() < 0.77
    assert 1.3 < aspects.max() < 1.36


@given(sides, sides, st.integers(8, 700))
def test_test_crops_are_inside(w: int, h: int, px: int) -> None:
    assume(px <= min(w, h))
    crops = [*center_crop(w, h, px), *ten_crops(w, h, px)]
    if px in (w, h):
        crops += three_crops(w, h, px)
    assert all(inside(box, w, h) and (box.w, box.h) == (px, px) for box in crops)


@given(sides, sides, st.sampled_from([56, 224, 256]))
def test_short_side(w: int, h: int, px: int) -> None:
    new_w, new_h = short_side_size(w, h, px)
    assert min(new_w, new_h) == px
    assert abs(new_w / new_h - w / h) < 0.6 * max(w / h, 1) / px + w / h * 0.6 / px


def picture(w: int, h: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)


@settings(max_examples=30, deadline=None)
@given(seeds)
def test_a_training_view_equals_the_plain_way(seed: int) -> None:
    """Resize every frame, crop, resize to the input, mirror: one call after the other."""
    config = AugmentConfig(resize_px=64, crop_px=48, flip_prob=0.5, flip_swaps_labels=True)
    frames = [picture(100, 80, i) for i in range(3)]
    view, label = train_view(frames, 4, config, {4: 9}, np.random.default_rng(seed))
    rng = np.random.default_rng(seed)
    box = multi_scale_crop(80, 64, 48, rng)
    flipped = rng.random() < 0.5
    assert label == (9 if flipped else 4)
    for frame, ours in zip(frames, view[0], strict=True):
        image = cv2.resize(frame, (80, 64), interpolation=cv2.INTER_LINEAR)
        image = image[box.y : box.y + box.h, box.x : box.x + box.w]
        image = cv2.resize(image, (48, 48), interpolation=cv2.INTER_LINEAR)
        assert np.array_equal(ours, image[:, ::-1] if flipped else image)


def test_labels_stay_where_a_recipe_does_not_swap_them() -> None:
    config = AugmentConfig(resize_px=None, crop_px=48, flip_prob=1.0)
    view, label = train_view([picture(64, 64)], 4, config, {4: 9}, np.random.default_rng(0))
    assert label == 4
    assert view.shape == (1, 1, 48, 48, 3)


def test_views_are_crop_major() -> None:
    """View v = crop * clips + clip, each with its T frames in order."""
    frames = [picture(90, 64, i) for i in range(4)]  # 2 clips of T = 2
    views = eval_views(frames, 2, Views(clips=2, crop="three", crop_px=64, resize_px=64))
    assert views.shape == (6, 2, 64, 64, 3)
    for crop, x in enumerate((0, 26, 13)):
        for clip in range(2):
            for t in range(2):
                assert np.array_equal(views[crop * 2 + clip, t], frames[clip * 2 + t][:, x : x + 64])


def test_ten_crops_alternate_with_their_mirror_images() -> None:
    frames = [picture(40, 32)]
    views = eval_views(frames, 1, Views(crop="ten", crop_px=24, resize_px=None))
    assert views.shape == (10, 1, 24, 24, 3)
    for i in range(0, 10, 2):
        assert np.array_equal(views[i, 0], views[i + 1, 0, :, ::-1])


def test_a_crop_larger_than_the_frame_is_an_error() -> None:
    with pytest.raises(DataError, match="a crop of 224 px does not fit frames of 100x80"):
        eval_views([picture(100, 80)], 1, Views(resize_px=None))
    with pytest.raises(ValueError, match="three crops of 224 px"):
        three_crops(340, 256, 224)

"""pytorchvideo's RandAugment and AugMix: every strength worked out by hand, every operation by its definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tsmcli.data import ptv_augment
from tsmcli.data.ptv_augment import AUG_MIX, RAND_AUGMENT, aug_mix, augment_clip, operate, rand_augment

PX = 32
CLIP = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, PX, PX), np.uint8))
VALUES = CLIP.numpy().astype(np.float32)
GREY = np.floor(VALUES[:, :1] * 0.2989 + VALUES[:, 1:2] * 0.587 + VALUES[:, 2:] * 0.114)


def applied(name: str, value: float = 0) -> NDArray[np.float32]:
    out = operate(CLIP, name, value)
    assert (out.dtype, out.shape) == (torch.uint8, CLIP.shape)
    return out.numpy().astype(np.float32)


@pytest.mark.parametrize(
    ("table", "name", "level", "up", "value"),
    [
        (RAND_AUGMENT, "brightness", 9, True, 1.81), (RAND_AUGMENT, "contrast", 9, False, 0.19),
        (RAND_AUGMENT, "saturation", 10, False, 0.1), (RAND_AUGMENT, "sharpness", 5, True, 1.45),
        (RAND_AUGMENT, "rotate", 9, False, -27), (RAND_AUGMENT, "shear_x", 9, True, 0.27),
        (RAND_AUGMENT, "shear_y", 8, False, -0.24), (RAND_AUGMENT, "translate_x", 9, True, 0.405),
        (RAND_AUGMENT, "translate_y", 10, False, -0.45), (RAND_AUGMENT, "posterize", 9, True, 1),
        (RAND_AUGMENT, "posterize", 10, False, 0), (RAND_AUGMENT, "posterize", 7.49, False, 2),
        (RAND_AUGMENT, "solarize", 9, True, 0.1),
        (AUG_MIX, "brightness", 2, False, 0.46), (AUG_MIX, "contrast", 3, True, 0.64),
        (AUG_MIX, "saturation", 1, False, 0.28), (AUG_MIX, "sharpness", 0, True, 0.1),
        (AUG_MIX, "rotate", 3, True, 9), (AUG_MIX, "shear_y", 3, False, -0.09),
        (AUG_MIX, "translate_x", 3, True, 0.1), (AUG_MIX, "translate_y", 1.5, False, -0.05),
        (AUG_MIX, "posterize", 3, False, 3), (AUG_MIX, "solarize", 3, True, 0.7),
    ],
)  # fmt: skip
def test_strengths(table: dict[str, ptv_augment.Strength], name: str, level: float, up: bool, value: float) -> None:
    assert table[name].at(level, up) == pytest.approx(value)


def test_which_operations_there_are() -> None:
    assert len(RAND_AUGMENT) == 14
    assert {*RAND_AUGMENT} - {*AUG_MIX} == {"invert"}
    without = {name for name, strength in RAND_AUGMENT.items() if strength is None}
    assert without == {"autocontrast", "equalize", "invert"}


def test_colours_by_their_definition() -> None:
    assert np.array_equal(applied("brightness", 1.81), np.floor(np.minimum(VALUES * np.float32(1.81), 255)))
    mean = GREY.mean((1, 2, 3), keepdims=True)
    for name, other in (("contrast", mean), ("saturation", GREY)):
        for value in (0.19, 1.81):
            expected = np.floor(np.clip(value * VALUES + (1 - value) * other, 0, 255))
            assert np.abs(applied(name, value) - expected).max() <= 1, name
            assert (applied(name, value) == expected).mean() > 0.99, name


def test_sharpness_by_its_definition() -> None:
    around = sum(np.roll(VALUES, (dy, dx), (2, 3)) for dy in (-1, 0, 1) for dx in (-1, 0, 1))
    soft = VALUES.copy()
    soft[..., 1:-1, 1:-1] = np.round((around + 4 * VALUES) / 13)[..., 1:-1, 1:-1]
    for value in (0.19, 1.81):
        expected = np.floor(np.clip(value * VALUES + (1 - value) * soft, 0, 255))
        assert (applied("sharpness", value) == expected).mean() > 0.99
        assert np.abs(applied("sharpness", value) - expected).max() <= 2


def test_tables_of_values() -> None:
    assert np.array_equal(applied("invert"), 255 - VALUES)
    assert np.array_equal(applied("posterize", 1), VALUES // 128 * 128)
    assert not applied("posterize", 0).any()
    assert np.array_equal(applied("solarize", 0.1), np.where(VALUES >= 25, 255 - VALUES, VALUES))


@pytest.mark.parametrize(
    ("name", "pillow"), [("autocontrast", ImageOps.autocontrast), ("equalize", ImageOps.equalize)]
)
def test_histograms_are_pillows(name: str, pillow: object) -> None:
    dull = CLIP // 3 + 40
    for frame, out in zip(dull, operate(dull, name, 0), strict=True):
        expected = np.asarray(pillow(Image.fromarray(frame.permute(1, 2, 0).numpy())))  # type: ignore[operator]
        assert np.array_equal(out.permute(1, 2, 0).numpy(), expected)


def test_shifts_leave_black_behind() -> None:
    left = applied("translate_x", 0.25)
    assert np.array_equal(left[..., : PX - 8], VALUES[..., 8:])
    assert not left[..., PX - 8 :].any()
    down = applied("translate_y", -0.25)
    assert np.array_equal(down[..., 8:, :], VALUES[..., : PX - 8, :])
    assert not down[..., :8, :].any()


@pytest.mark.parametrize("value", [0.27, -0.27])
def test_shears_keep_the_first_row(value: float) -> None:
    """Row y shows what lies value * (y + 1/2) further right; bilinear, black beside the picture."""
    turned = operate(CLIP.transpose(2, 3), "shear_y", value).transpose(2, 3)
    for out in (applied("shear_x", value), turned.numpy().astype(np.float32)):
        for y in range(PX):
            places = np.arange(PX) + value * (y + 0.5)
            inside = (places >= 0) & (places <= PX - 1)
            row = np.interp(places[inside], np.arange(PX), VALUES[0, 0, y])
            assert np.abs(out[0, 0, y, inside] - row).max() <= 0.51
            assert not out[0, 0, y, (places <= -1) | (places >= PX)].any()


def test_a_positive_angle_turns_counter_clockwise() -> None:
    assert np.array_equal(applied("rotate", 90), np.rot90(VALUES, 1, (2, 3)))


@pytest.mark.parametrize("kind", ["rand_augment", "aug_mix"])
def test_one_draw_for_a_clip_and_the_same_draw_for_a_seed(kind: str) -> None:
    picture = CLIP[0].permute(1, 2, 0).numpy()
    seen = set()
    for seed in range(20):
        clip, again = np.stack([picture] * 3), np.stack([picture] * 3)
        augment_clip(clip, kind, np.random.default_rng(seed))  # type: ignore[arg-type]
        augment_clip(again, kind, np.random.default_rng(seed))  # type: ignore[arg-type]
        assert np.array_equal(clip, again)
        assert all(np.array_equal(clip[0], frame) for frame in clip)
        seen.add(clip.tobytes())
    assert len(seen) > 10


def test_rand_augment_draws_two_and_applies_each_with_even_odds(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, float]] = []
    monkeypatch.setattr(ptv_augment, "operate", lambda clip, name, value: calls.append((name, value)) or clip)
    counts = []
    for seed in range(2000):
        before = len(calls)
        rand_augment(CLIP, np.random.default_rng(seed))
        names = [name for name, _ in calls[before:]]
        assert len({*names}) == len(names)
        counts.append(len(names))
    assert np.bincount(counts) / 2000 == pytest.approx([0.25, 0.5, 0.25], abs=0.04)
    assert {name for name, _ in calls} == {*RAND_AUGMENT}
    angles = np.array([value for name, value in calls if name == "rotate"])
    assert np.abs(angles).max() <= 30
    assert np.abs(angles).mean() == pytest.approx(27, abs=0.6)
    assert np.abs(angles).std() == pytest.approx(1.5, abs=0.3)
    assert (angles > 0).mean() == pytest.approx(0.5, abs=0.15)


def test_aug_mix_blends_three_chains_with_the_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each operation halves the picture, so a chain of depth d has 128 / 2^d everywhere."""
    depths: list[int] = []
    names: set[str] = set()

    def halve(clip: torch.Tensor, name: str, _: float) -> torch.Tensor:
        if clip[0, 0, 0, 0] == 128:
            depths.append(0)
        depths[-1] += 1
        names.add(name)
        return clip // 2

    monkeypatch.setattr(ptv_augment, "operate", halve)
    every: list[int] = []
    for seed in range(200):
        depths.clear()
        out = aug_mix(torch.full((1, 3, 2, 2), 128, dtype=torch.uint8), np.random.default_rng(seed))
        assert len(depths) == 3
        again = np.random.default_rng(seed)
        weights, keep = again.dirichlet((1, 1, 1)), again.beta(1, 1)
        chains = weights @ [128 >> depth for depth in depths]
        assert out.unique().tolist() == [int(keep * 128 + (1 - keep) * chains)]
        every += depths
    assert np.bincount(every)[1:] / 600 == pytest.approx([1 / 3] * 3, abs=0.07)
    assert names == {*AUG_MIX}

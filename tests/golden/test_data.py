"""Sampling, crops, pixels and blending against MMAction2 v0.24.1."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from tsmcli.config import AugmentConfig, Views
from tsmcli.core.sampling import sample_test, sample_train
from tsmcli.core.tsm import normalize
from tsmcli.data.spatial import (
    center_crop,
    eval_boxes,
    multi_scale_offsets,
    multi_scale_sizes,
    resize_short_side,
    short_side_size,
    ten_crops,
    three_crops,
    train_view,
)
from tsmcli.errors import DataError

HERE = Path(__file__).parent


def golden(name: str) -> dict[str, Any]:
    return json.loads((HERE / f"data_{name}.json").read_text())


def test_sampling_at_test_time() -> None:
    checked = 0
    for key, table in golden("sampling")["test"].items():
        kind, clips, *rest = key.split("/")
        segments, start = int(clips.removeprefix("clips")), int(rest[-1].removeprefix("start"))
        if kind == "sample":
            views = Views(clips=2 if "twice" in rest else 1)
        else:
            views = Views(sampling="dense", clips=10)
        for frames, expected in table.items():
            assert (sample_test(int(frames), segments, views).ravel() + start).tolist() == expected, (key, frames)
            checked += 1
    assert checked == 440


def test_sampling_at_test_time_is_the_same_in_mmaction2_1x() -> None:
    facts, checked = golden("sampling_1x"), 0
    protocols = {"uniform": Views(), "uniform_twice": Views(clips=2), "dense": Views(sampling="dense", clips=10)}
    for kind, views in protocols.items():
        for segments, table in facts[kind].items():
            for frames, expected in table.items():
                assert sample_test(int(frames), int(segments), views).ravel().tolist() == expected, (kind, frames)
                checked += 1
    assert checked == 5 * 31


def test_sampling_in_training_draws_what_mmaction2_draws() -> None:
    """The same frames are possible in every segment, and about equally likely."""
    for key, expected in golden("sampling")["train"]["cases"].items():
        kind, clips, frames = key.split("/")
        segments, n = int(clips.removeprefix("clips")), int(frames.removeprefix("frames"))
        config = AugmentConfig(
            sampling="dense" if kind == "dense" else "uniform", keep_tail=kind == "sample_keep_tail"
        )
        rng = np.random.default_rng(0)
        draws = np.concatenate([sample_train(n, segments, config, rng) for _ in range(4000)])
        if "counts" in expected:
            for segment, counts in enumerate(expected["counts"]):
                values, times = np.unique(draws[:, segment], return_counts=True)
                assert values.tolist() == sorted(int(v) for v in counts), (key, segment)
                shares = np.array([counts[str(v)] for v in values]) / 10_000
                assert np.abs(times / 4000 - shares).max() < 0.04, (key, segment)
        assert (draws.min(0) >= np.array(expected["min"])).all(), key
        assert (draws.max(0) <= np.array(expected["max"])).all(), key
        assert np.abs(draws.mean(0) - np.array(expected["mean"])).max() < 0.02 * n + 0.05, key


def test_multi_scale_crop_candidates() -> None:
    checked = 0
    for key, candidates in golden("multiscalecrop")["cases"].items():
        size, fixed, *gap = key.split("/")
        if gap:  # width and height more, or less, than one scale apart: no recipe has that
            continue
        w, h = map(int, size.split("x"))
        count = int(fixed.removeprefix("fixed"))
        assert multi_scale_sizes(w, h, 224) == [tuple(c["crop_wh"]) for c in candidates], key
        for candidate in candidates:
            offsets = multi_scale_offsets(w, h, *candidate["crop_wh"])[:count]
            assert offsets == [tuple(xy) for xy in candidate["offsets"]], key
            checked += 1
    assert checked == 200


def test_test_crops() -> None:
    crops = {"CenterCrop": center_crop, "ThreeCrop": three_crops, "TenCrop": ten_crops}
    for key, images in golden("crops")["cases"].items():
        name, size = key.split("/")
        w, h = map(int, size.split("x"))
        crop = crops[name.rstrip("0123456789")]
        px = int(name[-3:])
        if px > min(w, h):  # the peer cuts a small corner instead
            with pytest.raises(DataError, match="does not fit"):
                eval_boxes(w, h, Views(crop="center", crop_px=px, resize_px=None))
            continue
        if images == "AssertionError":
            with pytest.raises(ValueError, match="three crops"):
                crop(w, h, px)
            continue
        # [frame, x, y, w, h, flipped] for two frames: every frame of a crop, then the next crop
        expected = [[frame, *box] for box in crop(w, h, px) for frame in (0, 1)]
        assert expected == images, key


def test_short_side_sizes() -> None:
    for key, (w, h, *_) in golden("resize")["sizes"]["cases"].items():
        assert short_side_size(*map(int, key.split("x")), 256) == (w, h), key


def test_flips_change_labels() -> None:
    """A flip changes the label where a map is given, and only then."""
    facts = golden("resize")
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for key, expected in facts["flip"].items():
        ratio, mapping, label = key.removeprefix("ratio").split("_", 2)
        pairs = (
            {}
            if mapping == "mapNone"
            else {int(k): v for k, v in yaml.safe_load(mapping.removeprefix("map")).items()}
        )
        config = AugmentConfig(resize_px=None, crop_px=64, flip_prob=float(ratio), flip_swaps_labels=bool(pairs))
        _, ours = train_view([picture], int(label.removeprefix("label")), config, pairs, np.random.default_rng(1))
        assert ours == expected["label"], key


def test_normalisation() -> None:
    expected = golden("resize")["normalize"]
    source = np.random.Generator(np.random.PCG64(11)).integers(0, 256, (100, 176, 3), np.uint8)
    ours = normalize(torch.from_numpy(source).permute(2, 0, 1)).permute(1, 2, 0).contiguous().numpy().ravel()
    stride = len(ours) // 200
    assert np.abs(ours[::stride][: len(expected["sample"])] - np.array(expected["sample"])).max() < 1e-6


def test_resized_pixels() -> None:
    """OpenCV's bilinear resize, to the last bit."""
    pixels = golden("resize")["pixels"]
    source = np.random.Generator(np.random.PCG64(11)).integers(0, 256, (100, 176, 3), np.uint8)
    assert hashlib.sha256(source.tobytes()).hexdigest()[:16] == pixels["source_sha"]
    results = {
        "keep_256": resize_short_side([source], 256)[0],
        "224x224": cv2.resize(source, (224, 224), interpolation=cv2.INTER_LINEAR),
        "down_64": cv2.resize(source, (64, 64), interpolation=cv2.INTER_LINEAR),
    }
    for name, image in results.items():
        expected = pixels[name]
        assert list(image.shape) == expected["shape"]
        flat = image.ravel()
        sample = flat[:: len(flat) // 200].astype(int)
        assert (sample == np.array(expected["sample"])).all(), name
        assert hashlib.sha256(image.tobytes()).hexdigest()[:16] == expected["sha"], name

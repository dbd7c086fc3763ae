"""From a real video file to scores, against MMAction2 v0.24.1 on the same file.

The clip is not part of this repository: the tests that need its pixels look for it in $TSM_TEST_DATA and are
skipped without it. Frame numbers are checked always.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from golden.test_models import golden_model
from support import real_data

from tsmcli.config import PROTOCOLS, AugmentConfig, DataConfig, Views
from tsmcli.core.sampling import sample_test
from tsmcli.core.tsm import normalize
from tsmcli.data.decode import FrameFolder, open_reader
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import Split
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.data.spatial import Box, Frame, cut, eval_views, multi_scale_offsets, multi_scale_sizes
from tsmcli.engine.inference import view_logits
from tsmcli.engine.scores import average_views

HERE = Path(__file__).parent
FACTS: dict[str, Any] = json.loads((HERE / "pipeline.json").read_text())
NUMBERS = np.load(HERE / "pipeline.npz")
FRAMES, T = 280, 8
VIEWS = {
    "efficient_decord": PROTOCOLS["efficient"],
    "accurate_decord": PROTOCOLS["accurate"],
    "dense_tencrop_decord": Views(sampling="dense", clips=10, crop="ten"),
    "dense_threecrop_decord": PROTOCOLS["dense10x3"],
}


def clip() -> Path:
    path = real_data() / "clips" / "pipeline" / "demo.mp4"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return path


def read(path: Path, indices: np.ndarray, decoder: str = "pyav") -> list[Frame]:
    data = DataConfig(decoder=decoder)  # type: ignore[arg-type]
    with open_reader(Split([], path.parent, path), VideoRecord(path.name, None, 0), data) as reader:
        assert reader.num_frames == FRAMES
        return reader.read(indices)


def flat(views: np.ndarray) -> np.ndarray:
    """Views uint8 [V, T, h, w, 3] as MMAction2 hands them to the network, flattened."""
    return normalize(torch.from_numpy(views).movedim(-1, 2)).contiguous().numpy().ravel()


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_frame_numbers(name: str) -> None:
    assert sample_test(FRAMES, T, VIEWS[name]).ravel().tolist() == FACTS[name]["frame_inds"]


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
@pytest.mark.parametrize("name", ["efficient_decord", "accurate_decord", "dense_threecrop_decord"])
def test_pixels_of_test_views(name: str, decoder: str) -> None:
    """Equal up to the last bit of the normalisation."""
    if decoder == "decord":
        pytest.importorskip("decord")
    fact = FACTS[name]
    frames = read(clip(), sample_test(FRAMES, T, VIEWS[name]).ravel(), decoder)
    views = eval_views(frames, T, VIEWS[name])
    assert views.shape[0] * views.shape[1] == fact["shape"][0]
    values = flat(views)
    assert np.abs(values[:: fact["sample_stride"]] - NUMBERS[f"{name}/sample"]).max() < 1e-6
    assert values.mean() == pytest.approx(fact["mean"], abs=1e-5)


@pytest.mark.slow
def test_pixels_of_a_hundred_views() -> None:
    name = "dense_tencrop_decord"
    frames = read(clip(), sample_test(FRAMES, T, VIEWS[name]).ravel())
    values = flat(eval_views(frames, T, VIEWS[name]))
    assert np.abs(values[:: FACTS[name]["sample_stride"]] - NUMBERS[f"{name}/sample"]).max() < 1e-6


@pytest.mark.parametrize("name", ["train_pinned_a", "train_pinned_b"])
def test_pixels_of_a_training_clip(name: str) -> None:
    """With every random choice pinned: crop size, crop position and flip."""
    fact, config = FACTS[name], AugmentConfig()
    pins = fact["pins"]
    frames = read(clip(), np.array(fact["frame_inds"]))
    h, w = frames[0].shape[:2]  # the short side is 256 already
    size = multi_scale_sizes(w, h, config.crop_px)[pins["multiscale_size_index"]]
    offset = multi_scale_offsets(w, h, *size)[pins["multiscale_offset_index"]]
    view = np.empty((1, T, config.crop_px, config.crop_px, 3), np.uint8)
    for frame, target in zip(frames, view[0], strict=True):
        cut(frame, Box(*offset, *size, flip=pins["flipped"]), target)
    assert np.abs(flat(view)[:: fact["sample_stride"]] - NUMBERS[f"{name}/sample"]).max() < 1e-6


def test_pixels_of_a_frame_folder(tmp_path: Path) -> None:
    """The same clip as JPEG frames numbered from 1; encoders differ in a grey level here and there."""
    fact = FACTS["efficient_rawframes"]
    indices = sample_test(FRAMES, T, PROTOCOLS["efficient"]).ravel()
    assert (indices + 1).tolist() == fact["frame_inds"]
    with PyAVReader(clip()) as reader:
        for index, frame in zip(indices, reader.read(indices), strict=True):
            cv2.imwrite(str(tmp_path / f"img_{index + 1:05}.jpg"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    frames = FrameFolder(tmp_path, FRAMES, "img_{:05}.jpg", 1).read(indices)
    values = flat(eval_views(frames, T, PROTOCOLS["efficient"]))
    sample = values[:: fact["sample_stride"]]
    assert np.abs(sample - NUMBERS["efficient_rawframes/sample"]).mean() < 0.005
    assert values.mean() == pytest.approx(fact["mean"], abs=1e-3)


@pytest.mark.parametrize("name", ["efficient_decord", "accurate_decord"])
def test_scores(name: str) -> None:
    """Decode, crop, network, average over views: class probabilities."""
    frames = read(clip(), sample_test(FRAMES, T, VIEWS[name]).ravel())
    views = torch.from_numpy(eval_views(frames, T, VIEWS[name])).movedim(-1, 2)
    logits = view_logits(golden_model("r50_8f_k400"), views, torch.device("cpu"))
    assert np.abs(logits.numpy() - NUMBERS[f"{name}/logits_per_view"]).max() < 1e-4
    scores = average_views(logits, "prob").numpy()
    assert np.abs(scores - NUMBERS[f"{name}/scores"]).max() < 1e-5
    best = np.argsort(-scores)[:5].tolist()
    assert best == [label for label, _ in FACTS[name]["top5"]]

"""Every kind of network of the zoo in OpenVINO and onnxruntime, on the golden weights: the scores of PyTorch."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from golden.test_mobileone import mobileone
from golden.test_models import NAMES, golden_model

from tsmcli.config import ModelConfig
from tsmcli.core.exportable import ClipNetwork, StreamNetwork, example_input
from tsmcli.core.inference import fold_batch_norms, for_single_clips
from tsmcli.core.tsm import build_model
from tsmcli.recipes.conversion import write_for
from tsmcli.recipes.export.check import compare_streams

PX = 64
WINDOWS = "mobileone_s4_16f_k400_as_published"
DIFFERENT = {"nl_embedded_gaussian_r50_8f_k400", "mobilenetv2_8f_k400", "temporal_pool_r50_8f_k400"}
CASES = [
    pytest.param(name, engine, marks=() if name in DIFFERENT and engine == "openvino" else pytest.mark.slow)
    for name in [*NAMES, WINDOWS]
    for engine in ("openvino", "onnxruntime")
]


@pytest.mark.parametrize(("name", "engine"), CASES)
def test_scores_equal_pytorch(name: str, engine: str, tmp_path: Path) -> None:
    model = mobileone(name) if name == WINDOWS else golden_model(name)
    ready = fold_batch_norms(copy.deepcopy(model))
    if engine == "openvino":
        for_single_clips(ready)
    run, _ = write_for(engine, tmp_path, ClipNetwork(ready, pixels=True), PX)
    clips = example_input([1, model.num_segments], PX, pixels=True, seed=3)
    with torch.no_grad():
        expected = ClipNetwork(model, pixels=True)(clips)
    assert (run([clips])[0].softmax(-1) - expected.softmax(-1)).abs().max() < 1e-5


@pytest.mark.parametrize("engine", ["openvino", pytest.param("onnxruntime", marks=pytest.mark.slow)])
def test_streams_with_non_local_blocks_equal_pytorch(engine: str, tmp_path: Path) -> None:
    config = ModelConfig(
        shift="unidirectional", non_local="embedded_gaussian", num_segments=4, init="none", width=0.25
    )
    model = build_model(config, 5, seed=0).eval()
    plain, ready = (StreamNetwork(one, pixels=True) for one in (model, fold_batch_norms(copy.deepcopy(model))))
    run, signature = write_for(engine, tmp_path, ready, PX)
    assert compare_streams(plain, run, signature, PX, batches=[1]) < 1e-5

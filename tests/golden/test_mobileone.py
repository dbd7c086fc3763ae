"""MobileOne-S4 against MMAction2 v1.2.0, trained and folded, on the same weights and inputs."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden.fill import digest, fill, make_input
from torch import Tensor, nn

from tsmcli.config import ModelConfig
from tsmcli.core.inference import fold_batch_norms
from tsmcli.core.layouts import layout_names
from tsmcli.core.mobileone import MobileOneBlock
from tsmcli.core.recognise import recognise
from tsmcli.core.shift import TemporalShift
from tsmcli.core.tsm import TSM, build_model
from tsmcli.core.weights import load_state
from tsmcli.presets import load_preset
from tsmcli.recipes.network import build_trunk

HERE = Path(__file__).parent
FACTS: dict[str, Any] = json.loads((HERE / "mobileone.json").read_text())
CASES: dict[str, Any] = FACTS["cases"]
LOGITS = np.load(HERE / "mobileone.npz")
FIRST, *OTHERS = CASES
CALLED = [FIRST, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)]


@functools.cache
def weights(*, folded: bool = False) -> dict[str, Tensor]:
    """Under MMAction2's names; the gain of the trained form is small, or float32 would be useless."""
    if folded:
        return fill(dict(FACTS["deploy"]["state_dict"]), FACTS["deploy"]["filled_gain"])
    return fill(dict(FACTS["state_dict"]), CASES[FIRST]["gain"])


def mobileone(name: str, *, folded: bool = False) -> TSM:
    case = CASES[name]
    window = case["backbone_num_segments"] if case["backbone_num_segments"] != case["segments"] else None
    config = ModelConfig(
        backbone="mobileone_s4", num_segments=case["segments"], shift_window=window, folded=folded, init="none"
    )
    model = build_model(config, case["num_classes"]).eval()
    assert load_state(model, weights(folded=folded)).layout == "mmaction"
    return model


@torch.no_grad()
def far(model: TSM, x: Tensor, *expected: str) -> float:
    """How far a logit is at most from the stored ones."""
    logits = model(x).numpy()
    return float(max(np.abs(logits - LOGITS[name]).max() for name in expected))


@pytest.mark.parametrize("name", CASES)
def test_logits_equal_mmaction2(name: str) -> None:
    """The published one, of 16 frames in windows of 8, and those that shift over all frames; then folded."""
    case, model = CASES[name], mobileone(name)
    x = make_input(2, case["segments"], 64)
    assert digest(x) == case["input64"]["sha256_16"]
    tolerance = 2 * case["float32_vs_float64_max_abs"]
    assert far(model, x, f"{name}/logits64_float64") < tolerance
    assert far(fold_batch_norms(model), x, f"{name}/deploy/logits64_float64") < tolerance


@pytest.mark.parametrize("name", CALLED)
def test_logits_equal_in_float64(name: str) -> None:
    model, x = mobileone(name).double(), make_input(2, CASES[name]["segments"], 64).double()
    assert far(model, x, f"{name}/logits64_float64") < 1e-9
    names = f"{name}/logits64_float64", f"{name}/deploy/logits64_float64"
    assert far(fold_batch_norms(model), x, *names) < 1e-9


def test_folded_tensors_equal_mmaction2s() -> None:
    model = fold_batch_norms(mobileone(FIRST).double())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert sum(p.numel() for p in model.parameters()) == FACTS["deploy"]["n_params"]
    tensors, names = model.state_dict(), layout_names(model, "mmaction")
    assert {names[key]: list(tensor.shape) for key, tensor in tensors.items()} == dict(
        FACTS["deploy"]["state_dict"]
    )
    theirs = {names[key]: tensor for key, tensor in tensors.items()}
    for name, facts in FACTS["deploy"]["folded_float64"].items():
        tensor = theirs[name]
        assert np.allclose(tensor.flatten()[: len(facts["first"])], facts["first"], rtol=0, atol=1e-12), name
        assert tensor.sum().item() == pytest.approx(facts["sum"], abs=1e-9), name
        assert tensor.square().sum().item() == pytest.approx(facts["sum_of_squares"], abs=1e-8), name


@pytest.mark.parametrize("name", CALLED)
def test_a_file_in_the_folded_form(name: str) -> None:
    model, x = mobileone(name, folded=True), make_input(2, CASES[name]["segments"], 64)
    assert far(model, x, f"{name}/deploy_filled/logits64_float64") < 1e-6  # without shifts they are 0.02 off


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if "input224" in CASES[name]])
def test_logits_at_224_pixels(name: str) -> None:
    x = make_input(2, CASES[name]["segments"], 224)
    assert digest(x) == CASES[name]["input224"]["sha256_16"]
    assert far(mobileone(name), x, f"{name}/logits224_float64") < 1e-4


@pytest.mark.parametrize("name", CALLED)
def test_averaged_views_equal_mmaction2(name: str) -> None:
    case, views = CASES[name], CASES[name]["views"]
    x = make_input(1, case["segments"] * views["views"], 64, seed=views["seed"])
    assert digest(x) == views["sha256_16"]
    with torch.no_grad():
        each = mobileone(name)(x.reshape(views["views"], case["segments"], 3, 64, 64))
    tolerance = 4 * case["float32_vs_float64_max_abs"]  # float32 on both sides
    assert np.abs(each.numpy() - LOGITS[f"{name}/views_each"]).max() < tolerance
    assert np.abs(each.softmax(-1).mean(0).numpy() - LOGITS[f"{name}/views_prob"][0]).max() < 1e-5


def test_parameter_counts_and_names() -> None:
    model = build_model(ModelConfig(backbone="mobileone_s4", init="none"), 400)
    assert sum(p.numel() for p in model.parameters()) == FACTS["n_params"]
    names = layout_names(model, "mmaction")
    assert {names[key]: list(t.shape) for key, t in model.state_dict().items()} == dict(FACTS["state_dict"])


def test_shifted_blocks() -> None:
    """All 43 are wrapped; in the stem no channel moves, so there is no shift in ours."""
    with torch.device("meta"):
        model = TSM(ModelConfig(backbone="mobileone_s4", init="none"), 400)
    ours = {}
    for name, module in model.backbone.named_modules():
        if isinstance(module, MobileOneBlock):
            shifted = isinstance(module.shift, TemporalShift)
            fold = module.branches["conv"][0].in_channels // 8 if shifted else 0
            ours[name.replace("stage0.0", "stage0")] = ([0, fold], [fold, 2 * fold])
    assert ours == {b["block"]: (b["from_next_frame"], b["from_previous_frame"]) for b in FACTS["shifted"]}


def test_imagenet_weights_of_mmpretrain() -> None:
    """Their names are MMAction2's without the wrappers."""
    state = {
        key.replace(".net.", ".").replace("cls_head.fc_cls.", "head.fc."): value for key, value in weights().items()
    }
    state |= {"head.fc.weight": torch.zeros(1000, 2048), "head.fc.bias": torch.zeros(1000)}
    model = build_model(ModelConfig(backbone="mobileone_s4"), 5, seed=0)
    assert str(recognise(state)) == "a MobileOne-S4, 1000 classes"
    report = load_state(model, state, new_classifier=True)
    assert (report.layout, report.fresh, report.unexpected) == ("mmaction", ("fc.weight", "fc.bias"), ())
    assert report.loaded == len(model.state_dict()) - 2
    same = model.backbone.stage3[10].branches["conv"][0].weight
    assert torch.equal(same, weights()["backbone.stage3.10.net.branch_conv_list.0.conv.weight"])
    config = load_preset("r50-k400-8f", ["model.backbone=mobileone_s4"])
    _, plain, of_imagenet = build_trunk(config, state, 5, "weights")
    assert (plain.model.shift, of_imagenet) == ("none", True)

"""The network against MMAction2 v0.24.1 and the authors' code, on the same weights and inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden.fill import digest, fill, make_input
from torch import Tensor

from tsmcli.config import ModelConfig
from tsmcli.core.layouts import layout_names
from tsmcli.core.nonlocal_block import NonLocal
from tsmcli.core.shift import temporal_shift
from tsmcli.core.tsm import TSM, build_model, normalize
from tsmcli.core.weights import load_state, match_state

HERE = Path(__file__).parent
MODELS: dict[str, Any] = json.loads((HERE / "models.json").read_text())
MIT: dict[str, Any] = json.loads((HERE / "mit.json").read_text())
LOGITS = np.load(HERE / "models.npz")
MIT_LOGITS = np.load(HERE / "mit.npz")
NAMES = [name for name in MODELS if name != "_meta"]


def config_of(name: str) -> ModelConfig:
    """Our configuration of a golden model."""
    entry = MODELS[name]
    backbone = entry["model_cfg"]["backbone"]
    non_local = backbone.get("non_local_cfg") or {}
    return ModelConfig(
        backbone="mobilenet_v2" if backbone["type"].startswith("Mobile") else f"resnet{backbone['depth']}",
        num_segments=entry["segments"],
        non_local=non_local.get("mode", "none"),
        temporal_pool=backbone.get("temporal_pool", False),
        init="none",
    )


def golden_model(name: str) -> TSM:
    entry = MODELS[name]
    model = build_model(config_of(name), entry["num_classes"]).eval()
    load_state(model, fill(dict(entry["state_dict"]), entry["gain"], entry["nl_gain"]))
    return model


def tolerance(name: str) -> float:
    """Float32 against the peer's float64 at 64x64: up to twice what the peer's own float32 differs by.

    How far rounding goes depends on the processor's kernels.
    """
    if "embedded" in name:
        return 5.5e-4
    if "nl_gaussian" in name:
        return 2e-4
    return 5e-5 if "mobilenet" in name else 1e-5


@torch.no_grad()
def logits(model: TSM, x: Tensor) -> np.ndarray:
    return model(x).numpy()


@pytest.mark.parametrize("name", NAMES)
def test_logits_equal_mmaction2(name: str) -> None:
    entry = MODELS[name]
    model = golden_model(name)
    x = make_input(2, entry["segments"], 64)
    assert digest(x) == entry["input64"]["sha256_16"]
    difference = np.abs(logits(model, x) - LOGITS[f"{name}/logits64_float64"]).max()
    assert difference < tolerance(name)


@pytest.mark.parametrize("name", NAMES)
def test_logits_equal_in_float64(name: str) -> None:
    model = golden_model(name).double()
    x = make_input(2, MODELS[name]["segments"], 64).double()
    assert np.abs(logits(model, x) - LOGITS[f"{name}/logits64_float64"]).max() < 1e-9


@pytest.mark.parametrize("name", ["r50_8f_k400", "mobilenetv2_8f_k400", "nl_dot_product_r50_8f_k400"])
def test_logits_at_224_pixels(name: str) -> None:
    x = make_input(2, MODELS[name]["segments"], 224)
    assert digest(x) == MODELS[name]["input224"]["sha256_16"]
    assert np.abs(logits(golden_model(name), x) - LOGITS[f"{name}/logits224"]).max() < 5e-5


@pytest.mark.parametrize("name", NAMES)
def test_parameter_counts_and_names(name: str) -> None:
    """Parameter counts of SPEC's table, and MMAction2's names in MMAction2's shapes."""
    entry = MODELS[name]
    model = build_model(config_of(name), entry["num_classes"])
    assert sum(p.numel() for p in model.parameters()) == entry["n_params"]
    names = layout_names(model, "mmaction")
    ours = {names[key]: list(tensor.shape) for key, tensor in model.state_dict().items()}
    assert ours == dict(entry["state_dict"])


def test_averaged_views_equal_mmaction2() -> None:
    for name in ("r50_8f_k400", "mobilenetv2_8f_k400"):
        x = make_input(1, MODELS[name]["segments"] * 6, 64, seed=1)
        views = x.reshape(6, MODELS[name]["segments"], 3, 64, 64)
        each = torch.from_numpy(logits(golden_model(name), views))
        assert np.abs(each.numpy() - LOGITS[f"{name}/views_each"]).max() < 3e-5
        prob = each.softmax(-1).mean(0).numpy()
        assert np.abs(prob - LOGITS[f"{name}/views_prob"][0]).max() < 1e-5


@pytest.mark.parametrize("name", ["mit_r50_8f", "mit_mobilenetv2_8f", "mit_r101_8f_174"])
def test_authors_layout(name: str) -> None:
    entry = MIT[name]
    config = ModelConfig(
        backbone={"resnet50": "resnet50", "resnet101": "resnet101", "mobilenetv2": "mobilenet_v2"}[
            entry["base_model"]
        ],
        init="none",
    )
    model = build_model(config, entry["num_classes"]).eval()
    to_mmaction = dict(entry["to_mmaction2"])
    ours, theirs = layout_names(model, "mmaction"), layout_names(model, "mit")
    assert {theirs[key]: ours[key] for key in ours} == to_mmaction
    shapes = dict(entry["state_dict"])
    state = {f"module.{key}": tensor for key, tensor in fill(shapes, entry["gain"]).items()}
    report = load_state(model, state)
    assert report.layout == "mit"
    assert np.abs(logits(model, make_input(2, 8, 64)) - MIT_LOGITS[f"{name}/logits64"]).max() < tolerance(name) * 2


def test_shift_equals_mmaction2() -> None:
    units = np.load(HERE / "units.npz")
    cases = [key for key in units.files if key.startswith("shift/")]
    assert len(cases) == 6
    for key in cases:
        segments, channels, div = (int("".join(filter(str.isdigit, part))) for part in key[6:].split("_"))
        expected = torch.from_numpy(units[key])
        x = torch.arange(expected.numel(), dtype=torch.float32).reshape(expected.shape)
        assert expected.shape[1] == channels
        assert torch.equal(temporal_shift(x, segments, div), expected), key
        nhwc = x.to(memory_format=torch.channels_last)
        assert torch.equal(temporal_shift(nhwc, segments, div), expected), key


def test_non_local_equals_mmaction2() -> None:
    units = np.load(HERE / "units.npz")
    cases = [key for key in units.files if key.startswith("nonlocal/")]
    assert len(cases) == 12
    for key in cases:
        mode, sub, scale = re_split(key)
        block = NonLocal(16, 3, mode, sub_sample=sub, use_scale=scale).eval()  # type: ignore[arg-type]
        theirs = units[f"nonlocal_keys/{mode}_sub{int(sub)}"]
        unit = {"g": "g", "theta": "theta", "phi": "phi", "conv_out": "out"}
        shapes = {str(name): () for name in theirs}
        ours = {}
        for name in shapes:
            parts = name.split(".")
            ours[name] = ("norm" if "bn" in parts else unit[parts[0]]) + "." + parts[-1]
        own = block.state_dict()
        filled = fill({name: tuple(own[ours[name]].shape) for name in shapes})
        block.load_state_dict({ours[name]: tensor for name, tensor in filled.items()})
        expected = units[key]
        rng = np.random.Generator(np.random.PCG64(7))
        x = torch.from_numpy((0.5 * rng.standard_normal(expected.shape)).astype(np.float32))
        frames = x.transpose(1, 2).flatten(0, 1)  # [B, C, T, H, W] -> [B*T, C, H, W]
        with torch.no_grad():
            out = block(frames).unflatten(0, (-1, 3)).transpose(1, 2)
        assert np.abs(out.numpy() - expected).max() < 2e-5, key


def re_split(key: str) -> tuple[str, bool, bool]:
    """`nonlocal/dot_product_sub1_scale0` -> ("dot_product", True, False)."""
    mode, sub, scale = key.removeprefix("nonlocal/").rsplit("_", 2)
    return mode, sub == "sub1", scale == "scale1"


def test_strict_loading_refuses_another_network() -> None:
    model = build_model(config_of("r50_8f_sthv1"), 174)
    entry = MODELS["r101_8f_sthv1"]
    report, _ = match_state(model, fill(dict(entry["state_dict"])))
    assert not report.complete
    assert any("layer3.22" in name for name in report.unexpected)


def test_normalisation_on_the_device() -> None:
    """The recipe that normalises on the GPU, which is what every preset of ours does."""
    extra = json.loads((HERE / "extra.json").read_text())["gpu_normalize"]
    pixels = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (2, 8, 3, 64, 64), np.uint8)
    assert digest(torch.from_numpy(pixels)) == extra["input_sha"]
    ours = logits(golden_model("r50_8f_k400"), normalize(torch.from_numpy(pixels)))
    assert np.abs(ours - np.load(HERE / "extra.npz")["gpu_normalize/logits64"]).max() < 1e-5

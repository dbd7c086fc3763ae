"""Parameter groups, losses, gradients and optimiser steps against MMAction2 v0.24.1."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from golden.fill import fill, make_input
from golden.test_models import MODELS, config_of

from tsmcli.config import ModelConfig, TrainConfig
from tsmcli.core.layouts import layout_names
from tsmcli.core.tsm import TSM, build_model
from tsmcli.core.weights import load_state
from tsmcli.engine.learner import Learner, Step, make_learner, take_step
from tsmcli.engine.optim import param_groups
from tsmcli.engine.processes import ALONE

HERE = Path(__file__).parent
STEPS: dict[str, Any] = json.loads((HERE / "train.json").read_text())
GROUPS: dict[str, Any] = json.loads((HERE / "data_optimizer.json").read_text())["models"]
NAMES = ["r50_8f_k400", "mobilenetv2_8f_k400", "nl_dot_product_r50_8f_k400"]


def training_model(name: str, entry: dict[str, Any]) -> TSM:
    """The golden model with the golden weights, dropout off, in training mode."""
    config = config_of(name).model_dump() | {"dropout": 0.0}
    model = build_model(ModelConfig(**config), MODELS[name]["num_classes"])
    load_state(model, fill(dict(MODELS[name]["state_dict"]), entry["gain"], entry["nl_gain"]))
    return model.train()


def learner_of(model: TSM, entry: dict[str, Any]) -> Learner:
    optimizer = entry["optimizer"]
    assert optimizer["momentum"] == 0.9
    config = TrainConfig(weight_decay=optimizer["weight_decay"], lr=optimizer["lr"], scale_lr=False)
    return make_learner(model, config, torch.device("cpu"), ALONE)


def step(learner: Learner, dtype: torch.dtype, entry: dict[str, Any]) -> Step:
    labels = torch.tensor(entry["labels"])
    return take_step(learner, [(make_input(2, 8, 64).to(dtype), labels)], len(labels))


@pytest.mark.parametrize("name", sorted(GROUPS))
def test_parameter_groups(name: str) -> None:
    model = build_model(config_of(name), 400)
    names = layout_names(model, "mmaction")
    ours = param_groups(model)
    assert len(ours) == len(GROUPS[name]["groups"]) == 7
    for group, expected in zip(ours, GROUPS[name]["groups"], strict=True):
        assert [names[key] for key, _ in group.params] == expected["params"], group.name
        assert (group.lr_mult, group.decay_mult) == (expected["lr_mult"], expected["decay_mult"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_first_step(name: str, dtype: torch.dtype) -> None:
    """Loss, every gradient norm, batch norm statistics and the weights after one step."""
    double = dtype == torch.float64
    entry = STEPS[f"{name}__float64" if double else name]
    relative = 1e-9 if double else 3e-2  # single gradients in float32 depend on the order of sums
    model = training_model(name, entry).to(dtype)
    done = step(learner_of(model, entry), dtype, entry)
    first = entry["steps"][0]
    assert done.loss == pytest.approx(first["loss"], rel=1e-9 if double else 2e-5)
    assert done.grad_norm == pytest.approx(first["total_grad_norm_before_clip"], rel=1e-9 if double else 1e-3)
    names = layout_names(model, "mmaction")
    clip = min(1.0, 20.0 / (done.grad_norm + 1e-6))  # gradients are stored before clipping
    for key, parameter in model.named_parameters():
        gradient = parameter.grad
        assert gradient is not None
        expected = entry["grad_norm"][names[key]]
        assert gradient.norm().item() / clip == pytest.approx(expected, rel=relative, abs=1e-6), key
        assert parameter.norm().item() == pytest.approx(
            entry["param_norm_after_1_step"][names[key]], rel=1e-9 if double else 1e-4
        ), key
    for key, buffer in model.named_buffers():
        for kind in ("running_mean", "running_var"):
            if key.endswith(kind):
                expected = entry[f"{kind}_norm_after_1_forward"][names[key]]
                assert buffer.norm().item() == pytest.approx(expected, rel=relative), key


@pytest.mark.parametrize("name", [*NAMES[:2], pytest.param(NAMES[2], marks=pytest.mark.slow)])
def test_three_steps_in_float64(name: str) -> None:
    entry = STEPS[f"{name}__float64"]
    model = training_model(name, entry).double()
    learner = learner_of(model, entry)
    for expected in entry["steps"]:
        done = step(learner, torch.float64, entry)
        assert done.loss == pytest.approx(expected["loss"], rel=1e-7)
        assert done.grad_norm == pytest.approx(expected["total_grad_norm_before_clip"], rel=1e-6)
    with torch.no_grad():
        logits = model.eval()(make_input(2, 8, 64).double())[:, :8]
    assert (logits - torch.tensor(entry["eval_logits_after_steps_first8"])).abs().max().item() < 1e-6

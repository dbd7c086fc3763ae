"""Written networks compute what PyTorch computes, for any batch, as clips and frame by frame."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from golden.fill import fill
from golden.test_models import MODELS, config_of
from torch import Tensor, nn

from tsmcli.config import ModelConfig
from tsmcli.core.exportable import ClipNetwork, StreamNetwork, example_input
from tsmcli.core.inference import fold_batch_norms
from tsmcli.core.layouts import layout_names
from tsmcli.core.tsm import TSM, build_model, normalize
from tsmcli.core.weights import load_state
from tsmcli.engine.exported_file import need, trace, write_onnx, write_program
from tsmcli.errors import EnvironmentProblem
from tsmcli.recipes.export.check import compare_clips, compare_streams, relative

NETWORKS = (
    pytest.param("r50_8f_k400", marks=pytest.mark.slow), "mobilenetv2_8f_k400",
    pytest.param("nl_dot_product_r50_8f_k400", marks=pytest.mark.slow),
    pytest.param("mobileone_s4", marks=pytest.mark.slow),
)  # fmt: skip
"""The third one is the first with more; the last one is small."""


def network(name: str, **changes: Any) -> TSM:
    """A golden network, whose activations and logits are of ordinary size."""
    if name == "mobileone_s4":
        model = small(backbone=name, **changes)
        names = layout_names(model, "mmaction")
        load_state(model, fill({names[key]: t.shape for key, t in model.state_dict().items()}, 0.45))
        return model
    entry = MODELS[name]
    model = build_model(config_of(name).model_copy(update=changes), entry["num_classes"]).eval()
    load_state(model, fill(dict(entry["state_dict"]), entry["gain"], entry["nl_gain"]))
    return model


def small(**changes: Any) -> TSM:
    """A network for what does not depend on its size."""
    config = ModelConfig(**{"backbone": "resnet18", "width": 0.25, "init": "none", **changes})
    model = build_model(config, 5, seed=1).eval()
    nn.init.normal_(model.fc.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    return model


@pytest.mark.parametrize("name", NETWORKS)
def test_clips(name: str, tmp_path: Path) -> None:
    model = network(name)
    plain, folded = ClipNetwork(model), ClipNetwork(fold_batch_norms(copy.deepcopy(model)))
    signature = folded.signature(64)
    program = trace(folded, signature)
    real = [torch.randint(0, 256, (1, 8, 3, 64, 64), dtype=torch.uint8)]
    with torch.no_grad():
        assert plain(normalize(real[0])).abs().max() > 0.1, "else a comparison says little"
    assert compare_clips(plain, write_onnx(tmp_path / "a.onnx", program, signature), 64, real) < 1e-4
    assert compare_clips(plain, write_program(tmp_path / "a.pt2", program), 64, real) < 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_streams(name: str, tmp_path: Path) -> None:
    model = network(name, shift="unidirectional")
    plain, folded = StreamNetwork(model), StreamNetwork(fold_batch_norms(copy.deepcopy(model)))
    signature = folded.signature(64)
    assert len(signature.outputs) == len(signature.inputs)
    program = trace(folded, signature)
    clip = torch.randint(0, 256, (1, 12, 3, 64, 64), dtype=torch.uint8)
    for run in (write_onnx(tmp_path / "a.onnx", program, signature), write_program(tmp_path / "a.pt2", program)):
        assert compare_streams(plain, run, signature, 64, [clip]) < 1e-4


def test_pixels_and_probabilities_inside(tmp_path: Path) -> None:
    model = small()
    whole = ClipNetwork(model, pixels=True, softmax=True)
    signature = whole.signature(32)
    (example,) = signature.inputs.values()
    assert (example.dtype, list(example.shape)) == (torch.uint8, [2, 8, 32, 32, 3])
    with torch.no_grad():
        expected = model(normalize(example.movedim(-1, 2))).softmax(-1)
    (found,) = write_onnx(tmp_path / "a.onnx", trace(whole, signature), signature)([example])
    assert torch.allclose(found, expected, atol=1e-6)


def test_a_network_that_differs_is_noticed(tmp_path: Path) -> None:
    """Other weights, another shift, a cache that is not passed on: each shows in the comparison."""
    clips, streams = small(), small(shift="unidirectional")
    step = StreamNetwork(streams)

    def plain_frames(inputs: Any) -> list[Tensor]:
        return list(ClipNetwork(small(shift="none"))(*inputs)[None])

    def forgetful(inputs: Any) -> list[Tensor]:
        return list(step(inputs[0], *(tensor * 0 for tensor in inputs[1:])))

    assert compare_clips(ClipNetwork(clips), plain_frames, 64, []) > 1e-3
    assert compare_streams(step, forgetful, step.signature(64), 64, []) > 1e-3
    assert compare_streams(step, lambda inputs: list(step(*inputs)), step.signature(64), 64, []) == 0


def test_relative_differences() -> None:
    one = torch.tensor([1.0, -4.0])
    assert relative(one, one) == 0
    assert relative(one, torch.tensor([1.0, -4.2])) == pytest.approx(0.05)
    assert relative(torch.tensor([0.01]), torch.tensor([0.02])) == pytest.approx(0.01)
    assert relative(one, torch.tensor([1.0])) == float("inf")
    assert relative(one, torch.tensor([1.0, torch.nan])) == float("inf")


def test_random_pixels_are_the_same_before_and_after_normalisation() -> None:
    pixels = example_input([2, 3], 8, pixels=True)
    assert torch.equal(normalize(pixels.movedim(-1, 2)), example_input([2, 3], 8, pixels=False))
    assert not torch.equal(pixels, example_input([2, 3], 8, pixels=True, seed=1))


def test_a_missing_package_is_named() -> None:
    with pytest.raises(EnvironmentProblem, match="not installed: no_such_package") as caught:
        need("torch", "no_such_package")
    assert caught.value.hint == "pip install 'tsmcli[export]'"

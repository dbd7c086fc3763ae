"""Networks made ready for use compute what the plain ones do."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tsmcli.config import ModelConfig
from tsmcli.core.inference import fold_batch_norms, for_single_clips, join_shifts
from tsmcli.core.shift import TemporalShift, temporal_shift
from tsmcli.core.shifted_conv import ShiftedConv1x1
from tsmcli.core.tsm import TSM, build_model
from tsmcli.engine.device import for_inference

NETWORKS = {
    "resnet18": {"backbone": "resnet18"},
    "resnet50": {"backbone": "resnet50"},
    "resnet101": {"backbone": "resnet101"},
    "mobilenet_v2": {"backbone": "mobilenet_v2"},
    "mobileone_s4": {"backbone": "mobileone_s4", "width": 0.25},
    "windows": {"backbone": "resnet18", "shift_window": 2},
    "unidirectional": {"shift": "unidirectional"},
    "no shift": {"shift": "none"},
    "whole blocks": {"shift_place": "block"},
    "pooled": {"temporal_pool": True},
    "dot_product": {"non_local": "dot_product"},
    "gaussian": {"non_local": "gaussian"},
}


def plain(**changes: object) -> TSM:
    """A network in float64, 4 frames, as if trained: its batch norms have statistics and scales of their own."""
    torch.manual_seed(0)
    model = build_model(ModelConfig(**{"num_segments": 4, "init": "none", **changes}), 5, seed=1).double()  # type: ignore[arg-type]
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.0)
            nn.init.uniform_(module.bias, -0.1, 0.1)
    nn.init.normal_(model.fc.weight, std=0.1)
    return model.eval()


@settings(max_examples=60, deadline=None)
@given(
    clips=st.integers(1, 3),
    T=st.sampled_from([1, 2, 3, 8]),
    channels=st.integers(1, 20),
    div=st.integers(2, 8),
    direction=st.sampled_from(["bidirectional", "unidirectional"]),
    channels_last=st.booleans(),
)
def test_a_joined_shift_is_the_convolution_of_shifted_frames(
    clips: int, T: int, channels: int, div: int, direction: str, channels_last: bool
) -> None:
    shift = TemporalShift(T, div, direction)  # type: ignore[arg-type]
    conv = nn.Conv2d(channels, 5, 1).double()
    x = torch.randn(clips * T, channels, 2, 3, dtype=torch.float64)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    kept = x.clone()
    with torch.inference_mode():
        joined = ShiftedConv1x1(shift, conv)(x)
        assert torch.allclose(joined, conv(temporal_shift(x, T, div, direction)), rtol=0, atol=1e-12)  # type: ignore[arg-type]
    assert torch.equal(x, kept), "the input must not change: the shortcut reads it"
    assert joined.is_contiguous(memory_format=torch.channels_last)


def test_an_incomplete_clip_is_an_error() -> None:
    joined = ShiftedConv1x1(TemporalShift(8), nn.Conv2d(8, 3, 1))
    with pytest.raises(ValueError, match="9 frames are not a whole number of clips of 8"):
        joined(torch.zeros(9, 8, 1, 1))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_function_stays_the_same(name: str) -> None:
    model = plain(**NETWORKS[name])
    clips = torch.randn(2, 4, 3, 32, 32, dtype=torch.float64)
    with torch.inference_mode():
        expected = model(clips)
        folded = fold_batch_norms(copy.deepcopy(model))
        assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in folded.modules())
        joined = join_shifts(copy.deepcopy(folded))
        for changed in (folded, joined, for_inference(model, torch.device("cpu"))):
            assert (changed(clips) - expected).abs().max() < 1e-10 * max(1, expected.abs().max())


def test_the_shifts_of_bottlenecks_are_joined_and_no_others() -> None:
    counts = {}
    for name in ("resnet18", "resnet50", "resnet101", "mobilenet_v2", "mobileone_s4", "whole blocks"):
        model = for_inference(plain(**NETWORKS[name]), torch.device("cpu"))
        counts[name] = [
            sum(isinstance(m, kind) for m in model.modules()) for kind in (ShiftedConv1x1, TemporalShift)
        ]
    assert counts == {
        "resnet18": [0, 8],  # 3x3 convolutions
        "resnet50": [16, 0],
        "resnet101": [18, 0],
        "mobilenet_v2": [0, 10],  # nothing is gained there
        "mobileone_s4": [21, 21],  # 1x1 and depthwise; none in the stem, where no channel would move
        "whole blocks": [0, 16],  # the shortcut reads the shifted frames, too
    }


@pytest.mark.parametrize("name", ["resnet18", "mobileone_s4", "windows", "unidirectional"])
def test_shifts_of_a_single_clip(name: str) -> None:
    model, clip = plain(**NETWORKS[name]), torch.randn(1, 4, 3, 32, 32, dtype=torch.float64)
    with torch.inference_mode():
        expected = model(clip)
        found = for_single_clips(model)(clip)
    assert not any(isinstance(m, TemporalShift) for m in model.modules())
    assert torch.equal(found, expected)


def test_a_network_in_training_cannot_be_folded() -> None:
    with pytest.raises(ValueError, match="only a network in evaluation mode"):
        fold_batch_norms(plain().train())

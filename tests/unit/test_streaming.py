"""A stream says of frame t what the offline unidirectional network says of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tsmcli.config import ModelConfig
from tsmcli.core.streaming import Stream, StreamingTSM
from tsmcli.core.tsm import TSM, build_model
from tsmcli.engine.device import for_inference
from tsmcli.errors import ConfigError

FRAMES = 32
NETWORKS = {
    "resnet18": {"backbone": "resnet18"},
    "resnet50": {"backbone": "resnet50"},
    "resnet101": {"backbone": "resnet101"},
    "mobilenet_v2": {"backbone": "mobilenet_v2"},
    "mobileone_s4": {"backbone": "mobileone_s4", "width": 0.25},
    "whole blocks": {"shift_place": "block"},
    "a quarter": {"shift_div": 4},
    "no shift": {"shift": "none"},
    "gaussian": {"non_local": "gaussian"},
    "embedded_gaussian": {"non_local": "embedded_gaussian"},
    "dot_product": {"non_local": "dot_product"},
}
OTHERS = ("resnet101", "whole blocks", "gaussian", "dot_product")
"""Networks that differ little from those before them."""


def network(**changes: object) -> TSM:
    """In float64, with activations of ordinary size and batch norms that do something."""
    torch.manual_seed(0)
    values = {"num_segments": FRAMES, "shift": "unidirectional", "init": "none", "dropout": 0.0, **changes}
    model = build_model(ModelConfig(**values), 5, seed=1).double().train()  # type: ignore[arg-type]
    nn.init.normal_(model.fc.weight, std=0.01)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
            nn.init.uniform_(module.weight, 0.5, 1.0)
    with torch.no_grad():
        model(torch.randn(2, model.num_segments, 3, 32, 32, dtype=torch.float64))
    return model.eval()


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in OTHERS else name for name in NETWORKS]
)
def test_equals_the_offline_network_frame_by_frame(name: str) -> None:
    model = network(**NETWORKS[name])
    clips = torch.randn(2, FRAMES, 3, 32, 32, dtype=torch.float64)
    with torch.inference_mode():
        offline = model.frame_logits(clips)
    for step in (StreamingTSM(model), for_inference(StreamingTSM(model), torch.device("cpu"), dtype=torch.float64)):
        stream = Stream(step)
        online = torch.stack([stream.push(clips[:, t]) for t in range(FRAMES)], 1)
        assert (online - offline).abs().max() < 1e-9
    assert offline.abs().max() > 0.1, "logits of ordinary size"
    assert (offline[:, 0] - offline[:, 1]).abs().max() > 1e-3


def test_the_past_matters_and_the_future_does_not() -> None:
    """The offline network is causal: a later frame changes nothing before it, an earlier one does."""
    for name in ("resnet18", "dot_product", "gaussian"):
        model = network(**NETWORKS[name], num_segments=8)
        clip = torch.randn(1, 8, 3, 32, 32, dtype=torch.float64)
        other = clip.clone()
        other[:, 4] += 1
        with torch.inference_mode():
            change = (model.frame_logits(clip) - model.frame_logits(other)).abs().amax((0, 2))
        assert change[:4].max() == 0
        assert change[4:].min() > 0


def test_a_window_of_a_longer_stream() -> None:
    """Non-local blocks look back over T frames, however long the stream is."""
    model = network(non_local="dot_product", num_segments=4, shift="unidirectional")
    stream = Stream(model)
    frames = torch.randn(9, 1, 3, 32, 32, dtype=torch.float64)
    for frame in frames:
        stream.push(frame)
    sizes = {tuple(tensor.shape[:3]) for tensor in stream.cache if tensor.ndim == 5}
    assert sizes == {(1, 256, 3), (1, 512, 3)}


def test_streams_of_a_batch_are_strangers() -> None:
    model = network(backbone="resnet18")
    clips = torch.randn(3, 6, 3, 32, 32, dtype=torch.float64)
    together, alone = Stream(model, smooth=3), Stream(model, smooth=3)
    for t in range(6):
        among, own = together.push(clips[:, t]), alone.push(clips[1:2, t])
        assert (among[1] - own[0]).abs().max() < 1e-12


@pytest.mark.parametrize("name", ["resnet18", "embedded_gaussian"])
def test_a_stream_begins_anew_while_its_neighbours_go_on(name: str) -> None:
    model = network(**NETWORKS[name], num_segments=4)
    clips = torch.randn(2, 5, 3, 32, 32, dtype=torch.float64)
    stream, untouched, fresh = (Stream(model, smooth=2) for _ in range(3))
    for t in range(3):
        stream.push(clips[:, t])
        untouched.push(clips[:, t])
    stream.reset([0])
    for t in (3, 4):
        found, before, anew = stream.push(clips[:, t]), untouched.push(clips[:, t]), fresh.push(clips[:1, t])
        assert (found[0] - anew[0]).abs().max() < 1e-11
        assert torch.equal(found[1], before[1])
        assert (found[0] - before[0]).abs().max() > 1e-6
    stream.reset()
    assert stream.cache_bytes == 0
    assert torch.equal(stream.push(clips[:, 0]), Stream(model).push(clips[:, 0]))


def test_smoothing_is_the_mean_of_the_last_logits() -> None:
    model = network(backbone="resnet18")
    frames = torch.randn(5, 1, 3, 32, 32, dtype=torch.float64)
    plain, smooth = Stream(model), Stream(model, smooth=3)
    logits = [plain.push(frame) for frame in frames]
    means = [smooth.push(frame) for frame in frames]
    assert torch.equal(means[0], logits[0])
    assert torch.allclose(means[1], (logits[0] + logits[1]) / 2)
    assert torch.allclose(means[4], (logits[2] + logits[3] + logits[4]) / 3)


def test_what_is_kept() -> None:
    """An eighth of what enters each of the 16 blocks of a ResNet-50 at 224 px: 702,464 numbers."""
    model = build_model(ModelConfig(shift="unidirectional", init="none"), 5).eval()
    stream = Stream(model)
    assert stream.cache_bytes == 0
    stream.push(torch.zeros(1, 3, 224, 224))
    assert stream.cache_bytes == 4 * 702_464
    assert len(stream.cache) == 16
    assert all(tensor.is_contiguous() for tensor in stream.cache), "not views of larger tensors"


def test_the_network_itself_is_not_changed() -> None:
    model = network(backbone="resnet18")
    clip = torch.randn(1, FRAMES, 3, 32, 32, dtype=torch.float64)
    with torch.inference_mode():
        before = model(clip)
        Stream(model).push(clip[:, 0])
        assert torch.equal(model(clip), before)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"shift": "bidirectional"}, "takes channels from the next frame"),
        ({"temporal_pool": True}, "temporal pooling looks at the next frame"),
        ({"shift": "none", "non_local": "gaussian"}, "a non-local block looks at the whole clip"),
    ],
)
def test_networks_that_need_the_future_are_refused(changes: dict[str, object], words: str) -> None:
    model = build_model(ModelConfig(**{"shift": "unidirectional", "init": "none", **changes}), 5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=words) as caught:
        StreamingTSM(model)
    assert "model.shift=unidirectional" in caught.value.hint


def test_another_number_of_streams_is_an_error() -> None:
    stream = Stream(network(backbone="resnet18"))
    stream.push(torch.zeros(2, 3, 32, 32, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"frames \[3, 3, 32, 32\] after \[2, 3, 32, 32\]"):
        stream.push(torch.zeros(3, 3, 32, 32, dtype=torch.float64))
    with pytest.raises(ValueError, match="reset"):
        stream.push(torch.zeros(2, 3, 64, 32, dtype=torch.float64))
    with pytest.raises(IndexError):
        stream.reset([2])
    stream.reset([-1])
    assert stream.ages == [1, 0]
    stream.reset()
    assert stream.push(torch.zeros(3, 3, 64, 32, dtype=torch.float64)).shape == (3, 5)

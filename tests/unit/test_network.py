"""The whole network: against torchvision, at initialisation, and at its door."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision

from tsmcli.config import Config, ModelConfig
from tsmcli.core.nonlocal_block import NonLocal
from tsmcli.core.resnet import DEPTHS, is_shifted
from tsmcli.core.shift import TemporalShift
from tsmcli.core.tsm import MEAN, STD, TSM, build_model, normalize
from tsmcli.core.weights import load_state
from tsmcli.errors import ConfigError


def small(**changes: object) -> ModelConfig:
    values = {"backbone": "resnet18", "width": 0.25, "num_segments": 4, "init": "none", "dropout": 0.0}
    return ModelConfig(**(values | changes))


def randomise_norms(model: torch.nn.Module) -> None:
    """Batch norm statistics that a mistake in their place would show."""
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "mobilenet_v2"])
def test_without_shift_it_is_torchvisions_network(name: str) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, weights=None, num_classes=7).eval()
    randomise_norms(theirs)
    config = ModelConfig(backbone=name, shift="none", num_segments=2, init="none")  # type: ignore[arg-type]
    ours = build_model(config, 7).eval()
    report = load_state(ours, theirs.state_dict())
    assert report.layout == "torchvision"
    assert report.complete
    x = torch.randn(2, 2, 3, 64, 64)
    with torch.no_grad():
        expected = theirs(x.flatten(0, 1)).unflatten(0, (2, 2)).mean(1)
        assert (ours(x) - expected).abs().max() < 1e-4


def test_shifted_blocks() -> None:
    """Every block of ResNet-50; every second one of all stages of ResNet-101 and 152; ten of MobileNetV2."""

    def shifts(name: str) -> list[str]:
        with torch.device("meta"):
            model = TSM(ModelConfig(backbone=name, init="none"), 10)  # type: ignore[arg-type]
        return [n for n, m in model.backbone.named_modules() if isinstance(m, TemporalShift)]

    assert len(shifts("resnet50")) == 16
    r101 = [f"layer{s}.{b}.shift" for s, d in enumerate((3, 4, 23, 3), 1) for b in range(0, d, 2)]
    assert shifts("resnet101") == r101
    assert len(r101) == 18
    assert len(shifts("resnet152")) == sum(-(-d // 2) for d in DEPTHS["resnet152"])
    assert [n.split(".")[1] for n in shifts("mobilenet_v2")] == [
        "3",
        "5",
        "6",
        "8",
        "9",
        "10",
        "12",
        "13",
        "15",
        "16",
    ]
    assert all(is_shifted(DEPTHS["resnet101"], i, "block") for i in range(3))


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2", "mobileone_s4"])
def test_no_convolution_of_single_pixels_has_a_stride_and_few_channels(name: str) -> None:
    """Its backward pass writes past its memory, stored channels-last on a CPU (oneDNN, issue 6035)."""
    with torch.device("meta"):
        model = TSM(small(backbone=name), 10)
    convs = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)]
    risky = [conv for conv in convs if conv.kernel_size == (1, 1) and conv.stride != (1, 1) and conv.groups == 1]
    assert all(conv.in_channels >= 16 for conv in risky)


def test_a_video_does_not_depend_on_its_neighbours() -> None:
    torch.manual_seed(0)
    for config in (small(), small(backbone="resnet50", width=1.0, non_local="embedded_gaussian"),
                   small(backbone="mobilenet_v2", width=1.0), small(backbone="mobileone_s4"),
                   small(temporal_pool=True)):  # fmt: skip
        model = build_model(config, 5, seed=1).eval()
        randomise_norms(model)
        torch.nn.init.normal_(model.fc.weight)
        videos = torch.randn(3, 4, 3, 32, 32)
        with torch.no_grad():
            alone = model(videos[1:2])
            among = model(torch.stack([videos[0] * 100, videos[1], videos[2] - 50]))[1:2]
        assert (alone - among).abs().max() < 1e-5 * alone.abs().max()


def test_without_shift_order_does_not_matter_and_with_shift_it_does() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 4, 3, 32, 32)
    for shift, matters in (("none", False), ("bidirectional", True), ("unidirectional", True)):
        model = build_model(small(shift=shift), 5, seed=1).eval()
        torch.nn.init.normal_(model.fc.weight)
        with torch.no_grad():
            moved = (model(x) - model(x.flip(1))).abs().max().item()
        assert (moved > 1e-3) == matters, shift


def test_unidirectional_never_sees_the_future() -> None:
    model = build_model(small(shift="unidirectional"), 5, seed=1).eval()
    x = torch.randn(1, 4, 3, 32, 32)
    changed = x.clone()
    changed[:, 3] += 1
    with torch.no_grad():
        a, b = (model.backbone(clip.flatten(0, 1)) for clip in (x, changed))
    assert torch.equal(a[:3], b[:3])
    assert not torch.equal(a[3], b[3])


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2", "mobileone_s4"])
def test_shifts_within_windows_of_a_clip(backbone: str) -> None:
    """Four frames in windows of two are two clips of two, as long as nothing is averaged."""
    config = small(backbone=backbone, shift_window=2)
    model = build_model(config, 5, seed=1).eval()
    pair = build_model(config.model_copy(update={"shift_window": None, "num_segments": 2}), 5, seed=1).eval()
    clips = torch.randn(2, 4, 3, 32, 32)
    with torch.no_grad():
        found, expected = model.frame_features(clips), pair.frame_features(clips.view(4, 2, 3, 32, 32))
    assert torch.equal(found, expected.view(2, 4, -1))


@pytest.mark.parametrize("place", ["blockres", "block"])
def test_shift_place(place: str) -> None:
    """`block` shifts the shortcut too, so a block of zero weights passes on shifted frames."""
    model = build_model(small(shift_place=place), 5).eval()
    block = model.backbone.layer1[0]
    torch.nn.init.zeros_(block.bn2.weight)
    x = torch.rand(4, 16, 2, 2)
    with torch.no_grad():
        assert torch.equal(block(x), block.shift(x) if place == "block" else x)


def test_wrong_clips_are_refused() -> None:
    model = build_model(small(), 5)
    with pytest.raises(ValueError, match="takes clips of T=4 frames, got T=8"):
        model(torch.zeros(1, 8, 3, 32, 32))
    with pytest.raises(ValueError, match=r"expected clips \[B, T, 3, H, W\], got \[4, 3, 32, 32\]"):
        model(torch.zeros(4, 3, 32, 32))


def test_initialisation() -> None:
    model = build_model(small(backbone="resnet50", width=1.0, non_local="dot_product"), 50, seed=0)
    assert model.fc.weight.std().item() == pytest.approx(0.001, rel=0.1)
    assert model.fc.bias.abs().max() == 0
    conv = model.backbone.layer2[1].conv2.weight
    assert conv.std().item() == pytest.approx((2 / (conv.shape[0] * 9)) ** 0.5, rel=0.05)  # fan out
    blocks = [m for m in model.modules() if isinstance(m, NonLocal)]
    assert len(blocks) == 5
    for block in blocks:
        assert block.g.weight.std().item() == pytest.approx(0.01, rel=0.1)
        assert block.g.bias.abs().max() == 0
        x = torch.randn(4, block.norm.num_features, 4, 4)
        assert torch.equal(block.eval()(x), x), "a fresh non-local block is the identity"


def test_the_same_seed_gives_the_same_network_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    a = build_model(small(), 5, seed=3)
    assert torch.equal(torch.rand(1), expected)
    b = build_model(small(), 5, seed=3)
    assert all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_number_of_classes_comes_from_the_dataset() -> None:
    config = Config.model_validate({"data": {"dataset": "jester"}, "model": small().model_dump()})
    assert build_model(config).fc.out_features == 27
    with pytest.raises(ConfigError, match="number of classes"):
        build_model(Config())


def test_normalisation() -> None:
    pixels = torch.randint(0, 256, (2, 4, 3, 5, 6), dtype=torch.uint8)
    expected = (pixels.numpy() - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
    assert np.abs(normalize(pixels).numpy() - expected).max() < 1e-6

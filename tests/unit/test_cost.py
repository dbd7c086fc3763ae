"""Multiply-adds against published counts, and against arithmetic by hand."""

from __future__ import annotations

import pytest

from tsmcli.config import ModelConfig
from tsmcli.presets import load_preset, preset_names
from tsmcli.recipes.bench.cost import count_cost

PUBLISHED = [
    ({}, 400, 224, 24_327_632, 32_965_562_368),
    ({"num_segments": 16}, 400, 224, 24_327_632, 65_931_124_736),
    ({}, 400, 256, 24_327_632, 43_055_054_848),
    ({}, 174, 224, 23_864_558, 32_961_859_584),
    ({}, 48, 224, 23_606_384, 32_959_795_200),
    ({"num_segments": 16}, 48, 224, 23_606_384, 2 * 32_959_795_200),
    ({"num_segments": 16}, 174, 224, 23_864_558, 2 * 32_961_859_584),
    ({}, 27, 256, 23_563_355, 43_048_943_616),
    ({"backbone": "resnet101"}, 174, 224, 42_856_686, 62_782_459_904),
    ({"non_local": "embedded_gaussian"}, 400, 224, 31_682_000, 49_457_811_456),
    ({"non_local": "dot_product"}, 400, 224, 31_682_000, 49_457_811_456),
    ({"non_local": "gaussian"}, 400, 224, 28_007_888, 41_231_355_904),
    ({"backbone": "mobilenet_v2"}, 400, 224, 2_736_272, 2_556_248_064),
    ({"backbone": "mobilenet_v2"}, 400, 256, 2_736_272, 3_337_519_104),
]
"""Changes of a ResNet-50 with 8 frames, classes, pixels, parameters, MMAction2's count."""


@pytest.mark.parametrize(("changes", "classes", "px", "parameters", "count"), PUBLISHED)
def test_mmaction2s_count(changes: dict[str, object], classes: int, px: int, parameters: int, count: int) -> None:
    cost = count_cost(ModelConfig(**changes, init="none"), classes, px)  # type: ignore[arg-type]
    assert (cost.parameters, cost.mmaction_count) == (parameters, count)


def convolutions(*layers: tuple[int, int, int, int]) -> int:
    """Multiply-adds of (kernel elements, input channels, output channels, output positions)."""
    return sum(kernel * i * o * positions for kernel, i, o, positions in layers)


def bottleneck(i: int, c: int, here: int, out: int) -> int:
    """Of a block with i input and 4 c output channels; its first convolution sees `here` positions."""
    shortcut = (1, i, 4 * c, out)
    layers = [(1, i, c, here), (9, c, c, out), (1, c, 4 * c, out)]
    return convolutions(*layers, *([shortcut] if i != 4 * c else []))


def resnet50(classes: int) -> int:
    """One frame of 224 px."""
    total = convolutions((49, 3, 64, 112**2)) + 2048 * classes
    i = 64
    for blocks, c, side in ((3, 64, 56), (4, 128, 28), (6, 256, 14), (3, 512, 7)):
        for block in range(blocks):
            here = (2 * side) ** 2 if block == 0 and side != 56 else side**2
            total += bottleneck(i, c, here, side**2)
            i = 4 * c
    return total


def non_local(kind: str, channels: int, side: int) -> int:
    """Five 1x1 convolutions or less, and two products of all positions with the pooled ones, of 8 frames."""
    positions, keys, inner = 8 * side**2, 8 * (side // 2) ** 2, channels // 2
    embeddings = 1 if kind == "gaussian" else 3
    pairs = positions * keys * ((channels if kind == "gaussian" else inner) + inner)
    return convolutions((1, channels, inner, embeddings * positions), (1, inner, channels, positions)) + pairs


def test_torchs_count_is_that_of_convolutions_and_products() -> None:
    plain = count_cost(ModelConfig(init="none"), 400, 224)
    assert plain.macs == 8 * resnet50(400) == 32_703_643_648
    assert plain.flops == 65_407_287_296
    for kind in ("gaussian", "embedded_gaussian", "dot_product"):
        blocks = 2 * non_local(kind, 512, 28) + 3 * non_local(kind, 1024, 14)
        assert count_cost(ModelConfig(non_local=kind, init="none"), 400, 224).macs == plain.macs + blocks  # type: ignore[arg-type]


def test_a_mobileone_by_hand() -> None:
    """One frame, folded: 3x3 and 1x1 convolutions, two small ones in each excitation; MMAction2 prints 48.65 G."""
    total, i = convolutions((9, 3, 64, 112**2)) + 2048 * 400, 64
    for o, pairs, excited, side in ((192, 2, 0, 56), (448, 8, 0, 28), (896, 10, 5, 14), (2048, 1, 1, 7)):
        for pair in range(pairs):
            total += convolutions((9, 1, i, side**2), (1, i, o, side**2))
            total += 2 * (i * i + o * o) // 16 if pair >= pairs - excited else 0
            i = o
    trained, folded = (
        count_cost(ModelConfig(backbone="mobileone_s4", num_segments=16, folded=folded, init="none"), 400, 224)
        for folded in (False, True)
    )
    assert folded.macs == 16 * total
    assert (trained.parameters, folded.parameters) == (13_721_848, 13_608_952)
    assert trained.mmaction_count == pytest.approx(48.65e9, rel=0.01)  # its 1.x does not count activations


def test_the_shift_costs_nothing() -> None:
    for name in preset_names():
        model = load_preset(name).model
        without = model.model_copy(update={"shift": "none"})
        assert count_cost(model, 10, 64) == count_cost(without, 10, 64)

"""Published accuracy beside ours: the right row, the right protocol, and what counts as the same."""

from __future__ import annotations

from typing import Any

import pytest

from tsmcli.recipes.zoo.against import against_zoo

NETWORK = {
    "backbone": "resnet50", "num_segments": 8, "shift": "bidirectional", "shift_div": 8, "shift_place": "blockres",
    "non_local": "none", "temporal_pool": False, "width": 1.0,
}  # fmt: skip
META = {"sha256": "01dce462" + "0" * 56, "dataset": "sthv1", "network": NETWORK, "protocol_name": "accurate"}
"""Of r50-sthv1-8f@h100, published with 45.58 / 47.70 and 75.02 / 76.12 %."""


def test_the_value_of_the_same_protocol_stands_beside_ours() -> None:
    found = against_zoo(META, {"top1": 0.4801, "top5": 0.70, "mean_class": 0.4}, 10_000)
    assert found is not None
    assert found.id == "r50-sthv1-8f@h100"
    top1, top5 = found.values["top1"], found.values["top5"]
    assert (top1.published, top5.published) == (0.4770, 0.7612)
    # 0.4801 +- 1.96 * sqrt(0.4801 * 0.5199 / 10000) = 0.4801 +- 0.0098
    assert (top1.low, top1.high) == (pytest.approx(0.4703, abs=1e-4), pytest.approx(0.4899, abs=1e-4))
    assert top1.within
    assert not top5.within
    assert {*found.values} == {"top1", "top5"}
    efficient = against_zoo({**META, "protocol_name": "efficient"}, {"top1": 0.48}, 10_000)
    assert efficient is not None
    assert efficient.values["top1"].published == 0.4558


def test_a_published_value_is_rounded() -> None:
    """47.70 % may be 47.704 %, and of one video everything is possible."""
    found = against_zoo(META, {"top1": 0.47704}, 10**9)
    assert found is not None
    assert found.values["top1"].within
    found = against_zoo(META, {"top1": 0.4772}, 10**9)
    assert found is not None
    assert not found.values["top1"].within
    found = against_zoo(META, {"top1": 1.0}, 1)
    assert found is not None
    assert found.values["top1"].within


def test_another_protocol_has_no_value_but_the_row_is_named() -> None:
    found = against_zoo({**META, "protocol_name": "ten-crop"}, {"top1": 0.48}, 10)
    assert found is not None
    assert (found.values, found.protocols) == ({}, ["efficient", "accurate"])


def test_unknown_cells_are_left_out() -> None:
    """The table of Jester has no top-5."""
    of_jester = {**META, "sha256": "c799267e" + "1" * 56, "dataset": "jester"}
    found = against_zoo(of_jester, {"top1": 0.97, "top5": 0.99}, 10)
    assert found is not None
    assert {*found.values} == {"top1"}


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "f" * 64},
        {"sha256": ""},
        {"dataset": "sthv2"},
        {"dataset": None},
        {"network": None},
        {"network": {**NETWORK, "num_segments": 16}},
        {"network": {**NETWORK, "shift_div": 4}},
    ],
)
def test_other_files_and_other_data_are_not_compared(change: dict[str, Any]) -> None:
    assert against_zoo({**META, **change}, {"top1": 0.47}, 10) is None


def test_the_mislabelled_row_is_of_the_network_in_its_file() -> None:
    """Published as a ResNet-50; the file is a ResNet-101, and was listed as one later."""
    file = {**META, "sha256": "df97f3e1" + "0" * 56, "dataset": "sthv2"}
    assert against_zoo(file, {"top1": 0.6}, 10) is None
    found = against_zoo({**file, "network": {**NETWORK, "backbone": "resnet101"}}, {"top1": 0.6}, 10)
    assert found is not None
    assert (found.id, found.values["top1"].published) == ("r101-sthv2-8f@h256", 0.6384)

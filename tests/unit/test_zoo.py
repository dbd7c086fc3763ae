"""The rows of the zoo equal the published tables, and fit the presets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tsmcli import zoo
from tsmcli.catalog import CATALOG
from tsmcli.core.tsm import TSM
from tsmcli.core.weights import export_state
from tsmcli.errors import UsageError
from tsmcli.presets import load_preset, resolve
from tsmcli.recipes.zoo.published import check_network, check_unseen
from tsmcli.zoo import Extra, Model, find, models, select

FIRST = [model for model in models() if model.version == Model.version]
SEED: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "golden" / "zoo.json").read_text())


def test_every_number() -> None:
    """The words and links of the tables are checked where they are printed: tests/cli/test_zoo.py."""
    assert models()[:28] == FIRST
    for model, row in zip(FIRST, SEED, strict=True):
        assert (model.id, model.preset, model.table) == (row["id"], row["preset"], row["table"])
        for column, numbers in row["numbers"].items():
            assert list(model.values(column).values()) == (numbers or []), (model.id, column)
        assert model.videos_per_sec == row["videos_per_s"]
        assert model.memory_mb == row["gpu_mem_mib"]
        assert model.gpus == row["gpus_total"]
        assert model.ckpt.sha256_prefix == row["sha256_prefix"]


def test_rows_fit_their_presets() -> None:
    """What a row says of network, frames, dataset and test is what its preset does."""
    trained_on = {"authors-r50-k400-tsn": 5, "authors-mbv2-jester-online": 1}  # frames, where others are tested
    for model in models():
        config = load_preset(model.preset, model.sets)
        frames = trained_on.get(model.id, config.model.num_segments)
        assert (config.model.backbone, frames) == (model.network, model.frames), model.id
        assert config.data.dataset == model.dataset
        assert model.config is None or config.source == model.config.removesuffix(".py")
        assert config.test.name in model.protocols or not model.protocols, model.id
        if model in FIRST:
            assert model.protocols in (["efficient", "accurate"], [config.test.name])


def test_every_row_takes_a_file_of_its_network() -> None:
    """In the layout of its publisher; but that of optical flow, of which another test makes a file."""
    for model in models():
        preset = resolve(model.preset, model.sets)
        with torch.device("meta"):
            network = TSM(preset.config.model, CATALOG[model.dataset].num_classes or 0)
        state = export_state(network, "mmaction" if model.config else "mit")
        if model.file_network is None:
            check_network(model, preset, state)
        check_unseen(model, preset)


def test_names_of_files_and_ids_are_unique() -> None:
    entries = [*models(), *zoo.extras()]
    assert len({entry.id for entry in entries}) == len(entries)
    paths = [(m.id, file.name) for m in models() for file in m.files.values()]
    assert len(set(paths)) == len(paths)
    assert len([path for path in paths if path[0] in {m.id for m in FIRST}]) == 3 * 28
    assert all("/" not in entry.id and "\\" not in entry.id for entry in entries)  # they name folders


def test_the_row_whose_file_is_another_network() -> None:
    wrong = [model for model in models() if model.file_network]
    assert [(model.id, model.file_network) for model in wrong] == [("r50-sthv2-8f@h256", "resnet101")]
    corrected = find("r50-sthv2-8f@h256-corrected")
    assert isinstance(corrected, Model)
    assert "r50-sthv2-8f@h256" in corrected.supersedes
    assert corrected.ckpt.sha256_prefix == "032aa4da"
    assert corrected.values("top1") == {"efficient": 59.11, "accurate": 61.82}
    assert find("r50-sthv2-8f") is corrected


def test_find_by_preset_and_near_misses() -> None:
    only = find("r50-sthv1-8f")
    assert isinstance(only, Model)
    assert only.id == "r50-sthv1-8f@h100"
    assert isinstance(find("imagenet-resnet50"), Extra)
    assert find("mbv2-k400-dense") is find("mbv2-k400-dense@short320")  # as before another row had this preset
    assert find("r101-sthv1-8f") is find("r101-sthv1-8f@h100-2021-12")
    with pytest.raises(UsageError, match="has 3 checkpoints") as caught:
        find("r50-k400-8f")
    assert "r50-k400-8f@340x256, r50-k400-8f@short256, r50-k400-8f@short320" in caught.value.hint
    with pytest.raises(UsageError, match="nothing in the zoo is named") as caught:
        find("r50-sthv1-8f@100")
    assert "did you mean r50-sthv1-8f@h100" in caught.value.hint


def test_words_that_are_meant_for_the_zoo() -> None:
    for name in (
        "r50-sthv1-8f@h100",
        "r50-sthv1-8f",
        "imagenet-resnet50",
        "r50@typo",
        "authors-r50-k400-8f",
        "446d261a",
    ):
        assert zoo.has(name)
    for name in ("best.pt", "runs/a@b/best.pt", "imagenet", "none", "demo"):
        assert not zoo.has(name)


def test_select() -> None:
    assert select(withdrawn=True) == models()
    assert {model.frames for model in select(frames=16)} == {16}
    first = [model.id for model in select(backbone="ResNet-101", withdrawn=True) if model in FIRST]
    assert first == ["r101-sthv1-8f@h100", "r101-sthv2-8f@h240"]
    assert select(backbone="r101") == select(backbone="resnet101")
    assert next(model.id for model in select(backbone="MobileNetV2")) == "mbv2-k400-dense@short320"
    assert [model.id for model in select(backbone="MobileOne-S4")] == ["mobileone-s4-k400-16f-v1@224"]
    best = [model.top1 for model in select(dataset="sthv1", sort="accuracy")]
    assert best == sorted(best, reverse=True)
    assert best[0] == 47.85
    assert [m.top1 for m in select(sort="accuracy", withdrawn=True)][-2:] == [None, None]
    assert [model.videos_per_sec for model in select(sort="speed", withdrawn=True)][:5] == [
        74.0,
        74.0,
        47.0,
        11.5,
        None,
    ]
    assert select(sort="memory")[0].id == "mbv2-k400-dense@short320"  # of two with as much, the first
    assert select(sort="memory")[-1].memory_mb is None
    with pytest.raises(UsageError, match="no checkpoint with dataset 'ucf'"):
        select(dataset="ucf")
    with pytest.raises(UsageError, match="no checkpoint is of all of these"):
        select(dataset="jester", frames=16)


def test_unknown_reference_numbers() -> None:
    row = find("r50-sthv2-16f@h256")
    assert isinstance(row, Model)
    assert row.values("reference_top1") == {"efficient": None, "accurate": 63.1}
    assert row.values("reference_top5") == {"efficient": None, "accurate": None}
    assert row.values("delta_top1") == {}

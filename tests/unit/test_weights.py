"""Layouts there and back, strict loading, and what a refusal says."""

from __future__ import annotations

import json

import pytest
import torch
from support import real_data
from torch import Tensor

from tsmcli.catalog import CATALOG
from tsmcli.config import ModelConfig
from tsmcli.core.layouts import LAYOUTS, Layout, layout_names
from tsmcli.core.recognise import recognise, strip_prefix
from tsmcli.core.tsm import TSM, build_model
from tsmcli.core.weights import export_state, load_state, match_state, mit_class_order
from tsmcli.errors import WeightsError

CONFIGS = {
    "r18": ModelConfig(backbone="resnet18", init="none"),
    "r50": ModelConfig(init="none"),
    "r50-block": ModelConfig(shift_place="block", init="none"),
    "r50-pool": ModelConfig(temporal_pool=True, init="none"),
    "r50-nl": ModelConfig(non_local="embedded_gaussian", init="none"),
    "r101": ModelConfig(backbone="resnet101", init="none"),
    "mbv2": ModelConfig(backbone="mobilenet_v2", init="none"),
    "mos4": ModelConfig(backbone="mobileone_s4", width=0.25, init="none"),
    "mos4-folded": ModelConfig(backbone="mobileone_s4", width=0.25, folded=True, init="none"),
}


def fresh(name: str, classes: int = 6) -> TSM:
    return build_model(CONFIGS[name], classes, seed=len(name))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_round_trip_is_bit_identical(name: str, layout: Layout) -> None:
    model = fresh(name)
    exported = export_state(model, layout)
    assert len({*exported}) == len(exported)
    other = build_model(CONFIGS[name], 6, seed=77)
    report = load_state(other, exported)
    assert report.complete
    for key, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[key], tensor), key
    if layout in ("mmaction", "mit"):
        assert report.layout == layout


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model.",
        "model._orig_mod.",
        "module.model.module.",
    ],
)
def test_prefixes_of_data_parallel_compiled_and_lightning_networks_are_dropped(prefix: str) -> None:
    model = fresh("r18")
    state = {f"{prefix}{key}": value for key, value in export_state(model, "mit").items()}
    assert load_state(build_model(CONFIGS["r18"], 6), state).complete
    assert str(recognise(state)) == "a ResNet-18, 6 classes"


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_no_layout_has_names_that_look_like_prefixes(name: str) -> None:
    with torch.device("meta"):
        model = TSM(CONFIGS[name], 6)
    for layout in LAYOUTS:
        state = export_state(model, layout)
        assert [*strip_prefix(state)] == [*state]
        assert not any(word in f".{key}" for key in state for word in (".module.", "._orig_mod.", ".model."))


def test_authors_extra_bias_is_folded_exactly() -> None:
    """Their non-local output convolution has a bias; in evaluation it is a shift of the batch norm's mean."""
    model = fresh("r50-nl").eval()
    for block in (model.backbone.layer2[0].non_local, model.backbone.layer3[4].non_local):
        torch.nn.init.uniform_(block.norm.weight)
    state = export_state(model, "mit")
    biases = [key for key in state if key.endswith(".nl.W.0.bias")]
    assert len(biases) == 5
    for key in biases:
        state[key] = torch.randn_like(state[key])
    other = build_model(CONFIGS["r50-nl"], 6).eval()
    load_state(other, state)
    norm, ours = other.backbone.layer2[0].non_local.norm, model.backbone.layer2[0].non_local.norm
    x = torch.randn(2, norm.num_features, 2, 3, 3)
    with torch.no_grad():
        biased = ours(x + state["base_model.layer2.0.nl.W.0.bias"].view(1, -1, 1, 1, 1))
        assert (norm(x) - biased).abs().max() < 1e-5


def test_another_network_is_refused_with_its_name_and_nothing_changes() -> None:
    model = build_model(CONFIGS["r50"], 174, seed=1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = export_state(build_model(CONFIGS["r101"], 174), "mmaction")
    with pytest.raises(WeightsError) as caught:
        load_state(model, state)
    assert "looks like a ResNet-101, 174 classes; this one is a ResNet-50, 174 classes" in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_another_class_count_is_refused_unless_the_classifier_is_new() -> None:
    model = build_model(CONFIGS["r18"], 9, seed=1)
    state = export_state(build_model(CONFIGS["r18"], 6, seed=2), "mmaction")
    with pytest.raises(WeightsError, match=r"fc.weight: \[6, 512\] in the checkpoint, \[9, 512\] in the network"):
        load_state(model, state)
    classifier = model.fc.weight.clone()
    report = load_state(model, state, new_classifier=True)
    assert report.fresh == ("fc.weight", "fc.bias")
    assert torch.equal(model.fc.weight, classifier)
    assert torch.equal(model.backbone.conv1.weight, state["backbone.conv1.conv.weight"])


def test_missing_and_surplus_tensors_are_named() -> None:
    model = fresh("r18")
    state = dict(model.state_dict())
    del state["backbone.layer1.0.conv1.weight"]
    state["extra.thing"] = torch.zeros(1)
    report, _ = match_state(model, state)
    assert report.missing == ("backbone.layer1.0.conv1.weight",)
    assert report.unexpected == ("extra.thing",)
    assert "1 missing: backbone.layer1.0.conv1.weight" in report.summary()


@pytest.mark.parametrize(
    ("file", "network", "hint"), [("mos4", "mos4-folded", "false"), ("mos4-folded", "mos4", "true")]
)
def test_the_other_form_of_a_mobileone_is_named(file: str, network: str, hint: str) -> None:
    with pytest.raises(
        WeightsError, match="it looks like a MobileOne-S4.* 6 classes; this one is a MobileOne"
    ) as caught:
        load_state(fresh(network), export_state(fresh(file), "mmaction"))
    assert caught.value.hint == f"--set model.folded={hint}"


def test_batch_counters_may_be_absent() -> None:
    model = fresh("r18")
    state = {key: value for key, value in model.state_dict().items() if "num_batches" not in key}
    assert load_state(build_model(CONFIGS["r18"], 6), state).complete


def test_old_mmaction_layout_names() -> None:
    names = layout_names(fresh("r50"), "mmaction-old")
    assert names["backbone.layer1.0.conv1.weight"] == "backbone.layer1.0.conv1.net.weight"
    assert names["backbone.layer1.0.bn1.weight"] == "backbone.layer1.0.bn1.weight"
    assert names["fc.weight"] == "cls_head.fc_cls.weight"


def test_older_and_online_variants_of_the_authors_names() -> None:
    """A classifier called base_model.classifier, and bare MobileNetV2 names without wrappers."""
    model = fresh("mbv2")
    usual = export_state(model, "mit")
    older = {key.replace("new_fc.", "base_model.classifier."): value for key, value in usual.items()}
    bare = {
        key.removeprefix("base_model.").replace(".net.", ".").replace("new_fc.", "classifier."): value
        for key, value in usual.items()
    }
    assert "features.3.conv.0.weight" in bare
    for state in (older, bare):
        other = build_model(CONFIGS["mbv2"], 6, seed=77)
        assert load_state(other, state).layout == "mit"
        assert all(torch.equal(other.state_dict()[key], value) for key, value in model.state_dict().items())


def test_names_of_a_real_checkpoint_of_the_online_demo() -> None:
    path = real_data() / "weights" / "mit_mobilenetv2_jester_online_keys.json"
    state = {name: torch.zeros(fact["shape"]) for name, fact in json.loads(path.read_text()).items()}
    model = build_model(CONFIGS["mbv2"], state["classifier.weight"].shape[0])
    report, _ = match_state(model, state)
    assert report.complete, report.summary()


def test_class_order_of_the_authors_files() -> None:
    """Row i of a permuted classifier is the class that is i-th in official order."""
    for dataset in ("sthv1", "jester"):
        official = CATALOG[dataset].class_names()
        assert official is not None
        assert official != sorted(official)
        order = mit_class_order(official)
        theirs = sorted(official)
        assert [theirs[row] for row in order] == official
    assert (
        sum(
            a != b
            for a, b in zip(
                CATALOG["sthv1"].class_names() or [], sorted(CATALOG["sthv1"].class_names() or []), strict=True
            )
        )
        > 0
    )


@pytest.mark.parametrize(
    ("name", "layout", "words"),
    [
        ("r18", "tsm", "a ResNet-18, 6 classes"),
        ("r50-nl", "mmaction", "a ResNet-50 with non-local blocks, 6 classes"),
        ("r101", "mit", "a ResNet-101, 6 classes"),
        ("mbv2", "mmaction", "a MobileNetV2, 6 classes"),
        ("mbv2", "torchvision", "a MobileNetV2, 6 classes"),
        ("mos4", "tsm", "a MobileOne-S4, 6 classes"),
        ("mos4-folded", "mmaction", "a MobileOne-S4 with folded branches, 6 classes"),
    ],
)
def test_description(name: str, layout: Layout, words: str) -> None:
    state: dict[str, Tensor] = export_state(fresh(name), layout)
    assert str(recognise(state)) == words

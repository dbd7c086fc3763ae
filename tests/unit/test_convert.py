"""Conversion between layouts: exact there and back, classes in the right order, nothing half-written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from zoo_stub import light

from tsmcli.catalog import CATALOG
from tsmcli.config import ModelConfig
from tsmcli.core.tsm import build_model
from tsmcli.core.weights import export_state, mit_class_order
from tsmcli.engine.weight_file import read_file, read_weights
from tsmcli.errors import UsageError, WeightsError
from tsmcli.presets import load_preset, resolve
from tsmcli.recipes.events import result_of
from tsmcli.recipes.network import load_checkpoint
from tsmcli.recipes.zoo import convert as conversion
from tsmcli.recipes.zoo.convert import TARGETS, Converted, convert, same_bits

MODELS = {
    "r18": ModelConfig(backbone="resnet18", init="none"),
    "r50-nl": ModelConfig(non_local="embedded_gaussian", init="none"),
    "r50-tsn": ModelConfig(shift="none", init="none"),
    "mbv2": ModelConfig(backbone="mobilenet_v2", init="none"),
    "mos4": ModelConfig(backbone="mobileone_s4", init="none"),
    "mos4-folded": ModelConfig(backbone="mobileone_s4", folded=True, init="none"),
}


def run(source: Path, target: Path, to: str, **options: Any) -> Converted:
    return result_of(convert(source, target, to, **options))  # type: ignore[arg-type]


def mmaction_file(folder: Path, model: ModelConfig, classes: int) -> tuple[Path, dict[str, Tensor]]:
    """Weights without pattern, so that a tensor in a wrong place shows."""
    torch.manual_seed(0)
    state = export_state(build_model(model, classes), "mmaction")
    state = {key: torch.randn_like(value) if value.is_floating_point() else value for key, value in state.items()}
    path = folder / "theirs.pth"
    torch.save({"state_dict": state}, path)
    return path, state


@pytest.mark.parametrize("name", sorted(MODELS))
def test_around_all_layouts_and_back_is_bit_identical(name: str, tmp_path: Path) -> None:
    model = MODELS[name].model_copy(update={"width": 0.25})
    source, state = mmaction_file(tmp_path, model, 12)
    preset = resolve("r50-k400-8f")  # for T; the network is another one
    config = preset.config.model_copy(update={"model": model})
    preset = type(preset)("x", config, {})
    names = [f"class {i}" for i in range(12)]
    targets = ("mit", "torchvision", "safetensors", "tsm", "mmaction")[2 * name.startswith("mos4") :]
    for to in targets:
        target = tmp_path / f"{to}{'.safetensors' if to == 'safetensors' else '.pth'}"
        done = run(source, target, to, preset=preset, dataset="folder", classes=names)
        assert done.to == to
        source = target
    again = read_file(source)["state_dict"]
    assert list(again) == list(state)
    assert all(same_bits(again[key], state[key]) for key in state)
    files = {f"{to}.{'safetensors' if to == 'safetensors' else 'pth'}" for to in targets}
    assert {path.name for path in tmp_path.iterdir()} == {"theirs.pth", *files}


def test_the_network_is_read_off_the_tensors(tmp_path: Path) -> None:
    for name in ("r18", "mbv2", "r50-nl", "r50-tsn"):
        source, state = mmaction_file(tmp_path, MODELS[name], 12)
        torch.save(light(state), source)
        done = run(source, tmp_path / "mit.pth", "mit", force=True)
        assert done.layout == "mmaction"
        assert run(tmp_path / "mit.pth", tmp_path / "back.pth", "mmaction", force=True).layout == "mit"
        back = read_weights(tmp_path / "back.pth")
        assert {key: value.shape for key, value in back.items()} == {
            key: value.shape for key, value in state.items()
        }


@pytest.mark.parametrize("folded", [False, True])
def test_both_forms_of_a_mobileone_are_read_off_a_file(folded: bool, tmp_path: Path) -> None:
    """The preset is of the trained form; nothing but the file knows that its branches are folded."""
    wide = ModelConfig(backbone="mobileone_s4", width=0.25, folded=folded, init="none")
    source, _ = mmaction_file(tmp_path, wide, 400)
    preset = resolve("r50-k400-8f", ["model={backbone: mobileone_s4, width: 0.25, init: none}"])
    run(source, tmp_path / "ours.pt", "tsm", preset=preset)
    model, config = load_checkpoint(tmp_path / "ours.pt")
    assert config.model.folded == folded
    assert ("folded" in model.backbone.stage1[0].branches) == folded
    for to in ("mit", "torchvision"):
        with pytest.raises(UsageError, match=f"--to {to}: that layout has no MobileOne"):
            run(source, tmp_path / "x.pth", to, preset=preset)
    assert not (tmp_path / "x.pth").exists()


def test_files_have_the_form_their_users_expect(tmp_path: Path) -> None:
    source, _ = mmaction_file(tmp_path, MODELS["mbv2"], 12)
    for to in ("mit", "torchvision", "mmaction"):
        run(source, tmp_path / to, to)
    mit = read_file(tmp_path / "mit")
    assert (mit["arch"], mit["epoch"]) == ("mobilenetv2", 0)
    assert all(key.startswith("module.") for key in mit["state_dict"])
    assert "module.new_fc.weight" in mit["state_dict"]
    assert "classifier.1.weight" in read_file(tmp_path / "torchvision")
    assert {*read_file(tmp_path / "mmaction")} == {"meta", "state_dict"}


@pytest.mark.parametrize("dataset", ["sthv1", "jester"])
def test_classes_are_reordered_where_the_authors_files_need_it(dataset: str, tmp_path: Path) -> None:
    """Row i of the authors' classifier is the i-th class of the alphabet."""
    official = CATALOG[dataset].class_names() or []
    source, state = mmaction_file(tmp_path, MODELS["r18"], len(official))
    done = run(source, tmp_path / "mit.pth", "mit", dataset=dataset)
    assert done.reordered
    theirs = read_weights(tmp_path / "mit.pth")["module.new_fc.weight"]
    for i, name in enumerate(sorted(official)):
        assert torch.equal(theirs[i], state["cls_head.fc_cls.weight"][official.index(name)])
    assert torch.equal(theirs[mit_class_order(official)], state["cls_head.fc_cls.weight"])
    assert run(tmp_path / "mit.pth", tmp_path / "back.pth", "mmaction", dataset=dataset).reordered
    back = read_weights(tmp_path / "back.pth")
    assert all(same_bits(back[key], value) for key, value in state.items())


def test_whose_class_order_it_is_must_be_said(tmp_path: Path) -> None:
    source, state = mmaction_file(tmp_path, MODELS["r18"], 174)
    with pytest.raises(UsageError, match="174 classes: the authors order") as caught:
        run(source, tmp_path / "mit.pth", "mit")
    assert "--dataset" in caught.value.hint
    assert not run(source, tmp_path / "mit.pth", "mit", dataset="sthv2").reordered
    assert torch.equal(read_weights(tmp_path / "mit.pth")["module.new_fc.bias"], state["cls_head.fc_cls.bias"])
    assert not run(source, tmp_path / "tv.pth", "torchvision").reordered  # official order on both sides


def test_to_a_checkpoint_of_ours(tmp_path: Path) -> None:
    """It knows T and its classes afterwards, so `tsm test` needs no preset."""
    source, state = mmaction_file(tmp_path, ModelConfig(init="none"), 174)
    with pytest.raises(UsageError, match="knows how many frames") as caught:
        run(source, tmp_path / "ours.pt", "tsm")
    assert "--preset" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.pth"]
    run(source, tmp_path / "ours.pt", "tsm", preset=resolve("r50-sthv1-16f"))
    model, config = load_checkpoint(tmp_path / "ours.pt")
    assert config == load_preset("r50-sthv1-16f")
    assert torch.equal(model.fc.weight, state["cls_head.fc_cls.weight"])


def test_files_without_batch_counters(tmp_path: Path) -> None:
    """Older files lack them; what comes out lacks them too."""
    source, state = mmaction_file(tmp_path, MODELS["r18"], 12)
    state = {key: value for key, value in state.items() if "num_batches" not in key}
    torch.save(state, source)
    run(source, tmp_path / "mit.pth", "mit")
    run(tmp_path / "mit.pth", tmp_path / "back.pth", "mmaction")
    assert {*read_weights(tmp_path / "back.pth")} == {*state}


def test_refusals(tmp_path: Path) -> None:
    source, _ = mmaction_file(tmp_path, MODELS["r18"], 12)
    for target, to, words in (
        (source, "mit", "already exists"),
        (tmp_path / "x.safetensors", "mit", "only for that"),
        (tmp_path / "x.pth", "safetensors", "only for that"),
        (tmp_path / "none" / "x.pth", "mit", "there is no folder"),
    ):
        with pytest.raises(UsageError, match=words):
            run(source, target, to)
    with pytest.raises(WeightsError, match="looks like a ResNet-18, 12 classes; this one is a ResNet-50"):
        run(source, tmp_path / "x.pth", "mit", preset=resolve("r50-k400-8f"))
    with pytest.raises(WeightsError, match="has 12 classes, and there are 2 class names"):
        run(source, tmp_path / "x.pth", "mit", classes=["a", "b"])
    torch.save({"something": torch.zeros(3)}, source)
    with pytest.raises(WeightsError, match="an unknown network"):
        run(source, tmp_path / "x.pth", "mit")
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.pth"]


def test_what_does_not_read_back_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, _ = mmaction_file(tmp_path, MODELS["r18"], 12)
    write = conversion.write_torch

    def slip(path: Path, tree: dict[str, Any]) -> None:
        state = dict(tree["state_dict"])
        name = next(iter(state))
        state[name] = state[name].clone()
        state[name].view(-1)[0] += 1
        write(path, {**tree, "state_dict": state})

    monkeypatch.setattr(conversion, "write_torch", slip)
    with pytest.raises(WeightsError, match="does not read back as it was: backbone.conv1.weight"):
        run(source, tmp_path / "x.pth", "mmaction")
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.pth"]


def test_the_command_offers_every_target() -> None:
    from tsmcli.cli.zoo import Target

    assert list(get_args(Target)) == list(TARGETS)


def test_same_bits() -> None:
    a = torch.tensor([0.0, float("nan")])
    assert same_bits(a, a.clone())
    assert not same_bits(a, torch.tensor([-0.0, float("nan")]))
    assert not same_bits(a, a.double())
    assert same_bits(torch.tensor(3), torch.tensor(3))
    assert not same_bits(torch.zeros(2, 3), torch.zeros(3, 2))


def test_renamed_is_counted_from_the_names_in_the_file(tmp_path: Path) -> None:
    """Nothing is renamed where the layout stays; in another one every name of a ResNet-18 changes."""
    state = export_state(build_model(ModelConfig(backbone="resnet18", init="none"), 5), "mmaction")
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    same = run(tmp_path / "a.pth", tmp_path / "b.pth", "mmaction")
    other = run(tmp_path / "a.pth", tmp_path / "c.pth", "mit")
    assert (same.tensors, same.renamed) == (len(state), 0)
    assert (other.tensors, other.renamed) == (len(state), len(state))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.pth", "b.pth", "c.pth"]

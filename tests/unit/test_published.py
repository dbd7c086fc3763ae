"""From a name to weights: the right network or a refusal; files that would run code are refused."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from zoo_stub import light, model_of, result_of, use_models

from tsmcli import zoo
from tsmcli.config import ModelConfig
from tsmcli.core.tsm import TSM, build_model
from tsmcli.core.weights import export_state, load_state
from tsmcli.engine.checkpoint import Checkpoint, Progress, open_checkpoint, save_checkpoint
from tsmcli.engine.pickled import Inert
from tsmcli.engine.weight_file import is_safetensors, read_file, read_weights, write_safetensors
from tsmcli.errors import UsageError, WeightsError
from tsmcli.presets import Preset, load_preset, resolve
from tsmcli.recipes.network import load_checkpoint, read_weight_file
from tsmcli.recipes.zoo.published import find_init
from tsmcli.zoo import Extra, File


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSM_ZOO", str(tmp_path / "cache"))
    monkeypatch.setenv("TSM_ZOO_MIRROR", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def find(name: Path, preset: Preset | None, overrides: Sequence[str] = ()) -> tuple[Path, Preset]:
    """The file that a name stands for, and the preset that goes with it."""
    file = result_of(read_weight_file(name, preset, overrides))
    assert file.preset
    return file.path, file.preset


def publish(folder: Path, state: dict[str, Tensor]) -> str:
    """Save a file with the beginning of its hash in its name; its address."""
    draft = folder / "draft.pth"
    torch.save({"meta": {}, "state_dict": state}, draft)
    path = folder / f"x-{hashlib.sha256(draft.read_bytes()).hexdigest()[:8]}.pth"
    draft.rename(path)
    return path.as_uri()


def state_of(classes: int = 174, layout: Any = "mmaction", **model: Any) -> dict[str, Tensor]:
    with torch.device("meta"):
        network = TSM(ModelConfig(init="none", **model), classes)
    return light(export_state(network, layout))


def test_a_resnet_101_offered_as_a_resnet_50_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mislabelled row: it is told what the file holds, what took its place, and how to use it all the same."""
    url = publish(tmp_path, state_of(backbone="resnet101"))
    row = model_of("r50-sthv2-8f@h256", "r50-sthv2-8f", url, dataset="sthv2", file_network="resnet101")
    other = model_of("r101-sthv2-8f@h240", "r101-sthv2-8f", url, dataset="sthv2", network="resnet101")
    later = replace(row, id="r50-sthv2-8f@h256-corrected", supersedes=[row.id])
    use_models(monkeypatch, [row, other, later])
    with pytest.raises(WeightsError) as caught:
        find(Path(row.id), None)
    assert "preset r50-sthv2-8f is a ResNet-50, 174 classes, but the file holds a ResNet-101, 174 classes" in str(
        caught.value
    )
    assert "r50-sthv2-8f@h256-corrected is the file that was published in its place" in caught.value.hint
    assert "--preset r101-sthv2-8f" in caught.value.hint
    path, preset = find(Path(row.id), resolve("r101-sthv2-8f"))
    assert preset.name == "r101-sthv2-8f"
    load_state(build_model(preset.config), read_weights(path))


def test_non_local_weights_offered_as_plain_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = publish(tmp_path, state_of(400, non_local="gaussian"))
    use_models(monkeypatch, [model_of("a@b", "r50-k400-nl-dot", url), model_of("c@d", "r50-k400-8f", url)])
    for name, wanted in (("a@b", "with non-local blocks"), ("c@d", "a ResNet-50,")):
        with pytest.raises(
            WeightsError, match=rf"{wanted}.* but the file holds a ResNet-50 with gaussian non-local"
        ):
            find(Path(name), None)


def test_weights_of_a_plain_2d_network_offered_as_tsm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = publish(tmp_path, state_of(400, shift="none"))
    use_models(monkeypatch, [model_of("a@b", "r50-k400-8f", url)])
    with pytest.raises(WeightsError, match="but the file holds a ResNet-50 without temporal shifts, 400 classes"):
        find(Path("a@b"), None)


def test_a_preset_with_other_frames_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights of 8 and of 16 frames look the same: only the row knows."""
    use_models(monkeypatch, [model_of("a@b", "r50-sthv2-16f", publish(tmp_path, state_of()))])
    with pytest.raises(WeightsError, match=r"num_segments 16, not 8 as is asked for \(preset r50-sthv2-8f\)"):
        find(Path("a@b"), resolve("r50-sthv2-8f"))
    for change in ("model.num_segments=8", "model.shift_div=4", "model.shift=none"):
        with pytest.raises(WeightsError, match=r"not .* as is asked for \(preset r50-sthv2-16f\)"):
            find(Path("a@b"), None, [change])
    with pytest.raises(
        WeightsError, match="as it was changed, is a ResNet-50 with shifts in front of whole blocks"
    ) as e:
        find(Path("a@b"), None, ["model.shift_place=block"])
    assert "what --set says of the network" in e.value.hint
    _, preset = find(Path("a@b"), None, ["data.store=zip"])
    assert (preset.config.model.num_segments, preset.config.data.store) == (16, "zip")


def test_all_three_layouts_of_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for layout in ("mmaction", "mmaction-old", "mit"):
        use_models(monkeypatch, [model_of("a@b", "r50-sthv1-8f", publish(tmp_path, state_of(layout=layout)))])
        path, preset = find(Path("a@b"), None)
        assert load_state(build_model(preset.config), read_weights(path)).layout == layout


def test_files_are_left_alone_and_typos_are_told(tmp_path: Path) -> None:
    file = tmp_path / "r50@x"
    file.write_bytes(b"")
    with pytest.raises(WeightsError, match="r50@x"):  # read, and not looked up
        find(file, None)
    assert zoo.find_row(Path("none.pth")) is None
    with pytest.raises(UsageError, match="nothing in the zoo is named 'r50-sthv1-8f@h10'"):
        find(Path("r50-sthv1-8f@h10"), None)
    with pytest.raises(UsageError, match="imagenet-resnet50 is not a checkpoint of the zoo"):
        find(Path("imagenet-resnet50"), None)


def test_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSM_OFFLINE", "1")
    use_models(monkeypatch, [model_of("a@b", "r50-sthv1-8f", "http://127.0.0.1:9/x-00000000.pth")])
    with pytest.raises(WeightsError, match="offline, and not whole in .*: a@b"):
        find(Path("a@b"), None)


def test_imagenet_weights_come_through_the_zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetched as any published file; what torch has already is used."""
    url = publish(tmp_path, state_of(1000, "torchvision", backbone="resnet18"))
    use_models(monkeypatch, [], extras=[Extra("imagenet-resnet18", "", File(url))])
    config = load_preset("r50-sthv1-8f", ["model.backbone=resnet18"])
    path = result_of(find_init("imagenet", config))
    assert Path(path).parent == tmp_path / "cache" / "imagenet-resnet18"
    assert load_state(build_model(config), read_weights(path), new_classifier=True).layout == "torchvision"
    hub = tmp_path / "torch" / "hub" / "checkpoints"
    hub.mkdir(parents=True)
    Path(path).rename(hub / Path(path).name)
    assert result_of(find_init("imagenet", config)) == str(hub / Path(path).name)
    assert result_of(find_init("none", config)) == "none"
    with pytest.raises(WeightsError, match="no starting weights a.pth: neither a file nor of the zoo"):
        result_of(find_init("a.pth", config))


def test_non_local_networks_start_from_a_plain_one() -> None:
    """ImageNet weights have no non-local blocks; these start as identities."""
    model = build_model(load_preset("r50-k400-nl-dot"))
    report = load_state(model, state_of(1000, "torchvision"), new_classifier=True)
    assert len([name for name in report.fresh if ".non_local." in name]) == 60
    assert report.unexpected == ()


def test_starting_from_a_network_without_shifts() -> None:
    """MMAction2's names of an unshifted network, such as mmcls's MobileNetV2; for testing it is refused."""
    for backbone in ("resnet50", "mobilenet_v2"):
        state = state_of(1000, backbone=backbone, shift="none")
        state = {key.replace("cls_head.fc_cls.", "head.fc."): value for key, value in state.items()}
        assert not any(".net." in key for key in state)
        model = build_model(ModelConfig(backbone=backbone, init="none"), 5)
        report = load_state(model, state, new_classifier=True)
        assert (report.layout, len(report.fresh)) == ("mmaction", 2)
        with pytest.raises(WeightsError, match="of another network"):
            load_state(model, state)


class _Harmful:
    """What an attacker pickles."""

    def __init__(self, call: Callable[..., Any], *args: Any) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, self.args


@pytest.mark.parametrize("new", [True, False])
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path: Path, new: bool) -> None:
    trace = tmp_path / "trace"
    for call, args in (
        (os.system, (f"touch {trace}",)),
        (os.mkdir, (str(trace),)),
        (eval, ("1+1",)),
        (open, (str(trace), "w")),
    ):
        path = tmp_path / "x.pth"
        tree = {"state_dict": {"fc.bias": torch.zeros(2)}, "meta": _Harmful(call, *args)}
        torch.save(tree, path, _use_new_zipfile_serialization=new)
        with pytest.raises(WeightsError, match="could run code; nothing was loaded"):
            read_weights(path)
        with pytest.raises(WeightsError, match="could run code"):
            open_checkpoint(path)
    assert not trace.exists()


@pytest.mark.parametrize("new", [True, False])
def test_numbers_of_numpy_are_read_as_numbers(tmp_path: Path, new: bool) -> None:
    """MMAction2 keeps the best accuracy as one; of either generation of numpy."""
    path = tmp_path / "x.pth"
    numbers = {"a": np.float64(0.47), "b": np.int64(-3), "c": np.float32(2), "d": np.bool_(True)}
    torch.save(numbers, path, _use_new_zipfile_serialization=new)
    assert read_file(path) == {"a": 0.47, "b": -3, "c": 2.0, "d": True}
    if not new:
        path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
        assert read_file(path)["a"] == 0.47
    torch.save({"a": np.datetime64("2020-01-01"), "b": 1}, path, _use_new_zipfile_serialization=new)
    assert isinstance(read_file(path)["a"], Inert)


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "x"
    torch.save({"a": torch.zeros(1000)}, path)
    whole = path.read_bytes()
    write_safetensors(path, {"a": torch.zeros(1000)}, {})
    tensors = path.read_bytes()
    for content in (whole[:500], tensors[:500], tensors[:20], b"", b"12345678{", b"\x05\0\0\0\0\0\0\0{1234"):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="cannot be read as a checkpoint"):
            read_file(path)


def test_a_checkpoint_of_ours_as_safetensors(tmp_path: Path) -> None:
    from tsmcli.recipes.zoo.convert import convert

    config = load_preset("demo", ["model.width=0.125"])
    model = build_model(config, 8, seed=0)
    save_checkpoint(
        tmp_path / "a.pt", Checkpoint("demo", config, list("abcdefgh"), Progress(epoch=3), model.state_dict())
    )
    result_of(convert(tmp_path / "a.pt", tmp_path / "a.safetensors", "safetensors"))  # type: ignore[arg-type]
    again, same = load_checkpoint(tmp_path / "a.safetensors")
    assert same == config
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
    result_of(convert(tmp_path / "a.safetensors", tmp_path / "b.pt", "tsm"))  # type: ignore[arg-type]
    back = open_checkpoint(tmp_path / "b.pt")
    assert back is not None
    assert (back.class_names, back.progress.epoch, back.preset) == (list("abcdefgh"), 3, "demo")


def test_a_bare_pickle_is_no_file_of_weights(tmp_path: Path) -> None:
    """torch's own words would advise to run what is in it."""
    import pickle

    for name, content in (
        ("a.pkl", pickle.dumps({"x": 1}, 4)),
        ("b.pkl", pickle.dumps(_Harmful(os.system, "touch x"), 4)),
        ("c.txt", b"no weights"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError) as caught:
            read_file(tmp_path / name)
        assert "weights_only" not in str(caught.value)
        assert "unsafe" not in str(caught.value).lower()
        assert ("no file of weights" in str(caught.value)) or ("could run code" in str(caught.value))


def test_names_that_are_nearly_of_the_zoo() -> None:
    for name in ("r50-sthv1-8g", "r50-k400-8f@340x255"):
        with pytest.raises((WeightsError, UsageError)) as caught:
            find(Path(name), None)
        assert "did you mean r50-" in caught.value.hint
    config = load_preset("r50-sthv1-8f")
    with pytest.raises(UsageError, match="k400-val-list is no file of weights"):
        result_of(find_init("k400-val-list", config))


@pytest.mark.parametrize("length", [0x80, 0x4B50, 0x280, 0x1F])
def test_safetensors_of_any_length_are_known_by_their_first_bytes(tmp_path: Path, length: int) -> None:
    """The length of the header comes first; its bytes may look like the beginning of other files."""
    file = tmp_path / "a"
    file.write_bytes(length.to_bytes(8, "little") + b"{" + bytes(length))
    assert is_safetensors(file)
    for start in (b"PK\x03\x04\x00\x00\x00\x00{", b"\x80\x02\x8a\nl\xfc\x9cF{"):
        file.write_bytes(start + bytes(100))
        assert not is_safetensors(file)

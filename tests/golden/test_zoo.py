"""Published files end to end: served, downloaded, verified, loaded, converted, with the logits of MMAction2."""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from golden.fill import fill, make_input
from golden.test_models import LOGITS, MIT, MIT_LOGITS, MODELS, NAMES, config_of, logits, tolerance
from torch import Tensor
from web_server import Server
from zoo_stub import model_of, result_of, use_models

from tsmcli.config import Config, ModelConfig
from tsmcli.core.tsm import TSM
from tsmcli.engine.weight_file import read_file
from tsmcli.presets import Preset
from tsmcli.recipes.network import load_network, read_weight_file
from tsmcli.recipes.zoo.convert import Converted, convert

BY_HEART = ("r50_8f_sthv1", "nl_gaussian_r50_8f_k400", "mobilenetv2_8f_k400", "r101_8f_sthv1")
"""The rest, of the same kinds, are slow tests."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TSM_ZOO", str(tmp_path / "cache"))
    server = Server()
    yield server
    server.close()


def published_bytes(state: dict[str, Tensor]) -> bytes:
    """A file as MMAction2 publishes it: weights in order and facts about the training, some as numbers of numpy."""
    meta = {"epoch": 50, "config": "model = dict(...)", "hook_msgs": {"best_score": np.float64(0.47)}}
    file = io.BytesIO()
    torch.save({"meta": meta, "state_dict": OrderedDict(state)}, file)
    return file.getvalue()


def load(path: Path, config: Config, classes: int) -> TSM:
    return load_network(result_of(read_weight_file(path, None)), config, classes)


@pytest.mark.parametrize(
    "name", [name if name in BY_HEART else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_download_verify_load_convert(
    name: str, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = MODELS[name]
    state = fill(dict(entry["state_dict"]), entry["gain"], entry["nl_gain"])
    content = published_bytes(state)
    file = f"{name}_20210203-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    server.files[f"/{file}"] = content
    preset = tmp_path / f"{name}.yaml"
    preset.write_text(Config(model=config_of(name)).model_dump_json())  # JSON is YAML
    use_models(monkeypatch, [model_of(f"{name}@test", str(preset), f"{server.url}/{file}")])

    opened = result_of(read_weight_file(Path(f"{name}@test"), None))
    path, found = opened.path, opened.preset
    assert path == tmp_path / "cache" / f"{name}@test" / file
    assert path.read_bytes() == content
    model = load(path, found.config, entry["num_classes"])
    x = make_input(2, entry["segments"], 64)
    theirs = logits(model, x)
    assert np.abs(theirs - LOGITS[f"{name}/logits64_float64"]).max() < tolerance(name)

    there, back = tmp_path / "there.pth", tmp_path / "back.pth"
    convert_to(path, there, "mit", found.config)
    assert np.array_equal(logits(load(there, found.config, entry["num_classes"]), x), theirs)
    convert_to(there, back, "mmaction", found.config)
    again = read_file(back)["state_dict"]
    assert list(again) == list(state)
    assert all(again[key].dtype == state[key].dtype for key in state)
    assert all(torch.equal(again[key], state[key]) for key in state)


def convert_to(source: Path, target: Path, to: str, config: Config) -> Converted:
    # the classes are not of Something-Something, whatever their number
    return result_of(convert(source, target, to, preset=Preset("golden", config, {}), dataset="folder"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "backbone"),
    [("mit_r50_8f", "resnet50"), ("mit_mobilenetv2_8f", "mobilenet_v2"), ("mit_r101_8f_174", "resnet101")],
)
def test_a_file_of_the_authors(
    name: str, backbone: str, server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entry = MIT[name]
    state = fill(dict(entry["state_dict"]), entry["gain"])
    file = io.BytesIO()
    tree = {
        "epoch": 50,
        "arch": "x",
        "best_prec1": torch.tensor(47.0),
        "optimizer": {"state": {}, "param_groups": []},
    }
    torch.save({**tree, "state_dict": {f"module.{key}": value for key, value in state.items()}}, file,
               _use_new_zipfile_serialization=False)  # fmt: skip
    url = f"/TSM-{hashlib.sha256(file.getvalue()).hexdigest()[:8]}.pth"
    server.files[url] = file.getvalue()
    preset = tmp_path / "theirs.yaml"
    config = ModelConfig.model_validate({"backbone": backbone, "init": "none"})
    preset.write_text(Config(model=config).model_dump_json())
    use_models(monkeypatch, [model_of("theirs@test", str(preset), server.url + url, network=backbone)])
    opened = result_of(read_weight_file(Path("theirs@test"), None))
    path, found = opened.path, opened.preset
    model = load(path, found.config, entry["num_classes"])
    difference = np.abs(logits(model, make_input(2, 8, 64)) - MIT_LOGITS[f"{name}/logits64"]).max()
    assert difference < 7e-5

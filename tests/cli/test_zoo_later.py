"""The rows that were published after June 2021, and the authors' files: tables, withdrawn files, tests by id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import tsm
from zoo_stub import light, model_of, use_models

from tsmcli import zoo
from tsmcli.config import PROTOCOLS, ModelConfig
from tsmcli.core.tsm import TSM, build_model
from tsmcli.core.weights import export_state, load_state
from tsmcli.presets import load_preset
from tsmcli.zoo import Model

GOLDEN = Path(__file__).parents[1] / "golden"
FIRST: list[dict[str, Any]] = json.loads((GOLDEN / "zoo.json").read_text())
LATER: dict[str, Any] = json.loads((GOLDEN / "zoo_later.json").read_text())
NETWORKS = {"ResNet50": "resnet50", "ResNet101": "resnet101", "MobileNetV2": "mobilenet_v2",
            "MobileOne-S4": "mobileone_s4"}  # fmt: skip
SAME = ("id", "version", "table", "dataset", "frames", "config_link", "ckpt", "log", "json", "sha256_prefix")
SAME_CELLS = {"resolution": "resolution", "gpus": "gpus", "backbone": "backbone", "pretrain": "pretrain",
              "testing_protocol": "protocol_printed", "flops": "flops_printed", "params": "params_printed"}  # fmt: skip


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched but from a folder."""
    monkeypatch.setenv("TSM_ZOO", str(tmp_path / "cache"))
    monkeypatch.setenv("TSM_ZOO_MIRROR", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("TSM_OFFLINE", raising=False)
    monkeypatch.setattr("tsmcli.engine.fetch.pause", lambda _: 0.001)


def values(column: dict[str, float | None] | None) -> list[float | None]:
    """The numbers of a cell; none where it has none."""
    return list((column or {}).values())


def test_every_row_equals_what_was_published() -> None:
    """After the 28 rows, whose cells another test compares."""
    rows = tsm("zoo", "ls", "--all", "--json").json()
    assert [row["id"] for row in rows] == [row["id"] for row in [*FIRST, *LATER["models"]]]
    for row, theirs in zip(rows[len(FIRST) :], LATER["models"], strict=True):
        id = row["id"]
        assert {key: row[key] for key in SAME} == {key: theirs[key] for key in SAME}
        for column, key in SAME_CELLS.items():
            assert row["cells"].get(column) == theirs[key], (id, column)
        assert (row["config"], row["reference"]) == (theirs["config_name"], theirs["reference_url"])
        assert row["network"] == NETWORKS[theirs["backbone_actual"]]
        assert row["preset"] == (theirs["preset"] or row["preset"])
        assert (row["gpus"], row["memory_mib"]) == (theirs["gpus_total"], theirs["gpu_mem_mib"])
        for column in ("top1", "top5", "reference_top1", "reference_top5"):
            assert values(row[column]) == values(theirs[column]), (id, column)
        assert {column: row["cells"][column] for column in theirs["cells"]} == theirs["cells"]
        for ours, printed in zip(row["protocol"].values(), (theirs["protocol"] or {}).values(), strict=True):
            assert {key: ours[key] for key in ours.keys() & printed.keys()} == {
                key: value for key, value in printed.items() if key != "crop_size"
            }
            assert ours["crop_px"] == printed["crop_size"]
    assert all(row["version"] == "0.15.0+dae2f4bc" for row in rows[: len(FIRST)])


def test_which_row_took_the_place_of_which() -> None:
    rows = {row["id"]: row for row in tsm("zoo", "ls", "--all", "--json").json()}
    hashes = {row["sha256_prefix"]: id for id, row in reversed(rows.items())}
    for fact in LATER["dropped"].values():
        row = rows[fact["id"]]
        successors = [rows[id]["sha256_prefix"] for id in row["superseded_by"]]
        assert (row["withdrawn"], successors) == (fact["on"], fact["by"]), row["id"]
    assert rows["r50-sthv2-8f@h256"]["superseded_by"] == ["r50-sthv2-8f@h256-corrected", "r101-sthv2-8f@h256"]
    for row in rows.values():
        assert bool(row["withdrawn"]) == bool(row["superseded_by"]), row["id"]
        assert all(row["id"] in rows[old]["superseded_by"] for old in row["supersedes"])
    assert not {*LATER["withdrawn"], *(file["sha256_prefix"] for file in LATER["before_june_2021"])} & {*hashes}


def test_the_list_has_what_publishers_list_today() -> None:
    every = tsm("zoo", "ls", "--all", "--json").json()
    listed = [row["id"] for row in tsm("zoo", "ls", "--json").json()]
    assert listed == [row["id"] for row in every if row["table"] and not row["withdrawn"]]
    assert (len(every), len(listed)) == (72, 62)
    assert "--all: also 10 that" in tsm("zoo", "ls").out
    out = tsm("zoo", "ls", "--all").out
    assert "r50-sthv1-16f@h100: not listed since 2021-12-07; in its place: r50-sthv1-16f@h100-2021-12" in out
    for sort in ("accuracy", "speed", "memory"):
        assert len(tsm("zoo", "ls", "--all", "--sort", sort, "--json").json()) == 72
    assert tsm("zoo", "ls", "--all", "--frames", "1", "--json").json()[0]["id"] == "authors-mbv2-jester-online"


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("446d261a", "r50-sthv2-8f-v1@224"),
        ("b1fb8264", "r50-sthv2-16f-v1@224"),
        ("tsm_r50_1x1x8_50e_sthv1_rgb_20200616-3417f361.pth", "r50-sthv1-8f@h100"),
    ],
)
def test_a_withdrawn_file_is_not_offered(name: str, instead: str) -> None:
    for words in (("zoo", "download", name), ("zoo", "show", name), ("test", "--checkpoint", name)):
        done = tsm(*words)
        assert done.code == 4
        assert "was withdrawn" in done.err
        assert f"take {instead}" in done.err
    assert zoo_row(instead).current


def test_all_withdrawn_files_are_known() -> None:
    for file in (*LATER["withdrawn"].values(), *LATER["before_june_2021"]):
        assert zoo.has(file["file"])
    gone = {f.file.name: f.instead for f in zoo._read()[2]}
    assert {*gone} == {file["file"] for file in (*LATER["withdrawn"].values(), *LATER["before_june_2021"])}
    assert all(isinstance(zoo.find(id), Model) for id in gone.values())


def test_an_address_that_is_gone_names_the_successor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = model_of("old@h100", "r50-sthv1-8f", f"{tmp_path.as_uri()}/none-00000000.pth", withdrawn="2021-12-07")
    new = model_of("new@h100", "r50-sthv1-8f", f"{tmp_path.as_uri()}/new-00000000.pth", supersedes=["old@h100"])
    use_models(monkeypatch, [old, new])
    done = tsm("zoo", "download", "old@h100")
    assert done.code == 4
    assert "not listed any more; new@h100 took its place" in done.err
    assert "took its place" not in tsm("zoo", "download", "new@h100").err


def test_files_of_the_authors_take_their_tests() -> None:
    for row in (row for row in zoo.models() if row.id.startswith("authors-")):
        config = load_preset(row.preset, row.sets)
        if row.protocols:
            assert config.test.name in row.protocols
            assert config.test.average == "score"
            assert config.test.views == max(PROTOCOLS[name].views for name in row.protocols)
    plain = load_preset("r50-k400-8f", ["model.shift=none"])
    assert load_preset("r50-k400-8f", zoo_row("authors-r50-k400-tsn").sets).model == plain.model


def zoo_row(id: str) -> Model:
    row = zoo.find(id)
    assert isinstance(row, Model)
    return row


def test_a_file_without_a_hash_by_its_id(tmp_path: Path, demo_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is fetched, nothing can be compared, and its own test stands beside the published number."""
    (tmp_path / "small.yaml").write_text(
        load_preset("demo", ["model.width=0.125", "train.workers=0"]).model_dump_json()
    )
    state = export_state(build_model(load_preset(str(tmp_path / "small.yaml")), 8, seed=0), "mit")
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "small.pth")
    row = model_of(
        "authors-small", str(tmp_path / "small.yaml"), "http://127.0.0.1:9/small.pth", dataset="demo",
        network="resnet18", protocols=["efficient-score", "accurate-score"], sets=["test=accurate-score"],
        cells={"top1": "40.0 / 50.0"},
    )  # fmt: skip
    use_models(monkeypatch, [row])
    done = tsm("test", "--checkpoint", row.id, "--data", demo_data, "--json")
    assert "authors-small: no published hash" in done.err
    tested = done.json()
    assert tested["protocol"] == "accurate-score"
    assert (tested["published"]["id"], tested["published"]["top1"]["published"]) == (row.id, 0.5)
    assert "no published hash" in tsm("zoo", "verify").out
    assert "not published" in tsm("zoo", "show", row.id).out


def test_optical_flow_is_named(tmp_path: Path) -> None:
    row = zoo_row("authors-r50-k400-flow")
    with torch.device("meta"):
        network = TSM(load_preset("r50-k400-8f").model, 400)
    state = light(export_state(network, "mit"))
    state["base_model.conv1.weight"] = torch.zeros(64, 10, 7, 7)
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / row.ckpt.name)
    convert = ("zoo", "convert", tmp_path / row.ckpt.name, tmp_path / "x.pth", "--to", "mmaction")
    for words in (("test", "--checkpoint", row.id), convert, (*convert, "--preset", "r50-k400-8f")):
        done = tsm(*words)
        assert done.code == 4
        assert "a network of optical flow (10 input channels; tsm reads RGB), otherwise a ResNet-50" in done.err
        assert "takes the weights as what they are" not in done.err


def test_of_a_distillation_the_student_is_taken() -> None:
    model = build_model(ModelConfig(backbone="mobilenet_v2", init="none"), 5, seed=0)
    student = export_state(model, "mmaction")
    both = {f"architecture.{key}": value for key, value in student.items()}
    both |= {"teacher.backbone.conv1.conv.weight": torch.zeros(64, 3, 7, 7)}
    again = build_model(ModelConfig(backbone="mobilenet_v2", init="none"), 5, seed=1)
    assert load_state(again, both).complete
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())

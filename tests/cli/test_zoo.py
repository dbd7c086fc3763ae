"""tsm zoo: the tables cell by cell, downloads of stub files, verification, tests by id."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rar import FILE, rar
from support import tsm
from web_server import Fault, Server
from zoo_stub import light, model_of, use_models

from tsmcli import zoo
from tsmcli.core.tsm import build_model
from tsmcli.core.weights import export_state
from tsmcli.presets import load_preset
from tsmcli.recipes.zoo.download import cache_folder
from tsmcli.results import load_results
from tsmcli.zoo import COLUMNS, Extra, File, Model

SEED: list[dict[str, Any]] = json.loads((Path(__file__).parents[1] / "golden" / "zoo.json").read_text())
COLUMN_OF = {"inference_time(video/s)": "inference_time", "gpu_mem(M)": "gpu_mem"}
"""Headings of the published tables that are more than our column and ` acc`."""


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TSM_ZOO_MIRROR", "TSM_OFFLINE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TSM_ZOO", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("tsmcli.engine.fetch.pause", lambda _: 0.001)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


@pytest.fixture
def stubs(server: Server, monkeypatch: pytest.MonkeyPatch) -> list[Model]:
    """The 28 rows of June 2021 as if all were listed still, with small files of their own at the server."""
    rows = []
    for i, model in enumerate(zoo.models()[: len(SEED)]):
        files = {}
        for kind, file in model.files.items():
            body = random.Random(f"{i} {kind}").randbytes(3000 + 10 * i)
            hash = hashlib.sha256(body).hexdigest()[:8]
            path = re.sub(r"^https://[^/]*", "", file.url).replace(file.sha256_prefix or "no hash", hash)
            server.files[path] = body
            files[kind] = File(server.url + path)
        rows.append(replace(model, withdrawn=None, **files))  # type: ignore[arg-type]
    use_models(monkeypatch, rows)
    return rows


def column_of(title: str) -> str:
    """Our column for a heading of the published tables: `reference top1 acc (efficient/accurate)`: reference_top1."""
    plain = title.replace(" (efficient/accurate)", "").strip()
    return COLUMN_OF.get(plain, plain.removesuffix(" acc").replace(" ", "_"))


def published(row: dict[str, Any]) -> dict[str, str]:
    """The cells of a published row by our columns."""
    return {column_of(title): cell for title, cell in row["cells"].items()}


def test_markdown_equals_the_published_tables_cell_by_cell() -> None:
    lines = [
        line.strip("|").split("|") for line in tsm("zoo", "ls", "--all", "--format", "markdown").out.splitlines()
    ]
    header = [word.strip() for word in lines[0]]
    assert header == ["id", "config", *COLUMNS, "ckpt", "log", "json"]
    for line, row in zip(lines[2 : 2 + len(SEED)], SEED, strict=True):
        cells, links = {}, {}
        for column, cell in zip(header[1:], line[1:], strict=True):
            words, link = re.fullmatch(r"\[(.*)\]\((.*)\)|.*", cell.strip()).groups()  # type: ignore[union-attr]
            cells[column] = words or cell.strip()
            links[column] = link
        assert {column: cell for column, cell in cells.items() if cell} == published(row), row["id"]
        expected = {column_of(title): link for title, link in row["links"].items()}
        assert {column: link for column, link in links.items() if link} == expected, row["id"]


def test_csv_and_json_equal_the_published_tables_cell_by_cell() -> None:
    lines = list(csv.DictReader(io.StringIO(tsm("zoo", "ls", "--all", "--format", "csv").out)))
    trees = tsm("zoo", "ls", "--all", "--json").json()
    assert [line["id"] for line in lines] == [tree["id"] for tree in trees]
    for line, tree, row in zip(lines[: len(SEED)], trees[: len(SEED)], SEED, strict=True):
        assert line["id"] == tree["id"] == row["id"]
        for column in COLUMNS:
            assert line[column] == tree["cells"].get(column, "") == published(row).get(column, "")
        for kind in ("ckpt", "log", "json"):
            assert line[kind] == tree[kind] == row["links"][kind]
        assert line["sha256_prefix"] == tree["sha256_prefix"] == row["sha256_prefix"]


def test_table_fits_a_terminal_and_shows_the_numbers() -> None:
    out = tsm("zoo", "ls").out.splitlines()
    assert max(len(line) for line in out if re.match(r" \S+ ", line)) <= 80
    out = tsm("zoo", "ls", "--all").out.splitlines()
    lines = [line for line in out if "@" in line and ":" not in line]
    for line, row in zip(lines[: len(SEED)], SEED, strict=True):
        cells = [cell.strip() for cell in re.split(r"\s{2,}", line.strip())]
        expected = [published(row).get(column, "") for column in ("top1", "top5", "inference_time", "gpu_mem")]
        assert cells == [row["id"], *(cell.split(" (")[0] for cell in expected if cell)]
    assert any("r50-sthv2-8f@h256: its file holds a ResNet-101" in line for line in out)


def test_filters_and_sorting() -> None:
    rows = tsm("zoo", "ls", "--dataset", "k400", "--frames", "8", "--sort", "memory", "--json").json()
    assert rows[0]["id"] == "mbv2-k400-dense@short320"
    assert {row["dataset"] for row in rows} == {"k400"}
    assert {row["dataset"] for row in tsm("zoo", "ls", "--dataset", "ucf101", "--json").json()} == {"ucf101"}
    assert tsm("zoo", "ls", "--dataset", "ucf102").code == 2
    assert tsm("zoo", "ls", "--sort", "beauty").code == 2


def test_listing_loads_no_torch() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom tsmcli.cli import app\n"
        "for words in (['zoo', 'ls'], ['zoo', 'show', 'r50-sthv1-8f'], ['zoo', '--help']):\n"
        "    assert CliRunner().invoke(app, words).exit_code == 0\n"
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_show_tells_everything() -> None:
    out = tsm("zoo", "show", "r50-sthv2-8f@h256").out
    for words in ("holds a ResNet-101", "60.79 / 63.84   efficient / accurate", "df97f3e1", "corrected",
                  "trained again by MMAction2", "Preset r50-sthv2-8f: The published memory", "missing:"):  # fmt: skip
        assert words in out, words
    out = tsm("zoo", "show", "r50-k400-dense@340x256").out
    assert "32 GPUs with 8 each make 256" in out
    assert "72.9   dense10" in out
    assert "--protocol val measures the other number" in tsm("zoo", "show", "r50-jester-8f").out
    assert tsm("zoo", "show", "r50-k400-8f@short256", "--json").json()["top1"] == {"efficient": 70.59}
    for extra in zoo.extras():
        assert extra.id in tsm("zoo", "show", extra.id).out
        assert tsm("zoo", "show", extra.id, "--json").json()["id"] == extra.id
    for row in zoo.models():
        assert tsm("zoo", "show", row.id).code == 0
    assert tsm("zoo", "show", "r50").code == 2


def test_all_28_with_logs_in_parallel_through_faults(stubs: list[Model], server: Server, tmp_path: Path) -> None:
    server.every = [
        Fault(cut=1000),
        Fault(status=503),
        Fault(cut=10),
        Fault(status=429, headers={"Retry-After": "0"}),
    ]
    done = tsm("zoo", "download", "--all", "--with", "log", "json", "--json").json()
    assert len(done["files"]) == 3 * 28
    assert sum(file["verified"] for file in done["files"]) == 28
    for row in stubs:
        for file in row.files.values():
            body = server.files[file.url.removeprefix(server.url)]
            assert (tmp_path / "cache" / row.id / file.name).read_bytes() == body
    assert not list(tmp_path.glob("cache/**/*.part*"))
    sent = server.sent
    again = tsm("zoo", "download", "--all", "--offline")
    assert len(again.out.splitlines()) == 28
    assert server.sent == sent
    assert tsm("zoo", "verify").code == 0


def test_one_bad_file_does_not_stop_the_others(stubs: list[Model], server: Server, tmp_path: Path) -> None:
    del server.files[stubs[3].ckpt.url.removeprefix(server.url)]
    server.files[stubs[5].ckpt.url.removeprefix(server.url)] = b"not it"
    done = tsm("zoo", "download", "--all")
    assert done.code == 4
    assert "2 of 28 files could not be fetched" in done.err
    assert f"{stubs[3].id} cannot be fetched" in done.err
    assert "404 Not Found" in done.err
    assert "not the published file" in done.err
    assert len(list(tmp_path.glob("cache/*/*.pth"))) == 26
    for row in stubs[:2]:
        (tmp_path / "cache" / row.id / row.ckpt.name).unlink()
        (tmp_path / "cache" / row.id / f"{row.ckpt.name}.part").mkdir()
    done = tsm("zoo", "download", stubs[0].id, stubs[1].id)
    assert done.code == 5
    assert f"{stubs[1].ckpt.name}.part: Is a directory" in done.err


def test_mirrors_in_three_layouts(
    stubs: list[Model], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = {row.id: server.files[row.ckpt.url.removeprefix(server.url)] for row in stubs}
    server.files.clear()
    a, b, c = stubs[:3]
    places = {
        a.id: f"flat/{a.ckpt.name}",
        b.id: f"cache like/{b.id}/{b.ckpt.name}",
        c.id: f"server{c.ckpt.url.removeprefix(server.url)}",
    }
    for id, place in places.items():
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_bytes(contents[id])
    monkeypatch.setenv("TSM_ZOO_MIRROR", f"{(tmp_path / 'server').as_uri()}/ {tmp_path / 'nowhere'}")
    assert tsm("zoo", "download", a.id).code == 2  # a folder that is not there
    monkeypatch.setenv("TSM_ZOO_MIRROR", (tmp_path / "server").as_uri())
    options = ("--mirror", tmp_path / "flat", "--mirror", f"{(tmp_path / 'cache like').as_uri()}/")
    done = tsm("zoo", "download", a.id, b.id, c.id, *options)
    assert done.code == 0, done.err
    assert [Path(line).read_bytes() for line in done.out.splitlines()] == [contents[row.id] for row in (a, b, c)]


def test_dry_run_offline_and_a_full_disk(
    stubs: list[Model], server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = tsm("zoo", "download", stubs[0].id, stubs[1].id, "--dry-run", "--json").json()
    assert plan["missing_bytes"] == 3000 + 3010
    assert [file["size"] for file in plan["files"]] == [3000, 3010]
    assert "to fetch" in tsm("zoo", "download", "--all", "--dry-run").out
    assert server.sent == 0
    assert not (tmp_path / "cache").exists()
    refused = tsm("zoo", "download", stubs[0].id, "--offline")
    assert refused.code == 4
    assert f"cache: {stubs[0].id}" in refused.err
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 5000})())
    full = tsm("zoo", "download", stubs[0].id, stubs[1].id)
    assert full.code == 5
    assert "needs 6,010 bytes" in full.err
    assert server.sent == 0


@pytest.mark.parametrize("silent", ["HEAD", "GET"])
def test_ctrl_c_ends_at_once_and_leaves_what_came(server: Server, tmp_path: Path, silent: str) -> None:
    """While sizes are asked for, and in the middle of a file."""
    row = zoo.models()[0]
    server.files[f"/{row.id}/{row.ckpt.name}"] = bytes(100_000)
    server.slow_heads = 60.0 if silent == "HEAD" else 0.0
    server.faults.append(Fault(pause=60))
    command = [sys.executable, "-m", "tsmcli", "zoo", "download", row.id, "--mirror", server.url]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    part = tmp_path / "cache" / row.id / f"{row.ckpt.name}.part"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (
        server.requests if silent == "HEAD" else part.exists() and part.stat().st_size == 50_000
    ):
        time.sleep(0.01)
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    assert time.monotonic() - begin < 4
    assert process.returncode == 130
    assert said.endswith("error: interrupted\nhint: the same command goes on where it stopped\n")
    assert "Traceback" not in said
    assert part.exists() == (silent == "GET")


def test_verify_finds_what_is_damaged_and_what_is_half_there(
    stubs: list[Model], server: Server, tmp_path: Path
) -> None:
    assert "nothing was downloaded yet" in tsm("zoo", "verify").out
    a, b, c = (row.id for row in stubs[:3])
    first = Path(tsm("zoo", "download", a, b, "--with", "log").out.splitlines()[0])
    first.write_bytes(first.read_bytes()[:-1])
    half = tmp_path / "cache" / c / f"{stubs[2].ckpt.name}.part"
    half.parent.mkdir()
    half.write_bytes(b"half")
    done = tsm("zoo", "verify", "--json")
    assert done.code == 4
    states = {file["name"]: file["state"] for file in json.loads(done.out)}
    assert states == {a: "damaged", f"{a} log": "no published hash", b: "verified", f"{b} log": "no published hash",
                      c: "incomplete"}  # fmt: skip
    assert f"tsm zoo download {a} {c}" in done.err
    assert tsm("zoo", "download", a, c).code == 0
    assert tsm("zoo", "verify", a, b, c).code == 0
    missing = tsm("zoo", "verify", stubs[9].id)
    assert missing.code == 4
    assert "missing" in missing.out


def test_the_reference_archive_is_unpacked(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("libarchive", exc_type=Exception)  # type: ignore[arg-type]
    server.files["/ref.rar"] = rar({"ref/a.pth": (FILE, b"weights")})
    extra = Extra("reference-checkpoints", "", File(f"{server.url}/ref.rar"))
    use_models(monkeypatch, [], extras=[extra])
    done = tsm("zoo", "download", extra.id).out.splitlines()
    assert [Path(line).name for line in done] == ["ref.rar", "ref"]
    assert (Path(done[1]) / "ref" / "a.pth").read_bytes() == b"weights"
    server.files["/ref.rar"] = rar({"../a.pth": (FILE, b"weights")})
    monkeypatch.setenv("TSM_ZOO", str(tmp_path / "other"))
    refused = tsm("zoo", "download", extra.id)
    assert refused.code == 4
    assert "'../a.pth' leads out of the folder" in refused.err


def test_without_libarchive_the_archive_is_kept(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "libarchive", None)
    server.files["/ref.rar"] = rar({})
    use_models(monkeypatch, [], extras=[Extra("reference-checkpoints", "", File(f"{server.url}/ref.rar"))])
    done = tsm("zoo", "download", "reference-checkpoints")
    assert done.code == 5
    assert "pip install 'tsmcli[rar]'" in done.err
    assert (tmp_path / "cache" / "reference-checkpoints" / "ref.rar").exists()


def test_words_that_do_not_fit(stubs: list[Model]) -> None:
    assert tsm("zoo", "download").code == 2
    assert tsm("zoo", "download", "--all", stubs[0].id).code == 2
    assert tsm("zoo", "download", "r50-sthv1-8f@h1").code == 2
    assert tsm("zoo", "download", stubs[0].id, "--mirror", "nowhere").code == 2
    assert tsm("zoo", "download", stubs[0].id, "--mirror", "http://[").code == 2


def test_a_page_is_not_a_file() -> None:
    done = tsm("zoo", "download", "k400-val-videos")
    assert done.code == 2
    assert "is a page for a browser" in done.err


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("TSM_ZOO")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/tsm/zoo")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "tsm" / "zoo"


def test_test_and_train_by_id(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_data: Path
) -> None:
    """No preset needs to be named; the network is the row's."""
    monkeypatch.chdir(tmp_path)
    sets = ["model.width=0.125", "train.workers=0"]
    Path("small.yaml").write_text(load_preset("demo", sets).model_dump_json())  # JSON is YAML
    content = io.BytesIO()
    state = export_state(build_model(load_preset("small.yaml"), 8, seed=0), "mmaction")
    torch.save({"meta": {}, "state_dict": state}, content)
    hash = hashlib.sha256(content.getvalue()).hexdigest()
    server.files[f"/tsm-{hash[:8]}.pth"] = content.getvalue()
    own = load_preset("small.yaml").test.name
    row = model_of(
        "small@demo",
        "small.yaml",
        f"{server.url}/tsm-{hash[:8]}.pth",
        dataset="demo",
        network="resnet18",
        protocols=[own],
    )
    use_models(monkeypatch, [row])
    done = tsm("test", "--checkpoint", "small@demo", "--data", demo_data, "--out", "s.json", "--json")
    assert done.json()["preset"] == "small"
    published = done.json()["published"]
    assert (published["id"], published["top1"]["published"]) == ("small@demo", 0.5)
    assert published["top1"]["difference"] == done.json()["top1"] - 0.5
    shown = tsm("eval", "s.json").out
    assert "Beside the zoo's small@demo" in shown
    assert "50.00 %" in shown
    other = tsm("test", "--checkpoint", "small@demo", "--data", demo_data, "--protocol", "ten-crop").out
    assert f"small@demo has no published value under ten-crop, but under {own}." in other
    assert "small@demo: verified" in done.err
    assert load_results(Path("s.json")).meta["sha256"] == hash
    clip = next((demo_data / "videos/val").iterdir())
    said = tsm("predict", "small@demo", clip, "--classes", demo_data / "classes.txt", "--json").json()
    assert said["videos"][0]["top"][0]["name"] in (demo_data / "classes.txt").read_text().splitlines()
    trained = tsm("train", "--preset", "small.yaml", "--fast-dev-run", "--checkpoint", "small@demo", "--data",
                  demo_data, "--json")  # fmt: skip
    assert trained.code == 0, trained.err
    assert "mmaction layout" in trained.err
    assert len(server.gets) == 1
    assert tsm("test", "--checkpoint", "small@dem", "--data", demo_data).code == 2


def test_convert(tmp_path: Path) -> None:
    state = light(export_state(build_model(load_preset("r50-sthv1-8f"), seed=0), "mit"))
    torch.save({"state_dict": {f"module.{key}": value for key, value in state.items()}}, tmp_path / "a.pth")
    refused = tsm("zoo", "convert", tmp_path / "a.pth", tmp_path / "b.pth", "--to", "mmaction")
    assert refused.code == 2
    assert "--dataset sthv1, sthv2 or jester" in refused.err
    done = tsm("zoo", "convert", tmp_path / "a.pth", tmp_path / "b.pth", "--to", "mmaction", "--dataset", "sthv1")
    assert "a ResNet-50, 174 classes, in mit layout" in done.out
    assert "classes put into the other order; reads back bit by bit" in done.out
    ours = tsm("zoo", "convert", tmp_path / "b.pth", tmp_path / "c.safetensors", "--to", "safetensors", "--preset",
               "r50-sthv1-8f", "--json").json()  # fmt: skip
    assert (ours["layout"], ours["network"], ours["classes_reordered"]) == (
        "mmaction",
        "a ResNet-50, 174 classes",
        False,
    )
    assert tsm("zoo", "convert", tmp_path / "b.pth", tmp_path / "c.pt", "--to", "tsm").code == 2
    assert (
        tsm("zoo", "convert", tmp_path / "b.pth", tmp_path / "c.pt", "--to", "mit", "--dataset", "nothing").code
        == 2
    )
    assert tsm("zoo", "convert", tmp_path / "none.pth", tmp_path / "c.pt", "--to", "mit").code == 4

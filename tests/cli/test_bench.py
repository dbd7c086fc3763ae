"""tsm bench: what it prints in which form, what it compares, and what does not end it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import tsm

from tsmcli.core.tsm import build_model
from tsmcli.engine.checkpoint import Checkpoint, Progress, save_checkpoint
from tsmcli.engine.launch import Killed, in_child
from tsmcli.errors import ConfigError
from tsmcli.presets import load_preset, resolve
from tsmcli.recipes.bench.case import Case, blank, published
from tsmcli.recipes.events import Stage

QUICK = ("--seconds", "0", "--threads", "1")
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def measured() -> Any:
    return tsm("bench", "demo", *QUICK, "--json").json()


def test_every_key_is_documented_and_has_a_number(measured: Any) -> None:
    assert measured["format"] == 1
    (found,) = measured["measurements"]
    documented = (ROOT / "docs/bench.md").read_text()
    for key in (*found, *found["memory"], *(f"`{key}`" for key in measured)):
        assert f"`{key.strip('`')}`" in documented, key
    assert (found["preset"], found["batch"], found["num_segments"], found["crop_px"]) == ("demo", 1, 8, 56)
    assert found["runs"] >= 3
    assert (
        0 < found["fastest_sec"] <= found["p50_sec"] <= found["p90_sec"] <= found["p99_sec"] <= found["slowest_sec"]
    )
    assert found["videos_per_sec"] == pytest.approx(1 / found["p50_sec"])
    assert found["frames_per_sec"] == pytest.approx(8 * found["clips_per_sec"])
    assert found["memory"]["before_bytes"] > 10e6
    assert found["memory"]["peak_bytes"] - found["memory"]["before_bytes"] > 4 * found["parameters"]
    assert found["flops"] == 2 * found["macs"]
    low, high = found["shift_cost_quartiles"]
    assert low <= found["shift_cost"] <= high
    assert found["environment"]["threads"] == 1
    assert found["error"] is None


def test_the_processor_has_a_limit(measured: Any) -> None:
    (found,) = measured["measurements"]
    per_sec = found["macs"] / found["p50_sec"]
    assert found["limit_share"] == pytest.approx(per_sec / found["limit_macs_per_sec"])
    assert 0 < found["limit_share"] < 1.5
    assert (found["engine"], found["ratio"], found["limit_by"][:8]) == ("torch", None, "torch's ")


def test_engines_stand_beside_one_another(tmp_path: Path) -> None:
    args = ("bench", "demo", "--set", "model.width=0.125", *QUICK, "--engine", "all")
    done = tsm(*args, "--precision", "fp32,int8", "--batch", "1", "--json")
    assert "scales are of random pixels" in done.err
    found = done.json()["measurements"]
    told = [(m["engine"], m["precision"]) for m in found]
    assert told == [
        ("torch", "float32"),
        ("openvino", "float32"),
        ("onnxruntime", "float32"),
        ("openvino", "int8"),
        ("onnxruntime", "int8"),
    ]
    assert found[0]["ratio"] == 1.0
    assert all(m["ratio"] > 0 and m["memory"] is None and m["shift_cost"] is None for m in found)
    assert len({m["runs"] for m in found}) == 1, "in turn"
    limits = {m["precision"]: m["limit_macs_per_sec"] for m in found}
    assert limits["int8"] != limits["float32"]
    assert found[1]["environment"]["openvino"]
    (tmp_path / "old.json").write_text(done.out)
    few = (
        "bench",
        "demo",
        "--set",
        "model.width=0.125",
        *QUICK,
        "--precision",
        "fp32,bf16",
        "--format",
        "markdown",
    )
    table = tsm(*few, "--plot", tmp_path / "p.png", "--baseline", tmp_path / "old.json").out.splitlines()
    assert table[0].startswith("| preset | protocol | batch | engine | p50 |")
    assert [row.split(" | ")[3] for row in table[2:]] == ["torch, float32", "torch, bfloat16"]
    assert [row.split(" | ")[-1].startswith("not in") for row in table[2:]] == [False, True]


def test_an_exported_file_beside_its_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_preset("demo", ["model.width=0.125", "model.shift=unidirectional"])
    model = build_model(config, 8, seed=0)
    save_checkpoint(Path("m.pt"), Checkpoint("demo", config, list("abcdefgh"), Progress(1), model.state_dict()))
    assert tsm("export", "m.pt", "m.onnx").code == 0
    found = tsm("bench", "--checkpoint", "m.onnx", *QUICK, "--json").json()["measurements"]
    told = [(m["engine"], m["file"], m["network"]["num_classes"]) for m in found]
    assert told == [("torch", None, 8), ("onnxruntime", "m.onnx", 8)]
    assert tsm("export", "m.pt", "s.xml", "--stream").code == 0
    for words, code, wrong in (
        (["m.pt"], 2, "m.pt is no exported network"), (["s.xml"], 2, "s.xml takes frames of a stream"),
        (["m.onnx", "--engine", "torch"], 5, "torch does not read m.onnx"),
        (["m.onnx", "--protocol", "efficient"], 2, "frames of 56 px, not 224"), (["gone.onnx"], 4, "no checkpoint gone.onnx"),
    ):  # fmt: skip
        refused = tsm("bench", *QUICK, "--checkpoint", *words)
        assert (refused.code, refused.out, wrong in refused.err) == (code, "", True), refused.err


@pytest.mark.slow
def test_an_engine_that_does_not_take_a_network() -> None:
    """OpenVINO refuses MobileNetV2's 8-bit clips: of all engines that is a row, of one that was named an error."""
    args = ("bench", "mbv2-folder", "--set", "test.crop_px=64", "--precision", "int8", "--seconds", "0", "--json")
    done = tsm(*args, "--engine", "all")
    told = {m["engine"]: m["error"] for m in done.json()["measurements"]}
    assert (done.code, told["onnxruntime"]) == (0, None)
    assert told["openvino"] == "openvino does not take this network in int8"
    assert tsm(*args, "--engine", "openvino").code == 1


@pytest.mark.slow
def test_several_in_one_table_in_every_form() -> None:
    args = ("bench", "demo", "--batch", "1,2", "--no-twin", *QUICK)
    table = tsm(*args).out
    assert table.count("demo ") == 2
    assert "float32 on cpu" in table
    markdown = tsm(*args, "--format", "markdown").out.splitlines()
    assert markdown[0].startswith("| preset | protocol | batch | p50 |")
    assert [row.split(" | ")[2] for row in markdown[2:4]] == ["1", "2"]
    rows = list(csv.DictReader(tsm(*args, "--format", "csv").out.splitlines()))
    assert [row["batch"] for row in rows] == ["1", "2"]
    assert float(rows[0]["memory.peak_bytes"]) > 10e6
    assert rows[0]["shift_cost"] == "", "there was no twin"
    assert json.loads(tsm(*args, "--format", "json").out)["measurements"][1]["batch"] == 2


def test_the_views_of_a_protocol_are_scored(measured: Any) -> None:
    (found,) = tsm(
        "bench", "demo", "--protocol", "dense10x3", "--set", "model.width=0.125", *QUICK, "--json"
    ).json()["measurements"]
    assert (found["views"], found["crop_px"], found["protocol"]) == (30, 256, "dense10x3")
    assert found["clips_per_sec"] == pytest.approx(30 * found["videos_per_sec"])


def test_published_numbers_stand_beside_ours() -> None:
    """Of the preset as it is shipped, and only for what was published."""
    shown = tsm("bench", *QUICK, "--no-twin", "--set", "test.crop_px=32", "test.resize_px=32")
    assert shown.code == 0, shown.err
    assert "published" not in shown.out, "that is no protocol of the zoo"

    def ids(name: str, batch: int, *overrides: str, **changes: Any) -> list[tuple[str, float | None, float | None]]:
        config = load_preset(name, overrides)
        case = Case(name, config, config.test, batch, **changes)
        return [(p.id, p.videos_per_sec, p.memory_mib) for p in published(case)]

    assert ids("r50-k400-8f", 1) == [("r50-k400-8f@340x256", 74.0, None)]
    assert ids("r50-k400-8f", 8) == []
    assert ids("r50-k400-8f", 1, "model.width=0.5", "model.init=none") == []
    assert ids("r50-k400-8f", 1, "test.clips=2") == []
    assert ids("r50-k400-dense", 1) == [("r50-k400-dense@340x256", 11.5, None)]
    assert ids("r50-sthv1-8f", 8, mode="training") == [("r50-sthv1-8f@h100", None, 7077.0)]
    assert ids("r50-sthv1-8f", 4, mode="training") == []
    assert ids("demo", 1) == []
    assert ids("r50-k400-8f", 1, precision="bf16") == ids("r50-k400-8f", 1, compile=True) == []
    assert ids("r50-sthv1-8f", 8, "augment.crop_px=112", mode="training") == []
    assert ids("r50-sthv1-8f", 8, "train.recompute=stage", mode="training") == []


def test_training(demo_data: Path) -> None:
    (found,) = tsm("bench", "demo", "--train", "--batch", "2", *QUICK, "--json").json()["measurements"]
    assert (found["mode"], found["protocol"], found["batch"], found["views"]) == ("training", "training", 2, 1)
    assert found["kept_bytes"] > 1e6
    assert found["shift_cost"] is not None
    shown = tsm("bench", "demo", "--train", "--batch", "2", *QUICK).out
    assert "MiB for the backward pass" in shown
    assert "a step of training with 2 videos" in shown


@pytest.mark.slow
def test_reading_a_list(demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = (demo_data / "demo_val_list_videos.txt").read_text().splitlines()
    (tmp_path / "list.txt").write_text("\n".join([*lines[:5], "gone.mp4 0"]) + "\n")
    args = ("bench", "demo", *QUICK, "--videos", "12", "--data")
    by_list = tsm(*args, "list.txt", "--media", demo_data / "videos", "--json").json()["data"][0]
    assert (by_list["videos"], by_list["bad"], by_list["workers"]) == (12, 2, 2)
    for key in (
        "open_sec",
        "decode_sec",
        "loader_videos_per_sec",
        "network_videos_per_sec",
        "together_videos_per_sec",
    ):
        assert by_list[key] > 0, key
    assert 0 <= by_list["waiting"] <= 1
    documented = (ROOT / "docs/bench.md").read_text()
    assert all(f"`{key}`" in documented for key in by_list)
    by_folder = tsm(*args, demo_data).out
    assert "Reading 12 videos of" in by_folder
    assert "of it waiting" in by_folder
    training = tsm(*args, demo_data, "--train", "--batch", "1", "--format", "markdown").out
    assert "| loader alone |" in training
    refused = tsm(*args, tmp_path / "nothing")
    assert (refused.code, refused.out) == (3, ""), "said before anything is measured"
    (tmp_path / "gone.txt").write_text("gone.mp4 0\n")
    refused = tsm(*args, "gone.txt", "--media", demo_data / "videos", "--json")
    assert refused.code == 3
    assert "none of 12 videos of gone.txt could be read; " in refused.err
    assert json.loads(refused.out)["measurements"], "what was measured is printed"


def test_a_reading_that_fails_loses_no_numbers(demo_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(cases: list[Case]) -> Any:
        found = [replace(blank(case, torch.device("cpu")), error="not tried: here") for case in cases]
        yield found
        return found

    def unreadable(*_: object) -> Any:
        yield Stage("reading")
        raise OSError(5, "Input/output error", "a.mp4")

    monkeypatch.setattr("tsmcli.recipes.bench.compare.bench", measured)
    monkeypatch.setattr("tsmcli.recipes.bench.compare.bench_data", unreadable)
    done = tsm("bench", "demo", "--data", demo_data, "--json")
    assert json.loads(done.out)["measurements"][0]["preset"] == "demo"
    assert done.code == 1
    assert "could not be measured" in done.err


@pytest.mark.slow
def test_baseline(measured: Any, tmp_path: Path) -> None:
    def run(p50: Any, **changes: Any) -> Any:
        old = {**measured["measurements"][0], "p50_sec": p50}
        old = {
            key: value for key, value in old.items() if key not in ("engine", "file")
        } | changes  # as it was once
        (tmp_path / "old.json").write_text(json.dumps({"format": 1, "measurements": [old]}))
        return tsm("bench", "demo", *QUICK, "--baseline", tmp_path / "old.json", "--fail-if-slower", "5%", "--json")

    elsewhere = {**measured["measurements"][0]["environment"], "processor": "another one"}
    quicker = run(1000.0, environment=elsewhere)
    beside = quicker.json()["measurements"][0]["baseline"]
    assert (quicker.code, beside["ratio"] < 0.01) == (0, True)
    assert beside["differs"][0].startswith("processor another one, now ")
    slower = run(1e-9)
    assert slower.code == 6
    assert "1 of 1 are slower than in" in slower.err
    assert json.loads(slower.out)["measurements"], "the numbers are printed all the same"
    for other in ({"network": {}}, {"engine": "openvino"}):
        unlike = run(1000.0, **other)
        assert unlike.code == 3
        assert "has none of these measurements" in unlike.err
        assert json.loads(unlike.out)["measurements"][0]["p50_sec"] > 0, "what was measured is printed all the same"
    assert run(1000.0, environment=None).code == 3
    assert run("1.0").code == 3
    (tmp_path / "x.json").write_text("[1]")
    (tmp_path / "2.json").write_text(json.dumps({"format": 2, "measurements": []}))
    for name, words in (
        ("x.json", "not what tsm bench --json writes"), ("2.json", "in format 1"), ("none.json", "no baseline"),
    ):  # fmt: skip
        refused = tsm("bench", "demo", *QUICK, "--baseline", tmp_path / name)
        assert (refused.code, words in refused.err, refused.out) == (3, True, ""), "before anything is measured"
    (tmp_path / "old.json").write_text(json.dumps(measured))
    args = ("bench", "demo", "--batch", "1,2", "--no-twin", *QUICK, "--baseline", tmp_path / "old.json")
    assert tsm(*args).code == 0
    gap = tsm(*args, "--fail-if-slower", "1000%")
    assert (gap.code, "has not all of these measurements" in gap.err) == (3, True)
    other = tsm("bench", "demo", "--set", "model.shift=none", *QUICK, "--baseline", tmp_path / "old.json")
    assert (other.code, "has none of these measurements" in other.err) == (3, True), "another network"


def test_running_out_of_memory_does_not_end_the_others() -> None:
    done = tsm("bench", "demo", "--batch", "100000000,1", "--no-twin", *QUICK, "--json")
    first, second = json.loads(done.out)["measurements"]
    assert "out of memory" in first["error"]
    assert first["p50_sec"] is None
    assert second["p50_sec"] > 0
    assert done.code == 1
    assert "1 of 2 could not be measured" in done.err
    assert "out of memory" in tsm("bench", "demo", "--batch", "100000000,1", "--no-twin", *QUICK).out


@pytest.mark.slow
def test_trace_and_plot(tmp_path: Path) -> None:
    tsm("bench", "demo", "--batch", "1,2", "--no-twin", *QUICK, "--profile", tmp_path / "t.json", "--plot",
        tmp_path / "p.png")  # fmt: skip
    for batch in (1, 2):
        names = {
            e.get("name", "") for e in json.loads((tmp_path / f"t-demo-{batch}.json").read_text())["traceEvents"]
        }
        assert any("conv" in name for name in names)
    tsm("bench", "demo", "mbv2-folder", "--no-twin", *QUICK, "--profile", tmp_path / "new" / "t.json", "--set",
        "test.crop_px=32", "test.resize_px=32")  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["t-demo-1.json", "t-mbv2-folder-1.json"]
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_compiled(measured: Any) -> None:
    (found,) = tsm("bench", "demo", "--compile", *QUICK, "--json").json()["measurements"]
    assert found["compiled"]
    assert found["first_sec"] > found["p50_sec"]


REFUSALS: dict[str, tuple[list[str], int, str]] = {
    "batch": (["--batch", "1,x"], 2, "--batch '1,x': expected numbers from 1"),
    "no batch": (["--batch", "0"], 2, "expected numbers from 1"),
    "percent": (["--fail-if-slower", "much", "--baseline", "x"], 2, "expected a percentage"),
    "limit alone": (["--fail-if-slower", "5"], 2, "needs --baseline"),
    "protocol of training": (["--train", "--protocol", "accurate"], 2, "--protocol is of testing"),
    "protocol": (["--protocol", "quick"], 2, "no protocol named 'quick'"),
    "huge batch": (["--batch", "99999999999999999999"], 2, "expected numbers from 1 to 999999999"),
    "no list": (["--data", "README.md"], 3, "README.md:3: "),
    "plot": (["--plot", "x.bmp"], 2, "plots are written as"),
    "fp16": (["--precision", "fp16", "--device", "cpu"], 5, "fp16 needs a GPU"),
    "number format": (["--precision", "fp8"], 2, "no number format 'fp8'"),
    "engine": (["--engine", "onnxruntime", "--precision", "bf16"], 5, "onnxruntime does not compute in bf16 here"),
    "training elsewhere": (["--engine", "all", "--train"], 2, "are of --engine torch alone"),
    "twice": (["demo"], 2, "two presets have the same name"),
    "device": (["--device", "cuda:7"], 5, "torch sees"),
}


@pytest.mark.parametrize("case", sorted(REFUSALS))
def test_refusals(case: str) -> None:
    args, code, words = REFUSALS[case]
    refused = tsm("bench", "demo", *QUICK, *args)
    assert (refused.code, refused.out) == (code, "")
    assert words in refused.err


def test_a_function_in_a_process_of_its_own() -> None:
    assert in_child(int, "7") == 7
    assert in_child(os.getpid) != os.getpid()
    with pytest.raises(ConfigError, match="no preset named 'nothing'"):
        in_child(resolve, "nothing")
    with pytest.raises(Killed, match="the process that measured ended with exit code 9"):
        in_child(os._exit, 9)
    with pytest.raises(Killed, match="was killed by SIGKILL, most likely because there was no memory left"):
        in_child(signal.raise_signal, signal.SIGKILL)
    with pytest.raises(FileNotFoundError, match="/none"):
        in_child(Path.read_text, Path("/none"))


def test_a_process_that_has_answered_ends_by_itself(tmp_path: Path) -> None:
    code = (
        "import signal, time\nfrom multiprocessing.util import Finalize\nfrom tsmcli.engine.launch import in_child\n\n"
        "def end():\n    time.sleep(0.5)\n    print('ended', flush=True)\n\n"
        "def work():\n    signal.signal(signal.SIGTERM, lambda *_: print('disturbed'))\n"
        "    Finalize(None, end, exitpriority=1)\n    return 7\n\n"
        "if __name__ == '__main__':\n    print(in_child(work), flush=True)\n"
    )
    (tmp_path / "work.py").write_text(code)
    done = subprocess.run([sys.executable, tmp_path / "work.py"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("ended\n7\n", "")


def test_no_process_is_left_behind(tmp_path: Path) -> None:
    """A process that measures ends with the one that waits for it, even if that one is killed."""
    code = (
        "import time, multiprocessing\nfrom tsmcli.engine.launch import in_child\n"
        "if __name__ == '__main__':\n    print('started', flush=True)\n    in_child(time.sleep, 1000)\n"
    )
    (tmp_path / "wait.py").write_text(code)
    waiting = subprocess.Popen([sys.executable, tmp_path / "wait.py"], stdout=subprocess.PIPE, text=True)
    assert waiting.stdout
    assert waiting.stdout.readline() == "started\n"
    children = Path(f"/proc/{waiting.pid}/task/{waiting.pid}/children")
    if not children.exists():
        pytest.skip("this system does not list children")
    while not (started := children.read_text().split()):
        time.sleep(0.01)
    time.sleep(0.5)  # until it watches
    waiting.kill()
    waiting.communicate()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{child}").exists() for child in started) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{child}").exists() for child in started)

"""Videos with several labels from a table to a report, as a user goes."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import tsm, write_video

from tsmcli.engine.checkpoint import open_checkpoint

NAMES = ("left", "right", "blue")
SETS = ["--set", "data.dataset=folder", "data.multi_label=true", "model.width=0.125", "model.shift=unidirectional",
        "train.lr_steps=[]", "train.val_every=1", "train.workers=0", "train.batch=8", "train.lr=0.02",
        "train.log_every=1", "train.freeze_bn=statistics", "augment.flip_prob=0"]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen videos of bright halves and of a colour, their table, a prepared dataset, and a run of two epochs."""
    home = tmp_path_factory.mktemp("several")
    (home / "clips").mkdir()
    rows = ["path,label"]
    for i in range(16):
        shown = [i >> bit & 1 for bit in range(3)]
        frame = np.full((64, 80, 3), 60 + i, np.uint8)
        frame[:, :40] += np.uint8(120 * shown[0])
        frame[:, 40:] += np.uint8(120 * shown[1])
        frame[..., :2] //= np.uint8(1 + 2 * shown[2])
        write_video(home / f"clips/clip {i}.mp4", [frame] * 12, qp="20")
        rows.append(f"clip {i}.mp4,{'|'.join(name for name, on in zip(NAMES, shown, strict=True) if on)}")
    (home / "table.csv").write_text("\n".join(rows) + "\n")
    at = Path.cwd()
    os.chdir(home)
    try:
        done = tsm("prepare-data", "csv", "--source", "clips", "--annotations", "table.csv", "--out", "data",
                   "--set", "data.multi_label=true", "--val-share", 0.4)  # fmt: skip
        assert done.code == 0, done.err
        assert "tsm data check --data data --set data.multi_label=true looks" in done.out
        done = tsm("train", "--preset", "demo", "--data", "data", "--work-dir", "run", *SETS, "train.epochs=2")
        assert done.code == 0, done.err
        assert "val/map" in done.out
        assert "val/map" in done.err
    finally:
        os.chdir(at)
    return home


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_what_a_run_keeps(here: Path) -> None:
    lines = log_of(here / "run")
    assert all(line["train/top1"] is None for line in lines if "train/loss" in line)
    values = [line["val/map"] for line in lines if "val/map" in line]
    checkpoint = open_checkpoint("run/best.pt")
    assert checkpoint is not None
    assert checkpoint.config.data.multi_label
    assert checkpoint.progress.best_top1 == max(values[: checkpoint.progress.epoch])
    assert len(checkpoint.thresholds or ()) == 3


def test_lists_hold_all_labels_and_are_checked(here: Path) -> None:
    lists = [Path(f"data/folder_{split}_list_videos.txt").read_text() for split in ("train", "val")]
    lines = sorted("".join(lists).splitlines())
    assert "clip 7.mp4 0 1 2" in lines  # blue, left, right
    assert "clip 0.mp4" in lines
    assert len(lines) == 16
    assert tsm("prepare-data", "csv", "--check", "--out", "data", "--set", "data.multi_label=true").code == 0
    refused = tsm("train", "--preset", "demo", "--data", "data", "--set", "data.dataset=folder")
    assert (refused.code, "--set data.multi_label=true" in refused.err) == (3, True)
    refused = tsm("prepare-data", "folder", "--source", "clips", "--out", "x", "--set", "data.multi_label=true")
    assert (refused.code, "has one label" in refused.err) == (2, True)


def test_test_and_eval(here: Path) -> None:
    tested = tsm("test", "--checkpoint", "run/best.pt", "--data", "data", "--out", "s.json", "--json").json()
    checkpoint = open_checkpoint("run/best.pt")
    assert checkpoint is not None
    assert tested["map"] == pytest.approx(checkpoint.progress.best_top1)
    assert 0 <= tested["f1"] <= 1
    assert tested["intervals"]["map"][0] <= tested["map"] <= tested["intervals"]["map"][1]
    assert [row["threshold"] for row in tested["per_class"]] == list(checkpoint.thresholds or ())
    again = tsm("eval", "s.json", "--json").json()
    assert (again["map"], again["f1"]) == (tested["map"], tested["f1"])
    assert "average precision" in tsm("eval", "s.json").out
    raw = tsm("test", "--checkpoint", "run/best.pt", "--data", "data", "--average", "score", "--json").json()
    assert (raw["map"], raw["f1"]) == pytest.approx((tested["map"], tested["f1"]))
    for wrong in (["eval", "s.json", "--metrics", "top_k"], ["eval", "--compare", "s.json", "s.json"],
                  ["test", "--checkpoint", "run/best.pt", "--data", "data", "--metrics", "confusion"]):  # fmt: skip
        refused = tsm(*wrong)
        assert (refused.code, "one label each" in refused.err) == (2, True), wrong


def test_predict_and_stream_name_every_label(here: Path) -> None:
    checkpoint = open_checkpoint("run/best.pt")
    assert checkpoint is not None
    cuts, names = checkpoint.thresholds or (), checkpoint.class_names
    (found,) = tsm("predict", "run/best.pt", "clips/clip 7.mp4", "--json", "--topk", 1).json()["videos"]
    rows = list(csv.DictReader(io.StringIO(tsm("predict", "run/best.pt", "clips/clip 7.mp4", "--csv").out)))
    said = {row["name"] for row in rows if row["said"] == "1"}
    assert said == {row["name"] for row in rows if float(row["probability"]) >= cuts[names.index(row["name"])]}
    assert {label["name"] for label in found["labels"]} == said
    assert len(found["top"]) == 1
    for source in range(8):
        shown = tsm("predict", "run/best.pt", f"clips/clip {source}.mp4").out
        assert " labels " in shown
    lines = tsm("stream", "run/best.pt", "--source", "clips/clip 7.mp4", "--json").out.splitlines()
    for line in map(json.loads, lines):
        above = [(one["class"], one["probability"]) for one in line["labels"]]
        assert all(share >= cuts[i] for i, share in above)
    assert tsm("stream", "run/best.pt", "--source", "clips/clip 7.mp4", "--video", "v.mp4").code == 0


def test_the_report_leaves_out_what_has_no_meaning(here: Path) -> None:
    (written,) = tsm("report", "run", "--data", "data", "--json").json()
    checkpoint = open_checkpoint("run/best.pt")
    assert checkpoint is not None
    assert written["map"] == pytest.approx(checkpoint.progress.best_top1)
    page = Path("run/report.html").read_text()
    assert "mean average precision" in page
    assert "are of videos with one label each" in page
    assert "Rows are the true classes" not in page
    assert [Path(plot).name for plot in written["plots"]] == ["classes.png", "curves.png"]


def test_export_and_looking_at_the_data(here: Path) -> None:
    refused = tsm("export", "run/best.pt", "m.onnx", "--softmax")
    assert (refused.code, "sigmoid" in refused.err) == (2, True)
    assert tsm("export", "run/best.pt", "m.safetensors", "--format", "safetensors").code == 0
    assert json.loads(Path("m.safetensors.json").read_text())["labels"] == "several: sigmoid"
    dry = tsm("train", "--preset", "demo", "--data", "data", "--dry-run", *SETS)
    assert (dry.code, "first batch: labels [[" in dry.out) == (0, True), dry.err
    shown = tsm("data", "show", "train", "--preset", "demo", "--data", "data", *SETS[:3])
    assert shown.code == 0, shown.err


def test_features_and_what_is_found_before(here: Path) -> None:
    done = tsm("features", "run/best.pt", "--data", "data", "--out", "f.npz")
    assert done.code == 0, done.err
    with np.load("f.npz") as file:
        assert file["labels"].shape == (len(file["features"]), 3)
        shown = [int(path[5:-4]) & 7 for path in file["paths"].tolist()]  # see `home`
        assert file["labels"].sum(1).tolist() == [bits.bit_count() for bits in shown]
    refused = tsm("probe", "f.npz")
    assert (refused.code, "several labels" in refused.err) == (3, True), refused.err
    looked = tsm("data", "check", "--preset", "demo", "--data", "data", *SETS[:3], "--workers", 1, "--json")
    assert looked.code == 0, looked.err
    assert "few videos" in {finding["kind"] for finding in looked.json()}


def test_resumed_and_in_two_processes(here: Path) -> None:
    """The losses are those of the whole run, in one process after a stop, and in two at once."""
    sets = [*SETS, "train.epochs=1", "augment.mix=mixup"]
    common = ["train", "--preset", "demo", "--data", "data"]
    assert tsm(*common, "--work-dir", "mixed", *sets).code == 0
    assert tsm(*common, "--work-dir", "part", *SETS, "train.epochs=1").code == 0
    assert tsm("train", "--resume", "--work-dir", "part", "--data", "data", "--set", "train.epochs=2").code == 0
    command = [sys.executable, "-m", "tsmcli", *common, "--work-dir", "two", "--gpus", "2", "--device", "cpu"]
    two = subprocess.run(
        [*command, *SETS, "train.epochs=2", "train.batch=4"], capture_output=True, text=True, timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert two.returncode == 0, two.stderr
    whole, part, both = (
        [line["train/loss"] for line in log_of(here / run) if "train/loss" in line]
        for run in ("run", "part", "two")
    )
    assert part == whole
    assert both == pytest.approx(whole, rel=1e-4)


def test_a_preset_does_not_make_one_label_of_several(here: Path) -> None:
    refused = tsm("predict", "run/best.pt", "clips/clip 7.mp4", "--preset", "run/config.yaml", "--set",
                  "data.multi_label=false")  # fmt: skip
    assert (refused.code, "run/best.pt gives any number of labels a video" in refused.err) == (4, True)
    assert "data.multi_label=true" in refused.err


@pytest.mark.slow
def test_reading_is_measured(here: Path) -> None:
    done = tsm("bench", "run/config.yaml", "--data", "data", "--videos", 2, "--seconds", 0)
    assert done.code == 0, done.err


def test_eight_bits_are_measured_by_mean_average_precision(here: Path) -> None:
    done = tsm("export", "run/best.pt", "small.onnx", "--int8", "--data", "data")
    assert done.code == 0, done.err
    assert "int8: mAP" in done.out
    cost = json.loads(Path("small.onnx.json").read_text())["int8"]
    tested = tsm("test", "--checkpoint", "run/best.pt", "--data", "data", "--json")
    assert (cost["metric"], cost["p"]) == ("mAP", None)
    assert cost["before"] == pytest.approx(tested.json()["map"])
    assert cost["low"] <= cost["after"] <= cost["high"]
    assert 0 <= cost["agreement"] <= 1

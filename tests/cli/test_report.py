"""tsm report on a tiny run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tsm

from tsmcli.core.tsm import build_model
from tsmcli.presets import load_preset
from tsmcli.results import load_results

QUICK = ["train.epochs=1", "train.workers=0", "model.width=0.125", "train.lr_steps=[]"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, demo_data: Path) -> Path:
    run = tmp_path_factory.mktemp("runs") / "demo"
    tsm("train", "--preset", "demo", "--data", demo_data, "--work-dir", run, "--set", *QUICK, "--json").json()
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_data: Path) -> Path:
    """A copy of the run, in a working folder with the data in its usual place."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(demo_data, tmp_path / "data/demo")
    return Path(shutil.copytree(trained, tmp_path / "runs/demo/now"))


def test_a_run_without_a_test_is_tested_first(run: Path) -> None:
    done = tsm("report", run, "--json")
    (found,) = done.json()
    assert "testing" in done.err
    assert found["videos"] == "16 of 16 videos"
    assert found["notes"] == []
    assert found["order"]["videos"] == 16
    assert found["order"]["top1"]["in order"] == pytest.approx(found["top1"])
    page = Path(found["report"])
    assert page == run / "report.html"
    text = page.read_text()
    assert "How much time matters" in text
    assert text.count("data:image/jpeg") > 2
    assert all(Path(plot).is_file() for plot in found["plots"])
    (again,) = tsm("report", "--json").json()  # the newest test, without naming it
    assert again["top1"] == found["top1"]


def test_reversing_the_frames_of_reversed_clips_is_reading_them_forwards(run: Path) -> None:
    """Class 2p + 1 is class 2p backwards: reversed, its clips score what their partners score in order."""
    tsm("test", "--checkpoint", run / "last.pt", "--protocol", "val")
    (found,) = tsm("report", run, "--json").json()
    results = load_results(next(run.glob("scores-last*.npz")))
    partner = results.labels ^ 1
    rows = {path: row for row, path in enumerate(results.paths)}
    other = [
        rows[p.replace("_reversed", "") if "_reversed" in p else p.replace("_0", "_reversed_0")]
        for p in results.paths
    ]
    guesses = results.scores[other].argmax(axis=1)
    assert np.array_equal(results.labels[other], partner)
    assert found["order"]["top1"]["reversed"] == pytest.approx((guesses == results.labels).mean())


def test_options(run: Path) -> None:
    zoo = [{"mode": "train", "epoch": 1, "iter": 20, "loss": 2.0, "top1_acc": 0.2, "lr": 0.1},
           {"mode": "val", "epoch": 1, "iter": 5, "lr": 0.1, "top1_acc": 0.3}]  # fmt: skip
    Path("zoo.log.json").write_text("".join(json.dumps(line) + "\n" for line in zoo))
    done = tsm("report", run, "--max-videos", "5", "--compare-log", "zoo.log.json", "--out", "page.html")
    assert done.code == 0, done.err
    assert "(top-1 of 5 videos)" in done.out
    text = Path("page.html").read_text()
    assert "On 5 of 16 videos" in text
    assert "validation, " in text
    assert Path("page-plots/curves.png").is_file()
    short = tsm("report", run, "--no-order")
    assert "shuffled" not in short.out
    assert "How much time matters" not in (run / "report.html").read_text()


def test_a_folder_of_runs(run: Path) -> None:
    shutil.copytree(run, run.with_name("other"))
    found = tsm("report", run.parent, "--no-order", "--json").json()
    assert [Path(row["run"]).name for row in found] == ["now", "other"]
    refused = tsm("report", run.parent, "--out", "page.html")
    assert refused.code == 2
    assert "holds 2" in refused.err


@pytest.mark.parametrize("gone", ["data", "checkpoint", "changed"])
def test_what_is_gone_is_said(run: Path, gone: str) -> None:
    tsm("test", "--checkpoint", run / "best.pt")
    if gone == "data":
        shutil.rmtree("data")
        words = "no list file data/demo/demo_val_list_videos.txt"
    elif gone == "checkpoint":
        (run / "best.pt").unlink()
        words = "no checkpoint"
    else:
        shutil.copy(run / "last.pt", run / "best.pt")
        with (run / "best.pt").open("ab") as file:
            file.write(b" ")
        words = "has changed since the test"
    done = tsm("report", run, "--json")
    (found,) = done.json()
    assert found["order"] is None
    assert len(found["notes"]) == 1
    assert words in found["notes"][0]
    assert words in done.err
    assert "cannot be shown" in (run / "report.html").read_text()


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    for args, code, words in (
        (["gone"], 3, "no run folder gone"),
        (["empty"], 3, "empty is no run"),
        ([], 3, "nothing was tested yet"),
        (["empty", "--scores", "gone.npz"], 3, "no results file gone.npz"),
        (["empty", "--scores", "a.npz", "--compare-log", "gone.json"], 3, "no log gone.json"),
        (["empty", "--scores", "a.npz", "--device", "cuda:99"], 5, "--device cuda:99"),
    ):
        refused = tsm("report", *args)
        assert refused.code == code, refused.err
        assert words in refused.err


def test_a_wrong_override_is_refused(run: Path) -> None:
    tsm("test", "--checkpoint", run / "best.pt")
    refused = tsm("report", run, "--set", "data.stor=zip")
    assert refused.code == 2
    assert "did you mean 'store'?" in refused.err


def test_bare_weights(run: Path) -> None:
    """A test of weights without a configuration is reopened with the preset that it was made with."""
    config = load_preset("demo")
    torch.save({"state_dict": build_model(config, 8, seed=0).state_dict()}, "bare.pth")
    tested = tsm("test", "--checkpoint", "bare.pth", "--preset", "demo", "--json").json()
    (found,) = tsm("report", Path(tested["scores"]).parent, "--json").json()
    assert found["order"]["videos"] == 16
    assert found["notes"] == []

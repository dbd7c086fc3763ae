"""Testing as a user runs it: stopped and resumed, in several processes, in other forms."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support import tsm

from tsmcli.engine.events import VideoScored
from tsmcli.engine.processes import ALONE, World
from tsmcli.errors import ConfigError
from tsmcli.recipes.score import PartialScores

VIDEOS = 101


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, demo_data: Path) -> Path:
    """A folder with a short run, and a list of 101 videos, one of which is not there."""
    here = tmp_path_factory.mktemp("testing")
    done = tsm("train", "--preset", "demo", "--data", demo_data, "--work-dir", here / "run", "--set", "train.epochs=1",
               "train.lr_steps=[]", "model.width=0.125", "train.workers=0")  # fmt: skip
    assert done.code == 0, done.err
    clips = (demo_data / "demo_train_list_videos.txt").read_text().splitlines()
    lines = (clips * 4)[: VIDEOS - 1]
    (here / "list.txt").write_text("\n".join([*lines[:50], "gone.mp4 0", *lines[50:]]) + "\n")
    return here


def command(trained: Path, demo_data: Path, out: Path, *more: object) -> subprocess.Popen[str]:
    args = ["test", "--checkpoint", trained / "run/last.pt", "--data", demo_data, "--list", trained / "list.txt",
            "--media", demo_data / "videos", "--allow-missing", "--out", out, "--set", "train.workers=0", *more]  # fmt: skip
    return subprocess.Popen([sys.executable, "-m", "tsmcli", *map(str, args)], stdout=subprocess.PIPE, text=True,
                            stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip


def test_any_number_of_processes_and_any_stop_give_the_same_file(trained: Path, demo_data: Path) -> None:
    files = []
    for processes in (1, 2, 3):
        out = trained / f"{processes}.npz"
        process = command(trained, demo_data, out, "--gpus", processes, "--device", "cpu")
        printed, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert "100 of 101 videos" in printed
        files.append(out.read_bytes())
    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 143)):
        process = command(trained, demo_data, trained / "again.npz")
        while len(kept(trained)) < 20:
            time.sleep(0.005)
            assert process.poll() is None
        process.send_signal(number)
        err = process.communicate(timeout=120)[1]
        assert process.returncode == code, err
        before = len(kept(trained)) - 1
        assert 0 < before < VIDEOS
        process = command(trained, demo_data, trained / "again.npz", "--gpus", 2, "--device", "cpu")
        process.communicate(timeout=120)
        files.append((trained / "again.npz").read_bytes())
        assert not kept(trained)
    assert len({*files}) == 1


def kept(trained: Path) -> list[str]:
    return [line for path in (trained / "run").glob("*.partial-0") for line in path.read_text().splitlines()]


def test_scores_of_another_test_are_not_taken(trained: Path, demo_data: Path) -> None:
    args = ("test", "--checkpoint", trained / "run/last.pt", "--data", demo_data, "--set", "train.workers=0")
    expected = tsm(*args, "--json").json()
    (trained / "run/scores-last-uniform-1x1-56px-unscaled.npz.partial-0").write_text('another\n[0, "AAAA"]\n')
    assert tsm(*args, "--json").json() == expected


def test_a_table_for_a_spreadsheet(trained: Path, demo_data: Path) -> None:
    out = trained / "scores.csv"
    done = tsm(
        "test", "--checkpoint", trained / "run/last.pt", "--data", demo_data, "--out", out, "--average", "score"
    )
    assert done.code == 0, done.err
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 16
    scores = [[float(row[f"score_{label}"]) for label in range(8)] for row in rows]
    names = (demo_data / "classes.txt").read_text().splitlines()
    assert [names[row.index(max(row))] for row in scores] == [row["top1"] for row in rows]
    assert abs(sum(scores[0]) - 1) > 1e-3, "raw scores, no probabilities"
    assert tsm("test", "--checkpoint", trained / "run/last.pt", "--data", demo_data, "--average", "max").code == 2


def test_a_network_without_finite_scores_has_no_accuracy(trained: Path, demo_data: Path) -> None:
    own = torch.load(trained / "run/last.pt", weights_only=True)
    own["model"]["backbone.layer3.0.conv1.weight"] *= 1e37  # finite, as a file must be
    own["model"]["backbone.layer3.0.bn1.weight"] *= 1e37
    torch.save(own, trained / "run/nan.pt")
    clip = next((demo_data / "videos/val").iterdir())
    for args in (["test", "--checkpoint", trained / "run/nan.pt", "--data", demo_data],
                 ["predict", trained / "run/nan.pt", clip, "--json"]):  # fmt: skip
        refused = tsm(*args)
        assert (refused.code, refused.out) == (4, "")
        assert "scores are not finite" in refused.err
        assert "weights are damaged, or its training diverged" in refused.err
    assert not list((trained / "run").glob("scores-nan*.npz"))
    for path in (trained / "run").glob("scores-nan*"):
        path.unlink()


def test_scores_of_another_media_folder_are_not_taken(
    trained: Path, demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same list and network, but other pixels: a stopped test does not go on from them."""
    monkeypatch.chdir(tmp_path)
    kept_for = []

    class Spy(PartialScores):
        def __init__(self, target: Path, of: dict[str, Any], world: World) -> None:
            super().__init__(target, of, world)
            kept_for.append(self.key)

    monkeypatch.setattr("tsmcli.recipes.test.PartialScores", Spy)
    other = tmp_path / "other"
    other.symlink_to(demo_data / "videos")
    shutil.copytree(demo_data / "videos", tmp_path / "copy")
    for media in (demo_data / "videos", other, tmp_path / "copy"):
        args = ("test", "--checkpoint", trained / "run/last.pt", "--data", demo_data, "--media", media)
        assert tsm(*args).code == 0
    assert kept_for[0] == kept_for[1] != kept_for[2]


def test_damaged_lines_of_a_stopped_test_are_scored_again(tmp_path: Path) -> None:
    target = tmp_path / "scores.npz"
    partial = PartialScores(target, {"of": 1}, ALONE)
    for number in range(4):
        partial.add(VideoScored(number, torch.full((3,), float(number))))
    lines = partial.path.read_text().splitlines()
    lines[2] = "\0" * len(lines[2])
    lines[4] = lines[4][:-6] + '!!"]'
    partial.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(ConfigError, match=r"scores.npz is being written by another process"):
        PartialScores(target, {"of": 1}, ALONE)
    partial.close()
    again = PartialScores(target, {"of": 1}, ALONE)
    assert sorted(again.kept) == [0, 2]
    assert again.read(again.kept[2]).tolist() == [2, 2, 2]
    again.remove()
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_done_is_said_before_anything_is_scored(trained: Path, demo_data: Path) -> None:
    args = ("test", "--checkpoint", trained / "run/last.pt", "--data", demo_data)
    refused = tsm(*args, "--topk", "9")
    assert refused.code == 2
    assert "top-9 of 8 classes" in refused.err
    assert not refused.err.startswith("testing")
    (trained / "file").write_text("")
    refused = tsm(*args, "--out", trained / "file" / "x.npz")
    assert refused.code == 5
    assert not refused.err.startswith("testing")


def test_scores_of_other_data_are_not_replaced(trained: Path, demo_data: Path, tmp_path: Path) -> None:
    """The same list elsewhere is other data; the same data again are the same file."""
    shutil.copytree(demo_data, tmp_path / "other")
    files = []
    for data in (demo_data, tmp_path / "other", demo_data, tmp_path / "other"):
        before = set((trained / "run").glob("scores-last*.npz"))
        done = tsm("test", "--checkpoint", trained / "run/last.pt", "--data", data, "--json").json()
        files.append(done["scores"])
        assert len(set((trained / "run").glob("scores-last*.npz")) - before) <= 1
    assert files[0] == files[2] != files[1] == files[3]


def test_a_file_of_class_names_that_is_not_there_is_an_error(trained: Path, demo_data: Path) -> None:
    clip = next((demo_data / "videos/val").iterdir())
    for args in (["test", "--checkpoint", trained / "run/last.pt", "--data", demo_data], ["predict", trained / "run/last.pt", clip],
                 ["export", trained / "run/last.pt", trained / "x.safetensors"]):  # fmt: skip
        refused = tsm(*args, "--classes", "typo.txt")
        assert (refused.code, "no file of class names typo.txt" in refused.err) == (3, True), refused.err

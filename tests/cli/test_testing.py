"""Testing as a user runs it: stopped and resumed, in several processes, in other forms."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import tsm

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

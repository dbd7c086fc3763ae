"""Folds, splits and seeds: what is trained, that a kill changes nothing, and what the last table says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import tsm

from tsmcli.data.listfile import VideoRecord, read_list
from tsmcli.data.location import Places
from tsmcli.engine.checkpoint import open_checkpoint
from tsmcli.errors import UsageError
from tsmcli.metrics import interval, mean_interval
from tsmcli.presets import resolve
from tsmcli.recipes.several import Several, check_several, draw_folds, trainings

SMALL = ["train.lr_steps=[]", "train.val_every=1", "model.width=0.125", "train.workers=0", "train.batch=8",
         "train.epochs=2"]  # fmt: skip
LISTS = ["--train-list", "train.txt", "--val-list", "val.txt"]


@pytest.fixture
def here(demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the demo data in its usual place, and shorter lists of it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/demo").symlink_to(demo_data)
    for split, count in (("train", 16), ("val", 8)):
        lines = (demo_data / f"demo_{split}_list_videos.txt").read_text().splitlines()
        (tmp_path / f"{split}.txt").write_text("\n".join(lines[:count]) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(*args: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tsmcli", "train", "--preset", "demo", *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip


def weights(run: Path) -> dict[str, torch.Tensor]:
    checkpoint = open_checkpoint(run / "last.pt")
    assert checkpoint is not None
    return dict(checkpoint.model)


def test_folds_killed_and_resumed_to_the_bit(here: Path) -> None:
    """Two folds, killed in the second training."""
    ask = [*LISTS, "--folds", 2, "--set", *SMALL, "train.save_every_minutes=0.0001"]
    whole = tsm("train", "--preset", "demo", "--work-dir", "whole", *ask, "--json").json()
    names = ["fold-1", "fold-2"]
    assert list(whole["runs"]) == names
    process = start(*ask, "--work-dir", "killed")
    until = time.monotonic() + 120
    while not (here / "killed/fold-2/last.pt").exists() and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    resumed = tsm("train", "--resume", "--work-dir", "killed", *LISTS, "--json").json()
    for name in names:
        left, right = weights(here / "whole" / name), weights(here / "killed" / name)
        assert left.keys() == right.keys()
        assert all(torch.equal(value, right[key]) for key, value in left.items())
    assert (resumed["last"], resumed["best"], resumed["pooled"]) == (whole["last"], whole["best"], whole["pooled"])
    pooled, tops = whole["pooled"], [run["top1"] for run in whole["runs"].values()]
    assert pooled[0] == pytest.approx(sum(tops) / 2)  # folds of one size
    assert pooled[1:] == [*interval(pooled[0], 24), 24]
    assert (whole["last"]["low"], whole["last"]["high"]) == mean_interval(tops)
    refused = tsm("train", "--resume", "--work-dir", "whole", *LISTS, "--folds", "3")
    assert (refused.code, "whole has other folds, splits or seeds" in refused.err) == (2, True)
    refused = tsm("train", "--resume", "--work-dir", "whole/fold-1", *LISTS)
    assert (refused.code, "whole/fold-1 is one of several folds" in refused.err) == (2, True)


@pytest.mark.slow
def test_two_processes_train_the_folds(here: Path) -> None:
    process = start(*LISTS, "--folds", 2, "--gpus", 2, "--device", "cpu", "--work-dir", "two", "--set", *SMALL,
                    "train.batch=4", "train.epochs=1")  # fmt: skip
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.count("all folds together") == 1, "one process speaks"
    assert "fold-1" in out
    assert "to use one of them: two/fold-" in out
    val = [read_list(here / f"two/lists/fold-{fold}-val.txt", "video") for fold in (1, 2)]
    train = [read_list(here / f"two/lists/fold-{fold}-train.txt", "video") for fold in (1, 2)]
    assert {*val[0]} | {*val[1]} == {*train[0], *val[0]} == {*train[1], *val[1]}
    assert (len(val[0]), len(val[1]), {*val[0]} & {*val[1]}) == (12, 12, set())


def test_splits_take_the_place_of_braces(here: Path) -> None:
    for word in ("01", "02"):
        for split in ("train", "val"):
            (here / f"{split}list{word}.txt").write_text((here / f"{split}.txt").read_text())
    done = tsm("train", "--preset", "demo", "--train-list", "trainlist{}.txt", "--val-list", "vallist{}.txt",
               "--splits", "01", "02", "--work-dir", "runs/two", "--set", *SMALL, "train.epochs=1")  # fmt: skip
    assert done.code == 0, done.err
    assert "split-01" in done.out
    assert "over 2 trainings" in done.out
    config = (here / "runs/two/split-02/config.yaml").read_text()
    assert "seed: 0" in config


def test_a_fold_without_the_first_class_and_a_report_of_what_folds_did_not_see(here: Path) -> None:
    """The lists of folds are ours: labels of 1 to 3 alone are no reason to ask what they count from."""
    lines = (here / "data/demo/demo_train_list_videos.txt").read_text().splitlines()
    of = {label: [line for line in lines if line.endswith(f" {label}")] for label in range(4)}
    (here / "train.txt").write_text("\n".join([of[0][0], *of[1][:3], *of[2][:4], *of[3][:4]]) + "\n")
    (here / "val.txt").write_text(of[1][3] + "\n")
    done = tsm("train", "--preset", "demo", *LISTS, "--folds", "2", "--work-dir", "run", "--set", *SMALL,
               "train.epochs=1")  # fmt: skip
    assert done.code == 0, done.err
    reports = tsm("report", "run", "--no-order", "--json").json()
    held = [len((here / f"run/lists/fold-{fold}-val.txt").read_text().splitlines()) for fold in (1, 2)]
    assert sum(held) == 13
    assert [one["videos"] for one in reports] == [f"{count} of {count} videos" for count in held]


def test_started_again_before_there_was_a_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    done = tsm("train", "--preset", "demo", *LISTS, "--seeds", "2", "--work-dir", "run", "--no-validate", "--set",
               *SMALL, "train.epochs=1")  # fmt: skip
    assert done.code == 0, done.err
    assert "to use one of them: run/seed-0/last.pt, the first; nothing was validated" in done.out
    assert "best" not in done.out.partition("to use one")[2]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--folds", "1"), "at least 2 are needed"),
        (("--folds", "2", "--splits", "1"), "exclude each other"),
        (("--group", "x"), "--group needs --folds"),
        (("--splits", "1", "2"), "takes the place of {}"),
        (("--folds", "2", "--no-validate"), "each fold is there to validate"),
        (("--folds", "99"), "--folds 99 of 24 videos"),
        (("--folds", "2", "--group", "nobody"), "--group nobody does not match"),
        (("--seeds", "2", "--test-best"), "leave out what is for one training"),
    ],
)
def test_refusals(here: Path, args: tuple[str, ...], message: str) -> None:
    refused = tsm("train", "--preset", "demo", *LISTS, *args, "--set", *SMALL)
    assert (refused.code, message in refused.err) == (2, True), refused.err
    assert not Path("runs").exists()


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 7)), min_size=10, max_size=60), st.integers(2, 4))
def test_a_group_is_in_one_fold(videos: list[tuple[int, int]], folds: int) -> None:
    records = [VideoRecord(f"c/p{group}_{i}.mp4", None, label) for i, (label, group) in enumerate(videos)]
    several = Several(folds=folds, group="^(p[0-9]+)_")
    groups = [group for _, group in videos]
    labels = [label for label, _ in videos]
    if len({*groups}) < folds:
        with pytest.raises(UsageError, match="groups by --group"):
            draw_folds(records, several, 0)
        return
    if max(map(labels.count, labels)) < folds:
        return
    drawn = draw_folds(records, several, 0)
    assert sorted(i for fold in drawn for i in fold) == list(range(len(videos)))
    held = [{groups[i] for i in fold} for fold in drawn]
    assert sum(map(len, held)) == len({*groups})
    assert drawn == draw_folds(records, several, 0)


def test_names_and_seeds() -> None:
    preset = resolve("demo", ["train.seed=7"])
    places = Places(train_list=Path("t{}.txt"), val_list=Path("v.txt"))
    several = Several(splits=("a", "b"), seeds=2)
    check_several(several, places)
    found = [
        (name, own.config.train.seed, str(at.train_list))
        for name, own, at in trainings(several, preset, places, Path())
    ]
    assert found == [("split-a-seed-7", 7, "ta.txt"), ("split-a-seed-8", 8, "ta.txt"),
                     ("split-b-seed-7", 7, "tb.txt"), ("split-b-seed-8", 8, "tb.txt")]  # fmt: skip


def test_patience(here: Path) -> None:
    """With a learning rate of nearly nothing no validation is better than the first."""
    sets = ["--set", *SMALL, "train.epochs=9", "train.lr=1e-12", "train.save_every=5", "train.patience=2",
            "train.freeze_bn=statistics"]  # fmt: skip
    done = tsm("train", "--preset", "demo", *LISTS, "--work-dir", "run", *sets)
    assert done.code == 0, done.err
    assert "the last 2 validations were not better" in done.err
    checkpoint = open_checkpoint(here / "run/last.pt")
    assert checkpoint is not None
    assert (checkpoint.progress.epoch, checkpoint.progress.stale) == (3, 2)
    for patience, epoch in ((2, 3), (3, 4)):
        again = tsm("train", "--resume", "--work-dir", "run", *LISTS, "--set", f"train.patience={patience}")
        assert again.code == 0, again.err
        checkpoint = open_checkpoint(here / "run/last.pt")
        assert checkpoint is not None
        assert checkpoint.progress.epoch == epoch

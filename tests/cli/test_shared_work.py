"""Work that several processes share by themselves, started by torchrun, by srun, or one after the other."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support import numbered_frames, tsm, write_video

from tsmcli.core.tsm import build_model
from tsmcli.data.shards import rank_and_size
from tsmcli.engine.checkpoint import Checkpoint, Progress, save_checkpoint
from tsmcli.errors import EnvironmentProblem
from tsmcli.presets import load_preset

VIDEOS = 21
SHARED = ("--standalone", "--nproc-per-node", "3", "-m", "tsmcli")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", *SHARED)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Videos of two classes, one of them broken, and a table of them."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    rows = ["path,label,split"]
    frames = numbered_frames(30)
    for i in range(VIDEOS):
        write_video(tmp_path / "in" / f"v{i}.mp4", frames[i % 5 :])
        rows.append(f"v{i}.mp4,{'xy'[i % 2]},{'val' if i % 3 else 'train'}")
    (tmp_path / "in/v4.mp4").write_bytes(b"no video")
    (tmp_path / "in/annotations.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "in"


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def prepare(out: str) -> list[str]:
    return ["prepare-data", "csv", "--source", "in", "--store", "frames", "--workers", "1", "--out", out]


def test_three_processes_give_the_bytes_of_one_also_when_killed(source: Path) -> None:
    assert tsm(*prepare("one")).code == 3, "one video is broken"
    done = subprocess.run([*TORCHRUN, *prepare("three")], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1, "torchrun's code for a process that fails"
    assert "1 videos could not be used" in done.stderr
    assert done.stdout.count("lists, classes.txt, manifest.json") == 1
    assert snapshot(Path("three")) == snapshot(Path("one"))

    killed = subprocess.Popen([*TORCHRUN, *prepare("killed")], start_new_session=True, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)  # fmt: skip
    limit = time.monotonic() + 60
    while len(list(Path("killed/rawframes").glob("v*"))) < 4 and time.monotonic() < limit:
        time.sleep(0.01)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait(10)
    assert not Path("killed/manifest.json").exists()
    subprocess.run([*TORCHRUN, *prepare("killed")], capture_output=True, timeout=120, check=False)
    assert snapshot(Path("killed")) == snapshot(Path("one"))


@pytest.mark.slow
def test_tasks_of_srun_that_end_in_any_order(source: Path) -> None:
    """The last one writes; a part that is done again before the others are is done once."""
    assert tsm(*prepare("one")).code == 3
    for task in (2, 0, 0, 1):
        env = {**os.environ, "SLURM_PROCID": str(task), "SLURM_NTASKS": "3", "SLURM_STEP_NUM_TASKS": "3"}
        done = subprocess.run([sys.executable, "-m", "tsmcli", *prepare("tasks")], env=env, timeout=60,
                              capture_output=True, text=True, check=False)  # fmt: skip
        assert Path("tasks/manifest.json").exists() is (task == 1)
        assert done.returncode == (3 if task == 1 else 0), done.stderr
    assert snapshot(Path("tasks")) == snapshot(Path("one"))


def test_a_part_of_other_files_does_not_count(source: Path) -> None:
    """What an older run left, of fewer videos, is not taken for this one's."""
    table = (source / "annotations.csv").read_text()
    (source / "annotations.csv").write_text("\n".join(table.splitlines()[:8]) + "\n")
    assert tsm(*prepare("out"), "--shard", "1/2").code == 3, "the broken one is in this part"
    (source / "annotations.csv").write_text(table)
    assert tsm(*prepare("out"), "--shard", "2/2", "--json").json()["complete"] is False
    assert not Path("out/manifest.json").exists()
    assert tsm(*prepare("out"), "--shard", "1/2").code == 3
    assert Path("out/manifest.json").exists()


def test_predictions_of_two_processes_are_those_of_one(source: Path) -> None:
    config = load_preset("demo", ["model.width=0.125", "train.workers=1"])
    model = build_model(config, 8, seed=0)
    torch.nn.init.normal_(model.fc.weight, std=0.5, generator=torch.Generator().manual_seed(1))
    names = [f"class {i}" for i in range(8)]
    save_checkpoint(Path("best.pt"), Checkpoint("demo", config, names, Progress(epoch=1), model.state_dict()))
    command = ["predict", "best.pt", "in", "--topk", "8", "--json"]
    alone = tsm(*command)
    assert alone.code == 3
    two = [part if part != "3" else "2" for part in TORCHRUN]
    shared = subprocess.run([*two, *command], capture_output=True, text=True, timeout=120, check=False)
    assert json.loads(shared.stdout) == json.loads(alone.out)
    assert len(json.loads(shared.stdout)["videos"]) == VIDEOS - 1


def test_who_a_process_is() -> None:
    for env, right in (
        ({}, (0, 1)),
        ({"RANK": "2", "WORLD_SIZE": "3"}, (2, 3)),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "4"}, (1, 4)),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "2"}, (1, 2)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, (0, 1)),  # a batch script, outside srun
    ):
        assert rank_and_size(env) == right
    for env in ({"RANK": "3", "WORLD_SIZE": "3"}, {"RANK": "x", "WORLD_SIZE": "3"}):
        with pytest.raises(EnvironmentProblem):
            rank_and_size(env)


def test_the_other_processes_leave_short_work_to_the_first(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    for words in ((), ("csv", "--source", "in", "--dry-run")):
        done = tsm("prepare-data", *words)
        assert (done.code, done.out) == (0, "")
    assert tsm(*prepare("out"), "--shard", "1/2").code == 2
    assert not Path("data").exists()
    shutil.rmtree(source)

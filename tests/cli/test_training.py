"""Training as a user runs it: stopped, killed, resumed, in several processes, dry."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from support import presets_in_turn, tsm

from tsmcli.catalog import CATALOG
from tsmcli.cli.train import finish as finish_training
from tsmcli.data.location import Places
from tsmcli.engine.checkpoint import Checkpoint, Progress, open_checkpoint
from tsmcli.engine.launch import launch
from tsmcli.engine.processes import World, from_slurm, launched, local_device
from tsmcli.errors import EnvironmentProblem
from tsmcli.presets import load_preset, resolve
from tsmcli.recipes.run_folder import check_same
from tsmcli.recipes.train import Trained

SMALL = ["train.lr_steps=[]", "train.val_every=1", "model.width=0.125", "train.workers=0", "train.batch=8",
         "model.dropout=0.3", "train.lr=0.01", "train.log_every=1"]  # fmt: skip


@pytest.fixture
def here(demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the demo data in its usual place."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/demo").symlink_to(demo_data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(*args: object, **env: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tsmcli", "train", *map(str, args)]
    threads = {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            env={**os.environ, **threads, **env})  # fmt: skip


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def last(run: Path) -> Checkpoint:
    checkpoint = open_checkpoint(run / "last.pt")
    assert checkpoint is not None
    return checkpoint


def weights(run: Path) -> dict[str, torch.Tensor]:
    return dict(last(run).model)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(value, b[key]) for key, value in a.items())


def log_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[float]:
    return [line["train/loss"] for line in log_of(run) if "train/loss" in line]


@pytest.mark.parametrize(
    ("number", "code", "keys"),
    [
        (signal.SIGINT, 130, ("train.optimizer=adamw", "train.balance=power")),
        pytest.param(signal.SIGTERM, 143, (), marks=pytest.mark.slow),
    ],
)
def test_stopped_and_resumed_to_the_bit(here: Path, number: int, code: int, keys: tuple[str, ...]) -> None:
    sets = ["--set", *SMALL, "train.epochs=6", *keys]
    assert tsm("train", "--preset", "demo", "--work-dir", "whole", *sets).code == 0
    process = start("--preset", "demo", "--work-dir", "stopped", *sets)
    while not any("train/loss" in line for line in log_lines(here / "stopped")):
        time.sleep(0.02)
    process.send_signal(number)
    returned, _, err = finish(process)
    assert returned == code, err
    assert f"interrupted by {signal.Signals(number).name}" in err
    assert "tsm train --resume --work-dir stopped" in err
    progress = last(here / "stopped").progress
    assert progress.epoch < 6
    again = tsm("train", "--resume", "--work-dir", "stopped")
    assert again.code == 0, again.err
    assert f"the checkpoint after {progress.epoch} epochs and {progress.step} steps" in again.err
    assert same(weights(here / "whole"), weights(here / "stopped"))
    assert losses(here / "whole") == losses(here / "stopped")


def log_lines(run: Path) -> list[str]:
    log = run / "log.jsonl"
    return log.read_text().splitlines() if log.exists() else []


def test_resume_says_what_does_not_fit(here: Path) -> None:
    done = tsm("train", "--preset", "demo", "--set", *SMALL, "train.epochs=1", "--json").json()
    run = Path(done["run"])
    longer = tsm("train", "--preset", "demo", "--resume", "--set", "train.epochs=2", "train.workers=1")
    assert longer.code == 0, longer.err
    assert last(run).progress.epoch == 2
    for sets, message in {
        "train.lr=0.5": "train.lr: 0.01 in the run, 0.5 now",
        "train.batch=4": "has 8 videos per step; now it would have 4",
    }.items():
        refused = tsm("train", "--resume", "--work-dir", run, "--set", sets)
        assert (refused.code, message in refused.err) == (2, True), refused.err
    shared = tsm(
        "train", "--resume", "--work-dir", run, "--set", "train.batch=4", "train.accumulate=2", "train.epochs=3"
    )
    assert shared.code == 0, shared.err
    data = (run / "last.pt").read_bytes()
    (run / "last.pt").write_bytes(data[:5000])
    fallen_back = tsm("train", "--resume", "--work-dir", run, "--set", "train.epochs=3")
    assert fallen_back.code == 0
    assert "damaged, not used" in fallen_back.err
    (run / "last.pt").replace(run / "best.pt")  # as after a kill between the two
    assert tsm("train", "--resume", "--work-dir", run, "--set", "train.epochs=3").code == 0
    assert last(run).progress.epoch == 3
    tree = torch.load(run / "last.pt", weights_only=True)
    for name in ("last.pt", "best.pt"):
        (run / name).unlink()
        torch.save({**tree, "training": {"optimizer": {"state": {}, "param_groups": []}}}, run / name)
    state = tsm("train", "--resume", "--work-dir", run, "--set", "train.epochs=9")
    assert (state.code, "state of the optimiser is damaged" in state.err) == (4, True), state.err
    shutil.copy(run / "config.yaml", "mine.yaml")
    assert tsm("train", "--resume", "--work-dir", "nowhere").code == 2
    assert tsm("train", "--resume").code == 2
    assert tsm("train").code == 2


def test_one_and_two_processes_train_alike(here: Path) -> None:
    """The same learning rate, losses within rounding where batch norm is frozen, and the same validation."""
    lines = Path("data/demo/demo_train_list_videos.txt").read_text().splitlines()
    Path("train.txt").write_text("\n".join(lines[:29]) + "\n")
    lines = Path("data/demo/demo_val_list_videos.txt").read_text().splitlines()
    Path("val.txt").write_text("\n".join(lines[:13]) + "\n")
    sets = ["--train-list", "train.txt", "--val-list", "val.txt", "--set", *SMALL, "train.epochs=2", "model.dropout=0",
            "train.freeze_bn=statistics", "train.balance=power", "train.class_weights=balanced"]  # fmt: skip
    one = start("--preset", "demo", "--work-dir", "one", *sets)
    assert finish(one)[0] == 0
    two = start("--preset", "demo", "--work-dir", "two", "--gpus", 2, "--device", "cpu", *sets, "train.batch=4")
    code, out, err = finish(two)
    assert code == 0, err
    assert out.count("val/top1") == 1, "one process speaks"
    assert "batch 4 x 2 processes" in err
    a, b = log_of(here / "one"), log_of(here / "two")
    assert len(a) == len(b) == 2 * (4 + 1)
    for left, right in zip(a, b, strict=True):
        if "train/loss" in left:
            assert left["train/lr"] == right["train/lr"]
            assert left["train/loss"] == pytest.approx(right["train/loss"], rel=1e-4)
            assert left["train/videos"] == right["train/videos"]
        else:
            assert left == right
            assert left["val/coverage"] == "13 of 13 videos"


def test_two_processes_killed_and_resumed(here: Path) -> None:
    sets = ["--set", *SMALL, "train.epochs=4", "train.batch=4", "train.save_every_minutes=0.0001"]
    two = ["--preset", "demo", "--gpus", 2, "--device", "cpu", *sets]
    assert finish(start(*two, "--work-dir", "whole"))[0] == 0
    process = start(*two, "--work-dir", "stopped")
    while len(log_lines(here / "stopped")) < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 143
    resumed = start("--resume", "--work-dir", "stopped", "--gpus", 2, "--device", "cpu")
    assert finish(resumed)[0] == 0
    assert same(weights(here / "whole"), weights(here / "stopped"))


def test_torchrun_starts_the_processes_and_resumes_after_a_failure(here: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "tsmcli",
               "train", "--preset", "demo", "--device", "cpu", "--set", *SMALL, "train.epochs=1", "train.batch=4"]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "x 2 processes" in done.stderr
    (run,) = (here / "runs/demo").iterdir()
    launch_id = json.loads((run / "environment.json").read_text())["launch"]
    again = start("--preset", "demo", "--set", *SMALL, "train.epochs=1",
                  TORCHELASTIC_RESTART_COUNT="1", TORCHELASTIC_RUN_ID=launch_id)  # fmt: skip
    assert "the checkpoint after 1 epochs and 0 steps" in finish(again)[2]
    new = start("--preset", "demo", "--set", *SMALL, "train.epochs=1",
                TORCHELASTIC_RESTART_COUNT="1", TORCHELASTIC_RUN_ID="another")  # fmt: skip
    assert "random weights" in finish(new)[2]


def test_too_many_gpus_is_an_error() -> None:
    with pytest.raises(EnvironmentProblem, match="--gpus 99: torch sees"):
        launch(99, "auto", [])


def test_what_a_launcher_may_leave_out() -> None:
    assert not launched({"RANK": "0"}), "a stray RANK"
    assert local_device("auto", {"RANK": "5"}, gpus=4) == "cuda:1", "no LOCAL_RANK, as of PyTorchJob"
    assert local_device("cuda", {"RANK": "5", "LOCAL_RANK": "3"}, gpus=4) == "cuda:3"
    assert local_device("cuda", {"RANK": "5", "LOCAL_RANK": "3"}, gpus=1) == "cuda:0", (
        "srun shows each task its own"
    )
    assert local_device("cpu", {"RANK": "5"}, gpus=4) == "cpu"
    for env in ({"RANK": "x", "WORLD_SIZE": "2"}, {"RANK": "0", "WORLD_SIZE": ""}, {"RANK": "5", "WORLD_SIZE": "2"},
                {"SLURM_STEP_NUM_TASKS": "4"}, {"SLURM_STEP_NUM_TASKS": ""}):  # fmt: skip
        command = [sys.executable, "-m", "tsmcli", "test", "--checkpoint", "a.pt"]
        done = subprocess.run(command, env={**os.environ, **env}, capture_output=True, text=True, timeout=60)
        assert (done.returncode, "Traceback" in done.stderr) == (5, False), (env, done.stderr)
    assert local_device("auto", {"RANK": "5"}, gpus=0) == "auto"


def test_processes_that_see_different_things_do_not_train() -> None:
    class Two(World):
        def gather(self, value: Any) -> list[Any]:
            return [value, (None, 32)]

    check_same(Two(0, 2), None, 32)
    with pytest.raises(EnvironmentProblem, match="process 0 has 32 training videos and a checkpoint after 2 epochs and "
                       "1 steps; process 1 has 32 training videos and no checkpoint"):  # fmt: skip
        check_same(Two(0, 2), Progress(epoch=2, step=1), 32)
    with pytest.raises(EnvironmentProblem, match="process 0 has 31 training videos"):
        check_same(Two(0, 2), None, 31)


def test_a_run_is_trained_by_one_process_at_a_time(here: Path) -> None:
    process = start("--preset", "demo", "--work-dir", "run", "--set", *SMALL, "train.epochs=50")
    while len(log_lines(here / "run")) < 1:
        assert process.poll() is None
        time.sleep(0.02)
    before = (here / "run/config.yaml").read_bytes()
    second = tsm("train", "--resume", "--work-dir", "run")
    assert second.code == 2
    assert "run is being trained by another process" in second.err
    assert (here / "run/config.yaml").read_bytes() == before
    process.kill()
    process.communicate()
    assert tsm("train", "--resume", "--work-dir", "run", "--set", "train.epochs=1").code == 0


def test_a_resumed_run_keeps_its_batch_and_its_first_weights(here: Path) -> None:
    """What `--batch auto` found, and `--init` where there is no checkpoint yet."""
    done = tsm(
        "train", "--preset", "demo", "--work-dir", "auto", "--batch", "auto", "--set", *SMALL[:-1], "train.epochs=1"
    )
    assert done.code == 0, done.err
    batch = resolve(str(here / "auto/config.yaml")).config.train.batch
    again = tsm("train", "--resume", "--work-dir", "auto", "--batch", "auto", "--set", "train.epochs=2")
    assert again.code == 0, again.err
    assert resolve(str(here / "auto/config.yaml")).config.train.batch == batch
    first = tsm(
        "train",
        "--preset",
        "demo",
        "--work-dir",
        "one",
        "--init",
        "auto/last.pt",
        "--set",
        *SMALL,
        "train.epochs=1",
    )
    assert first.code == 0, first.err
    (here / "one/last.pt").unlink()
    (here / "one/best.pt").unlink()
    assert "starting from auto/last.pt" in tsm("train", "--resume", "--work-dir", "one").err


def test_the_log_goes_on_in_the_middle_of_a_window(here: Path) -> None:
    sets = [*SMALL[:-1], "train.log_every=4", "train.epochs=1", "train.save_every_minutes=0.0001"]
    assert tsm("train", "--preset", "demo", "--work-dir", "whole", "--set", *sets).code == 0
    process = start("--preset", "demo", "--work-dir", "cut", "--set", *sets)
    while not (here / "cut/last.pt").exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.communicate()
    assert tsm("train", "--resume", "--work-dir", "cut").code == 0
    assert losses(here / "cut") == losses(here / "whole")


def test_slurm_tells_who_is_who() -> None:
    env = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "77",
           "SLURM_STEP_NODELIST": "node5"}  # fmt: skip
    assert launched(env)
    assert not launched({"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"})
    found = from_slurm(env)
    assert (found["RANK"], found["WORLD_SIZE"], found["LOCAL_RANK"], found["MASTER_ADDR"]) == (
        "3",
        "4",
        "1",
        "node5",
    )
    assert found["MASTER_PORT"] != from_slurm({**env, "SLURM_JOB_ID": "78"})["MASTER_PORT"]


def test_dry_run_says_everything_and_writes_nothing(here: Path) -> None:
    before = sorted(here.rglob("*"))
    done = tsm("train", "--preset", "demo", "--dry-run", "--seed", 7)
    assert done.code == 0, done.err
    for part in ("train.seed", "--set train.seed=7", "classifier_weight", "backbone.conv1.weight", "0.002",
                 "2 steps per epoch", "memory of a step", "32 videos, all there", "clips [16, 1, 8, 3, 56, 56] uint8"):  # fmt: skip
        assert part in done.out, part
    assert sorted(here.rglob("*")) == before
    told = tsm("train", "--preset", "demo", "--dry-run", "--json").json()
    of_four = tsm("train", "--preset", "demo", "--dry-run", "--gpus", "4", "--device", "cpu")
    assert "batch 16 x 4 processes" in of_four.out
    assert "scaled to 0.08 for 64" in of_four.out
    assert [epoch for epoch, _ in told["rates"]] == [0, 10, 14]


@pytest.mark.parametrize("name", presets_in_turn())
def test_every_preset_dry_runs_on_a_list_of_its_own(name: str, here: Path, demo_data: Path) -> None:
    clips = [line.split()[0] for line in (demo_data / "demo_train_list_videos.txt").read_text().splitlines()][:4]
    Path("list.txt").write_text("".join(f"{clip} {i % 2}\n" for i, clip in enumerate(clips)))
    Path("two.txt").write_text("a\nb\n")
    own = CATALOG[load_preset(name).data.dataset].num_classes
    classes = ["--classes", "two.txt"] if own is None else []
    done = tsm("train", "--preset", name, "--dry-run", "--json", "--train-list", "list.txt", "--val-list", "list.txt",
               "--media", demo_data / "videos", *classes, "--set", "data.store=video", "augment.resize_px=64",
               "augment.crop_px=64")  # fmt: skip
    told = done.json()
    assert told["first_batch"][0].startswith("clips [4, 1, ")
    assert sum(len(names) for _, _, _, names in told["groups"]) > 50


def test_quick_looks(here: Path) -> None:
    done = tsm(
        "train", "--preset", "demo", "--fast-dev-run", "--set", "model.width=0.125", "train.workers=0", "--json"
    )
    assert done.code == 0, done.err
    log = log_of(Path(done.json()["run"]))
    assert [line["train/step"] for line in log if "train/step" in line] == [2]
    assert log[-1]["val/coverage"] == "4 of 4 videos"
    few = tsm("train", "--preset", "demo", "--overfit", 3, "--set", *SMALL, "train.epochs=1")
    assert "3 training videos" in few.err
    assert "3 of 3 videos" in few.err


def test_files_that_are_not_there_are_not_named(capsys: pytest.CaptureFixture[str]) -> None:
    run = Path("run")
    finish_training(
        Trained(run, run / "last.pt", run / "last.pt", None, None, 0, 0, 1.0), Places(), {}, as_json=False
    )
    out = capsys.readouterr().out
    assert "last.pt" in out
    assert "best.pt" not in out


def test_options_of_the_run(here: Path) -> None:
    done = tsm("train", "--preset", "demo", "--set", *SMALL, "train.epochs=1", "--no-scale-lr", "--precision", "bf16",
               "--seed", 3, "--deterministic", "--no-validate", "--test-last", "--json")  # fmt: skip
    told = done.json()
    assert told["top1"] is None
    assert told["best"] == told["last"]
    assert told["tests"]["last"]["videos"] == "16 of 16 videos"
    run = Path(told["run"])
    assert not (run / "best.pt").exists()
    assert log_of(run)[0]["train/lr"] == 0.01
    assert (run / "curves.png").stat().st_size > 10_000
    config = last(run).config.train
    assert (config.seed, config.precision, config.deterministic, config.validation) == (3, "bf16", True, False)
    auto = tsm("train", "--preset", "demo", "--batch", "auto", "--dry-run", "--json").json()
    assert {k: v for k, v, _ in auto["values"]}["train.batch"] == 32, "no more than there are videos"


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--precision", "fp16"], 5, "fp16 needs a GPU"),
        (["--precision", "fp8"], 2, "train.precision should be 'auto', 'fp32', 'tf32', 'bf16' or 'fp16'"),
        (["--set", "train.recompute=block", "--compile"], 2, "compile and recompute cannot be combined"),
        (["--media", "."], 3, "none of 32 videos looked for are there"),
        (["--gpus", "2"], 5, "--gpus 2: torch sees"),
    ],
)
def test_refusals(here: Path, args: list[str], code: int, message: str) -> None:
    done = tsm("train", "--preset", "demo", *args)
    assert (done.code, message in done.err) == (code, True), done.err
    assert not Path("runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_killed_twenty_times(here: Path, processes: int) -> None:
    """SIGKILL at random moments, resumed each time, with another number of workers each time: the same weights."""
    sets = [
        "--set",
        *SMALL,
        f"train.epochs={12 * processes**2}",
        f"train.batch={8 // processes}",
        "train.save_every_minutes=0.001",
    ]
    several = ["--gpus", processes, "--device", "cpu"] if processes > 1 else []
    assert finish(start("--preset", "demo", "--work-dir", "whole", *several, *sets))[0] == 0
    chance = random.Random(processes)
    kills, process = 0, start("--preset", "demo", "--work-dir", "killed", *several, *sets)
    while True:
        seen = len(log_lines(here / "killed"))
        target, deadline = seen + chance.randint(0, 2), time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            if kills < 20 and (here / "killed/config.yaml").exists() and len(log_lines(here / "killed")) > target:
                time.sleep(chance.random() * 0.05)
                process.kill()
                break
            time.sleep(0.005)
        code = finish(process)[0]
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
        workers = f"train.workers={chance.randint(0, 2)}"
        process = start(
            "--resume", "--work-dir", "killed", *several, "--set", workers, "train.save_every_minutes=0.001"
        )
    assert kills == 20
    assert same(weights(here / "whole"), weights(here / "killed"))
    assert losses(here / "whole") == losses(here / "killed")

"""Every process ends, whatever fails: real processes, two workers, one process and two, broken on purpose."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import make_folder_dataset

from tsmcli.catalog import CATALOG
from tsmcli.core.tsm import build_model
from tsmcli.data import workers
from tsmcli.engine.checkpoint import Checkpoint, Progress, save_checkpoint
from tsmcli.errors import EnvironmentProblem
from tsmcli.presets import load_preset

LIMIT_SEC = 15.0
"""From the fault to the end of all processes."""
FAULTS = Path(__file__).parents[1] / "faults"
SMALL = ["--set", "train.lr_steps=[]", "train.epochs=50", "train.val_every=50", "model.width=0.125", "train.batch=4",
         "train.workers=2"]  # fmt: skip
TRAIN = ["train", "--preset", "demo", "--device", "cpu", *SMALL]
TEST = ["test", "--checkpoint", "best.pt", "--device", "cpu", "--set", "train.workers=2"]
TWO = ["--gpus", "2"]


class Ended(NamedTuple):
    """How a command ended, and how many seconds after the fault."""

    code: int
    out: str
    err: str
    seconds: float


@pytest.fixture
def here(demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/demo").symlink_to(demo_data)
    monkeypatch.chdir(tmp_path)
    config = load_preset("demo", ["model.width=0.125"])
    names = CATALOG["demo"].class_names() or []
    weights = build_model(config, 8, seed=0).state_dict()
    save_checkpoint(tmp_path / "best.pt", Checkpoint("demo", config, names, Progress(epoch=1), weights))
    return tmp_path


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A word in the environment of every process of a test; at the end, none with it may be left."""
    word = uuid.uuid4().hex
    monkeypatch.setenv("TSM_TEST_MARK", word)
    yield word
    for pid in living(word):
        os.kill(pid, signal.SIGKILL)


def living(word: str) -> list[int]:
    """The processes that a test started and that are still there, apart from zombies."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            there = f"TSM_TEST_MARK={word}".encode() in (folder / "environ").read_bytes()
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if there and state != "Z" and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found


def start(
    args: list[str],
    module: str = "",
    code: str = "",
    *,
    program: str = "-m tsmcli",
    outside: Sequence[str] = (),
    **env: str,
) -> subprocess.Popen[str]:
    """A command in which `code` runs once `module` is there; it may call `fault()` when it breaks something."""
    broken = {"TSM_TEST_FAULT": code, "TSM_TEST_FAULT_IN": module} if code else {}
    path = os.pathsep.join([str(FAULTS), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return subprocess.Popen(
        [*outside, sys.executable, *program.split(), *args],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "TSM_TEST_FAULT_AT": "fault", **broken, **env},
    )  # fmt: skip


def end(process: subprocess.Popen[str], word: str) -> Ended:
    """Wait for a command, and for all that it started, which must be gone when it is."""
    out, err = process.communicate(timeout=100)
    assert Path("fault").exists(), err
    seconds = time.time() - Path("fault").stat().st_mtime
    gone_by = time.monotonic() + 2
    while (left := living(word)) and time.monotonic() < gone_by:
        time.sleep(0.05)
    assert not left, f"left behind: {[Path(f'/proc/{pid}/cmdline').read_bytes() for pid in left]}"
    return Ended(process.returncode, out, err, seconds)


def wait_for_fault(process: subprocess.Popen[str]) -> None:
    while not Path("fault").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)


def nth(name: str, call: int, action: str, *, before: str = "") -> str:
    """Code that lets the n-th call of a function of the module do something else."""
    return f"""
real, calls = module.{name}, []
def broken(*args, **kwargs):
    calls.append(0)
    {before}
    if len(calls) == {call}:
        fault()
        {action}
    return real(*args, **kwargs)
module.{name} = broken
"""


def slow(*values: object) -> list[Any]:
    """Cases that differ little from others."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


BOOM = "raise RuntimeError('boom')"
MEMORY = "import torch; raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2 GiB')"


# An exception that nobody expects, in the process that owns the workers.
@pytest.mark.parametrize(
    ("args", "module", "name", "call"),
    [
        (TRAIN, "tsmcli.engine.loop", "take_step", 2),
        (TEST, "tsmcli.engine.inference", "view_logits", 3),
        (["predict", "best.pt", "data/demo/videos/val"], "tsmcli.engine.scores", "average_views", 2),
        (["bench", "demo", "--data", "data/demo", "--videos", "8", "--seconds", "0", "--set", "model.width=0.125"],
         "tsmcli.recipes.bench.reading", "view_logits", 2),
    ],
    ids=["train", "test", "predict", "bench"],
)  # fmt: skip
@pytest.mark.parametrize(
    ("action", "code"), [(BOOM, 1), pytest.param(MEMORY, 5, marks=pytest.mark.slow)], ids=["bug", "memory"]
)
def test_an_exception_in_the_loop(
    here: Path, mark: str, args: list[str], module: str, name: str, call: int, action: str, code: int
) -> None:
    ended = end(start(args, module, nth(name, call, action)), mark)
    assert ended.code == code, ended.err
    assert ("boom" if code == 1 else "out of memory") in ended.err
    assert ended.seconds < LIMIT_SEC


def test_faults_while_converting(here: Path, mark: str) -> None:
    make_folder_dataset(here / "clips")
    clips = sorted(path.relative_to(here / "clips") for path in (here / "clips").rglob("*.mp4"))
    (here / "t.csv").write_text("path,label\n" + "".join(f"{clip},{clip.parent}\n" for clip in clips))
    faults = {
        "worker": ("tsmcli.prepare.extract", nth("_write_frames", 1, BOOM), 1, "boom"),
        "owner": ("tsmcli.prepare.official", nth("_write_lists", 1, BOOM), 1, "boom"),
        "killed": ("tsmcli.prepare.extract", nth("_write_frames", 1, "os.kill(os.getpid(), 9)"), 5, "SIGKILL"),
    }
    for out, (module, code, exit_code, words) in faults.items():
        args = [
            "prepare-data",
            "csv",
            "--source",
            "clips",
            "--annotations",
            "t.csv",
            "--store",
            "frames",
            "--workers",
            "2",
        ]
        ended = end(start([*args, "--out", out], module, code), mark)
        assert (ended.code, words in ended.err) == (exit_code, True), ended.err
        assert ended.seconds < LIMIT_SEC
        assert not list((here / out).rglob("*.part-*"))


# What happens in a worker.
WORKER = "tsmcli.data.dataset"
OF_ONE = {"train": (TRAIN, "train_view"), "test": (TEST, "eval_views")}


@pytest.mark.parametrize("command", ["train", "test"])
def test_an_exception_in_a_worker(here: Path, mark: str, command: str) -> None:
    args, name = OF_ONE[command]
    ended = end(start(args, WORKER, nth(name, 3, BOOM)), mark)
    assert ended.code == 1
    assert "in a process for data loading" in ended.err
    assert "RuntimeError: boom" in ended.err
    assert ended.seconds < LIMIT_SEC


@pytest.mark.parametrize("command", ["train", "test"])
def test_a_worker_that_is_killed(here: Path, mark: str, command: str) -> None:
    args, name = OF_ONE[command]
    ended = end(start(args, WORKER, nth(name, 3, "os.kill(os.getpid(), 9)")), mark)
    assert ended.code == 5, ended.err
    assert "was ended by SIGKILL, most likely because there was no memory left" in ended.err
    assert "--set train.workers=N" in ended.err
    assert "Traceback" not in ended.err
    assert ended.seconds < LIMIT_SEC


ONE_VIDEO = """
real = module.open_reader
def broken(split, record, data):
    if record.path == 'val/down_001.mp4':
        fault()
        {}
    return real(split, record, data)
module.open_reader = broken
"""
CRASH = "os.kill(os.getpid(), 11)"
HANG = "time.sleep(1000)"
HANG_IN_C = "import ctypes; [ctypes.CDLL(None).sleep(1000) for _ in range(9)]"  # a signal ends one sleep only


@pytest.mark.parametrize(("action", "why"), [(CRASH, "crashed the process that read it (SIGSEGV)"),
                                             (HANG, "took longer than 1 s to decode"),
                                             pytest.param("os.kill(os.getpid(), 19)", "took longer than 1 s",
                                                          marks=pytest.mark.slow)],
                         ids=["crash", "hang", "stopped"])  # fmt: skip
def test_a_video_that_breaks_its_worker_is_unreadable_and_the_test_goes_on(
    here: Path, mark: str, action: str, why: str
) -> None:
    ended = end(start([*TEST, "data.timeout_sec=1"], WORKER, ONE_VIDEO.format(action)), mark)
    assert ended.code == 3
    assert f"val/down_001.mp4: {why}" in ended.err
    assert "15 of 16 videos" in ended.out
    assert ended.seconds < LIMIT_SEC


def test_a_video_that_breaks_its_worker_is_skipped_in_training(here: Path, mark: str) -> None:
    code = ONE_VIDEO.replace("val/down_001.mp4", "train/down_001.mp4")
    args = [*TRAIN, "train.epochs=1", "data.timeout_sec=1"]
    for action, why in ((CRASH, "SIGSEGV"), (HANG, "took longer than 1 s")):
        ended = end(start([*args, "--work-dir", why[:4]], WORKER, code.format(action)), mark)
        assert ended.code == 0, ended.err
        assert "skipped: " in ended.err
        assert why in ended.err
        assert "1 times a video could not be read" in ended.out


def test_a_check_names_the_video_that_breaks_its_worker(here: Path, mark: str) -> None:
    args = ["prepare-data", "demo", "--check", "--out", "data/demo", "--workers", "2"]
    ended = end(start(args, "tsmcli.prepare.verify", ONE_VIDEO.format(CRASH)), mark)
    assert ended.code == 3, ended.err
    assert "val/down_001.mp4: crashed the process that read it (SIGSEGV)" in ended.out
    assert "1 problems, 1 of them broken videos" in ended.err
    assert ended.seconds < LIMIT_SEC


def test_predictions_go_on_too(here: Path, mark: str) -> None:
    code = ONE_VIDEO.replace("== 'val/", ".endswith('val/").replace(".mp4':", ".mp4'):").format(HANG)
    ended = end(
        start(["predict", "best.pt", "data/demo/videos/val", "--set", "data.timeout_sec=1"], WORKER, code), mark
    )
    assert ended.code == 3
    assert "1 of 16 videos could not be read" in ended.err
    assert "took longer than 1 s" in ended.err


@pytest.mark.parametrize(
    ("command", "number", "code"),
    [("train", signal.SIGINT, 130), ("test", signal.SIGTERM, 143),
     pytest.param("train", signal.SIGTERM, 143, marks=pytest.mark.slow),
     pytest.param("test", signal.SIGINT, 130, marks=pytest.mark.slow)],
)  # fmt: skip
def test_signals_end_a_command_whose_worker_is_stuck(
    here: Path, mark: str, command: str, number: signal.Signals, code: int
) -> None:
    args, name = OF_ONE[command]
    process = start(args, WORKER, nth(name, 3, HANG))
    wait_for_fault(process)
    time.sleep(0.5)
    Path("fault").touch()
    process.send_signal(number)
    ended = end(process, mark)
    assert ended.code == code
    assert f"interrupted by {number.name}" in ended.err
    assert "Traceback" not in ended.err
    assert ended.seconds < 10


def test_a_second_signal_ends_a_command_that_is_stuck_itself(here: Path, mark: str) -> None:
    """Nobody answers signals while a library hangs in the main thread; the second one ends the process all the same."""
    process = start(TEST, "tsmcli.engine.inference", nth("view_logits", 3, HANG_IN_C))
    wait_for_fault(process)
    for _ in range(2):
        time.sleep(1.2)
        Path("fault").touch()
        os.killpg(process.pid, signal.SIGINT)
    ended = end(process, mark)
    assert ended.code in (130, -signal.SIGINT)
    assert ended.seconds < LIMIT_SEC


# Shared memory.
def small_shm(size: str) -> list[str]:
    """The beginning of a command that runs with so much shared memory."""
    outside = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs -o size={size} tmpfs /dev/shm && exec "$@"', "sh"]
    try:
        done = subprocess.run([*outside, "true"], capture_output=True, check=False)
    except OSError:
        done = None
    if done is None or done.returncode:
        pytest.skip("this user may not mount a small /dev/shm")
    return outside


@pytest.mark.parametrize(("size", "workers", "batch"), [("64m", 4, 16), ("1m", 2, 4)])
def test_too_little_shared_memory_is_told_before_the_first_step(
    here: Path, mark: str, size: str, workers: int, batch: int
) -> None:
    args = [
        *TRAIN,
        f"train.workers={workers}",
        f"train.batch={batch}",
        "augment.crop_px=224",
        "augment.resize_px=256",
    ]
    command = [*small_shm(size), sys.executable, "-m", "tsmcli", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 5, done.stderr
    assert "shared memory (/dev/shm) has" in done.stderr
    assert "--shm-size" in done.stderr
    assert "train.workers" in done.stderr
    assert not Path("runs").exists()


def test_shared_memory_that_fills_all_the_same(here: Path, mark: str) -> None:
    code = "module.check_shared_memory = lambda *args: fault()"
    args = [*TRAIN, "augment.crop_px=224", "augment.resize_px=256", "train.validation=false"]
    ended = end(start(args, WORKER, code, outside=small_shm("1m")), mark)
    assert ended.code == 5, ended.err
    assert "error: shared memory (/dev/shm) is full" in ended.err
    assert "--shm-size" in ended.err
    assert ended.seconds < LIMIT_SEC


# Two processes.
def of_rank(rank: int, code: str) -> str:
    return f"if os.environ.get('RANK') == '{rank}':\n" + "".join(f"    {line}\n" for line in code.splitlines())


RANKS: dict[str, tuple[str, Callable[[], str], int]] = {
    "bug in rank 1": ("boom", lambda: of_rank(1, nth("take_step", 2, BOOM)), 1),
    "bug in rank 0": ("boom", lambda: of_rank(0, nth("take_step", 2, BOOM)), 1),
    "memory in rank 1": ("out of memory", lambda: of_rank(1, nth("take_step", 2, MEMORY)), 5),
    "rank 1 killed": ("process 1 of 2 was killed by SIGKILL",
                      lambda: of_rank(1, nth("take_step", 2, "os.kill(os.getpid(), 9)")), 5),
    "rank 0 killed": ("process 0 of 2 was killed by SIGKILL",
                      lambda: of_rank(0, nth("take_step", 2, "os.kill(os.getpid(), 9)")), 5),
}  # fmt: skip


@pytest.mark.parametrize(
    "case", ["bug in rank 0", "rank 1 killed", *slow("bug in rank 1", "memory in rank 1", "rank 0 killed")]
)
def test_one_of_two_ranks_fails_while_the_other_waits(here: Path, mark: str, case: str) -> None:
    words, code, exit_code = RANKS[case]
    ended = end(start([*TRAIN, *TWO], "tsmcli.engine.loop", code()), mark)
    assert ended.code == exit_code, ended.err
    assert words in ended.err
    assert ended.err.count("error:") + ended.err.count("Traceback") == 1, ended.err
    assert ended.seconds < LIMIT_SEC


def test_two_ranks_share_a_test_in_which_one_fails(here: Path, mark: str) -> None:
    ended = end(start([*TEST, *TWO], "tsmcli.engine.inference", of_rank(1, nth("view_logits", 3, BOOM))), mark)
    assert (ended.code, "boom" in ended.err) == (1, True)
    assert ended.seconds < LIMIT_SEC


def started_two(command: list[str]) -> subprocess.Popen[str]:
    """Two ranks that have taken some steps."""
    process = start([*command, *TWO], "tsmcli.engine.loop", of_rank(0, nth("take_step", 3, "pass")))
    wait_for_fault(process)
    Path("fault").touch()
    return process


@pytest.mark.parametrize("whom", ["launcher", "group", *slow("rank")])
def test_signals_with_two_ranks(here: Path, mark: str, whom: str) -> None:
    process = started_two(TRAIN)
    if whom == "launcher":
        process.send_signal(signal.SIGTERM)
    elif whom == "group":
        os.killpg(process.pid, signal.SIGTERM)
    else:
        rank = next(
            pid for pid in living(mark) if b"RANK=1" in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        )
        os.kill(rank, signal.SIGTERM)
    ended = end(process, mark)
    assert ended.code == 143, ended.err
    assert "nothing is lost" in ended.err
    assert "Traceback" not in ended.err
    assert list(Path("runs").rglob("last.pt"))
    assert ended.seconds < LIMIT_SEC


def test_ranks_do_not_outlive_a_launcher_that_is_killed(here: Path, mark: str) -> None:
    process = started_two(TRAIN)
    process.kill()
    ended = end(process, mark)
    assert ended.code == -signal.SIGKILL


@pytest.mark.parametrize("rank", [0, *slow(1)])
def test_one_rank_fails_under_srun(here: Path, mark: str, rank: int) -> None:
    """srun lets the other tasks be; they find out by themselves that one is gone."""
    slurm = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_ID": str(os.getpid()), "MASTER_ADDR": "127.0.0.1"}
    code = f"if os.environ['SLURM_PROCID'] == '{rank}':\n" + "".join(
        f"    {line}\n" for line in nth("take_step", 2, BOOM).splitlines()
    )
    tasks = [
        start(TRAIN, "tsmcli.engine.loop", code, **slurm, SLURM_PROCID=str(i), SLURM_LOCALID=str(i)) for i in (0, 1)
    ]
    failed, other = tasks[rank], tasks[1 - rank]
    assert failed.communicate(timeout=60)[1].count("boom") == 1
    ended = end(other, mark)
    assert ended.code == 5, ended.err
    assert f"process {1 - rank} lost another process of the run" in ended.err
    assert "Traceback" not in ended.err
    assert ended.seconds < LIMIT_SEC


def test_torchrun_ends_when_one_rank_fails(here: Path, mark: str) -> None:
    program = "-m torch.distributed.run --standalone --nproc-per-node 2 -m tsmcli"
    process = start(TRAIN, "tsmcli.engine.loop", of_rank(1, nth("take_step", 2, BOOM)), program=program)
    ended = end(process, mark)
    assert ended.code == 1
    assert "boom" in ended.err
    assert ended.seconds < LIMIT_SEC


def pid_of(task: str, begin: Callable[[int], None]) -> tuple[str, int]:
    begin(0)
    return task, os.getpid()


def test_a_worker_that_stops_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_START_SEC", 3.0)
    pool = workers.WorkerPool(pid_of, 1, timeout_sec=20, what="trying", setting="--workers")
    with closing(pool):
        assert [pid for _, pid in pool.run(["a"], lambda task, *_: task)] == [pool.workers[0].process.pid]
        pool.timeout_sec = 1
        os.kill(pool.workers[0].process.pid or 0, signal.SIGSTOP)
        with pytest.raises(EnvironmentProblem, match="a process for trying has done nothing for [45] s"):
            list(pool.run(["b"], lambda task, *_: task))
    assert not pool.workers


@pytest.mark.slow
def test_a_stop_while_a_network_is_converted_leaves_nothing_half_done(here: Path, mark: str) -> None:
    cache = {"XDG_CACHE_HOME": str(here / "cache")}
    args = [*TEST, "--engine", "openvino"]
    for stop, code in (("2", 130), ("9", -9)):
        broken = nth("compare_clips", 1, f"os.kill(os.getpid(), {stop})")
        ended = end(start(args, "tsmcli.recipes.conversion", broken, **cache), mark)
        assert (ended.code, ended.seconds < LIMIT_SEC) == (code, True), ended.err
        Path("fault").unlink()
    engines = here / "cache/tsm/engines"
    assert any(".part-" in path.name for path in engines.iterdir())  # a killed process cannot clear up
    done = subprocess.run([sys.executable, "-m", "tsmcli", *args], env={**os.environ, **cache}, timeout=100)
    assert done.returncode == 0
    assert [path.suffix for path in sorted(engines.iterdir()) if path.name != ".lock"] == [""]

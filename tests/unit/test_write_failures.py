"""A write that fails, at any moment of any command, leaves whole files and no parts, and says which path."""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import Outcome, make_folder_dataset, tsm

from tsmcli import zoo
from tsmcli.core.tsm import build_model
from tsmcli.data.workers import WorkerPool
from tsmcli.engine.checkpoint import Checkpoint, Progress, open_checkpoint, save_checkpoint
from tsmcli.files import sha256
from tsmcli.presets import load_preset
from tsmcli.results import load_results

ONE_LAYER = ["model.width=0.125", "train.workers=0", "train.batch=16", "train.epochs=2", "train.val_every=1",
             "train.lr_steps=[]", "train.save_every_minutes=0"]  # fmt: skip


class Faults:
    """Counts the writes below a folder and lets one of them fail, as if the disk were full."""

    def __init__(self, folder: Path, number: int = errno.ENOSPC) -> None:
        self.folder, self.count, self.fails, self.failed = folder.resolve(), 0, 0, ""
        self.number = number

    def operation(self, path: object, *names: str) -> None:
        """Fail where it is this one's turn; `names` are what the system's own error would name."""
        if not isinstance(path, str | Path) or not Path(path).absolute().is_relative_to(self.folder):
            return
        if ".lock" in Path(path).name or "tfevents" in Path(path).name:
            return
        self.count += 1
        if self.count == self.fails:
            self.failed = str(path)
            raise OSError(self.number, os.strerror(self.number), *names)

    @contextmanager
    def injected(self, fails: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        self.count, self.fails, self.failed = 0, fails, ""
        faults, real_open = self, io.open

        class Failing(io.FileIO):
            def write(self, data: Any) -> int:
                faults.operation(self.name)
                return super().write(data)

        def broken_open(file: Any, mode: str = "r", buffering: int = -1, *args: Any, **kwargs: Any) -> Any:
            if not set(mode) & set("wax+") or not isinstance(file, str | Path):
                return real_open(file, mode, buffering, *args, **kwargs)
            raw = Failing(file, mode.replace("b", "").replace("t", ""))
            if buffering == 0:
                return raw
            kind = io.BufferedRandom if "+" in mode else io.BufferedWriter
            buffered = kind(raw, 1 << 16)
            return buffered if "b" in mode else io.TextIOWrapper(buffered, *args, **kwargs)

        with monkeypatch.context() as patch:
            patch.setattr(io, "open", broken_open)
            patch.setattr(builtins, "open", broken_open)
            for name in ("replace", "rename", "truncate", "mkdir"):
                real = getattr(os, name)

                def broken(first: Any, *args: Any, real: Any = real, **kwargs: Any) -> Any:
                    if real.__name__ != "mkdir" or not Path(first).exists():
                        self.operation(first, str(first))
                    return real(first, *args, **kwargs)

                patch.setattr(os, name, broken)
            yield


@pytest.fixture
def here(demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    (root / "data/demo").symlink_to(demo_data)
    config = load_preset("demo", ["model.width=0.125"])
    weights = build_model(config, 8, seed=0).state_dict()
    names = (demo_data / "classes.txt").read_text().splitlines()
    save_checkpoint(root / "best.pt", Checkpoint("demo", config, names, Progress(epoch=1), weights))
    return root


def train(at: Path) -> Outcome:
    return tsm("train", "--preset", "demo", "--device", "cpu", "--work-dir", "run", "--set", *ONE_LAYER)


def resume(at: Path) -> Outcome:
    return tsm("train", "--resume", "--work-dir", "run", "--device", "cpu", "--set", "train.epochs=3")


def score(at: Path) -> Outcome:
    return tsm(
        "test", "--checkpoint", "best.pt", "--device", "cpu", "--set", "train.workers=0", "--out", "mine.json"
    )


def prepare(at: Path) -> Outcome:
    return tsm("prepare-data", "csv", "--source", "clips", "--annotations", "clips/t.csv", "--store", "frames",
               "--workers", "1")  # fmt: skip


def export(at: Path) -> Outcome:
    return tsm("export", "best.pt", "model.safetensors", "--force")


def download(at: Path) -> Outcome:
    return tsm("zoo", "download", "r50-sthv1-8f@h100")


def check_checkpoints(at: Path) -> None:
    for path in at.rglob("*.pt"):
        assert open_checkpoint(path)


def check_scores(at: Path) -> None:
    for path in (*at.rglob("scores*.npz"), *at.glob("mine.json")):
        assert len(load_results(path).paths) == 16


def check_frames(at: Path) -> None:
    folders = list((at / "data/folder/rawframes").rglob("*clip *"))
    assert all(len(list(folder.iterdir())) == 12 for folder in folders)
    lists = list((at / "data/folder").glob("*_list_*.txt")) if (at / "data/folder").is_dir() else []
    assert all(path.read_text().endswith("\n") and len(path.read_text().splitlines()) in (2, 4) for path in lists)


def check_export(at: Path) -> None:
    for path in at.glob("model.safetensors"):
        assert open_checkpoint(path)


def check_download(at: Path) -> None:
    for path in (at / "cache").rglob("*.pth"):
        assert sha256(path).startswith(path.stem[-8:])


CASES: dict[str, tuple[Callable[[Path], Outcome], Callable[[Path], None], Callable[[Path], None]]] = {
    "train": (train, lambda at: None, check_checkpoints),
    "resume": (resume, lambda at: train(at) and None, check_checkpoints),
    "test": (score, lambda at: None, check_scores),
    "prepare-data": (prepare, lambda at: make_clips(at), check_frames),
    "export": (export, lambda at: export(at) and None, check_export),
    "zoo download": (download, lambda at: None, check_download),
}


def make_clips(at: Path) -> None:
    make_folder_dataset(at / "clips")
    clips = sorted(path.relative_to(at / "clips") for path in (at / "clips").rglob("*.mp4"))
    (at / "clips/t.csv").write_text("path,label\n" + "".join(f"{clip},{clip.parent}\n" for clip in clips))


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror in a folder, with something that has the name and the hash of a published file."""
    row = zoo.find("r50-sthv1-8f@h100")
    assert isinstance(row, zoo.Model)
    content = np.random.default_rng(0).bytes(300_000)
    monkeypatch.setattr(zoo.File, "sha256_prefix", property(lambda self: _hash(content)))
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / row.ckpt.name).write_bytes(content)
    monkeypatch.setenv("TSM_ZOO_MIRROR", str(tmp_path / "mirror"))


@pytest.fixture(autouse=True)
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert in the process that counts the writes."""
    monkeypatch.setattr(
        "tsmcli.prepare.extract.WorkerPool", lambda work, _count, **facts: WorkerPool(work, 0, **facts)
    )


def _hash(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()[:8]


def fail_at(
    case: str, at: Path, chosen: Callable[[int], range], monkeypatch: pytest.MonkeyPatch, number: int = errno.ENOSPC
) -> int:
    """Let chosen writes of a command fail, each from the same beginning; returns how many did."""
    command, before, check = CASES[case]
    before_dir = Path.cwd()
    monkeypatch.chdir(at)
    before(at)
    start = at.with_name("start")
    shutil.copytree(at, start, symlinks=True)
    faults = Faults(at, number)
    with faults.injected(0, monkeypatch):
        assert command(at).code == 0
    total, failed = faults.count, 0
    assert total > 3
    for turn in chosen(total):
        monkeypatch.chdir(before_dir)
        shutil.rmtree(at)
        shutil.copytree(start, at, symlinks=True)
        monkeypatch.chdir(at)
        there = {path: sha256(path) for path in at.rglob("*.pt")}
        with faults.injected(turn, monkeypatch):
            done = command(at)
        where = f"{case}, write {turn} of {total}: {faults.failed}"
        assert faults.failed, where
        failed += 1
        assert not list(at.rglob("*.part-*")), where
        if done.code == 0:  # a picture that could not be drawn ends no training
            assert "was not drawn" in done.err, where
        else:
            assert done.code == 5, f"{where}: {done.err}"
            assert os.strerror(number) in done.err, f"{where}: {done.err}"
            names = [
                name.partition(".part")[0] for name in Path(faults.failed).parts[-2:]
            ]  # a folder, too, is whole
            assert any(name in done.err for name in names), f"{where}: {done.err}"
        check(at)
        if case == "resume":
            assert all(path.exists() for path in there), where
    monkeypatch.chdir(before_dir)
    return failed


@pytest.mark.parametrize("case", list(CASES))
def test_some_writes_fail(case: str, here: Path, published: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSM_ZOO", str(here / "cache"))
    assert fail_at(case, here, lambda total: range(1, total + 1, max(1, total // 4)), monkeypatch) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS], ids=["full", "quota", "read-only"])
@pytest.mark.parametrize("case", list(CASES))
def test_every_write_fails_once(
    case: str, number: int, here: Path, published: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TSM_ZOO", str(here / "cache"))
    failed = fail_at(case, here, lambda total: range(1, total + 1), monkeypatch, number)
    print(case, failed, "writes failed")  # noqa: T201
    assert failed >= 4

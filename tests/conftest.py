"""What all tests share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tsmcli.core.tsm import build_model
from tsmcli.engine.checkpoint import Checkpoint, Progress, save_checkpoint
from tsmcli.prepare.demo import make_demo
from tsmcli.presets import load_preset
from tsmcli.recipes.events import result_of

# Tests run in parallel processes, and the stored numbers were computed with one thread.
torch.set_num_threads(1)
# A shell starts what runs in the background with Ctrl-C ignored, and every process would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Converted networks of tests are kept by no one else."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def untrained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_data: Path) -> Path:
    """A folder to be in, with the demo dataset and two small networks of it: uni.pt for streams, and bid.pt."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/demo").symlink_to(demo_data)
    names = (demo_data / "classes.txt").read_text().splitlines()
    for shift in ("unidirectional", "bidirectional"):
        config = load_preset("demo", ["model.width=0.125", f"model.shift={shift}", "train.workers=0"])
        model = build_model(config, 8, seed=0)
        torch.nn.init.normal_(model.fc.weight, std=0.02, generator=torch.Generator().manual_seed(1))
        save_checkpoint(
            tmp_path / f"{shift[:3]}.pt", Checkpoint("demo", config, names, Progress(1), model.state_dict())
        )
    return tmp_path


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny demo dataset: 4 training and 2 validation clips a class."""
    folder = tmp_path_factory.mktemp("data") / "demo"
    assert result_of(make_demo(folder, train_clips=4, val_clips=2)) == 48
    return folder

"""What all tests share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tsmcli.prepare.demo import make_demo
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


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny demo dataset: 4 training and 2 validation clips a class."""
    folder = tmp_path_factory.mktemp("data") / "demo"
    assert result_of(make_demo(folder, train_clips=4, val_clips=2)) == 48
    return folder

"""What all tests share."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from tsmcli.prepare.demo import make_demo
from tsmcli.recipes.events import result_of

# Tests run in parallel processes, and the stored numbers were computed with one thread.
torch.set_num_threads(1)
# A shell starts what runs in the background with Ctrl-C ignored, and every process would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny demo dataset: 4 training and 2 validation clips a class."""
    folder = tmp_path_factory.mktemp("data") / "demo"
    assert result_of(make_demo(folder, train_clips=4, val_clips=2)) == 48
    return folder

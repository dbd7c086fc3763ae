"""What a training run writes while it goes: log.jsonl and TensorBoard events."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tsmcli.engine.events import StepDone
from tsmcli.engine.memory import peak_memory
from tsmcli.files import append_text

_MEANS = ("loss", "top1", "grad_norm", "data_sec", "step_sec")
"""What a line of the log has the mean of, over the steps since the line before."""


class RunLog:
    """Appends to the files of a run. Keys begin with `train/`, `val/`, `probe/` or `skipped/`.

    Args:
        folder: of the run.
        at: length of log.jsonl to go on from; what a stopped run wrote after its last checkpoint is cut off.
        step: optimiser steps taken before; TensorBoard drops its events after that.
        window: what was measured in the steps after the last line.
    """

    def __init__(
        self, folder: Path, *, at: int = 0, step: int = 0, window: Iterable[dict[str, float | None]] = ()
    ) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "log.jsonl"
        self.path.touch()
        if self.path.stat().st_size > at:
            os.truncate(self.path, at)
        self.events = SummaryWriter(str(folder), purge_step=step + 1 if at else None)
        self.window = list(window)

    def write(self, kind: str, values: dict[str, Any], step: int) -> None:
        """Log values at a number of optimiser steps since the start of the training."""
        named = {f"{kind}/{key}": value for key, value in values.items()}
        append_text(self.path, json.dumps(named) + "\n")
        numbers = {key: value for key, value in named.items() if isinstance(value, int | float)}
        for key, value in numbers.items():
            self.events.add_scalar(key, value, step)

    def step(self, done: StepDone, every: int, device: torch.device) -> None:
        """Log every n-th step and the last of an epoch: means over the steps since the line before."""
        values = asdict(done)
        self.window.append({key: values[key] for key in (*_MEANS, "videos")})
        if done.step % every and done.step != done.steps:
            return
        sums = {key: sum(one[key] or 0.0 for one in self.window) for key in (*_MEANS, "videos")}
        values |= {key: sums[key] / len(self.window) if values[key] is not None else None for key in _MEANS}
        values["clips_per_sec"] = sums["videos"] / sums["step_sec"]
        peak = peak_memory(device).peak_bytes
        values["memory_mb"] = round(peak / 1e6, 1) if peak else None
        self.window.clear()
        self.write("train", values, done.epoch * done.steps + done.step)

    @property
    def bytes(self) -> int:
        """Length of log.jsonl now."""
        return self.path.stat().st_size

    def close(self) -> None:
        """Finish the event files."""
        self.events.close()

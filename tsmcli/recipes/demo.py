"""The paper's point in two minutes: the same small network, with and without the temporal shift."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsmcli.data.location import Places
from tsmcli.engine.device import choose_device
from tsmcli.engine.processes import ALONE
from tsmcli.metrics import top_k
from tsmcli.prepare.demo import make_demo
from tsmcli.presets import resolve
from tsmcli.recipes.events import Stage
from tsmcli.recipes.test import test
from tsmcli.recipes.train import train
from tsmcli.recipes.train_plan import make_train_plan
from tsmcli.results import Results


@dataclass(frozen=True)
class DemoResult:
    """Both networks on the same validation clips.

    Attributes:
        tsm, tsn: results with the shift, and without.
        seconds: everything, from the first frame drawn.
    """

    data: Path
    run: Path
    tsm: Results
    tsn: Results
    seconds: float

    @property
    def top1(self) -> dict[str, float]:
        """Top-1 accuracy of each network."""
        return {name: top_k(r.scores, r.labels) for name, r in (("tsm", self.tsm), ("tsn", self.tsn))}


def demo(
    *, data: Path, run: Path | None = None, device_name: str = "auto", seed: int = 0
) -> Generator[Any, None, DemoResult]:
    """Make the clips, train and test a TSM, train and test its shift-less twin on the same clips and budget."""
    started = time.perf_counter()
    run = run or Path("runs") / "demo" / time.strftime("%Y%m%d-%H%M%S")
    yield Stage(
        f"making short videos in {data}", ("4 pairs of classes; each class is its partner played backwards",)
    )
    yield from make_demo(data, seed=seed)
    places = Places(folder=data)
    results: dict[str, Results] = {}
    for name, shift in (("tsm", "bidirectional"), ("tsn", "none")):
        preset = resolve("demo", [f"model.shift={shift}", f"train.seed={seed}"])
        plan = make_train_plan(preset, places, choose_device(device_name), ALONE)
        trained = yield from train(plan, run=run / name)
        tested = yield from test(trained.last, None, places, device_name=device_name)
        results[name] = tested.results
    return DemoResult(data, run, results["tsm"], results["tsn"], time.perf_counter() - started)

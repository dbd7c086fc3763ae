"""Many videos on all cores: how well reading and the network overlap, and what the engine is worth as a whole.

    python benchmarks/throughput.py --video FILE... [--network mobilenet_v2 resnet50] [--videos 64] [--rounds 5]

One clip of 8 frames at 224 px of each of `--videos` videos (the files again and again), random weights. In turn:

  reading   the videos alone, by `train.workers` processes, as `tsm test` and `tsm predict` read them
  network   the same views, from memory, alone
  both      as these commands do it

each with PyTorch and all its threads for one clip after the other, which is the baseline, and with `--engine torch`
and `auto`. Printed are medians of seconds; `overlap`: the slower of reading and network over both, which two
resources of their own would bring to 1; `busy`: CPU time of both over what the cores had; `ratio`: both, of the
baseline's, within a round.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import resource
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from engines import CLASSES, CPU, configuration
from network import networks

from tsmcli.data.dataset import Loader, VideoDataset
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import Split
from tsmcli.engine.device import environment, keep_freed_memory
from tsmcli.engine.inference import Choice, Engine
from tsmcli.engine.scores import score_videos
from tsmcli.presets import override
from tsmcli.recipes import conversion
from tsmcli.recipes.engines import open_engine
from tsmcli.recipes.events import result_of
from tsmcli.recipes.network import Opened


def cpu_sec() -> float:
    """Of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def seconds(run: Any) -> tuple[float, float]:
    """Wall-clock and CPU seconds of a call."""
    start, cpu = time.perf_counter(), cpu_sec()
    run()
    return time.perf_counter() - start, cpu_sec() - cpu


def measure(backbone: str, split: Split, rounds: int) -> dict[str, dict[str, float]]:
    config = override(configuration(backbone, "clip"), ["data.store=video"])
    model = networks(config.model)["ours"].eval()
    names = [str(number) for number in range(CLASSES)]
    dataset, numbers = VideoDataset(split, config, config.test), range(len(split.records))

    def opened() -> Opened:
        return Opened(Path(backbone), backbone, backbone, config, names, lambda: copy.deepcopy(model), None)

    engines = {
        name: result_of(open_engine(opened(), Choice(name), CPU, config.test, len(numbers)))
        for name in ("torch", "auto")
    }
    engines = {"one at a time": replace(engines["torch"], at_once=1), **engines}
    with Loader(dataset) as loader:
        batches = list(loader.videos(numbers))
    assert not any(batch.bad for batch in batches), batches[0].bad

    def read() -> None:
        with Loader(dataset) as loader:
            for _ in loader.videos(numbers):
                pass

    def compute(engine: Engine) -> None:
        for _ in score_videos(engine, batches, "prob"):
            pass

    def both(engine: Engine) -> None:
        with Loader(dataset) as loader:
            for _ in score_videos(engine, loader.videos(numbers), "prob"):
                pass

    rows: dict[str, list[dict[str, float]]] = {name: [] for name in engines}
    for _ in range(rounds):
        reading, _ = seconds(read)
        for name, engine in engines.items():
            network, _ = seconds(lambda: compute(engine))  # noqa: B023  called at once
            wall, cpu = seconds(lambda: both(engine))  # noqa: B023
            found = {"reading": reading, "network": network, "both": wall}
            found |= {"overlap": max(reading, network) / wall, "busy": cpu / wall / torch.get_num_threads()}
            base = rows["one at a time"][len(rows[name])]["both"] if name != "one at a time" else wall
            rows[name].append(found | {"ratio": wall / base})
    return {
        f"{backbone}, {name}: {engines[name].choice}": {
            key: statistics.median(row[key] for row in some) for key in some[0]
        }
        for name, some in rows.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, nargs="+", required=True)
    parser.add_argument("--network", nargs="+", default=["mobilenet_v2", "resnet50"])
    parser.add_argument("--videos", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    keep_freed_memory()  # as all commands do
    conversion.TOLERANCE = 1e-4  # random weights enlarge rounding errors
    records = [
        VideoRecord(str(options.video[n % len(options.video)].resolve()), 0, 0) for n in range(options.videos)
    ]
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        for backbone in options.network:
            found |= measure(backbone, Split(records, Path(), Path("none")), options.rounds)
    columns = ("reading", "network", "both", "overlap", "busy", "ratio")
    print(f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name, row in found.items():
        print(f"| {name} | {' | '.join(f'{row[key]:.2f}' for key in columns)} |")
    print(json.dumps({"machine": environment(), "rows": found}))


if __name__ == "__main__":
    main()

"""What balanced draws gain where some classes have a hundred times the videos of others.

    python benchmarks/imbalance.py [FOLDER]

Makes the demo's clips, 200 of each of four classes and 2 of each of the four others for training, 24 of each for
validation, and trains its preset on them three times with and without `train.balance=power`. Prints the mean class
accuracy after the last epoch of each seed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tsmcli.data.listfile import read_list, write_list
from tsmcli.prepare.demo import make_demo
from tsmcli.recipes.events import result_of

MANY, FEW, SEEDS = 200, 2, 3


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/imbalance")
    result_of(make_demo(folder / "demo", train_clips=MANY))
    kept, seen = [], Counter[int]()
    for record in read_list(folder / "demo/demo_train_list_videos.txt", "video"):
        seen[record.label] += 1
        if record.label < 4 or seen[record.label] <= FEW:
            kept.append(record)
    write_list(folder / "train.txt", kept)
    print(
        "| draws | "
        + " | ".join(f"seed {seed}" for seed in range(SEEDS))
        + " | mean |\n|---"
        + "|---" * (SEEDS + 1)
        + "|"
    )
    for balance in ("none", "power"):
        run = folder / balance
        command = [sys.executable, "-m", "tsmcli", "train", "--preset", "demo", "--data", folder / "demo",
                   "--train-list", folder / "train.txt", "--seeds", SEEDS, "--work-dir", run,
                   "--set", f"train.balance={balance}"]  # fmt: skip
        subprocess.run([*map(str, command)], check=True, stdout=subprocess.DEVNULL)
        values = [mean_class(run / f"seed-{seed}/log.jsonl") for seed in range(SEEDS)]
        cells = [f"{100 * value:.1f}" for value in (*values, sum(values) / SEEDS)]
        print(f"| `train.balance={balance}` | {' | '.join(cells)} |", flush=True)


def mean_class(log: Path) -> float:
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    return float([line["val/mean_class"] for line in lines if "val/mean_class" in line][-1])


if __name__ == "__main__":
    main()

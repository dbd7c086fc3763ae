"""How well `mbv2-folder` trains on small sets: with the shift, without it, and as plain SGD did.

    python benchmarks/small_sets.py [--data FOLDER] [--work FOLDER] [--sets NAME ...] [--recipes NAME ...]
                                    [--seeds 3] [--jobs 1]

Every training is one `tsm train`, in a folder below --work. What is finished there is not trained again, so the
script can be stopped and started. The table goes to stdout. Its accuracies are those after the last epoch; the
best epoch would flatter. The sets:

  weizmann10  real: ten actions as silhouettes, split by person
  weizmann4   real: four actions in windows of 24 frames, split by person
  demoN       made: eight classes of N training clips each; only the order of frames tells a class from its partner
  windows     real: which of 15 clips a window of 16 frames is from. Training windows are from the first 60 % of a
              clip, validation windows from its last 30 %. Easy: the scene tells it, the order does not matter

--data (default $TSM_TEST_DATA) holds weizmann10/, weizmann4/, clips/ and weights/, which are not in this
repository.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy import stats

from tsmcli.data.media import VIDEO_SUFFIXES
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.data.spatial import resize_short_side
from tsmcli.errors import DataError
from tsmcli.prepare.demo import make_demo, write_video

SETS = ("weizmann10", "weizmann4", "demo4", "demo8", "demo24", "windows")
RECIPES = {
    "mbv2-folder": [],
    "without the shift": ["model.shift=none"],
    "plain SGD": [  # what the preset was at first
        "train.epochs=12", "train.optimizer=sgd", "train.lr=0.005", "train.lr_batch=8", "train.scale_lr=true",
        "train.schedule=step", "train.lr_steps=[8,11]", "train.warmup_epochs=0", "train.fc_lr5=true",
        "train.label_smoothing=0", "train.weight_decay=5e-4", "train.frozen_stages=-1", "model.dropout=0.5",
        "augment.keep_tail=false",
    ],
}  # fmt: skip
ONCE = ["train.val_every=1000000", "train.save_every=1000000", "train.log_every=1"]
"""One validation, one checkpoint, and the loss of every step."""
WINDOW = 16


class Set(NamedTuple):
    """Where a set lies, and the short side and the crop that suit its videos."""

    folder: Path
    train: str
    val: str
    media: str
    classes: str
    resize_px: int
    crop_px: int

    def options(self) -> list[str]:
        """Those of `tsm train`, except --set."""
        train, val, media, classes = (str(self.folder / name) for name in self[1:5])
        return ["--train-list", train, "--val-list", val, "--media", media, "--classes", classes]

    def sizes(self) -> list[str]:
        """The values of --set that say how large the pictures are."""
        sections = ("augment", "val", "test")
        return [f"{s}.{key}={getattr(self, key)}" for s in sections for key in ("resize_px", "crop_px")]

    def videos(self) -> str:
        """How many, for training and validation."""
        lists = [(self.folder / name).read_text().split("\n") for name in (self.train, self.val)]
        return " / ".join(str(sum(bool(line) for line in lines)) for lines in lists)


def find_set(name: str, data: Path, work: Path) -> Set:
    """A set of --data, or one that is made below --work when it is first wanted."""
    if name == "weizmann10":
        return Set(data / name, "train_videos.txt", "val_videos.txt", "videos", "category.txt", 96, 80)
    if name == "weizmann4":
        return Set(data / name, "train_clips24.txt", "val_clips24.txt", "clips24", "category.txt", 96, 80)
    folder = work / "sets" / name
    if name == "windows":
        if not (folder / "classes.txt").exists():
            cut_windows(data / "clips", folder)
        return Set(folder, "train.txt", "val.txt", "videos", "classes.txt", 96, 80)
    if not folder.exists():
        for _ in make_demo(folder, train_clips=int(name.removeprefix("demo")), val_clips=12):
            pass
    return Set(folder, "demo_train_list_videos.txt", "demo_val_list_videos.txt", "videos", "classes.txt", 64, 56)


def cut_windows(clips: Path, folder: Path) -> None:
    """Every readable clip is a class: up to 8 windows of it for training, and 4 for validation."""
    lists: dict[str, list[str]] = {"train": [], "val": []}
    classes: list[str] = []
    seen: set[str] = set()
    wanted = [p for part in ("kinetics_hmdb_ucf", "something_webm") for p in sorted((clips / part).iterdir())]
    for path in wanted:
        if path.suffix not in VIDEO_SUFFIXES:
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        try:
            with PyAVReader(path) as reader:
                n = reader.num_frames
                parts = {"train": (0, int(0.6 * n), 8), "val": (int(0.7 * n), n, 4)}
                if digest in seen or min(end - begin for begin, end, _ in parts.values()) < WINDOW:
                    print(f"left out: {path.name}: a copy, or too short ({n} frames)", file=sys.stderr)
                    continue
                frames = resize_short_side(reader.read(np.arange(n)), 96)
        except DataError as error:
            print(f"left out: {path.name}: {error}", file=sys.stderr)
            continue
        seen.add(digest)
        for split, (begin, end, most) in parts.items():
            for start in np.unique(np.linspace(begin, end - WINDOW, most).astype(int)):
                name = f"{path.stem}/{start:04}.mp4"
                write_video(folder / "videos" / name, frames[start : start + WINDOW])
                lists[split].append(f"{name} {len(classes)}")
        classes.append(path.stem)
    for split, lines in lists.items():
        (folder / f"{split}.txt").write_text("".join(f"{line}\n" for line in lines))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes))


def train(run: Path, found: Set, init: Path, sets: list[str], seed: int) -> dict[str, float]:
    """One training, unless it is finished: top-1, the largest loss of a step, warnings of divergence, seconds.

    A training that ends with an error, as one whose loss is not finite does, has no accuracy.
    """
    result = run / "result.json"
    if not result.exists():
        command = [sys.executable, "-m", "tsmcli", "train", "--preset", "mbv2-folder", "--json", "--device", "cpu",
                   "--init", str(init), *found.options(), "--work-dir", str(run), "--seed", str(seed),
                   "--set", *found.sizes(), *ONCE, *sets]  # fmt: skip
        if (run / "config.yaml").exists():  # a try that was stopped
            shutil.rmtree(run)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        steps = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        ended = json.loads(done.stdout) if done.returncode == 0 else {}
        if not ended:
            print(f"{run.name}: exit code {done.returncode}: {done.stderr[-500:]}", file=sys.stderr)
        row = {
            "top1": ended.get("top1", 0.0),
            "loss": max(step["train/loss"] for step in steps if "train/loss" in step),
            "warned": done.stderr.count("this training may diverge"),
            "failed": int(not ended),
            "seconds": ended.get("seconds", 0.0),
        }
        result.write_text(json.dumps(row))
    row = json.loads(result.read_text())
    print(f"{run.name}: {row}", file=sys.stderr, flush=True)
    return row


def table_row(name: str, found: Set, recipe: str, rows: list[dict[str, float]]) -> str:
    """Mean over the seeds with its interval, the extremes, and what went wrong."""
    values = [100 * row["top1"] for row in rows]
    half = 0.0
    if len(values) > 1:
        half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    bad = f"{sum(r['warned'] for r in rows)} / {sum(r['failed'] for r in rows)}"
    return (
        f"| {name} | {found.videos()} | {recipe} | {statistics.mean(values):.1f} ± {half:.1f} "
        f"| {min(values):.1f}..{max(values):.1f} | {max(row['loss'] for row in rows):.2f} | {bad} "
        f"| {statistics.median(row['seconds'] for row in rows):.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TSM_TEST_DATA", "data")))
    parser.add_argument("--work", type=Path, default=Path("runs/small_sets"))
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="trainings at a time")
    options = parser.parse_args()
    init = options.data / "weights" / "mobilenet_v2_imagenet_torchvision.pth"
    found = {name: find_set(name, options.data, options.work) for name in options.sets}
    jobs = {}
    with ThreadPoolExecutor(options.jobs) as pool:
        for seed in range(options.seeds):
            for name, recipe in [(name, recipe) for name in found for recipe in options.recipes]:
                run = options.work / f"{name}-{recipe.replace(' ', '-')}-{seed}"
                jobs[name, recipe, seed] = pool.submit(train, run, found[name], init, RECIPES[recipe], seed)
    mean = f"top-1 %, mean of {options.seeds} seeds and 95 % interval"
    titles = (
        "set",
        "videos (train / val)",
        "recipe",
        mean,
        "lowest..highest",
        "largest loss",
        "warned / failed",
        "s",
    )
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for name in found:
        for recipe in options.recipes:
            rows = [jobs[name, recipe, seed].result() for seed in range(options.seeds)]
            print(table_row(name, found[name], recipe, rows))


if __name__ == "__main__":
    main()

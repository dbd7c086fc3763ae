"""Marked intervals of long videos to a network, and back to intervals: how well they fit.

    python benchmarks/long_videos.py [FOLDER]

Joins the demo's clips to recordings in which one to three seconds of stillness lie between two clips, and marks
the clips in a table. `tsm prepare-data intervals --background still` makes lists of it, the demo's network is
trained on them, `tsm events fit` chooses its rules on recordings of its own, and others are looked through.
Prints mAP, F1, false alarms and delays of these. The same seed gives the same recordings.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np

from tsmcli.data.listfile import VideoRecord, read_list
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.data.spatial import Frame
from tsmcli.data.video_writer import VideoWriter
from tsmcli.prepare.demo import make_demo
from tsmcli.recipes.events import result_of

FPS, TRAIN_CLIPS, STRIDE_SEC = 12, 120, 0.25
RECORDINGS = {"train": ("train", 20), "fit": ("val", 4), "test": ("val", 4)}
"""Split of the demo whose clips are shown, and how many recordings."""


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/long_videos")
    result_of(make_demo(folder / "demo", train_clips=TRAIN_CLIPS))
    rng, rows = np.random.default_rng(0), list[tuple[str, float, float, str]]()
    names = (folder / "demo/classes.txt").read_text().splitlines()
    clips = {split: shuffled(folder, split, rng) for split in ("train", "val")}
    shares = {split: len(clips[split]) // sum(n for s, n in RECORDINGS.values() if s == split) for split in clips}
    for part, (split, count) in RECORDINGS.items():
        share = shares[split]
        for number in range(count):
            mine, clips[split] = clips[split][:share], clips[split][share:]
            rows += record(folder, f"{part}/{number:02}.mp4", mine, names, rng)
    for part in RECORDINGS:
        write_table(folder / f"{part}.csv", [row for row in rows if row[0].startswith(part)])
    data, run, found = folder / "data", folder / "run", folder / "found.json"
    tsm("prepare-data", "intervals", "--annotations", folder / "train.csv", "--source", folder / "videos",
        "--out", data, "--background", "still")  # fmt: skip
    tsm("train", "--preset", "demo", "--data", data, "--work-dir", run,
        "--set", "data.dataset=folder", "augment.flip_prob=0", "augment.flip_swaps_labels=false")  # fmt: skip
    best, still = run / "best.pt", ("--background", "still")
    tsm("events", "fit", best, "--list", folder / "fit.csv", "--media", folder / "videos", *still,
        "--stride", STRIDE_SEC)  # fmt: skip
    tsm("predict", best, folder / "videos/test", "--events", "--to", found)
    said = tsm("eval", found, "--metrics", "tiou_map", "--list", folder / "test.csv", "--json")
    scores = json.loads(said)
    scores["tiou_map"].pop("ap")
    keep = ("tiou_map", "f1", "false_alarms", "false_alarms_per_hour", "found", "true", "delay_sec")
    print(json.dumps({key: scores[key] for key in keep}, indent=1))


def shuffled(folder: Path, split: str, rng: np.random.Generator) -> list[VideoRecord]:
    records = read_list(folder / f"demo/demo_{split}_list_videos.txt", "video")
    return [records[i] for i in rng.permutation(len(records))]


def record(
    folder: Path, name: str, clips: list[VideoRecord], names: list[str], rng: np.random.Generator
) -> list[tuple[str, float, float, str]]:
    """Write a recording; the interval of every clip in it."""
    path, rows, at = folder / "videos" / name, list[tuple[str, float, float, str]](), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, Fraction(FPS), qp="18", threads="1", preset="veryfast") as video:
        for clip in clips:
            frames = frames_of(folder / "demo/videos" / clip.path)
            before, after = (int(rng.integers(FPS // 2, 3 * FPS // 2 + 1)) for _ in range(2))
            for frame in (*[frames[0]] * before, *frames, *[frames[-1]] * after):
                video.write(frame)
            start, end = at + before, at + before + len(frames)
            rows.append((name, start / FPS, end / FPS, names[clip.label]))
            at = end + after
    return rows


def frames_of(path: Path) -> list[Frame]:
    with PyAVReader(path) as reader:
        return [frame.copy() for frame in reader.all_bgr()]


def write_table(path: Path, rows: list[tuple[str, float, float, str]]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("path", "start", "end", "label"), *rows])


def tsm(*args: object) -> str:
    command = [sys.executable, "-m", "tsmcli", *map(str, args)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    main()

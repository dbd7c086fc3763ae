"""Events of a network that was trained from intervals: a stream says what the file has."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import tsm

from tsmcli.prepare.demo import render, write_video

FPS = 12
MOTIONS = {"right": 0, "grow": 2}
SETS = [
    "data.dataset=folder", "augment.flip_prob=0", "augment.flip_swaps_labels=false", "model.shift=unidirectional",
    "train.workers=0", "train.batch=8", "train.epochs=20", "train.lr_steps=[15]",
]  # fmt: skip


def record(path: Path, seed: int, count: int) -> list[str]:
    """A recording in which things move and then stand still for two to five seconds; the rows of its list."""
    rng, frames, rows = np.random.default_rng(seed), [], []
    for number in range(count):
        name = list(MOTIONS)[number % len(MOTIONS)]
        clip = render(MOTIONS[name], rng)
        before, after = rng.integers(FPS, 5 * FPS // 2, 2).tolist()
        start = len(frames) + before
        rows.append(f"{path.name},{start / FPS},{(start + len(clip)) / FPS},{name}")
        frames += [clip[0]] * before + clip + [clip[-1]] * after
    write_video(path, frames, FPS)
    return rows


def write_table(path: Path, rows: list[str]) -> None:
    path.write_text("\n".join(["path,start,end,label", *rows]) + "\n")


def process(*args: str) -> str:
    command = [sys.executable, "-m", "tsmcli", *args]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.slow
def test_a_stream_says_the_events_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(Path("train.csv"), [row for i in range(8) for row in record(Path(f"videos/{i}.mp4"), i, 8)])
    write_table(Path("fit.csv"), record(Path("videos/fit.mp4"), 90, 10))
    write_table(Path("true.csv"), record(Path("long.mp4"), 91, 30))
    made = tsm("prepare-data", "intervals", "--annotations", "train.csv", "--source", "videos", "--out", "data",
               "--background", "still")  # fmt: skip
    assert made.code == 0, made.err
    trained = tsm("train", "--preset", "demo", "--data", "data", "--work-dir", "run", "--set", *SETS)
    assert trained.code == 0, trained.err
    fitted = tsm("events", "fit", "run/last.pt", "--list", "fit.csv", "--media", "videos", "--background", "still")
    assert fitted.code == 0, fitted.err
    for more in ([], ["--window", "1"]):  # with rules that were fitted, and with the usual ones
        process("predict", "run/last.pt", "long.mp4", "--events", "--to", "a.json", *more)
        events = json.loads(Path("a.json").read_text())["videos"][0]["events"]
        lines = process("stream", "run/last.pt", "--source", "long.mp4", "--events", "--json", *more).splitlines()
        live = sorted(map(json.loads, lines), key=lambda e: (e["start_sec"], e["name"]))
        said, found = ([(e["name"], e["start_sec"], e["end_sec"]) for e in some] for some in (live, events))
        assert said == found
        assert said
        assert [e["score"] for e in live] == pytest.approx([e["score"] for e in events], abs=1e-9)
        if not more:
            scores = tsm("eval", "a.json", "--metrics", "tiou_map", "--list", "true.csv", "--json").json()
            assert scores["f1"] > 0.5  # the network has learned what it was shown

"""Intervals from long videos: a network that tells shades apart, and recordings that show one after the other."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tsm, write_frames

from tsmcli.core.tsm import build_model, normalize
from tsmcli.data.video_writer import VideoWriter
from tsmcli.engine.checkpoint import Checkpoint, Progress, open_checkpoint, save_checkpoint
from tsmcli.prepare.marks.read import read_marks
from tsmcli.presets import load_preset

NAMES = ["background", "jump", "wave"]
SHADES = (20, 120, 230)
FPS = 10
RECORDINGS = {
    "one": [(0, 4), (1, 3), (0, 5), (2, 4), (0, 3), (1, 2), (0, 3)],
    "two": [(2, 3), (0, 6), (2, 5), (0, 4), (1, 4)],
    "dark": [(0, 8)],
}
"""The class that is shown, and for how many seconds."""


def shade(label: int) -> np.ndarray:
    return np.full((64, 64, 3), SHADES[label], np.uint8)


def make_network(path: Path, shift: str = "bidirectional") -> None:
    """A network without training: its classifier is solved for the features of the three shades."""
    sets = ["model.width=0.125", f"model.shift={shift}", "train.workers=0", f"data.fps={FPS}"]
    config = load_preset("demo", sets)
    model = build_model(config, len(NAMES), seed=0).eval()
    clips = torch.from_numpy(np.stack([[shade(label)] * config.model.num_segments for label in range(3)]))
    with torch.inference_mode():
        features = model.frame_features(normalize(clips.movedim(-1, 2)))
        features = features.reshape(3, -1, model.fc.in_features).mean(1)
        centred = features - features.mean(0)
        weight = torch.linalg.pinv(centred) @ (4 * torch.eye(3) - 4 / 3)
        model.fc.weight.copy_(weight.T)
        model.fc.bias.copy_(-features.mean(0) @ weight)
    save_checkpoint(path, Checkpoint("demo", config, NAMES, Progress(1), model.state_dict()))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    make_network(tmp_path / "best.pt")
    (tmp_path / "videos").mkdir()
    rows = ["path,start,end,label"]
    for name, parts in RECORDINGS.items():
        at = 0
        with VideoWriter(tmp_path / f"videos/{name}.mp4", FPS, threads="1", qp="10") as video:  # type: ignore[arg-type]
            for label, seconds in parts:
                for _ in range(seconds * FPS):
                    video.write(shade(label))
                rows.append(f"{name}.mp4,{at},{at + seconds},{NAMES[label]}")
                at += seconds
    (tmp_path / "true.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_events(here: Path) -> None:
    args = ("predict", "best.pt", "videos", "--events", "--window", "1", "--stride", "0.25")
    found = tsm(*args, "--to", "out/events.json", "--json").json()
    assert found == json.loads(Path("out/events.json").read_text())
    assert [video["duration_sec"] for video in found["videos"]] == [8, 24, 22]
    dark, one, _ = (video["events"] for video in found["videos"])
    assert dark == []  # background is no event
    assert [e["name"] for e in one] == ["jump", "wave", "jump"]
    assert [e["start_sec"] for e in one] == pytest.approx([4, 12, 19], abs=0.3)
    assert [e["end_sec"] for e in one] == pytest.approx([7, 16, 21], abs=0.3)
    assert all(0.5 <= e["score"] <= 1 for e in one)
    scored = tsm("eval", "out/events.json", "--metrics", "tiou_map", "--list", "true.csv", "--json").json()
    assert scored["tiou_map"]["map"][0] == 1
    assert scored["false_alarms"] == 0
    assert not [*Path("out").glob("*.partial*")]
    tsm(*args, "--to", "events.csv", "--csv")
    rows = list(csv.DictReader(Path("events.csv").read_text().splitlines()))
    assert [row["label"] for row in rows if row["path"] == "videos/one.mp4"] == ["jump", "wave", "jump"]
    assert "jump" in tsm(*args).out


def test_rules_of_the_moment(here: Path) -> None:
    def events(*more: str) -> list[tuple[str, float]]:
        args = ("videos/one.mp4", "--events", "--window", "1", "--stride", "0.25", "--json", *more)
        found = tsm("predict", "best.pt", *args).json()["videos"][0]["events"]
        return [(e["name"], round(e["end_sec"] - e["start_sec"])) for e in found]

    assert events() == [("jump", 3), ("wave", 4), ("jump", 2)]
    assert events("--shortest", "3.5") == [("wave", 4)]
    assert events("--gap", "13") == [("jump", 17), ("wave", 4)]
    assert events("--threshold", "1") == []
    assert [name for name, _ in events("--background", "wave", "--background", "jump")] == ["background"] * 4


def test_fit(here: Path) -> None:
    found = tsm("events", "fit", "best.pt", "--list", "true.csv", "--media", "videos", "--json").json()
    assert found["rules"]["window_sec"] == 3.5  # the median of the true intervals
    assert found["rules"]["background"] == ["background"]
    assert found["scores"]["f1"] == 1
    assert found["temperature"]["nll_after"] <= found["temperature"]["nll_before"]
    kept = open_checkpoint("best.pt")
    assert kept is not None
    assert kept.events is not None
    assert list(kept.events.thresholds) == found["rules"]["thresholds"]
    events = tsm("predict", "best.pt", "videos", "--events", "--to", "events.json", "--json").json()
    assert events["rules"]["thresholds"] == found["rules"]["thresholds"]
    assert events["rules"]["window_sec"] == 3.5
    scored = tsm("eval", "events.json", "--metrics", "tiou_map", "--list", "true.csv", "--json").json()
    assert scored["tiou_map"]["map"] == found["scores"]["tiou_map"]["map"]
    printed = tsm("events", "fit", "best.pt", "--list", "true.csv", "--media", "videos", "--out", "again.pt")
    assert "wave" in printed.out
    assert open_checkpoint("again.pt").events == kept.events  # type: ignore[union-attr]


def test_wrong_input(here: Path) -> None:
    assert tsm("predict", "best.pt", "videos", "--threshold", "0.5").code == 2
    assert tsm("predict", "best.pt", "videos", "--events", "--to", "events.txt").code == 2
    assert tsm("predict", "best.pt", "videos", "--events", "--background", "cat").code == 2
    assert tsm("predict", "best.pt", "none.mp4", "--events").code == 3
    Path("true.csv").write_text("path,start,end,label\none.mp4,1,2,cat\n")
    assert "cat" in tsm("events", "fit", "best.pt", "--list", "true.csv", "--media", "videos").err
    Path("true.csv").write_text("path,start,end,label\nthree.mp4,1,2,wave\n")
    assert tsm("events", "fit", "best.pt", "--list", "true.csv", "--media", "videos").code == 3


@pytest.mark.parametrize("shift", [pytest.param("bidirectional", marks=pytest.mark.slow), "unidirectional"])
def test_killed_and_started_again(here: Path, shift: str) -> None:
    make_network(here / "best.pt", shift)
    windows = ["--stride", "0.2"] if shift == "bidirectional" else []  # else frame by frame
    args = ["predict", "best.pt", "videos/one.mp4", "videos/two.mp4", "--events", "--window", "1", *windows]
    args += ["--engine", "torch", "--to"]
    assert tsm(*args, "whole.json").code == 0
    process = subprocess.Popen([sys.executable, "-m", "tsmcli", *args, "again.json"], stderr=subprocess.DEVNULL)
    partial, deadline = Path("again.json.partial-0"), time.monotonic() + 60
    while time.monotonic() < deadline and not (partial.exists() and partial.read_text().count("\n") > 20):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=10)
    assert not Path("again.json").exists()
    kept = partial.read_text().count("\n") - 1
    again = tsm(*args, "again.json")
    assert kept >= 20
    assert "windows were scored before" in again.err
    assert Path("again.json").read_text() == Path("whole.json").read_text()
    assert not partial.exists()


def test_stream_and_file_say_the_same(here: Path) -> None:
    make_network(here / "uni.pt", "unidirectional")
    args = ["predict", "uni.pt", "videos/one.mp4", "--events", "--window", "1"]
    found = tsm(*args, "--to", "of.json", "--json")
    assert "frame by frame, one each 0.125 s" in found.err
    events = found.json()["videos"][0]["events"]
    assert [e["name"] for e in events] == ["jump", "wave", "jump"]
    lines = tsm("stream", "uni.pt", "--source", "videos/one.mp4", "--events", "--window", "1", "--json").out
    live = [json.loads(line) for line in lines.splitlines()]
    assert [e["name"] for e in live] == [e["name"] for e in events]
    for key in ("start_sec", "end_sec", "score"):
        assert [e[key] for e in live] == pytest.approx([e[key] for e in events], abs=1e-9)
    printed = tsm("stream", "uni.pt", "--source", "videos/one.mp4", "--events", "--window", "1").out
    assert "wave" in printed.splitlines()[1]
    tsm("events", "fit", "uni.pt", "--list", "true.csv", "--media", "videos", "--window", "1")
    fitted = tsm("predict", "uni.pt", "videos/two.mp4", "--events", "--json").json()
    assert fitted["rules"]["streamed"]
    live = tsm("stream", "uni.pt", "--source", "videos/two.mp4", "--events", "--json").out.splitlines()
    assert [json.loads(line)["name"] for line in live] == [e["name"] for e in fitted["videos"][0]["events"]]
    assert tsm("stream", "uni.pt", "--source", "videos/one.mp4", "--events", "--smooth", "3").code == 2


def test_stream_and_frame_folder_say_the_same(here: Path) -> None:
    """The checkpoint says how many frames of a folder are a second."""
    make_network(here / "uni.pt", "unidirectional")
    shades = [shade(label) for label, seconds in RECORDINGS["two"] for _ in range(seconds * FPS)]
    folder = write_frames(here / "frames", shades)
    found = tsm("predict", "uni.pt", folder, "--events", "--window", "1", "--json").json()["videos"][0]
    assert found["duration_sec"] == pytest.approx(22)
    assert [e["name"] for e in found["events"]] == ["wave", "wave", "jump"]
    lines = tsm("stream", "uni.pt", "--source", folder, "--events", "--window", "1", "--json").out.splitlines()
    assert [json.loads(line)["end_sec"] for line in lines] == [e["end_sec"] for e in found["events"]]


@pytest.mark.parametrize(("name", "form"), [("e.srt", ""), ("e.xml", ""), ("e.eaf", ""), ("e.json", "labelstudio")])
def test_files_for_other_programs(here: Path, name: str, form: str) -> None:
    args = ["predict", "best.pt", "videos/one.mp4", "--events", "--window", "1", "--stride", "0.25", "--to", name]
    assert tsm(*args, *(["--format", form] if form else [])).code == 0
    text = Path(name).read_text()
    assert text.count("wave") >= 1
    if name == "e.srt":
        assert "00:00:12," in text or "00:00:11," in text
        return
    if form:  # predictions, which nobody has corrected, are no marks yet
        assert [len(task["predictions"][0]["result"]) for task in json.loads(text)] == [3]
        return
    marks = read_marks(Path(name)).marks
    assert [mark.label for mark in sorted(marks, key=lambda mark: mark.start)] == ["jump", "wave", "jump"]
    first = min(marks, key=lambda mark: mark.start)
    assert first.start / (FPS if first.frames else 1) == pytest.approx(4, abs=0.3)

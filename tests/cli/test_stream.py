"""tsm stream on files and folders; the network is untrained, its answers are compared with the offline network's."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from support import numbered_frames, tsm, write_frames, write_video

from tsmcli.core.tsm import build_model, normalize
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.engine.checkpoint import Checkpoint, Progress, save_checkpoint
from tsmcli.presets import load_preset
from tsmcli.recipes.network import load_checkpoint
from tsmcli.recipes.stream import Seen
from tsmcli.report.streaming import draw

NAMES = [f"class {i}" for i in range(8)]
FRAMES = 30


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for shift in ("unidirectional", "bidirectional"):
        config = load_preset("demo", ["model.width=0.125", f"model.shift={shift}", f"model.num_segments={FRAMES}"])
        model = build_model(config, 8, seed=0)
        torch.nn.init.normal_(model.fc.weight, std=0.5, generator=torch.Generator().manual_seed(1))
        tree = Checkpoint("demo", config, NAMES, Progress(epoch=1), model.state_dict())
        save_checkpoint(tmp_path / f"{shift[:3]}.pt", tree)
    frames = numbered_frames(FRAMES, 64, 160)
    write_video(tmp_path / "a.mp4", frames, fps=10, qp="1")
    write_frames(tmp_path / "frames", frames)
    return tmp_path


def lines(*args: object) -> list[Any]:
    done = tsm("stream", "uni.pt", *args, "--json")
    assert done.code == 0, done.err
    return [json.loads(line) for line in done.out.splitlines()]


def test_every_frame_gets_what_the_offline_network_says_of_it(here: Path) -> None:
    seen = lines("--source", "a.mp4")
    assert [s["frame"] for s in seen] == list(range(FRAMES))
    assert [s["time_sec"] for s in seen] == pytest.approx([i / 10 for i in range(FRAMES)])
    model, _ = load_checkpoint("uni.pt")
    with PyAVReader(Path("a.mp4")) as reader:
        frames = np.stack(reader.read(np.arange(FRAMES)))[:, 4:60, 52:108]  # the central 56 px
    with torch.inference_mode():
        clip = normalize(torch.from_numpy(frames).movedim(-1, 1))[None]
        offline = model.frame_logits(clip)[0].softmax(-1)
    for s, probabilities in zip(seen, offline, strict=True):
        assert s["probability"] == pytest.approx(probabilities.max().item(), rel=1e-4)
        assert s["label"] == int(probabilities.argmax())
        assert s["name"] == NAMES[s["label"]]
        best = sorted(probabilities.tolist(), reverse=True)[:5]
        assert [guess["probability"] for guess in s["top"]] == pytest.approx(best, rel=1e-3)
    assert seen[-1]["dropped"] == 0
    assert seen[-1]["cache_bytes"] > 0
    assert 0 < seen[-1]["p50_sec"] <= seen[-1]["p95_sec"]


def test_pictures_and_fewer_frames(here: Path) -> None:
    folder = lines("--source", "frames", "--fps", "5", "--every", "3", "--smooth", "2")
    assert [s["frame"] for s in folder] == list(range(0, FRAMES, 3))
    assert folder[1]["time_sec"] == pytest.approx(3 / 5)
    one = lines("--source", "frames", "--every", "3")
    assert one[0]["top"] == folder[0]["top"]
    assert one[5]["top"] != folder[5]["top"]


def test_videos_one_after_the_other(here: Path) -> None:
    """As if they were one: the network remembers what it saw in the video before."""
    (here / "both").mkdir()
    write_video(here / "both/1.mp4", numbered_frames(10, 64, 160), fps=10, qp="1")
    write_video(here / "both/2.mp4", numbered_frames(6, 96, 96), fps=10, qp="1")
    seen = lines("--source", "both/*.mp4", "--video", "v.mp4")
    assert [s["frame"] for s in seen] == list(range(16))
    assert [s["time_sec"] for s in seen] == pytest.approx([i / 10 for i in range(16)])
    assert [s["video"] for s in seen] == ["both/1.mp4"] * 10 + ["both/2.mp4"] * 6
    alone = lines("--source", "both/2.mp4")
    assert seen[9]["top"] == lines("--source", "both/1.mp4")[9]["top"]
    assert seen[10]["top"] != alone[0]["top"]
    with PyAVReader(Path("v.mp4")) as reader:
        assert reader.num_frames == 16


def test_lines_for_people_and_an_annotated_video(here: Path) -> None:
    done = tsm("stream", "uni.pt", "--source", "a.mp4", "--video", "out/seen.mp4")
    assert done.code == 0, done.err
    assert done.out.splitlines()[0].startswith("     0.00 s  class ")
    assert f"{FRAMES} frames; last: class" in done.out
    assert "latency p50" in done.out
    with PyAVReader(Path("out/seen.mp4")) as reader:
        assert reader.num_frames == FRAMES
        picture = reader.read(np.array([FRAMES - 1]))[0]
    assert picture.shape == (64, 160, 3)
    assert picture[-8:, :40].max() > 150, "white letters"
    assert (picture[-8:, :40] < 40).mean() > 0.2, "on black"
    assert [path.name for path in Path("out").iterdir()] == ["seen.mp4"]


def test_a_file_played_at_its_own_speed_until_it_is_stopped(here: Path) -> None:
    """Ctrl-C: the last line is printed, the annotated video is whole, the exit code is 130."""
    write_video(here / "long.mp4", numbered_frames(600, 64, 160), fps=10, qp="20")
    args = ["stream", "uni.pt", "--source", "long.mp4", "--live", "--json", "--video", "v.mp4"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tsmcli", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout
    first = json.loads(process.stdout.readline())
    assert first["frame"] < 600
    for _ in range(4):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "frames; last: class" in err
    seen = 5 + len(rest.splitlines())
    assert seen < 600
    with PyAVReader(here / "v.mp4") as reader:
        assert reader.num_frames == seen


def test_it_stops_after_so_many_seconds(here: Path) -> None:
    write_video(here / "long.mp4", numbered_frames(400, 64, 160), fps=10, qp="20")
    assert len(lines("--source", "long.mp4", "--live", "--seconds", "1")) < 100


def test_lines_where_stdout_is_no_terminal(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a terminal for messages only, labels still go to stdout."""
    monkeypatch.setattr("tsmcli.report.streaming.Console", partial(Console, force_terminal=True))
    done = tsm("stream", "uni.pt", "--source", "a.mp4")
    assert done.out.startswith("     0.00 s  class ")
    assert f"{FRAMES} frames; last: class" in done.out


def test_the_panel(here: Path) -> None:
    seen = Seen("a.mp4", 7, 0.7, 1, 0.5, [(1, 0.5), (0, 0.25)], 0.01, 0.01, 0.02, 30.0, 3, 2048)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(draw(seen, ["[waving]", "bowing"]))
    shown = console.export_text()
    for part in ("bowing", "50.0%", "[waving]", "frame 7 at 0.7 s", "latency p50 10 ms, p95 20 ms", "30.0 frames/s",
                 "3 dropped", "2 KiB kept"):  # fmt: skip
        assert part in shown, part


def test_what_was_seen_before_the_source_failed_is_told_and_kept(here: Path) -> None:
    (here / "two").mkdir()
    write_video(here / "two/1.mp4", numbered_frames(10, 64, 160), fps=10, qp="1")
    (here / "two/2.mp4").write_bytes(b"no video")
    refused = tsm("stream", "uni.pt", "--source", "two/*.mp4", "--video", "v.mp4")
    assert refused.code == 3
    assert "2.mp4: cannot be decoded" in refused.err
    assert "10 frames; last: class" in refused.out
    with PyAVReader(Path("v.mp4")) as reader:
        assert reader.num_frames == 10


def test_single_pictures_have_times_of_their_own(here: Path) -> None:
    for name in ("a", "b", "c"):
        write_frames(here / "single" / name, numbered_frames(1, 64, 160))
    seen = lines("--source", "single", "--fps", "4")
    assert [(s["frame"], s["time_sec"]) for s in seen] == [(0, 0), (1, 0.25), (2, 0.5)]


def test_whoever_has_read_enough_may_go(here: Path) -> None:
    command = [sys.executable, "-m", "tsmcli", "stream", "uni.pt", "--source", "a.mp4", "--json"]
    stream = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert stream.stdout
    assert stream.stderr
    assert json.loads(stream.stdout.readline())["frame"] == 0
    stream.stdout.close()
    assert "rror" not in stream.stderr.read()
    assert stream.wait() == 0
    stream.stderr.close()


REFUSALS: dict[str, tuple[list[str], int, str]] = {
    "bidirectional": (["bid.pt", "--source", "a.mp4"], 2, "a stream has no future"),
    "no file": (["uni.pt", "--source", "none.mp4"], 3, "none.mp4: no such video"),
    "no camera": (["uni.pt", "--source", "97"], 5, "no camera 97"),
    "no checkpoint": (["none.pt", "--source", "a.mp4"], 4, "none.pt"),
    "nothing": (["uni.pt", "--source", ""], 2, "--source is empty"),
    "empty": (["uni.pt", "--source", "empty"], 3, "no videos or numbered pictures"),
    "suffix": (["uni.pt", "--source", "a.mp4", "--video", "a.avi"], 2, "written as .mp4"),
    "there": (["uni.pt", "--source", "frames", "--video", "a.mp4"], 2, "a.mp4 already exists"),
    "itself": (["uni.pt", "--source", "a.mp4", "--video", "a.mp4", "--force"], 2, "is the source itself"),
    "nowhere": (["uni.pt", "--source", "a.mp4", "--video", "a.mp4/x.mp4"], 3, "cannot be written"),
}


@pytest.mark.parametrize("case", sorted(REFUSALS))
def test_refusals(here: Path, case: str) -> None:
    (here / "empty").mkdir()
    args, code, words = REFUSALS[case]
    refused = tsm("stream", *args)
    assert refused.code == code, refused.err
    assert words in refused.err
    assert not list(here.rglob("*.part"))


@pytest.mark.slow
def test_latency_stays_bounded_with_a_slow_network(here: Path) -> None:
    """A source of 30 frames a second and a network that takes 0.2 s for one, for a minute."""
    code = """
import json, resource, sys, time
from pathlib import Path
import numpy as np
import tsmcli.data.live as live
from tsmcli.core.streaming import StreamingTSM
from tsmcli.recipes.stream import Seen, Settings, stream

forward = StreamingTSM.forward
def slow(self, *args):
    time.sleep(0.2)
    return forward(self, *args)
StreamingTSM.forward = slow

def camera(source, max_pixels):
    rng = np.random.default_rng(0)
    start = time.perf_counter()
    for number in range(30 * 70):
        time.sleep(max(0, start + number / 30 - time.perf_counter()))
        frame = rng.integers(0, 255, (480, 640, 3), np.uint8)
        yield live.Shot(number, number / 30, time.perf_counter(), frame)
import tsmcli.recipes.stream as recipe
recipe.open_source = camera

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
worst, sizes, dropped = 0, [], 0
for event in stream(Path("uni.pt"), None, "0", Settings(seconds=60)):
    if isinstance(event, Seen):
        worst, dropped = max(worst, event.latency_sec), event.dropped
        sizes.append(resident())
print(json.dumps([worst, len(sizes), dropped, sizes[20], sizes[-1]]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    worst, frames, dropped, early, late = json.loads(done.stdout)
    assert worst < 0.5
    assert 100 < frames < 310
    assert dropped > 1300
    assert late - early < 10e6

"""tsm predict on videos of every kind; the network is untrained, its answers are compared with each other."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import numbered_frames, tsm, write_frames, write_video

from tsmcli.catalog import CATALOG
from tsmcli.core.tsm import build_model
from tsmcli.engine.checkpoint import Checkpoint, Progress, save_checkpoint
from tsmcli.presets import load_preset
from tsmcli.recipes.network import load_checkpoint
from tsmcli.recipes.predict import predict

NAMES = [f"class {i}" for i in range(8)]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    config = load_preset("demo", ["model.width=0.125"])
    model = build_model(config, 8, seed=0)
    torch.nn.init.normal_(model.fc.weight, std=0.5, generator=torch.Generator().manual_seed(1))
    save_checkpoint(tmp_path / "best.pt", Checkpoint("demo", config, NAMES, Progress(epoch=1), model.state_dict()))
    frames = numbered_frames(48, 64, 160)
    write_video(tmp_path / "a.mp4", frames, fps=24, qp="1")
    write_frames(tmp_path / "frames/one", frames[:24])
    with zipfile.ZipFile(tmp_path / "one.zip", "w") as archive:
        for path in sorted((tmp_path / "frames/one").iterdir()):
            archive.write(path, path.name)
    return tmp_path


def test_whole_videos(here: Path) -> None:
    found = tsm("predict", "best.pt", "a.mp4", "frames", "one.zip", "--topk", "3", "--json").json()
    assert [video["video"] for video in found["videos"]] == ["a.mp4", "frames/one", "one.zip"]
    assert found["failed"] == []
    assert found["protocol"] == "uniform-1x1-56px-unscaled"
    folder, archive = (video["top"] for video in found["videos"][1:])
    assert folder == archive  # the same pictures
    scores = predict(*load_checkpoint("best.pt"), ["a.mp4"])[0]
    best = np.argsort(-scores)[:3].tolist()
    top = found["videos"][0]["top"]
    assert [guess["class"] for guess in top] == best
    assert [guess["name"] for guess in top] == [NAMES[i] for i in best]
    assert [guess["probability"] for guess in top] == pytest.approx(scores[best].tolist())


def test_windows(here: Path) -> None:
    args = ["predict", "best.pt", "a.mp4", "frames/one", "--window", "1", "--stride", "0.5", "--fps", "24"]
    found = tsm(*args, "--json").json()
    windows = found["videos"][0]["windows"]
    assert [(w["start_sec"], w["end_sec"]) for w in windows] == [(0, 1), (0.5, 1.5), (1, 2)]
    write_video(Path("second.mp4"), numbered_frames(48, 64, 160)[24:], fps=24, qp="1")
    alone = tsm("predict", "best.pt", "second.mp4", "--json").json()["videos"][0]["top"]
    assert windows[2]["top"][0]["class"] == alone[0]["class"]
    assert windows[2]["top"][0]["probability"] == pytest.approx(alone[0]["probability"], abs=0.01)
    drawn = tsm(*args, "--plot", "plots/timeline.png")
    assert "timeline: plots/timeline.png" in drawn.err
    assert "0.50     1.50" in drawn.out
    with Image.open("plots/timeline.png") as picture:
        assert picture.size[0] > picture.size[1] > 400


def test_csv(here: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(tsm("predict", "best.pt", "*.mp4", "--topk", "2", "--csv").out)))
    assert [row["rank"] for row in rows] == ["1", "2"]
    assert rows[0]["video"] == "a.mp4"
    assert rows[0]["start_sec"] == ""
    assert float(rows[0]["probability"]) >= float(rows[1]["probability"])


def test_raw_scores_become_probabilities(here: Path) -> None:
    found = tsm("predict", "best.pt", "a.mp4", "--set", "test.average=score", "--topk", "8", "--json").json()
    assert sum(guess["probability"] for guess in found["videos"][0]["top"]) == pytest.approx(1, abs=1e-5)


def test_videos_that_cannot_be_read_are_named_and_the_others_done(here: Path) -> None:
    Path("broken.mp4").write_bytes(b"no video")
    done = tsm("predict", "best.pt", "gone.mp4", "broken.mp4", "a.mp4", "--topk", "1")
    assert done.code == 3
    assert "a.mp4" in done.out
    assert "2 of 3 videos could not be read" in done.err
    assert "  gone.mp4: no such video" in done.err
    assert "  broken.mp4: cannot be decoded" in done.err
    windows = tsm("predict", "best.pt", "broken.mp4", "a.mp4", "--window", "1")
    assert windows.code == 3
    assert "broken.mp4: cannot be decoded" in windows.err


def test_bare_weights(here: Path) -> None:
    model, _ = load_checkpoint("best.pt")
    torch.save({"state_dict": model.state_dict()}, "bare.pth")
    assert tsm("predict", "bare.pth", "a.mp4").code == 4
    preset = ["--preset", "demo", "--set", "model.width=0.125"]
    found = tsm("predict", "bare.pth", "a.mp4", *preset, "--json").json()["videos"][0]["top"]
    own = tsm("predict", "best.pt", "a.mp4", "--json").json()["videos"][0]["top"]
    assert [guess["class"] for guess in found] == [guess["class"] for guess in own]
    assert found[0]["name"] == (CATALOG["demo"].class_names() or [])[found[0]["class"]]
    Path("names.txt").write_text("\n".join(NAMES))
    named = tsm("predict", "bare.pth", "a.mp4", *preset, "--classes", "names.txt", "--json").json()
    assert named["videos"][0]["top"] == own


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["gone.pt", "a.mp4"], 4, "no checkpoint gone.pt"),
        (["best.pt"], 2, "Missing argument"),
        (["best.pt", "a.mp4", "--plot", "x.png"], 2, "--stride and --plot need --window"),
        (["best.pt", "a.mp4", "--window", "1", "--plot", "x.txt"], 2, "x.txt: plots are written as"),
        (["best.pt", "a.mp4", "--json", "--csv"], 2, "not both"),
        (["best.pt", "a.mp4", "--protocol", "dense"], 2, "no protocol named 'dense'"),
        (["best.pt", "a.mp4", "--device", "cuda:99"], 5, "--device cuda:99"),
    ],
)
def test_refusals(here: Path, args: list[str], code: int, words: str) -> None:
    refused = tsm("predict", *args)
    assert refused.code == code
    assert words in refused.err
    assert refused.out == ""

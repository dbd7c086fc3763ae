"""Features as a user extracts them: the numbers, stops and processes, windows; and the probe before a training."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tsm

from tsmcli import load_checkpoint
from tsmcli.catalog import CATALOG
from tsmcli.core.tsm import build_model, normalize
from tsmcli.core.weights import export_state
from tsmcli.data.dataset import VideoDataset
from tsmcli.data.location import Places, find_split
from tsmcli.engine.checkpoint import Checkpoint, Progress, save_checkpoint
from tsmcli.presets import load_preset
from tsmcli.recipes.feature_file import load_features
from tsmcli.recipes.network import build_trunk

SMALL = ["model.width=0.125", "train.workers=0"]


@pytest.fixture
def here(demo_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The demo, a checkpoint of a small network with shifts, and its trunk as a file of torchvision would have it."""
    shutil.copytree(demo_data, tmp_path / "data/demo")
    monkeypatch.chdir(tmp_path)
    config = load_preset("demo", SMALL)
    model = build_model(config, 8, seed=0)
    names = CATALOG["demo"].class_names() or []
    save_checkpoint(tmp_path / "best.pt", Checkpoint("demo", config, names, Progress(epoch=1), model.state_dict()))
    torch.save(export_state(build_model(config, 1000, seed=0), "torchvision"), tmp_path / "trunk.pth")
    return tmp_path


def test_a_clip_is_the_mean_of_what_the_trunk_makes_of_its_frames(here: Path) -> None:
    """As MMAction2 has it: maps are averaged over pixels, then over the frames of a clip."""
    for of in ("video", "clip", "frame"):
        assert tsm("features", "best.pt", "--of", of, "--out", f"{of}.npz", "--set", "test.clips=2").code == 0
    model, config = load_checkpoint("best.pt")
    maps: list[torch.Tensor] = []
    model.backbone.register_forward_hook(lambda _module, _inputs, out: maps.append(out))
    views = config.test.model_copy(update={"clips": 2})
    split = find_split(config.data, Places(), "val", None)
    dataset = VideoDataset(split, config, views)
    for number in range(len(split.records)):
        pixels, _ = dataset.load(split.records[number], np.random.default_rng(0))
        with torch.inference_mode():
            model(normalize(torch.from_numpy(pixels).movedim(-1, 2)))
    frames = torch.stack(maps).mean((3, 4)).unflatten(1, (2, 8)).numpy()  # [16, 2, 8, C]
    found = {of: load_features(Path(f"{of}.npz")) for of in ("video", "clip", "frame")}
    assert np.abs(found["frame"].values - frames).max() < 1e-5
    assert np.abs(found["clip"].values - frames.mean(2)).max() < 1e-5
    assert np.abs(found["video"].values - frames.mean((1, 2))).max() < 1e-5
    assert found["clip"].values.shape == (16, 2, 64)
    assert found["clip"].values.std() > 0.01
    assert found["clip"].paths == [record.path for record in split.records]
    assert found["clip"].labels.tolist() == [record.label for record in split.records]
    assert found["clip"].class_names == CATALOG["demo"].class_names()
    with np.load("clip.npz", allow_pickle=False) as file:
        assert json.loads(str(file["head"]))["meta"]["of"] == "clip"
        assert file["features"].dtype == np.float32


def test_any_stop_and_any_number_of_processes_give_the_same_bytes(here: Path) -> None:
    lines = (Path("data/demo/demo_train_list_videos.txt").read_text().splitlines() * 4)[:100]
    Path("list.txt").write_text("\n".join([*lines[:50], "gone.mp4 0", *lines[50:]]) + "\n")
    args = ["features", "best.pt", "list.txt", "--of", "frame", "--device", "cpu", "--out", "f.npz"]
    done = tsm(*args)
    assert done.code == 3
    assert "1 of 101 videos could not be read" in done.err
    assert "gone.mp4" in done.err
    assert "f.npz: 100 x 1 x 8 x 64 numbers, features of each frame, 100 of 101 videos" in done.out
    expected = Path("f.npz").read_bytes()
    Path("f.npz").unlink()

    command = [sys.executable, "-m", "tsmcli", *args, "--allow-missing"]
    for number, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 143)):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
        limit = time.monotonic() + 60
        while sum(path.read_text().count("\n") for path in here.glob("f.npz.partial-*")) < 10 + number:
            time.sleep(0.005)
            assert process.poll() is None
            assert time.monotonic() < limit
        process.send_signal(number)
        assert process.wait(60) == code
        assert not Path("f.npz").exists()
    done = subprocess.run([*command, "--gpus", "2"], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert "of 101 videos were done before; going on from there" in done.stderr
    assert Path("f.npz").read_bytes() == expected
    assert not list(here.glob("f.npz.*"))


def test_windows_have_their_times(here: Path) -> None:
    Path("two.txt").write_text("val/right_000.mp4 0\nval/down_000.mp4 2\n")
    done = tsm("features", "best.pt", "two.txt", "--of", "window", "--window", "0.5", "--stride", "0.2", "--json")
    assert done.json()["shape"][1] == 64
    with np.load("features.npz") as file:
        times, paths, values = file["times_sec"], file["paths"].tolist(), file["features"]
    predicted = tsm("predict", "best.pt", "data/demo/videos/val/right_000.mp4", "--window", "0.5", "--stride", "0.2",
                    "--json").json()["videos"][0]["windows"]  # fmt: skip
    assert paths == ["val/right_000.mp4"] * len(predicted) + ["val/down_000.mp4"] * len(predicted)
    said = [[window["start_sec"], window["end_sec"]] for window in predicted]
    assert np.allclose(times, said * 2, atol=1e-3)
    assert values.shape == (len(paths), 64)
    assert np.ptp(values[: len(predicted)], axis=0).max() > 1e-3


def test_order_alone_cannot_be_told_from_a_plain_trunk(here: Path) -> None:
    """A clip and the same clip backwards are the same to a trunk of ImageNet's kind, and differ for one with shifts."""
    for split in ("train", "val"):
        lines = Path(f"data/demo/demo_{split}_list_videos.txt").read_text().splitlines()
        Path(f"{split}.txt").write_text("\n".join(line for line in lines if line[-1] in "01") + "\n")
        plain = tsm(
            "features", "trunk.pth", f"{split}.txt", "--preset", "demo", "--set", *SMALL, "--out", f"{split}.npz"
        )
        assert plain.code == 0, plain.err
    found = tsm("probe", "train.npz", "val.npz", "--json").json()
    for name in ("linear", "neighbours"):
        assert found[name]["top1"] == 0.5
    assert load_features(Path("val.npz")).meta["network"]["shift"] == "none"
    assert tsm("features", "best.pt", "val.txt", "--out", "shifted.npz").code == 0
    plain_rows, rows = (load_features(Path(name)).values for name in ("val.npz", "shifted.npz"))
    order = np.argsort(load_features(Path("val.npz")).labels, kind="stable")
    first, second = (half for half in np.split(order, 2))
    assert np.abs(plain_rows[first] - plain_rows[second]).max() < 1e-5
    assert np.abs(rows[first] - rows[second]).max() > 1e-3


@pytest.mark.parametrize("preset", ["demo", "mbv2-folder"])
def test_only_weights_that_never_had_shifts_get_none(preset: str) -> None:
    """Names tell it, and the 1,000 classes of ImageNet; the weights stay the same."""
    shifted = load_preset(preset, ["model.width=0.25", "model.init=none"])
    plain = load_preset(preset, ["model.width=0.25", "model.init=none", "model.shift=none"])
    for config, classes, layout, shift, of_imagenet in (
        (shifted, 1000, "tsm", "bidirectional", False),
        (shifted, 1000, "mmaction", "bidirectional", False),
        (shifted, 27, "mit", "bidirectional", False),
        (shifted, 27, "torchvision", "bidirectional", False),
        (plain, 400, "mmaction", "none", False),
        (plain, 1000, "torchvision", "none", True),
    ):
        weights = export_state(build_model(config, classes, seed=3), layout)  # type: ignore[arg-type]
        model, found, imagenet = build_trunk(shifted, weights, 2, "weights")
        assert (found.model.shift, imagenet) == (shift, of_imagenet), layout
        assert model.fc.out_features == 2
        expected = build_model(config, classes, seed=3).backbone.state_dict()
        assert all(torch.equal(value, expected[key]) for key, value in model.backbone.state_dict().items())


def test_refusals(here: Path) -> None:
    for args, code, words in (
        (["imagenet"], 2, "of which trunk?"),
        (["best.pt", "--of", "window"], 2, "--of window and --window SEC go together"),
        (["best.pt", "--window", "2"], 2, "--of window and --window SEC go together"),
        (["best.pt", "--out", "f.csv"], 2, "features are saved as .npz"),
        (["best.pt", "a.txt", "--list", "b.txt"], 2, "name one list"),
        (["best.pt", "a.txt"], 3, "no list file a.txt"),
        (["no.pt"], 4, "no checkpoint no.pt"),
        (["trunk.pth"], 4, "add --preset NAME"),
        (["trunk.pth", "--preset", "mbv2-folder", "--set", "data.dataset=demo"], 4, "of another network"),
        (["best.pt", "--set", "model.shift=none"], 4, "has shift bidirectional, not none"),
        (["best.pt", "--protocol", "fast"], 2, "no protocol named 'fast'"),
    ):
        refused = tsm("features", *args)
        assert (refused.code, refused.out) == (code, ""), refused.err
        assert words in refused.err
    assert not list(here.glob("*.npz*"))


def test_a_training_says_what_it_has_to_beat_and_is_the_same(here: Path) -> None:
    base = [
        "train",
        "--preset",
        "demo",
        "--init",
        "trunk.pth",
        "--set",
        *SMALL,
        "train.epochs=1",
        "train.lr_steps=[]",
    ]
    logs, weights = {}, {}
    for probe in ("true", "false"):
        done = tsm(*base, f"train.probe={probe}", "--work-dir", probe)
        assert done.code == 0, done.err
        said = "probe: ImageNet features averaged over frames, logistic regression: "
        assert (said in done.err) is (probe == "true")
        logs[probe] = [json.loads(line) for line in Path(probe, "log.jsonl").read_text().splitlines()]
        weights[probe] = torch.load(Path(probe, "last.pt"), weights_only=True)["model"]
    first, *others = logs["true"]
    assert first["probe/coverage"] == "16 of 16 videos"
    assert first["probe/top1_low"] <= first["probe/top1"] <= first["probe/top1_high"]
    assert [line.get("train/loss") for line in others] == [line.get("train/loss") for line in logs["false"]]
    assert all(torch.equal(weights["true"][key], weights["false"][key]) for key in weights["true"])
    more = tsm("train", "--resume", "--work-dir", "false", "--set", "train.probe=true", "train.epochs=2")
    assert more.code == 0, more.err
    assert "probe: " not in more.err
    again = tsm(*base, "train.probe=true", "--fast-dev-run", "--work-dir", "quick")
    assert again.code == 0
    assert "probe: " not in again.err


def test_a_probe_that_fails_ends_no_training(here: Path) -> None:
    lines = Path("data/demo/demo_train_list_videos.txt").read_text().splitlines()
    Path("one.txt").write_text("\n".join(line for line in lines if line[-1] == "0") + "\n")
    done = tsm("train", "--preset", "demo", "--init", "best.pt", "--train-list", "one.txt", "--set", *SMALL, "train.epochs=1",
               "train.lr_steps=[]", "train.probe=true")  # fmt: skip
    assert done.code == 0, done.err
    assert (
        "warning: no probe of the starting features: one.txt: videos of 1 class; at least 2 are needed" in done.err
    )

"""What simple classifiers make of features; and every refusal of files that do not fit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from support import tsm

from tsmcli.recipes.feature_file import load_features, save_features
from tsmcli.recipes.probe import folds_of, linear, neighbours

NAMES = ["down", "left", "up"]


def blobs(each: int, width: int = 8, apart: float = 9.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Three clouds of points, and which cloud each is of; the first column is large and says nothing."""
    rng = np.random.default_rng(seed)
    labels = np.arange(3 * each) % 3
    x = rng.normal(size=(3 * each, width)) + apart * np.eye(3, width)[labels]
    return np.hstack([1e4 * rng.normal(size=(3 * each, 1)), x]), labels


def write(path: Path, x: np.ndarray, labels: np.ndarray, names: list[str] = NAMES, **meta: Any) -> Path:
    meta = {"of": "video", "sha256": "a", "preset": "demo", "protocol_name": "efficient", **meta}
    head = {"num_listed": len(x), "bad": [], "meta": meta}
    paths = [f"{i}.mp4" for i in range(len(x))]
    save_features(path, x.shape, x.astype(np.float32), head, paths=paths, labels=labels, class_names=names)
    return path


def test_what_can_be_told_apart_is(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.npz", *blobs(8)), write(tmp_path / "b.npz", *blobs(5, seed=1))
    for args, videos in (((a,), 24), ((a, b), 15)):
        found = tsm("probe", *args, "--json").json()
        assert found["linear"]["top1"] == found["linear"]["mean_class"] == 1.0
        assert found["coverage"] == f"{videos} of {videos} videos"
        assert found["linear"]["top1_interval"][0] < 0.9
    table = tsm("probe", a)
    assert "logistic regression   100.00 %" in table.out
    assert f"5-fold cross-validation over the videos of {a}" in table.out
    x, labels = blobs(8)
    assert (neighbours(x[:, 1:4], labels, blobs(5, seed=1)[0][:, 1:4]) == blobs(5, seed=1)[1]).all()


def test_noise_is_not(tmp_path: Path) -> None:
    found = tsm("probe", write(tmp_path / "a.npz", *blobs(40, apart=0, seed=2)), "--json").json()
    for name in ("linear", "neighbours"):
        low, high = found[name]["top1_interval"]
        assert low <= 1 / 3 <= high


def test_columns_that_are_always_the_same_change_nothing() -> None:
    """More columns than videos take another way through the arithmetic."""
    x, labels = blobs(12, width=10, apart=1.0)
    others = blobs(30, width=10, apart=1.0, seed=1)[0]
    wide = [np.hstack([rows, np.ones((len(rows), 50))]) for rows in (x, others)]
    expected = linear(x, labels, others)
    assert (linear(wide[0], labels, wide[1]) == expected).all()
    assert 0.4 < (expected == np.arange(90) % 3).mean() < 1


def test_views_and_frames_count_by_their_mean(tmp_path: Path) -> None:
    x, labels = blobs(6, apart=2.0)
    spread = np.random.default_rng(0).normal(size=(18, 2, 4, 9))
    spread -= spread.mean((1, 2), keepdims=True)
    frames = write(tmp_path / "frames.npz", x[:, None, None] + spread, labels, of="frame")
    video = write(tmp_path / "video.npz", x, labels)
    assert load_features(frames).values.shape == (18, 2, 4, 9)
    one, other = (tsm("probe", file, "--json").json() for file in (video, frames))
    assert (one["linear"], one["neighbours"]) == (other["linear"], other["neighbours"])


def test_every_class_is_in_every_fold() -> None:
    labels = np.repeat([3, 0, 7], [20, 5, 12])
    left_out = [labels[part] for _, part in folds_of(labels, 9).split(labels, labels)]
    assert len(left_out) == 5
    for label in (3, 0, 7):
        counts = [int((part == label).sum()) for part in left_out]
        assert min(counts) >= 1
        assert max(counts) - min(counts) <= 1


def test_refusals(tmp_path: Path) -> None:
    x, y = blobs(3)
    good = write(tmp_path / "good.npz", x, y)
    np.savez(tmp_path / "scores.npz", paths=["a"], labels=[0], scores=[[0.5, 0.5]], head='{"bad": []}')
    (tmp_path / "cut.npz").write_bytes(good.read_bytes()[:-400])
    odd = x.copy()
    odd[0, 0] = np.nan
    others = {
        "names": (write(tmp_path / "names.npz", x, y, ["up", "left", "down"]), "its classes are not those of"),
        "width": (write(tmp_path / "width.npz", x[:, :7], y), "features of 7 numbers"),
        "of": (write(tmp_path / "of.npz", x, y, of="clip"), "of another kind (clip)"),
        "network": (write(tmp_path / "net.npz", x, y, sha256="b"), "of another checkpoint (b)"),
        "windows": (write(tmp_path / "win.npz", x, y, of="window"), "features of windows"),
        "scores": (tmp_path / "scores.npz", "there is no 'class_names' in it"),
        "cut short": (tmp_path / "cut.npz", "not a file of features"),
        "not there": (tmp_path / "no.npz", "no features"),
        "nan": (write(tmp_path / "nan.npz", odd, y), "not finite"),
        "label": (write(tmp_path / "label.npz", x, y + 1), "labels 1 to 3, but 3 classes"),
    }
    for other, words in others.values():
        refused = tsm("probe", good, other)
        assert (refused.code, refused.out) == (3, ""), refused.err
        assert words in refused.err, refused.err
    lone = write(tmp_path / "lone.npz", x[:4], np.array([0, 0, 1, 2]))
    assert "class 'left' has 1 video; cross-validation needs 2" in tsm("probe", lone).err
    assert tsm("probe", lone, good).code == 0
    one = write(tmp_path / "one.npz", x, np.zeros_like(y))
    assert "videos of 1 class; at least 2" in tsm("probe", one, good).err


def test_it_starts_without_torch(tmp_path: Path) -> None:
    file = write(tmp_path / "a.npz", *blobs(4))
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom tsmcli.cli import app\n"
        "result = CliRunner().invoke(app, ['probe', sys.argv[1]])\n"
        "assert result.exit_code == 0, result.output\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

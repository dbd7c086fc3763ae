"""tsm eval on files, without a network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import tsm

from tsmcli.results import Results, load_results, save_results

K = 14


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tests of 28 videos: `good.npz` always right, `bad.npz` takes class 3 for class 4."""
    monkeypatch.chdir(tmp_path)
    labels = np.arange(28) % K
    scores = np.full((28, K), 0.01, np.float32)
    scores[np.arange(28), labels] = 1 - 0.01 * (K - 1)
    confused = scores.copy()
    confused[3], confused[17] = scores[4], scores[4]
    names = [f"class {i}" for i in range(K)]
    for name, table in (("good", scores), ("bad", confused)):
        meta = {"preset": name, "protocol_name": "efficient", "class_names": names}
        save_results(
            tmp_path / f"{name}.npz", Results([f"{i}.mp4" for i in range(28)], labels, table, 28, meta=meta)
        )
    (tmp_path / "list.txt").write_text("".join(f"{i}.mp4 {label}\n" for i, label in enumerate(labels)))
    (tmp_path / "theirs.json").write_text(json.dumps(confused.tolist()))
    return tmp_path


def test_all_metrics(here: Path) -> None:
    metrics = ["top_k", "mean_class", "per_class", "confusion", "map"]
    found = tsm("eval", "bad.npz", "--metrics", *metrics, "--topk", "1", "11", "--json").json()
    assert found["top1"] == pytest.approx(26 / 28)
    assert found["top11"] == 1  # one class scores higher and nine with higher indices as high
    assert found["mean_class"] == pytest.approx(13 / 14)
    assert 0.8 < found["map"] < 1
    assert found["per_class"][3] == {
        "class": 3, "name": "class 3", "videos": 2, "top1": 0, "interval": pytest.approx([0, 0.65762], abs=1e-5),
        "taken_for": {"name": "class 4", "share": 1},
    }  # fmt: skip
    assert found["confusion"][3][4] == 2
    table = tsm("eval", "bad.npz", "--metrics", *metrics).out
    assert "class 4 (100.00 %)" in table
    assert "The 1 largest mistakes of 14 classes" in table
    assert tsm("eval", "bad.npz", "--metrics", "mean_average_precision", "--json").json()["map"] == found["map"]


def test_their_file_with_a_list(here: Path) -> None:
    assert tsm("eval", "theirs.json", "--list", "list.txt", "--json").json()["top1"] == pytest.approx(26 / 28)


def test_ensemble(here: Path) -> None:
    even = tsm("eval", "good.npz", "theirs.json", "--list", "list.txt", "--weights", "3", "1", "--json").json()
    assert even["top1"] == 1
    assert even["scores"] == "good.npz + theirs.json"
    odd = tsm("eval", "good.npz", "bad.npz", "--weights", "1", "3", "--json").json()
    assert odd["top1"] == pytest.approx(26 / 28)
    assert odd["preset"] == "good + bad"


def test_compare(here: Path) -> None:
    found = tsm("eval", "--compare", "bad.npz", "good.npz", "--json").json()
    assert found["difference"]["top1"]["b_minus_a"] == pytest.approx(2 / 28)
    assert found["difference"]["top1"]["low"] == 0
    assert found["mcnemar"] == {"only_a": 0, "only_b": 2, "p": 0.5}
    shown = tsm("eval", "--compare", "bad.npz", "good.npz").out
    assert "+7.14" in shown
    assert "p = 0.5, the difference may be chance" in shown
    listed = tsm("eval", "--compare", "theirs.json", "good.npz", "--list", "list.txt")
    assert "The protocols differ" in listed.out


def test_files_whose_parts_do_not_fit(here: Path) -> None:
    labels, scores = np.array([0, 1]), np.eye(2, dtype=np.float32)
    for change, words in (
        ({"labels": np.array([0.0, 1.0])}, "labels of type float64"),
        ({"scores": np.array([["a", "b"], ["c", "d"]])}, "scores of type <U1"),
        ({"labels": np.array([0, -1])}, "y.mp4 has label -1, but the scores are of 2 classes, 0 to 1"),
        ({"meta": {"class_names": ["a", "b", "c"]}}, "3 class names for scores of 2 classes"),
    ):
        whole = {"labels": labels, "scores": scores, "meta": {}, **change}
        save_results(Path("x.npz"), Results(["x.mp4", "y.mp4"], num_listed=2, **whole))  # type: ignore[arg-type]
        refused = tsm("eval", "x.npz", "--metrics", "per_class")
        assert (refused.code, words in refused.err) == (3, True), refused.err
    Path("x.npz").write_text("text")
    assert "not a results file: no archive of numpy arrays" in tsm("eval", "x.npz").err
    Path("x.json").write_text(json.dumps([[1e60, 0.0], [0.0, 1.0]]))
    (here / "two.txt").write_text("a.mp4 0\nb.mp4 1\n")
    refused = tsm("eval", "x.json", "--list", "two.txt")
    assert (refused.code, "not finite" in refused.err) == (3, True)


def test_an_incomplete_comparison(here: Path) -> None:
    for name in ("good", "bad"):
        whole = load_results(Path(f"{name}.npz"))
        save_results(Path(f"{name}.npz"), replace(whole, num_listed=30, bad=[("x.mp4", "gone"), ("y.mp4", "gone")]))
    refused = tsm("eval", "--compare", "bad.npz", "good.npz")
    assert refused.code == 3
    assert "28 of 30 videos that could be read" in refused.err
    assert "McNemar" in refused.out
    assert tsm("eval", "--compare", "bad.npz", "good.npz", "--allow-missing").code == 0


REFUSALS: dict[str, tuple[list[str], int, str]] = {
    "list for nothing": (["bad.npz", "--list", "list.txt"], 2, "tsm test --list"),
    "list for no comparison": (["--compare", "bad.npz", "good.npz", "--list", "list.txt"], 2, "these do"),
    "file after metrics": (["--metrics", "top_k", "bad.npz"], 2, "files are named before --metrics"),
    "no list": (["theirs.json"], 3, "hint: --list FILE"),
    "wrong count": (["theirs.json", "--list", "short.txt"], 3, "scores of 28 videos, but short.txt has 1"),
    "two jobs": (["bad.npz", "--compare", "bad.npz", "good.npz"], 2, "not several of these"),
    "one weight": (["bad.npz", "good.npz", "--weights", "1"], 2, "1 weights for 2 files"),
    "weights to compare": (["--compare", "bad.npz", "good.npz", "--weights", "1", "2"], 2, "not for --compare"),
    "softmax to compare": (["--compare", "bad.npz", "good.npz", "--softmax"], 2, "changes no ranking"),
    "one to compare": (["--compare", "bad.npz"], 2, "requires 2 arguments"),
    "large k": (["bad.npz", "--topk", "15"], 2, "top-15 of 14 classes"),
    "pickle": (["result.pkl"], 3, "can run code"),
    "list with a checkpoint": (["--checkpoint", "a.pt", "--list", "list.txt"], 2, "are for saved scores"),
}


@pytest.mark.parametrize("case", sorted(REFUSALS))
def test_refusals(here: Path, case: str) -> None:
    (here / "short.txt").write_text("a.mp4 0\n")
    args, code, words = REFUSALS[case]
    refused = tsm("eval", *args)
    assert refused.code == code
    assert words in refused.err
    assert refused.out == ""

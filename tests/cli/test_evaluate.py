"""tsm eval on files, without a network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support import tsm

from tsmcli.results import Results, save_results

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
        "class": 3, "name": "class 3", "videos": 2, "top1": 0, "taken_for": {"name": "class 4", "share": 1},
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


REFUSALS: dict[str, tuple[list[str], int, str]] = {
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

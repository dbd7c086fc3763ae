"""Saved scores: round trip, and messages for files that are something else."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tsmcli.errors import DataError, UsageError
from tsmcli.results import Results, load_results, save_results

RESULTS = Results(
    paths=["a b.mp4", "c.mp4"],
    labels=np.array([1, 0]),
    scores=np.array([[0.25, 0.75], [0.1, 0.9]], np.float32),
    num_listed=3,
    bad=[("d.mp4", "cut off")],
    meta={"protocol_name": "efficient"},
)


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "deep" / f"scores{suffix}"
    save_results(path, RESULTS)
    back = load_results(path)
    assert back.paths == RESULTS.paths
    assert np.array_equal(back.labels, RESULTS.labels)
    assert np.array_equal(back.scores, RESULTS.scores)
    assert (back.num_listed, back.bad, back.meta) == (3, RESULTS.bad, RESULTS.meta)
    assert back.coverage == "2 of 3 videos"
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no results file"):
        load_results(tmp_path / "none.npz")
    with pytest.raises(DataError, match="not a file"):
        load_results(tmp_path)
    for name, content in (
        ("a.npz", b"text"),
        ("b.json", b"{"),
        ("c.json", b"[1, 2]"),
        ("d.json", b'{"videos": 3}'),
        ("e.npz", b""),
        ("f.json", b'{"videos": ' + 100_000 * b"["),
        ("g.json", b'{"videos": [{"path": "a", "label": 0, "scores": 5}]}'),
        ("h.json", b'{"videos": [{"path": "a", "label": 0, "scores": [[1]]}]}'),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match="not a results file"):
            load_results(tmp_path / name)
    with pytest.raises(UsageError, match=r"saved as \.npz, \.json or \.csv, not \.txt"):
        save_results(tmp_path / "scores.txt", RESULTS)


def test_numbers_that_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    save_results(path, RESULTS)
    tree = json.loads(path.read_text())
    tree["videos"][0]["label"] = 7
    path.write_text(json.dumps(tree))
    with pytest.raises(DataError, match="label 7, but the scores are of 2 classes"):
        load_results(path)
    tree["videos"][0] |= {"label": 1, "scores": [0.5, float("nan")]}
    path.write_text(json.dumps(tree))
    with pytest.raises(DataError, match="the scores of a b.mp4 are not finite"):
        load_results(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"meta": {"class_names": 5}}, "class names or reasons that are no texts"),
        ({"meta": {"class_names": "ab"}}, "class names or reasons that are no texts"),
        ({"meta": {"class_names": [1, 2]}}, "class names or reasons that are no texts"),
        ({"meta": 5}, "not a results file"),
        ({"num_listed": "3"}, "num_listed is no number"),
        ({"num_listed": -1}, "of a list of -1"),
        ({"meta": {"sha256": ["ab"]}}, "SHA-256 of the checkpoint is no text"),
        ({"bad": [[1, 2]]}, "reasons that are no texts"),
        ({"bad": 5}, "not a results file"),
        ({"videos": [{"path": 5, "label": 0, "scores": [0.5, 0.5]}]}, "paths, class names"),
        ({"videos": [{"path": "a", "label": 0.5, "scores": [0.5, 0.5]}]}, "labels of type float64"),
        ({"videos": [{"path": "a", "label": 10**30, "scores": [0.5, 0.5]}]}, "labels of type object"),
        ({"videos": [{"path": "a", "label": 0, "scores": [1e99, 0.5]}]}, "are not finite"),
        ({"videos": []}, "0 videos"),
    ],
)
def test_what_a_file_says_is_checked(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "scores.json"
    save_results(path, RESULTS)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=message):
        load_results(path)


def test_an_array_that_claims_to_be_huge(tmp_path: Path) -> None:
    path = tmp_path / "scores.npz"
    save_results(path, RESULTS)
    with zipfile.ZipFile(path) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    honest, lie = b"(2, 2), }" + 12 * b" ", b"(100000000000, 99), }"  # 36 TiB, and as long as what it replaces
    assert honest in parts["scores.npy"]
    parts["scores.npy"] = parts["scores.npy"].replace(honest, lie)
    with zipfile.ZipFile(path, "w") as file:
        for name, data in parts.items():
            file.writestr(name, data)
    with pytest.raises(DataError, match="not a results file: Unable to allocate"):
        load_results(path)

"""Score files of several kinds: read, matched by path, averaged, compared."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsmcli.errors import DataError, UsageError
from tsmcli.recipes.compare import compare, mcnemar
from tsmcli.recipes.ensemble import align, average, open_scores, to_probabilities
from tsmcli.results import Results, load_score_list, save_results

A = Results(
    paths=["a.mp4", "b.mp4", "c.mp4"],
    labels=np.array([1, 0, 1]),
    scores=np.array([[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]], np.float32),
    num_listed=3,
    meta={"class_names": ["no", "yes"], "preset": "rgb", "protocol_name": "efficient"},
)
B = replace(A, scores=np.array([[0.6, 0.4], [0.8, 0.2], [0.4, 0.6]], np.float32), meta={"preset": "flow"})
FILES = [Path("a.npz"), Path("b.npz")]


def reordered(results: Results, order: list[int]) -> Results:
    rows = np.array(order)
    return replace(
        results, paths=[results.paths[i] for i in order], labels=results.labels[rows], scores=results.scores[rows]
    )


def write_lists(folder: Path, scores: object, lines: str = "a.mp4 1\nb.mp4 0\nc.mp4 1\n") -> tuple[Path, Path]:
    (folder / "list.txt").write_text(lines)
    (folder / "result.json").write_text(json.dumps(scores))
    return folder / "result.json", folder / "list.txt"


def test_their_list_equals_our_file(tmp_path: Path) -> None:
    theirs = open_scores(*write_lists(tmp_path, A.scores.tolist()))
    assert theirs.paths == A.paths
    assert theirs.labels.tolist() == A.labels.tolist()
    assert np.array_equal(theirs.scores, A.scores)
    save_results(tmp_path / "ours.json", A)
    assert np.array_equal(open_scores(tmp_path / "ours.json").scores, A.scores)


def test_a_list_of_frame_folders(tmp_path: Path) -> None:
    files = write_lists(tmp_path, A.scores.tolist(), "a 10 1\nb b 12 0\nc 9 1\n")
    assert open_scores(*files).paths == ["a", "b b", "c"]


def test_indented_json_is_read_too(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(A.scores.tolist(), indent=2))
    scores = load_score_list(tmp_path / "a.json")
    assert scores is not None
    assert np.array_equal(scores, A.scores)
    odd = replace(A, paths=['"scores": [1].mp4', "b[2].mp4", "c.mp4"])
    save_results(tmp_path / "b.json", odd)
    tree = json.loads((tmp_path / "b.json").read_text())
    (tmp_path / "b.json").write_text(json.dumps(tree, indent=2))
    back = open_scores(tmp_path / "b.json")
    assert back.paths == odd.paths
    assert np.array_equal(back.scores, A.scores)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[[0.1, 0.9], [0.8, 0.2]]", "scores of 2 videos, but .*list.txt has 3"),
        ("[]", "scores of 0 videos"),
        ("[[0.1, 0.9], [0.8, NaN], [0.5, 0.5]]", "the scores of b.mp4 are not finite"),
        ("[[0.1, 0.9], [0.8], [0.5, 0.5]]", "row 2 has 1 scores, row 1 has 2"),
        ("[[0.1], [0.8], [0.5]]", "label 1, but the scores are of 1 classes"),
        ("[[0.1, 0.9], [0.8, 0", "cut short"),
        ("[[0.1, 0.9], [0.8, 0.2]", "cut short"),
        ("[1, 2, 3]", "other things"),
        ('[["a"]]', "could not convert"),
        ("[[[0.1]]]", "not a list with a list"),
        ("scores!", "not JSON"),
        ('{"scores": 1}', "there is no 'videos' in it"),
    ],
)
def test_damaged_lists(tmp_path: Path, content: str, message: str) -> None:
    files = write_lists(tmp_path, [])
    files[0].write_text(content)
    with pytest.raises(DataError, match=message):
        open_scores(*files)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    files = write_lists(tmp_path, A.scores.tolist())
    with pytest.raises(DataError, match="scores without labels"):
        open_scores(files[0])
    with pytest.raises(DataError, match="no results file"):
        open_scores(tmp_path / "gone.json")
    with pytest.raises(DataError, match="pickles are not read"):
        open_scores(tmp_path / "result.pkl")


def test_average() -> None:
    mean = average([A, reordered(B, [2, 0, 1])], FILES, None)
    assert mean.paths == A.paths
    assert np.allclose(mean.scores, (A.scores + B.scores) / 2)
    weighted = average([A, B], FILES, [1.0, 3.0])
    assert np.allclose(weighted.scores, (A.scores + 3 * B.scores) / 4)
    assert weighted.meta["preset"] == "rgb + flow"
    assert weighted.meta["members"][1] == {"file": "b.npz", "weight": 3.0}
    assert average([A], FILES[:1], None) is A


@pytest.mark.parametrize(
    ("weights", "message"), [([1.0], "1 weights for 2 files"), ([-1.0, 2.0], "positive"), ([0.0, 0.0], "positive"),
                             ([math.nan, 1.0], "positive")],
)  # fmt: skip
def test_wrong_weights(weights: list[float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        average([A, B], FILES, weights)


def test_raw_scores_are_not_averaged_with_probabilities() -> None:
    raw = replace(B, scores=np.log(B.scores) + 3)
    with pytest.raises(UsageError, match="no common mean"):
        average([A, raw], FILES, None)
    assert np.allclose(to_probabilities(raw).scores, B.scores, atol=1e-6)
    assert to_probabilities(A) is A


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(B, scores=np.ones((3, 4), np.float32) / 4), "b: scores of 4 classes, but a has 2"),
        (replace(B, paths=["a.mp4", "b.mp4", "d.mp4"]), "1 of 3 videos of a are not in b, the first is c.mp4"),
        (reordered(B, [0, 1]), "1 of 3 videos of a are not in b"),
        (replace(B, labels=np.array([1, 1, 1])), "b: b.mp4 has label 1, but in a it has 0"),
        (replace(B, meta={"class_names": ["no", "maybe"]}), "b: class 1 is 'maybe', but in a it is 'yes'"),
        (replace(B, paths=["a.mp4", "a.mp4", "c.mp4"]), "name videos twice"),
    ],
)
def test_tests_that_do_not_match(other: Results, message: str) -> None:
    with pytest.raises(DataError, match=message):
        align(A, other, "a", "b")


def test_compare() -> None:
    found = compare(A, reordered(B, [1, 2, 0]), (FILES[0], FILES[1]), ["top_k", "mean_class"], [1])
    assert (found.differences["top1"].a, found.differences["top1"].b) == (
        pytest.approx(1 / 3),
        pytest.approx(2 / 3),
    )
    assert (found.only_a, found.only_b) == (1, 2)
    assert found.p == 1
    again = compare(A, B, (FILES[0], FILES[1]), ["top_k", "mean_class"], [1])
    assert again.differences == found.differences
    with pytest.raises(UsageError, match="cannot compare map"):
        compare(A, B, (FILES[0], FILES[1]), ["map"])


def test_interval_of_a_known_difference() -> None:
    """400 videos, B right on 60 that A misses and wrong on 20 that it gets: the interval is that of the normal law."""
    labels, right_a, right_b = np.zeros(400, int), np.ones(400, bool), np.ones(400, bool)
    right_a[:60], right_b[60:80] = False, False
    a, b = (
        Results([str(i) for i in range(400)], labels, np.stack([right, ~right], 1).astype(np.float32), 400)
        for right in (right_a, right_b)
    )
    found = compare(a, b, (FILES[0], FILES[1]), ["top_k"], [1]).differences["top1"]
    sigma = math.sqrt((80 / 400 - 0.1**2) / 400)
    assert found.b - found.a == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1 - 1.96 * sigma, abs=0.004)
    assert found.high == pytest.approx(0.1 + 1.96 * sigma, abs=0.004)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_binomial_tail(b: int, c: int) -> None:
    tail = sum(math.comb(b + c, i) for i in range(min(b, c) + 1)) / 2 ** (b + c)
    assert mcnemar(b, c) == pytest.approx(min(1, 2 * tail))
    assert mcnemar(b, c) == mcnemar(c, b)


def test_mcnemar_of_many_videos() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(1, 9) == pytest.approx(22 / 1024)  # by hand: 2 (1 + 10) / 2^10
    assert mcnemar(10_000, 10_200) == pytest.approx(0.1613, abs=5e-4)  # the normal law, with continuity correction
    assert mcnemar(0, 5000) == 0

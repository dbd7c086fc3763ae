"""Events against the numbers that ActivityNet's and THUMOS14's own programs gave, and cases worked by hand."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tsmcli.intervals.tiou import AMBIGUOUS, Interval, delays, f1_score, false_alarms, tiou_map

TREE: dict[str, Any] = json.loads((Path(__file__).parent / "tiou_map.json").read_text())
TRUTH = [
    Interval(video, *one["segment"], one["label"])
    for video, tree in TREE["ground_truth"]["database"].items()
    if tree["subset"] == TREE["activitynet"]["subset"]
    for one in tree["annotations"]
]
EVENTS = [
    Interval(video, *one["segment"], one["label"], one["score"])
    for video, found in TREE["predictions"]["results"].items()
    for one in found
]


def test_activitynet() -> None:
    wanted = TREE["activitynet"]
    found = tiou_map(TRUTH, EVENTS)
    assert found.thresholds == wanted["tiou"]
    assert found.mean == pytest.approx(wanted["mAP"], abs=1e-9)
    assert found.average == pytest.approx(wanted["average_mAP"], abs=1e-9)
    assert {label: pytest.approx(ap, abs=1e-9) for label, ap in wanted["AP"].items()} == found.ap


def test_activitynet_at_other_thresholds() -> None:
    wanted = TREE["activitynet"]["same_program_at_0.1_to_0.7"]
    found = tiou_map(TRUTH, EVENTS, thresholds=wanted["tiou"])
    assert found.mean == pytest.approx(wanted["mAP"], abs=1e-9)
    assert {label: pytest.approx(ap, abs=1e-9) for label, ap in wanted["AP"].items()} == found.ap


def test_thumos14() -> None:
    wanted = TREE["thumos14"]
    unsure = [Interval(one["video"], *one["segment"], AMBIGUOUS) for one in wanted["ambiguous"]]
    found = tiou_map([*TRUTH, *unsure], EVENTS, "thumos14", wanted["tiou"])
    assert found.mean == pytest.approx(wanted["mAP"], abs=1e-9)
    assert {label: pytest.approx(ap, abs=1e-9) for label, ap in wanted["AP"].items()} == found.ap
    assert tiou_map([*TRUTH, *unsure], EVENTS, "thumos14").mean == pytest.approx(wanted["mAP"][:5], abs=1e-9)
    assert tiou_map([*TRUTH, *unsure], EVENTS) == tiou_map(TRUTH, EVENTS)
    sure = tiou_map(TRUTH, EVENTS, "thumos14", wanted["tiou"])
    assert sure.ap["wave"] != found.ap["wave"]  # an event in doubt counts as wrong without the doubt


def wave(start: float, end: float, score: float = 1.0, video: str = "v") -> Interval:
    return Interval(video, start, end, "wave", score)


def test_by_hand() -> None:
    truth = [wave(0, 10), wave(20, 30)]
    # right, a second one of the same interval, right: precisions 1, 1/2, 2/3 at recalls 1/2, 1/2, 1
    events = [wave(0, 10, 0.9), wave(0, 9, 0.8), wave(20, 30, 0.7)]
    assert tiou_map(truth, events, thresholds=[0.5]).mean == [pytest.approx(1 / 2 + 1 / 2 * 2 / 3)]
    # THUMOS14 gives the interval to the better placed one, and takes 6 recalls of 0.5 or less, 5 above
    lower_is_better = [wave(0, 9, 0.9), wave(0, 10, 0.8), wave(20, 30, 0.7)]
    assert tiou_map(truth, lower_is_better, "thumos14", [0.5]).mean == [pytest.approx(2 / 3)]
    assert tiou_map(truth, lower_is_better, thresholds=[0.95]).mean == [pytest.approx(2 / 3)]
    # exactly the threshold is enough for ActivityNet alone
    assert tiou_map([wave(0, 1)], [wave(0, 2)], thresholds=[0.5]).mean == [1]
    assert tiou_map([wave(0, 1)], [wave(0, 2)], "thumos14", [0.5]).mean == [0]
    # an event whose best interval is taken may have the next best one
    near = [wave(0, 10), wave(2, 12)]
    assert tiou_map(near, [wave(0, 10, 0.9), wave(0, 11, 0.8)], thresholds=[0.5]).mean == [1]
    assert tiou_map(truth, [], thresholds=[0.5]).mean == [0]
    assert tiou_map(truth, [], "thumos14", [0.5]).mean == [0]
    assert tiou_map(truth, [wave(0, 10, video="other")], thresholds=[0.5]).mean == [0]
    for empty in ([], [wave(1, 1)]):
        with pytest.raises(ValueError, match="true interval"):
            tiou_map(empty, [wave(0, 1)])


def test_many_intervals_of_one_video_take_no_time() -> None:
    truth = [wave(10 * at, 10 * at + 5) for at in range(2000)]
    events = [wave(10 * at + 1, 10 * at + 5.5, score=at % 7) for at in range(2000)]
    start = time.monotonic()
    assert tiou_map(truth, events).mean == [1.0] * 5 + [0.0] * 5
    assert time.monotonic() - start < 2


def test_alarms_and_delays() -> None:
    truth = [wave(10, 20), wave(40, 50), wave(0, 5, video="w")]
    events = [wave(12, 18), wave(14, 22), wave(38, 44), wave(60, 62), wave(20, 24), wave(0, 5, video="u")]
    assert false_alarms(truth, events) == [wave(60, 62), wave(20, 24), wave(0, 5, video="u")]
    assert false_alarms(truth, [Interval("v", 12, 18, "jump")]) == [Interval("v", 12, 18, "jump")]
    assert delays(truth, events) == [2, 0, None]
    assert f1_score(truth, events) == pytest.approx(2 * 1 / 9)

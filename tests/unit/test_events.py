"""Events of long videos: reading them, and scoring them with a command."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tsm

from tsmcli.core.tsm import build_model
from tsmcli.engine.checkpoint import (
    Checkpoint,
    Progress,
    checkpoint_of,
    checkpoint_tree,
    open_checkpoint,
    save_checkpoint,
)
from tsmcli.errors import DataError, WeightsError
from tsmcli.intervals.find import EventRules, WindowScores, calibrate, default_rules, find_events, moving_mean
from tsmcli.intervals.live import LiveEvents, Pace
from tsmcli.intervals.read import same_names
from tsmcli.intervals.tiou import Interval
from tsmcli.presets import load_preset
from tsmcli.recipes.eval_events import read_truth, within
from tsmcli.recipes.fit_events import fit_rules, fit_temperature

TRUTH = "path,start,end,label\na.mp4,0:01,4,Wave\na.mp4,00:00:10.5,12,1\nb.mp4,0,5,background\nsub/a.mp4,1,2,wave\n"


def events_file(folder: Path, **more: object) -> Path:
    event = {"start_sec": 1.5, "end_sec": 4.0, "class": 2, "name": "wave", "score": 0.9}
    wrong = {"start_sec": 20.0, "end_sec": 21.0, "class": 1, "name": "jump", "score": 0.8}
    names = ["background", "jump", "wave"]
    videos = [
        {"video": "media/a.mp4", "duration_sec": 1800.0, "events": [event, wrong]},
        {"video": "media/b.mp4", "duration_sec": 1800.0, "events": []},
    ]
    tree = {"class_names": names, "background": names[:1], "videos": videos, "failed": [], **more}
    (folder / "events.json").write_text(json.dumps(tree))
    return folder / "events.json"


def test_true_intervals(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TRUTH)
    found = read_truth(tmp_path / "t.csv", ["background", "jump", "wave"])
    assert found[:2] == [Interval("a.mp4", 1, 4, "wave"), Interval("a.mp4", 10.5, 12, "jump")]
    renamed = same_names(found, ["media/a.mp4"])
    assert [one.video for one in renamed] == ["media/a.mp4", "media/a.mp4", "b.mp4", "sub/a.mp4"]
    renamed = same_names(found, ["media/a.mp4", "media/sub/a.mp4"])
    assert [one.video for one in renamed][2:] == ["b.mp4", "media/sub/a.mp4"]
    with pytest.raises(DataError, match="may be"):
        same_names(found, ["x/a.mp4", "y/a.mp4"])
    (tmp_path / "t.csv").write_text(f"{TRUTH}a.mp4,4,4,wave\na.mp4,x,5,wave\na.mp4,f1,f5,wave\na.mp4,1,2,\n")
    with pytest.raises(DataError) as refused:
        read_truth(tmp_path / "t.csv")
    for line, words in ((6, "not before the end"), (7, "no time"), (8, "frames"), (9, "no label")):
        assert re.search(f"t.csv:{line}: .*{words}", str(refused.value))
    (tmp_path / "t.csv").write_text("path,start,end,label\na.mp4,,,wave\na.mp4,5,,jump\n")
    open_ended = read_truth(tmp_path / "t.csv")
    assert within(open_ended, {"a.mp4": 8.0}) == [Interval("a.mp4", 0, 8, "wave"), Interval("a.mp4", 5, 8, "jump")]
    with pytest.raises(DataError, match="after the end"):
        within(open_ended, {"a.mp4": 4.0})
    with pytest.raises(DataError, match="length is not known"):
        within(open_ended, {})


def test_eval(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TRUTH.rsplit("\n", 2)[0])
    command = [
        "eval",
        events_file(tmp_path),
        "--metrics",
        "tiou_map",
        "tiou_map=thumos14",
        "--list",
        tmp_path / "t.csv",
    ]
    found = tsm(*command, "--json").json()
    assert found["tiou_map"]["ap"]["wave"] == [1.0] * 7 + [0.0] * 3  # 2.5 of 3 seconds
    assert found["tiou_map"]["map"][0] == found["tiou_map=thumos14"]["map"][4] == 0.5
    assert (found["false_alarms_per_hour"], found["delay_sec"], found["found"]) == (1, 0.5, 1)
    printed = tsm(*command)
    assert printed.code == 0
    assert "1, 1 an hour" in printed.out
    (tmp_path / "t.csv").write_text(TRUTH)
    assert tsm(*command).code == 3  # nobody looked at sub/a.mp4
    assert "sub/a.mp4" in tsm(*command).err
    assert tsm(*command, "--allow-missing").code == 0


def test_eval_says_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TRUTH)
    events = events_file(tmp_path)
    assert tsm("eval", events, "--metrics", "tiou_map").code == 2
    assert tsm("eval", events, "--metrics", "tiou_map", "top_k", "--list", tmp_path / "t.csv").code == 2
    assert tsm("eval", events, "--metrics", "tiou_map=2", "--list", tmp_path / "t.csv").code == 2
    assert (
        tsm("eval", events_file(tmp_path, videos=3), "--metrics", "tiou_map", "--list", tmp_path / "t.csv").code
        == 3
    )
    endless = events_file(tmp_path, videos=[{"video": "a.mp4", "duration_sec": math.inf, "events": []}])
    assert "inf is no time" in tsm("eval", endless, "--metrics", "tiou_map", "--list", tmp_path / "t.csv").err
    assert tsm("test", "none.pt", "--metrics", "tiou_map").code == 2


def test_eval_of_events_loads_no_torch(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(TRUTH)
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom tsmcli.cli import app\n"
        f"args = ['eval', {str(events_file(tmp_path))!r}, '--metrics', 'tiou_map', '--allow-missing',"
        f" '--list', {str(tmp_path / 't.csv')!r}]\n"
        "result = CliRunner().invoke(app, args)\nassert result.exit_code == 0, result.output\n"
        "print('torch' in sys.modules, 'cv2' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert printed.stdout.strip() == "False False"


NAMES = ["background", "jump", "wave"]
PLAIN = replace(default_rules(1.0, NAMES), stride_sec=1.0, smooth_sec=0.0)


def scores(rows: list[list[float]]) -> WindowScores:
    starts = np.arange(len(rows), dtype=float)
    return WindowScores(np.array(rows), np.stack([starts, starts + 1], axis=1), float(len(rows)))


def test_windows_become_events() -> None:
    seen = scores([[0.9, 0.05, 0.05], [0.2, 0.8, 0], [0.4, 0.6, 0], [0.9, 0.1, 0], [0, 0.7, 0.3], [0.8, 0, 0.2]])

    def found(rules: EventRules) -> list[tuple[float, ...]]:
        events = find_events("v", seen, rules, NAMES)
        return [(NAMES.index(e.label), e.start_sec, e.end_sec, round(e.score, 6)) for e in events]

    assert PLAIN.background == ("background",)
    assert found(PLAIN) == [(1, 1, 3, 0.7), (1, 4, 5, 0.7)]
    assert found(replace(PLAIN, gap_sec=(0, 1, 0))) == [(1, 1, 5, 0.55)]
    assert found(replace(PLAIN, gap_sec=(0, 0.9, 0))) == found(PLAIN)
    assert found(replace(PLAIN, min_sec=(0, 2, 0))) == [(1, 1, 3, 0.7)]
    assert found(replace(PLAIN, thresholds=(0.5, 0.9, 0.25))) == [(2, 4, 5, 0.3)]
    assert found(replace(PLAIN, background=("jump",))) == [(0, 0, 1, 0.9), (0, 3, 4, 0.9), (0, 5, 6, 0.8)]


def test_smoothing_and_calibration() -> None:
    column = np.array([[0.0], [0.0], [3.0], [0.0]])
    assert moving_mean(column, 1).ravel().tolist() == [0, 1, 1, 1.5]
    logits = np.array([[0.3, -1.0, 2.0]])
    wanted = torch.tensor(logits / 2.5).softmax(1).numpy()
    assert np.allclose(calibrate(torch.tensor(logits).softmax(1).numpy(), 2.5), wanted)
    wanted = torch.tensor(logits / 2.5).sigmoid().numpy()
    assert np.allclose(calibrate(torch.tensor(logits).sigmoid().numpy(), 2.5, several=True), wanted)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**32), st.integers(1, 90), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.5, 1.0, 2.0])
)
def test_live_events_are_those_of_the_whole(seed: int, count: int, smooth: float, window: float) -> None:
    rng, step = np.random.default_rng(seed), 0.25
    logits = np.repeat(rng.normal(size=(count, 3)), rng.integers(1, 8), axis=0)[:count] * 3
    probabilities = np.exp(logits + rng.normal(size=(count, 3)) / 2)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    gaps, least = (tuple(rng.choice([0, 0.5, 1, 2], 3).tolist()) for _ in range(2))
    rules = EventRules(window, step, smooth, 1.0, ("background",), (0.5, 0.3, 0.6), gaps, least)
    live, pace, spans, said = LiveEvents("v", rules, NAMES), Pace(step), [], []
    for number, row in enumerate(probabilities):
        assert pace.takes(number * step)
        assert not pace.takes(number * step + step / 3)
        spans.append(pace.span(number * step, window))
        said += live.push(row, spans[-1])
    said += live.finish(count * step)
    whole = find_events("v", WindowScores(probabilities, np.array(spans), count * step), rules, NAMES)
    said.sort(key=lambda e: (e.start_sec, e.label))
    assert [e.label for e in said] == [e.label for e in whole]
    assert np.allclose([[*e[1:3], e.score] for e in said], [[*e[1:3], e.score] for e in whole])


def test_a_stream_keeps_little_and_goes_on_quickly() -> None:
    """A class that is seen all the time must not make it slower and slower."""
    live, pace = LiveEvents("v", replace(PLAIN, gap_sec=(2.0,) * 3), NAMES, several=True), Pace(1.0)
    said, start = list[Interval](), time.monotonic()
    for second in range(5000):
        said += live.push(np.array([0.1, 0.8, 0.6 if second % 50 < 3 else 0.1]), pace.span(second, 1.0))
        assert len(live._rows) < 12
    assert time.monotonic() - start < 2
    assert [(e.start_sec, e.end_sec) for e in said] == [(float(at), at + 3.0) for at in range(0, 5000, 50)]
    (steady,) = live.finish(5000)
    assert (steady.label, steady.start_sec, steady.end_sec) == ("jump", 0, 5000)


def test_rules_are_fitted() -> None:
    # too sure of itself, seen from 0.3 on, with a hole of a second, and flashes of one second
    row = {"-": [0.98, 0.01, 0.01], "j": [0.64, 0.36, 0.0], "f": [0.6, 0.4, 0.0]}
    seen = {"v": scores([row[c] for c in "--jjj-jj----f---jjj-jj---"])}
    truth = [Interval("v", 2, 8, "jump"), Interval("v", 16, 22, "jump")]
    rules = fit_rules(seen, truth, NAMES, PLAIN)
    assert rules.thresholds[1] == 0.35
    assert rules.gap_sec[1] == 1
    assert rules.min_sec[1] == 2
    assert (rules.thresholds[2], rules.gap_sec[2], rules.min_sec[2]) == (0.5, 0, 0)  # nobody waved
    assert [e[1:3] for e in find_events("v", seen["v"], rules, NAMES)] == [(2, 8), (16, 22)]
    easy = fit_rules({"v": scores([[0.1, 0.9, 0], [0.9, 0.1, 0]])}, [Interval("v", 0, 1, "jump")], NAMES, PLAIN)
    assert easy == PLAIN  # of equally good rules the usual ones
    sure = {"v": scores([[0.01, 0.98, 0.01]] * 10)}
    truth = [Interval("v", 0, 6, "jump")]  # right in 6 of 10
    temperature, nll = fit_temperature(sure, truth, NAMES, PLAIN)
    assert nll
    assert nll[1] < nll[0]
    assert calibrate(sure["v"].probabilities, temperature)[0, 1] == pytest.approx(0.6, abs=0.01)


def test_many_intervals_are_fitted_quickly() -> None:
    seen, start = {"v": scores([[0.1, 0.9, 0.0], [0.9, 0.1, 0.0]] * 5000)}, time.monotonic()
    truth = [Interval("v", at, at + 1, "jump") for at in range(0, 10_000, 2)]
    assert fit_rules(seen, truth, NAMES, PLAIN) == PLAIN
    assert time.monotonic() - start < 3


def test_rules_in_a_checkpoint(tmp_path: Path) -> None:
    config = load_preset("demo", ["model.width=0.125"])
    model = build_model(config, 3, seed=0)
    old = Checkpoint("demo", config, NAMES, Progress(1), model.state_dict())
    assert "events" not in checkpoint_tree(old)
    rules = replace(PLAIN, thresholds=(0.5, 0.25, 0.75), streamed=True)
    save_checkpoint(tmp_path / "c.pt", replace(old, events=rules))
    kept = open_checkpoint(tmp_path / "c.pt")
    assert kept is not None
    assert kept.events == rules
    wrong = [
        replace(rules, thresholds=(0.5,)),
        replace(rules, gap_sec=(0, 0, -1.0)),
        replace(rules, temperature=0.0),
    ]
    for bad in wrong:
        with pytest.raises(WeightsError):
            checkpoint_of(checkpoint_tree(replace(old, events=bad)), "c.pt")

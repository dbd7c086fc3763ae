"""Events of long videos: reading them, and scoring them with a command."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import tsm

from tsmcli.errors import DataError
from tsmcli.intervals.read import same_names
from tsmcli.intervals.tiou import Interval
from tsmcli.recipes.eval_events import read_truth, within

TRUTH = "path,start,end,label\na.mp4,0:01,4,wave\na.mp4,00:00:10.5,12,1\nb.mp4,0,5,background\nsub/a.mp4,1,2,wave\n"


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

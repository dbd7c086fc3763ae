"""Lists of intervals, as a user trains, tests and looks with them: the demo's clips, cut in two by a list."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support import tsm

from tsmcli.data.intervals import Span
from tsmcli.data.listfile import VideoRecord, read_list, write_intervals
from tsmcli.results import load_results

SMALL = ("--set", "model.width=0.125", "train.workers=0", "train.epochs=1", "train.batch=8")
HALVES = (Span(0, 12, frames=True), Span(1, np.inf))


@pytest.fixture
def here(untrained: Path) -> Path:
    """The demo, a network, and train.csv and val.csv with two intervals of each of its clips."""
    names = Path("data/demo/classes.txt").read_text().splitlines()
    for split in ("train", "val"):
        records = read_list(Path(f"data/demo/demo_{split}_list_videos.txt"), "video")
        cut = [record._replace(span=span) for record in records for span in HALVES]
        write_intervals(untrained / f"{split}.csv", cut, names)
    return untrained


def test_train_and_test(here: Path) -> None:
    done = tsm("train", "--preset", "demo", "--train-list", "train.csv", "--val-list", "val.csv", "--work-dir", "run",
               *SMALL)  # fmt: skip
    assert done.code == 0, done.err
    for name in ("a", "b"):
        done = tsm("test", "--checkpoint", "run/last.pt", "--list", "val.csv", "--out", f"{name}.npz", *SMALL[:3])
        assert done.code == 0, done.err
    results = load_results(Path("a.npz"))
    assert results.paths[:2] == ["val/right_000.mp4@f0-f12", "val/right_000.mp4@1-end"]
    assert len({*results.paths}) == 32
    done = tsm("eval", "--compare", "a.npz", "b.npz")
    assert done.code == 0, done.err
    done = tsm("report", "run", "--device", "cpu")
    assert done.code == 0, done.err
    assert "right_000.mp4@" in (here / "run/report.html").read_text()


def test_an_interval_of_all_frames_scores_as_the_file(here: Path) -> None:
    whole = read_list(Path("data/demo/demo_val_list_videos.txt"), "video")
    write_intervals(here / "all.csv", [record._replace(span=Span(0, 99)) for record in whole])
    for name in ("data/demo/demo_val_list_videos.txt", "all.csv"):
        done = tsm("test", "--checkpoint", "uni.pt", "--list", name, "--out", f"{Path(name).stem}.npz")
        assert done.code == 0, done.err
    files, intervals = load_results(Path("demo_val_list_videos.npz")), load_results(Path("all.npz"))
    assert np.array_equal(files.scores, intervals.scores)
    assert intervals.paths == [f"{path}@0-99" for path in files.paths]


def test_features_and_predictions(here: Path) -> None:
    done = tsm("features", "uni.pt", "val.csv", "--of", "window", "--window", 0.2, "--stride", 0.2)
    assert done.code == 0, done.err
    with np.load("features.npz") as file:
        assert [*dict.fromkeys(file["paths"].tolist())][1] == "val/right_000.mp4@1-end"
        assert file["times_sec"].max() == pytest.approx(1)
    names = [path for path in Path("data/demo/videos/val").iterdir() if path.name.startswith("right_0")]
    near = [
        VideoRecord(f"data/demo/videos/val/{path.name}", None, 0, span=span) for path in names for span in HALVES
    ]
    write_intervals(here / "near.csv", [*near, near[0]._replace(span=Span(90, 91))])
    done = tsm("predict", "uni.pt", "near.csv", "--json")
    assert done.code == 3, done.err
    found = json.loads(done.out)
    assert len(found["videos"]) == 4
    assert "the interval 90-91 begins after the end of the video" in found["failed"][0]["reason"]
    (here / "broken.csv").write_text("path,start,end\na.mp4,3,2\n")
    assert "broken.csv:2: the start 3 is not before the end 2" in tsm("predict", "uni.pt", "broken.csv").err
    done = tsm("data", "show", "near.csv", "--count", 4)
    assert (done.code, "4 views" in done.out) == (0, True)


def test_folds_keep_a_recording_together(here: Path) -> None:
    done = tsm("train", "--preset", "demo", "--train-list", "train.csv", "--val-list", "val.csv", "--folds", 2,
               "--work-dir", "run", *SMALL)  # fmt: skip
    assert done.code == 0, done.err
    for fold in (1, 2):
        train, val = ({r.path for r in read_list(here / f"run/lists/fold-{fold}-{part}.txt", "video")}
                      for part in ("train", "val"))  # fmt: skip
        assert len(train) == len(val) == 24
        assert not train & val


def test_check_finds_recordings_in_both_lists(here: Path) -> None:
    table, val = (here / "train.csv").read_text(), (here / "val.csv").read_text().splitlines()
    (here / "leak.csv").write_text(f"{table}{val[1].replace('f12', 'f20')}\n{val[4]}\nval/right_000.mp4,7,8,0\n")
    asked = ("data", "check", "--preset", "demo", "--train-list", "leak.csv", "--val-list", "val.csv", "--json")
    done = tsm(*asked)
    assert done.code == 3, done.err
    found = {finding["kind"]: finding["where"] for finding in json.loads(done.out)}
    first, second = val[1].split(",")[0], val[4].split(",")[0]
    assert found["recording in both"][0].startswith(f"{first}: 2 intervals in train, 2 in val")
    assert found["in both lists"] == [f"{second}@1-end"]
    assert "the interval 7-8 begins after the end" in found["unreadable"][0]

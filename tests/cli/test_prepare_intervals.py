"""`tsm prepare-data intervals`: from annotations of recordings to lists that train."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import time
import zipfile
from fractions import Fraction
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from support import Frame, number_of, numbered_frames, tsm, write_video

from tsmcli.config import DataConfig
from tsmcli.data.decode import clock_of, open_reader
from tsmcli.data.intervals import Span, frames_within
from tsmcli.data.listfile import VideoRecord, read_list
from tsmcli.data.location import Places, find_classes, find_split
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.data.video_writer import VideoWriter
from tsmcli.prepare import demo_long
from tsmcli.prepare.background import draw_background, gaps_between
from tsmcli.prepare.marks.write import Film, write
from tsmcli.recipes.several import Several, draw_folds

CASES = Path(__file__).parents[1] / "cases" / "intervals"
GREY = np.full((112, 112, 3), 128, np.uint8)
GAP = 40
SMALL = [
    "data.dataset=folder",
    "model.width=0.125",
    "model.num_segments=4",
    "train.epochs=1",
    "train.lr_steps=[]",
    "train.workers=0",
]


@pytest.fixture(scope="module")
def recordings(demo_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """Three recordings at 25/s, of a clip of each class with grey between them, and their true events."""
    folder, events = tmp_path_factory.mktemp("long"), list[Any]()
    names = (demo_data / "classes.txt").read_text().splitlines()
    records = read_list(demo_data / "demo_train_list_videos.txt", "video")
    for number in range(3):
        frames: list[Frame] = [GREY] * GAP
        for label, name in enumerate(names):
            clip = [record for record in records if record.label == label][number]
            with PyAVReader(demo_data / "videos" / clip.path) as reader:
                read = reader.read(np.arange(reader.num_frames))
            first = len(frames)
            frames += [frame[:112, :112] for frame in read]
            events.append((f"day{number}.mp4", first / 25, len(frames) / 25, name, 1.0))
            frames += [frames[0]] * GAP
        write_video(folder / f"day{number}.mp4", frames, preset="ultrafast")
    return folder, events


def lists(out: Path) -> dict[str, list[VideoRecord]]:
    classes = (out / "classes.txt").read_text().splitlines()
    return {s: read_list(out / f"folder_{s}_list_videos.csv", "video", classes=classes) for s in ("train", "val")}


def problems(out: Path) -> list[tuple[str, str, str]]:
    """Row, kind and whether it was used."""
    rows = csv.DictReader((out / "problems.csv").read_text().splitlines())
    return [(row["row"].rpartition("/")[2], row["kind"], row["used"]) for row in rows]


def test_from_events_of_a_tool_to_a_training(
    recordings: tuple[Path, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, events = recordings
    monkeypatch.chdir(tmp_path)
    films = {f"day{i}.mp4": Film(25.0) for i in range(3)}
    write("elan", events, tmp_path / "elan.eaf", films)
    args = ["prepare-data", "intervals", "--annotations", ".", "--source", source, "--background", "none"]
    done = tsm(*args, "--out", "out", "--val-share", "0.4", "--json").json()
    assert done["recordings"] == {"train": 2, "val": 1}
    assert (done["problems"], done["notes"]) == ([], [])
    names = sorted({event[3] for event in events})
    assert [*done["classes"]] == sorted([*names, "none"])
    assert all((c["train"], c["val"]) == (2, 1) for name, c in done["classes"].items() if name != "none")
    found = lists(tmp_path / "out")
    assert not {r.path for r in found["train"]} & {r.path for r in found["val"]}
    classes = find_classes(DataConfig(dataset="folder"), Places(folder=tmp_path / "out"))
    listed = {(r.path, *r.span[:2], classes[r.label]) for own in found.values() for r in own if r.span}
    assert {row for row in listed if row[3] != "none"} == {
        (v, round(s, 3), round(e, 3), n) for v, s, e, n, _ in events
    }
    for video, start, end, _ in (row for row in listed if row[3] == "none"):
        assert all(end <= s - 0.499 or start >= e + 0.499 for v, s, e, *_ in events if v == video)
    median = done["classes"][names[0]]["seconds"]
    assert median <= done["classes"]["none"]["seconds"] < 2 * median
    written = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert tsm(*args, "--out", "out", "--val-share", "0.4").code == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == written
    args[args.index(".")] = "elan.day0.eaf"
    many = tsm(*args, "--out", "other", "--seed", "1", "--val-share", "0.4")
    assert "there are no val videos at all" in many.out
    split = find_split(DataConfig(dataset="folder"), Places(folder=tmp_path / "out"), "train", classes)
    assert split.media.samefile(source)
    trained = tsm("train", "--preset", "demo", "--data", "out", "--set", *SMALL)
    assert trained.code == 0, trained.err


@pytest.fixture(scope="module")
def cams(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of the length and rate of the samples' `cam1` and `cam2`."""
    folder = tmp_path_factory.mktemp("cams")
    for name, rate, length in (("cam1", Fraction(25), 2000), ("cam2", Fraction(30000, 1001), 900)):
        with av.open(str(folder / f"{name}.mp4"), "w") as container:
            stream = container.add_stream("mpeg4", rate=rate)
            stream.width = stream.height = 32
            for number in range(length):
                shade = np.full((32, 32, 3), number % 200, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(shade, format="rgb24")))
            container.mux(stream.encode())
    return folder


@pytest.mark.parametrize(
    "sample", ["labelstudio_timeline.json", "via3.json", "elan", "epic100.csv", "cvat.zip", "boris_events.tsv"]
)
def test_lists_of_every_unit_are_exact_to_the_frame(sample: str, cams: Path, tmp_path: Path) -> None:
    annotations = CASES / sample
    if sample == "cvat.zip":
        annotations = tmp_path / sample
        with zipfile.ZipFile(annotations, "w") as file:
            for name in ("cvat_cam1.xml", "cvat_cam2.xml"):
                file.write(CASES / name, name)
    done = tsm(
        "prepare-data", "intervals", "--annotations", annotations, "--source", cams, "--out", tmp_path / "out"
    )
    assert done.code == 0, done.err
    found = set()
    for record in (record for own in lists(tmp_path / "out").values() for record in own):
        with PyAVReader(cams / record.path) as reader:
            assert record.span
            found.add((record.path, *frames_within(record.span, *reader.timeline[:2]), record.label))
    rows = csv.DictReader((CASES / "truth.csv").read_text().splitlines())
    assert found == {
        (r["video"], int(r["start_frame"]), int(r["end_frame_exclusive"]), int(r["label"] == "wave")) for r in rows
    }


def test_a_dry_run_and_what_does_not_apply(recordings: tuple[Path, list[Any]], tmp_path: Path) -> None:
    source, events = recordings
    (table,) = write("csv", events, tmp_path / "t.csv")
    args = ["prepare-data", "intervals", "--annotations", table, "--source", source, "--out", tmp_path / "out"]
    assert "dry run: nothing was written" in tsm(*args, "--dry-run").out
    assert not (tmp_path / "out").exists()
    for more, told in (
        (["--size", "64x64"], "--store zip cuts them out"),
        (["--store", "video", "--short-side", "64"], "--store zip cuts them out"),
        (["--store", "zip", "--shard", "1/2"], "--shard is for other datasets"),
        (["--background", events[0][3]], "is called"),
        (["--set", "data.multi_label=true"], "an interval has one label"),
        (["--group", "night"], "does not match day0.mp4"),
    ):
        refused = tsm(*args, *more)
        assert refused.code in (2, 3)
        assert told in refused.err
        assert not (tmp_path / "out").exists()
    assert tsm("prepare-data", "folder", "--source", source, "--background", "x").code == 2
    assert "needs --annotations" in tsm("prepare-data", "intervals", "--source", source).err
    gone = tsm("prepare-data", "intervals", "--source", source, "--annotations", tmp_path / "gone.json")
    assert (gone.code, "no file or folder" in gone.err) == (2, True)
    nowhere = tsm("prepare-data", "intervals", "--source", tmp_path / "gone", "--annotations", table)
    assert (nowhere.code, "no folder" in nowhere.err) == (3, True)


def test_every_row_that_is_odd_is_told(recordings: tuple[Path, list[Any]], tmp_path: Path) -> None:
    source, _ = recordings
    with PyAVReader(source / "day0.mp4") as reader:
        frames, end = reader.num_frames, reader.timeline.duration_sec
    videos = tmp_path / "videos"
    for number, name in enumerate(("day0.mp4", "a/twice.mp4", "b/twice.mp4", "day1.mp4", "day2.mp4")):
        (videos / name).parent.mkdir(parents=True, exist_ok=True)
        (videos / name).symlink_to(source / f"day{number % 3}.mp4")
    (videos / "broken.mp4").write_bytes(b"nothing")
    rows = [
        ("day0", 1, 2, "x", None), ("day0.mp4", "f20", "f45", "y", ("overlap", "yes")), ("day0", 3, 3, "x", ("empty", "no")),
        ("day0", 3.001, 3.002, "x", ("empty", "no")), ("day0", end - 1, end + 5, "x", ("past the end", "yes")),
        ("day0", end + 1, end + 2, "x", ("past the end", "no")), ("day0", "f9", f"f{frames + 9}", "x", ("past the end", "yes")),
        ("day0", 2, 1, "x", ("empty", "no")), ("day0", 4, 5, "", ("no label", "no")), ("none.mp4", 1, 2, "x", ("no video", "no")),
        ("twice", 1, 2, "x", ("several videos", "no")), ("a/twice.mp4", 1, 2, "x", None), ("broken.mp4", 1, 2, "x", ("unreadable", "no")),
        ("day0", "f25", "f50", "x", ("twice", "no")), ("day1", 1, 2, "y", None), ("day2", 1, 2, "y", None),
    ]  # fmt: skip
    table = tmp_path / "t.csv"
    table.write_text("video,start,end,label\n" + "".join(f"{v},{s},{e},{n}\n" for v, s, e, n, _ in rows))
    done = tsm("prepare-data", "intervals", "--annotations", table, "--source", videos, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    told = {(line, *told) for line, (*_, told) in zip(count(2), rows, strict=False) if told}
    found = {(int(row.rpartition(":")[2]), kind, used) for row, kind, used in problems(tmp_path / "out")}
    overlaps = {row for row in found if row[1] == "overlap"}
    assert found - overlaps == {row for row in told if row[1] != "overlap"}
    assert (3, "overlap", "yes") in overlaps or (2, "overlap", "yes") in overlaps
    assert f"left out: empty: 3 intervals, the first: {table}:4" in done.out
    spans = [r.span for own in lists(tmp_path / "out").values() for r in own if r.path == "day0.mp4" and r.span]
    assert (9, frames, True) in spans
    assert max(span.end for span in spans if not span.frames) == pytest.approx(end)


def test_rates_that_a_tool_assumed_are_told(recordings: tuple[Path, list[Any]], tmp_path: Path) -> None:
    source, events = recordings
    write("labelstudio", events, tmp_path / "ls.json", {f"day{i}.mp4": Film(30.0) for i in range(3)})
    text = (tmp_path / "ls.json").read_text().replace('"predictions"', '"annotations"')
    for rate, told in (("30", 3), ("25", 0)):
        (tmp_path / "ls.json").write_text(text.replace('"fps": 30.0', '"length": 1'))
        done = tsm("prepare-data", "intervals", "--annotations", tmp_path / "ls.json", "--source", source, "--out",
                   tmp_path / rate, "--tick-rate", rate, "--json").json()  # fmt: skip
        assert sum(row["count"] for row in done["problems"] if row["kind"] == "frame rate") == told


def test_groups_of_recordings_stay_together(recordings: tuple[Path, list[Any]], tmp_path: Path) -> None:
    source, events = recordings
    (tmp_path / "v").mkdir()
    for number in range(6):
        (tmp_path / "v" / f"{'abc'[number % 3]}_{number}.mp4").symlink_to(source / f"day{number % 3}.mp4")
    renamed = [
        (f"{'abc'[n % 3]}_{n}.mp4", *event[1:])
        for event in events
        for n in range(6)
        if event[0] == f"day{n % 3}.mp4"
    ]
    (table,) = write("csv", renamed, tmp_path / "t.csv")
    done = tsm("prepare-data", "intervals", "--annotations", table, "--source", tmp_path / "v", "--out", tmp_path / "o",
               "--group", "^([abc])_")  # fmt: skip
    assert done.code == 0, done.err
    people = {split: {r.path[0] for r in own} for split, own in lists(tmp_path / "o").items()}
    assert not people["train"] & people["val"]
    assert people["train"] | people["val"] == {*"abc"}


def test_background_keeps_away_and_is_as_long_as_asked() -> None:
    marked = [(5.0, 6.0), (5.5, 9.0), (30.0, 40.0)]
    gaps = gaps_between(marked, 60.0, 0.5)
    assert gaps == [(0.0, 4.5), (9.5, 29.5), (40.5, 60.0)]
    assert gaps_between([], 3.0, 0.5) == [(0.0, 3.0)]
    assert gaps_between([(0.0, 3.0)], 3.0, 0.5) == []
    drawn = draw_background({"a": gaps, "b": []}, [1.0, 2.0, 300.0], 20.0, 3)
    assert 20.0 <= sum(span.end - span.start for _, span in drawn) < 22.0
    assert all(any(a <= span.start < span.end <= b for a, b in gaps) for _, span in drawn)
    assert all(one.end <= two.start for (_, one), (_, two) in pairwise(drawn))
    assert drawn == draw_background({"b": [], "a": gaps}, [1.0, 2.0, 300.0], 20.0, 3)
    full = draw_background({"a": gaps}, [1.0], 999.0, 0)
    assert sum(abs(span.end - span.start - 1.0) < 0.001 for _, span in full) > 20
    assert all(0.25 <= span.end - span.start <= 1.001 for _, span in full)
    short = draw_background({"a": [(0.0, 1.5), (3.0, 3.4)]}, [2.0], 9.0, 0)
    assert short == [("a", Span(0.0, 1.5))], "no place is long enough, and one far too short"
    assert draw_background({"a": gaps}, [300.0], 9.0, 0) == []
    assert draw_background({}, [1.0], 9.0, 0) == []


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings whose frames carry their numbers: at 25/s, without an index, and at changing rates; and a table."""
    folder = tmp_path_factory.mktemp("numbered")
    (folder / "talks").mkdir()
    frames = numbered_frames(120)
    write_video(folder / "talks" / "a.mp4", frames, g="50", bf="2")
    write_video(folder / "talks" / "a.avi", frames, codec="mpeg4", g="50")
    with VideoWriter(folder / "b.mp4", Fraction(25), Fraction(1, 1000), g="50") as video:
        for number, frame in enumerate(frames):
            video.write(frame, number * 0.02 if number < 60 else number * 0.1 - 4.8, shown_sec=0.1)
    rows = ["video,start,end,label"]
    for start, end, label in (
        (0.5, 1.26, "talk"),
        ("f71", "f72", "wave"),
        (3.01, 4.8, "wave"),
        (3.01, 4.8, "talk"),
    ):
        rows += [f"{name},{start},{end},{label}" for name in ("a.mp4", "a.avi", "b")]
    (folder / "t.csv").write_text("\n".join(rows))
    return folder


@pytest.mark.parametrize("store", ["zip", "frames", "seekable"])
def test_what_is_cut_out_has_the_frames_of_its_interval(numbered: Path, tmp_path: Path, store: str) -> None:
    args = [
        "prepare-data",
        "intervals",
        "--annotations",
        numbered / "t.csv",
        "--source",
        numbered,
        "--background",
        "none",
    ]
    assert tsm(*args, "--out", tmp_path / "listed").code == 0
    done = tsm(*args, "--out", tmp_path / "cut", "--store", store, "--workers", "2")
    assert done.code == 0, done.err
    suffix, how = {"zip": (".zip", "zip"), "frames": ("", "frames"), "seekable": (".mp4", "video")}[store]
    data, cut_data = (DataConfig(dataset="folder", store=s) for s in ("video", how))  # type: ignore[arg-type]
    assert ("--set data.store" in done.out) == (how != "video")
    seen = {}
    for part in ("train", "val"):
        listed = find_split(data, Places(folder=tmp_path / "listed"), part, ["none", "talk", "wave"])
        cut = find_split(cut_data, Places(folder=tmp_path / "cut"), part, ["none", "talk", "wave"])
        assert [(r.name + suffix, r.label) for r in listed.records] == [(r.path, r.label) for r in cut.records]
        for record, own in zip(listed.records, cut.records, strict=True):
            with open_reader(listed, record, data) as interval, open_reader(cut, own, cut_data) as clip:
                assert clip.num_frames == interval.num_frames
                assert own.num_frames == (None if how == "video" else clip.num_frames)
                right, frames = (reader.read(np.arange(reader.num_frames)) for reader in (interval, clip))
                if how == "video":
                    assert clock_of(clip, 25)[0] == pytest.approx(clock_of(interval, 25)[0], abs=2e-3)
            assert np.mean(np.abs(np.subtract(frames, right, dtype=np.int16))) < 3
            seen[record.name] = [number_of(frame) for frame in frames]
    right = {"f71-f72": (71, 72), "0.5-1.26": (13, 32), "3.01-4.8": (76, 120)}  # of 25 frames a second
    for name in ("talks/a.mp4", "talks/a.avi"):
        assert all(seen[f"{name}@{span}"] == [*range(*numbers)] for span, numbers in right.items())
    assert seen["b.mp4@0.5-1.26"] == [*range(25, 61)]
    assert seen["b.mp4@3.01-4.8"] == [*range(79, 96)]


def test_folds_keep_what_was_cut_out_of_one_recording_together() -> None:
    clips = [VideoRecord(f"a/day{n}.mp4@{s}.5-f{s + 2}.zip", 9, s % 2) for n in range(4) for s in range(6)]
    for val in draw_folds(clips, Several(folds=2), 0):
        assert len({clips[i].path.partition("@")[0] for i in val}) == 2
        assert len(val) == 12


def test_what_cannot_be_cut_out_is_told_and_the_rest_is_listed(numbered: Path, tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    shutil.copytree(numbered, videos)
    data = bytearray((videos / "b.mp4").read_bytes())
    with av.open(str(videos / "b.mp4")) as container:
        for packet in container.demux(video=0):
            if packet.size and packet.pts and 0.4 < packet.pts * packet.time_base < 0.9:
                data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    (videos / "b.mp4").write_bytes(data)
    args = ["prepare-data", "intervals", "--annotations", numbered / "t.csv", "--source", videos, "--out", out]
    planned = tsm(*args, "--store", "zip", "--dry-run", "--json").json()
    assert planned["estimated_bytes"] > 100_000
    assert not out.exists()
    done = tsm(*args, "--store", "zip", "--json").json()
    assert {"kind": "unreadable", "used": False, "count": 1} in done["problems"]
    assert [problem for problem in problems(out) if problem[2] == "no"] == [("b.mp4@0.5-1.26", "unreadable", "no")]
    assert sum(c["train"] + c["val"] for c in done["classes"].values()) == 11
    text = "".join(path.read_text() for path in out.glob("folder_*_list_*.txt"))
    assert (text.count("\n"), "b.mp4@0.5" in text) == (11, False)
    held = sum(path.stat().st_size for path in out.rglob("*.zip"))
    assert 0.5 < planned["estimated_bytes"] / held < 2
    shutil.copy(numbered / "b.mp4", videos)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.zip")}
    assert tsm(*args, "--store", "zip").code == 0
    assert {used for _, _, used in problems(out)} == {"yes"}
    after = {path: path.stat().st_mtime_ns for path in out.rglob("*.zip")}
    assert (after.items() > before.items(), len(after) - len(before)) == (True, 1)
    other = tsm(*args, "--store", "zip", "--short-side", "64")
    assert (other.code, "already holds zip of size: original" in other.err) == (2, True)
    small = tsm(*args[:-1], tmp_path / "small", "--store", "zip", "--short-side", "64")
    assert small.code == 0, small.err
    with zipfile.ZipFile(next((tmp_path / "small").rglob("*.zip"))) as file:
        assert cv2.imdecode(np.frombuffer(file.read("img_00001.jpg"), np.uint8), 1).shape == (64, 117, 3)


def test_cutting_that_is_killed_goes_on_where_it_stopped(numbered: Path, tmp_path: Path) -> None:
    rows = [f"a.mp4,f{i},f{i + 12},{'talk' if i % 2 else 'wave'}" for i in range(100)]
    rows += [f"b,{i},{i + 1},wave" for i in (1, 2)]
    (tmp_path / "t.csv").write_text("\n".join(["video,start,end,label", *rows]))
    command = [sys.executable, "-m", "tsmcli", "prepare-data", "intervals", "--annotations", str(tmp_path / "t.csv"),
               "--source", str(numbered), "--store", "frames", "--workers", "2", "--out"]  # fmt: skip
    assert tsm(*command[3:], tmp_path / "whole").code == 0

    def made() -> dict[str, int]:
        """Every clip that is complete, and when it was."""
        found = (tmp_path / "cut").glob("rawframes/talks/*")
        return {path.name: path.stat().st_mtime_ns for path in found if ".part-" not in path.name}

    killed = subprocess.Popen(
        [*command, str(tmp_path / "cut")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    limit = time.monotonic() + 60
    while len(made()) < 5 and time.monotonic() < limit:
        time.sleep(0.005)
    killed.kill()
    killed.wait(10)
    before = made()
    assert 5 <= len(before) < 100
    assert not (tmp_path / "cut" / "manifest.json").exists()
    done = tsm(*command[3:], tmp_path / "cut")
    assert done.code == 0, done.err
    assert made().items() >= before.items()
    whole, cut = (
        {p.relative_to(tmp_path / out): p.read_bytes() for p in (tmp_path / out).rglob("*") if p.is_file()}
        for out in ("whole", "cut")
    )
    left = {path for path in cut if ".part-" in str(path)}  # its process lives on until init has buried it
    assert {path: cut[path] for path in cut.keys() - left} == whole


def test_recordings_to_try_intervals_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo_long, "PARTS", {"train": (0, 3, 8), "fit": (1, 1, 3), "test": (1, 1, 3)})
    assert "data/demo-long: 5 recordings" in tsm("prepare-data", "demo-long").out
    again = tsm("prepare-data", "demo-long")
    assert (again.code, "data/demo-long exists" in again.err) == (2, True)
    assert tsm("prepare-data", "demo-long", "--out", "again").code == 0
    made = Path("data/demo-long")
    for path in made.rglob("*.*"):
        assert path.read_bytes() == Path("again", path.relative_to(made)).read_bytes()
    with (made / "train.csv").open() as file:
        first, *_ = csv.DictReader(file)
    start, end = (round(float(first[key]) * 12) for key in ("start", "end"))
    with PyAVReader(made / "videos" / first["path"]) as reader:
        frames = [frame.astype(int) for frame in reader.all_bgr()]
    moved = [float(np.abs(a - b).mean()) for a, b in pairwise(frames)]
    assert end - start == 24
    assert max(moved[: start - 1]) < 0.2 < min(moved[start : end - 1])
    marks = ("--annotations", made / "train.csv", "--source", made / "videos")
    listed = tsm("prepare-data", "intervals", *marks, "--background", "still", "--out", "own", "--json").json()
    assert sum(one["train"] + one["val"] for name, one in listed["classes"].items() if name != "still") == 24
    assert listed["classes"]["still"]["train"] > 0
    assert listed["problems"] == []

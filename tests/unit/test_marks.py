"""Intervals marked in other tools: every sample means the same, damage is told, what is written is read again."""

from __future__ import annotations

import csv
import json
import random
import re
import time
from collections import Counter
from contextlib import suppress
from fractions import Fraction
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from tsmcli.errors import DataError, TsmError
from tsmcli.prepare.marks.mark import Ask, Marks, exact_rate
from tsmcli.prepare.marks.names import find_video
from tsmcli.prepare.marks.read import read_marks
from tsmcli.prepare.marks.write import Film, write

CASES = Path(__file__).parents[1] / "cases" / "intervals"
RATES = {"cam1": Fraction(25), "cam2": Fraction(30000, 1001)}
SUFFIXES = {"activitynet": ".json", "csv": ".csv", "srt": ".srt", "vtt": ".vtt", "labelstudio": ".json", "cvat": ".xml",
            "elan": ".eaf"}  # fmt: skip
FILMS = {"cam1.mp4": Film(25, 2000, 320, 240), "cam2.mp4": Film(30000 / 1001, 900, 320, 240)}
SAMPLES = sorted(path.name for path in CASES.iterdir() if path.name not in ("out", "epic100_video_info.csv"))
FIRST_LINE = {"hacs_clips.csv": ":2", "via3.csv": ":6"}
TRUTH = [*csv.DictReader((CASES / "truth.csv").read_text().splitlines())]
EVENTS = [(row["video"], float(row["start_sec"]), float(row["end_sec"]), row["label"], 0.5) for row in TRUTH]


def truth(*videos: str) -> set[tuple[str, int, int, str]]:
    """Video, frames and label of each true interval."""
    every = {
        (Path(r["video"]).stem, int(r["start_frame"]), int(r["end_frame_exclusive"]), r["label"]) for r in TRUTH
    }
    return {row for row in every if row[0] in (videos or RATES)}


def in_frames(marks: Marks, rounded_sec: float = 0.0005) -> set[tuple[str, int, int, str]]:
    """The same of marks; a time may lie past its frame by what its format rounds."""
    found = set()
    for mark in marks.marks:
        video = Path(mark.video).stem
        rate = 1 if mark.frames else RATES[video]
        tol = Fraction(0 if mark.frames else rounded_sec)
        first, end = (ceil((Fraction(t) - tol) * rate) for t in (mark.start, mark.end))
        found.add((video, first, end, mark.label))
    return found


def read_text_as(tmp_path: Path, name: str, text: str, **ask: Any) -> Marks:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_marks(path, Ask(**ask))


def spans(marks: Marks) -> list[tuple[float, float, str]]:
    return [(m.start, m.end, m.label) for m in marks.marks]


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_means_the_truth(name: str) -> None:
    marks = read_marks(CASES / name)
    cam = re.search("cam[12]", name)
    wanted = truth(cam[0]) if cam else truth()
    assert in_frames(marks, 0.005 if "epic" in name else 0.0005) == wanted
    seconds = {(Path(v).stem, label, round(t, 6)) for v, s, e, label, _ in EVENTS for t in (s, e)}
    for mark in marks.marks:
        for sec in (mark.start, mark.end) if not mark.frames else ():
            near = [t for video, label, t in seconds if (video, label) == (Path(mark.video).stem, mark.label)]
            assert min(abs(sec - t) for t in near) < 0.01
    assert len(marks.marks) == len(wanted)
    assert all(mark.where.startswith(str(CASES / name)) for mark in marks.marks)
    assert marks.marks[0].where.endswith(FIRST_LINE.get(name, ""))


def test_a_folder_holds_files_of_different_tools() -> None:
    marks = read_marks(CASES)
    assert in_frames(marks, 0.005) == truth()
    assert marks.files == {
        "CVAT": 3, "Label Studio": 3, "VIA": 3, "ELAN": 2, "Audacity": 2, "ActivityNet": 2, "HACS clips": 1,
        "THUMOS14": 3, "EPIC-KITCHENS": 1, "BORIS": 3, "tables": 1,
    }  # fmt: skip
    assert {"2 negative clips are left out", "no annotations that are known"} <= {
        part for note in marks.notes for part in re.findall("2 negative.*|no annotations that are known", note)
    }


@pytest.mark.parametrize("name", SAMPLES)
def test_damage_is_told_and_never_a_crash(name: str, tmp_path: Path) -> None:
    rng = random.Random(name)
    files = [CASES / name] if (CASES / name).is_file() else sorted((CASES / name).iterdir())
    for _ in range(12):
        source = rng.choice(files)
        data = bytearray(source.read_bytes())
        for _ in range(rng.choice((1, 3, 40))):
            at = rng.randrange(len(data))
            data[at : at + rng.choice((0, 1, 30))] = rng.choice(
                (b"", b"{", b'"', b"<", b"\xff", b"-", b"9" * 400, b"\n,")
            )
        (tmp_path / source.name).write_bytes(data)
        with suppress(TsmError):
            found = read_marks(tmp_path / source.name)
            assert all(np.isfinite((m.start, m.end)).all() for m in found.marks)


BOMB = '<!DOCTYPE a [<!ENTITY b "' + "b" * 99 + '">]><annotations><version>1.1</version>&b;</annotations>'
OUTSIDE = '<!DOCTYPE a SYSTEM "file:///etc/passwd"><ANNOTATION_DOCUMENT/>'


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.xml", BOMB, "DOCTYPE"),
        ("a.eaf", OUTSIDE, "DOCTYPE"),
        ("a.xml", "<annotations>" + "<a>" * 100_000, "more than 50 elements"),
        ("a.xml", "<annotations><version>1.1", "damaged XML"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.json", '{"database": {"a": {"annotations": [{"segment": [0, NaN], "label": "x"}]}}}', "no time"),
        ("a.json", '{"database": {"a": {"annotations": [{"segment": [0, 1e999], "label": "x"}]}}}', "no time"),
        ("a.json", '{"database": {"a": {"annotations": [{"segment": [0], "label": "x"}]}}}', "damaged"),
        ("a.json", '{"database": {"a": {"annotations": [{"segment": 7}]}}}', "a.json: damaged"),
        ("a.json", '[{"data": {"video": "a.mp4"}, "annotations": [7]}]', "damaged as a file of Label Studio"),
        ("a.json", '{"some": "thing"}', "no annotations that are known"),
        ("a.csv", "video,start,end,label\na.mp4,1,soon,x\n", "a.csv:2: 'soon' is no time"),
        ("a.csv", "video,start,end,label\na.mp4,f1,2,x\n", "a.csv:2: one time is a frame number"),
        ("a.csv", "name,number\na,1\n", "no annotations that are known"),
        ("a.txt", "1.0\t2.0\tx\nnothing\n", "no annotations that are known"),
        ("a.eaf", '<ANNOTATION_DOCUMENT><HEADER TIME_UNITS="PAL-frames"/></ANNOTATION_DOCUMENT>', "PAL-frames"),
    ],
)
def test_hostile_and_foreign_files(tmp_path: Path, name: str, text: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_text_as(tmp_path, name, text)


def cvat(meta: str, *body: str) -> str:
    return f"<annotations><version>1.1</version><meta>{meta}</meta>{''.join(body)}</annotations>"


def track(label: str, *shapes: tuple[int, int], task: str = "") -> str:
    boxes = "".join(f'<box frame="{frame}" outside="{outside}"/>' for frame, outside in shapes)
    return f'<track id="0" label="{label}" {task}>{boxes}</track>'


def test_cvat_runs_steps_jobs_and_projects(tmp_path: Path) -> None:
    """Key frames alone; two runs; none that closes; frames of a second task that go on after the first."""
    task = "<task><size>100</size><start_frame>10</start_frame><stop_frame>109</stop_frame><source>a.mp4</source></task>"
    text = cvat(task, track("x", (20, 0), (30, 1), (50, 0), (60, 1), (60, 1)), track("y", (90, 0)))
    assert spans(read_text_as(tmp_path, "a.xml", text)) == [(20, 30, "x"), (50, 60, "x"), (90, 110, "y")]
    job = "<job><size>9</size><start_frame>0</start_frame><stop_frame>8</stop_frame></job>"
    assert read_text_as(tmp_path, "film.xml", cvat(job, track("x", (1, 0), (2, 1)))).marks[0].video == "film"
    tasks = "".join(f"<task><id>{i}</id><size>{n}</size><start_frame>0</start_frame><stop_frame>{n - 1}</stop_frame>"
                    f"<source>{i}.mp4</source></task>" for i, n in ((4, 50), (7, 40)))  # fmt: skip
    project = cvat(f"<project><tasks>{tasks}</tasks></project>", track("x", (3, 0), (5, 1), task='task_id="4"'),
                   track("x", (52, 0), (60, 1), task='task_id="7"'), track("x", (80, 0), task='task_id="7"'))  # fmt: skip
    found = [(m.video, m.start, m.end) for m in read_text_as(tmp_path, "p.xml", project).marks]
    assert found == [("4.mp4", 3, 5), ("7.mp4", 2, 10), ("7.mp4", 30, 40)]
    nothing = cvat("", track("z", (4, 0), (9, 1), (12, 0), (13, 0)))
    assert spans(read_text_as(tmp_path, "n.xml", nothing)) == [(4, 9, "z"), (12, 14, "z")]
    stepped = task.replace("<source>", "<frame_filter>step=5</frame_filter><source>")
    images = "".join(f'<image id="{i}"><tag label="x"/></image>' for i in (10, 15, 20, 35))
    assert spans(read_text_as(tmp_path, "s.xml", cvat(stepped, images))) == [(10, 25, "x"), (35, 40, "x")]


def test_label_studio_rates_people_and_predictions(tmp_path: Path) -> None:
    def task(*annotations: dict[str, Any], **data: Any) -> dict[str, Any]:
        return {"id": 1, "data": {"film": "/data/upload/3/0123abcd-a%20b.mp4", **data}, "annotations": annotations,
                "predictions": [result(1, 2, "no")]}  # fmt: skip

    def result(start: int, end: int, *labels: str, **facts: Any) -> dict[str, Any]:
        value = {"ranges": [{"start": start, "end": end}], "timelinelabels": [*labels]}
        return {"result": [{"type": "timelinelabels", "value": value}], **facts}

    def read(*tasks: dict[str, Any], rate: float | None = None) -> Marks:
        return read_text_as(tmp_path, "a.json", json.dumps(tasks), tick_rate=rate)

    plain = read(task(result(25, 48, "x", "y")))
    assert spans(plain) == [(1, 2, "x"), (1, 2, "y")]
    assert "24 a second" in plain.notes[0]
    assert not read(task(result(25, 48, "x")), rate=30).notes
    assert spans(read(task(result(31, 60, "x")), rate=30)) == [(1, 2, "x")]
    assert spans(read(task(result(31, 31, "x"), fps="30"), rate=10)) == [(1, round(31 / 30, 9), "x")]
    assert spans(read(task(result(26, 50, "x"), frameRate=0.04))) == [(1, 2, "x")]
    both = read(task(result(1, 24, "old", updated_at="2024"), result(1, 24, "new", updated_at="2025"),
                     result(1, 24, "undated"), result(1, 24, "off", was_cancelled=True, updated_at="2026")))  # fmt: skip
    assert [label for *_, label in spans(both)] == ["new"]
    assert "1 tasks were annotated more than once" in both.notes[-1]
    record = {"id": 1, "video": "a.mp4", "annotation_id": 5, "tricks": [{"start": 1, "end": 2, "labels": ["x"]}]}
    minimal = read(record, {**record, "tricks": []}, {**record, "annotation_id": 3})
    assert spans(minimal) == [(1, 2, "x")]
    assert "1 tasks were annotated more than once" in minimal.notes[-1]
    video = plain.marks[0].video
    assert find_video(video, {"a b": [Path("a b.mp4")]}) == [Path("a b.mp4")]


def test_via_options_stills_and_regions(tmp_path: Path) -> None:
    tree = json.loads((CASES / "via3.json").read_text())
    tree["attribute"]["1"]["options"] = {"0": "waving", "1": "jumping"}
    tree["attribute"]["2"] = {"aname": "who", "anchor_id": "FILE1_Z2_XY0", "type": 1}
    rows = [*tree["metadata"].values()]
    for row, z in zip(rows, ([1, 2], [3], [], [4, 5], [6, 7]), strict=True):
        row |= {"z": z, "av": {"1": "0", "2": "ann"}}
    rows[3]["xy"], rows[4]["av"]["1"] = [1, 2, 3], "_DEFAULT"
    text = json.dumps(tree)
    assert spans(read_text_as(tmp_path, "v.json", text)) == [(1, 2, "waving"), (6, 7, "")]
    assert spans(read_text_as(tmp_path, "v.json", text, label="who")) == [(1, 2, "ann"), (6, 7, "ann")]
    with pytest.raises(DataError, match="which attribute is the label.*TEMPORAL-SEGMENTS, who"):
        read_text_as(tmp_path, "v.json", text, label="what")


ELAN = """<ANNOTATION_DOCUMENT><HEADER TIME_UNITS="milliseconds">
<MEDIA_DESCRIPTOR MEDIA_URL="file:///a.wav" MIME_TYPE="audio/x-wav"/>
<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/my%20films/a.mp4" MIME_TYPE="video/mp4" TIME_ORIGIN="-500"/></HEADER>
<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts9" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="ts1"/>
<TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="3000"/></TIME_ORDER>
<TIER TIER_ID="hand"><ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts9" TIME_SLOT_REF2="ts1">
<ANNOTATION_VALUE> wave </ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>
<TIER TIER_ID="side" PARENT_REF="hand"><ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a2" ANNOTATION_REF="a1">
<ANNOTATION_VALUE>left</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION></TIER></ANNOTATION_DOCUMENT>"""


def test_elan_slots_tiers_and_origin(tmp_path: Path) -> None:
    found = read_text_as(tmp_path, "e.eaf", ELAN)
    assert spans(found) == [(0.5, 1.5, "wave")]
    assert found.marks[0].video == "file:///C:/my%20films/a.mp4"
    assert spans(read_text_as(tmp_path, "e.eaf", ELAN, label="side")) == [(0.5, 1.5, "left")]
    assert spans(read_text_as(tmp_path, "e.eaf", ELAN, label="tier")) == [(0.5, 1.5, "hand")]
    with pytest.raises(DataError, match="no tier 'foot'; there are hand, side"):
        read_text_as(tmp_path, "e.eaf", ELAN, label="foot")
    circle = ELAN.replace('ANNOTATION_REF="a1"', 'ANNOTATION_REF="a2"')
    with pytest.raises(DataError, match="damaged as a file of ELAN"):
        read_text_as(tmp_path, "e.eaf", circle, label="side")


def test_audacity_points_commas_and_frequencies(tmp_path: Path) -> None:
    text = "\ufeff1,5\t2,25\ta\u2028b\r\n\\\t100\t200\r\n3\t3\tpoint\r\n4.0\r\n"
    found = read_text_as(tmp_path, "film.txt", text)
    assert spans(found) == [(1.5, 2.25, "a b"), (3, 3, "point"), (4, 4, "")]
    assert [m.where.rpartition(":")[2] for m in found.marks] == ["1", "3", "4"]


def test_boris_offsets_points_and_second_files(tmp_path: Path) -> None:
    head = (
        "Observation id,Source,Time offset (s),FPS (frame/s),Subject,Behavior,Behavior type,Time,Media file name\n"
    )
    rows = [
        ("o", "player #1:a.mp4;b.mp4|player #2:c.mp4", "2.0", "25.0", "s", "x", "START", "3.0", "d/a.mp4"),
        ("o", "player #1:a.mp4;b.mp4|player #2:c.mp4", "2.0", "25.0", "t", "x", "START", "3.5", "d/a.mp4"),
        ("o", "player #1:a.mp4;b.mp4|player #2:c.mp4", "2.0", "25.0", "s", "x", "STOP", "4.0", "Not found"),
        ("o", "player #1:a.mp4;b.mp4|player #2:c.mp4", "2.0", "25.0", "s", "p", "POINT", "4.5", "a.mp4"),
        ("o", "player #1:a.mp4;b.mp4|player #2:c.mp4", "2.0", "NA", "s", "y", "START", "90.0", "b.mp4"),
        ("o", "player #1:a.mp4;b.mp4|player #2:c.mp4", "2.0", "NA", "s", "y", "STOP", "91.0", "b.mp4"),
    ]
    found = read_text_as(tmp_path, "b.csv", head + "".join(",".join(row) + "\n" for row in rows))
    assert spans(found) == [(1, 2, "x")]
    assert [note.split(": ", 1)[1].split(";")[0] for note in found.notes] == [
        "left out: 1 events that have no time or no other end", "left out: 1 events that start in a later file of a player",
    ]  # fmt: skip


def test_plain_tables_and_labels_of_choice(tmp_path: Path) -> None:
    text = "\ufeffFile;Begin;Stop;Behaviour;Who\r\na b.mp4;1:02,5;00:01:03.250;wave;ann\r\na.mp4;f30;F60;jump;ben\r\nc.mp4;;;;\r\n;;;;\r\n"
    found = read_text_as(tmp_path, "t.csv", text)
    assert [(m.video, m.start, m.end, m.label, m.frames) for m in found.marks] == [
        ("a b.mp4", 62.5, 63.25, "wave", False), ("a.mp4", 30, 60, "jump", True)]  # fmt: skip
    assert [*found.videos] == ["a b.mp4", "a.mp4", "c.mp4"]
    assert found.marks[1].where.endswith("t.csv:3")
    assert [m.label for m in read_text_as(tmp_path, "t.csv", text, label="Who").marks] == ["ann", "ben"]
    with pytest.raises(DataError, match="no column mood to take labels from"):
        read_text_as(tmp_path, "t.csv", text, label="mood")
    unusual = "file,begin,end,mood\na.mp4,1,2,sad\n"
    assert spans(read_text_as(tmp_path, "u.csv", unusual, label="Mood")) == [(1, 2, "sad")]
    epic = (CASES / "epic100.csv").read_text()
    lone = '{"database": {"a": {"annotations": [{"segment": ["1", 2.5], "label": " x\\ud800\\n y "}]}}}'
    assert spans(read_text_as(tmp_path, "s.json", lone)) == [(1, 2.5, "x? y")]
    assert {m.label for m in read_text_as(tmp_path, "e.csv", epic, label="verb noun").marks} == {
        "wave hand",
        "jump hand",
    }


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("cam1.mp4", "cam1.mp4"), ("cam1", "cam1.mp4"), ("CAM1.MOV", "cam1.mp4"), (r"C:\films\cam1.mp4", "cam1.mp4"),
        ("https://example.org/v/cam1.mp4?token=1", "cam1.mp4"), ("/data/local-files/?d=films%2Fmy%20film.mp4", "my film.mp4"),
        ("/data/upload/1/01234567-my%20film.mp4", "my film.mp4"), ("01234567-kept.mp4", "01234567-kept.mp4"),
        ("xyz", "v_xyz.webm"), ("take", "a/take.mp4 b/take.mp4"), ("b/take.mp4", "b/take.mp4"),
        ("/elsewhere/a/take.mp4", "a/take.mp4"), ("take.avi", "a/take.mp4 b/take.mp4"), ("rec.2021", "rec.2021.mp4"),
        ("none.mp4", ""), ("", ""), ("..", ""),
    ],
)  # fmt: skip
def test_names_of_videos(name: str, found: str) -> None:
    there = [
        "cam1.mp4",
        "my film.mp4",
        "01234567-kept.mp4",
        "kept.mp4",
        "v_xyz.webm",
        "a/take.mp4",
        "b/take.mp4",
        "rec.2021.mp4",
    ]
    videos: dict[str, list[Path]] = {}
    for path in map(Path, there):
        videos.setdefault(path.stem.lower(), []).append(path)
    wanted = [path for path in there if path in (found.split(" ") if "take" in found else [found])]
    assert [path.as_posix() for path in find_video(name, videos)] == wanted


def test_rates_are_meant_exactly() -> None:
    assert [exact_rate(r) for r in (25, 29.97, 23.98, 59.94, 12.5, 24, 30)] == [
        25, Fraction(30000, 1001), Fraction(24000, 1001), Fraction(60000, 1001), Fraction(25, 2), 24, 30]  # fmt: skip


def test_subtitles_are_as_expected_to_the_byte(tmp_path: Path) -> None:
    for kind in ("srt", "vtt"):
        files = write(kind, reversed(EVENTS), tmp_path / f"out.{kind}")
        assert [path.name for path in files] == [f"out.cam1.{kind}", f"out.cam2.{kind}"]
        for cam, path in zip(("cam1", "cam2"), files, strict=True):
            assert path.read_bytes() == (CASES / "out" / f"{cam}.{kind}").read_bytes()
    (path,) = write("vtt", [("a.mp4", 3600.0, 3600.0001, "a --> b & <c>\n", 1.0)], tmp_path / "one.vtt")
    assert path.read_text() == "WEBVTT\n\n01:00:00.000 --> 01:00:00.001\na --&gt; b &amp; &lt;c&gt;\n"


@pytest.mark.parametrize("kind", ["activitynet", "csv", "labelstudio", "cvat", "elan"])
def test_what_is_written_is_read_again(kind: str, tmp_path: Path) -> None:
    odd = [
        ("cam1.mp4", 79.0, 80.0, "jump", 0.9),
        ("cam1.mp4", 79.2, 79.6, "jump", 0.8),
        ("cam1.mp4", 0.0, 0.04, 'a <b> & "c", é', 1.0),
    ]
    films = {**FILMS, "sub folder/none 1.mp4": Film(25, 100)}
    files = write(kind, [*EVENTS, *odd], tmp_path / f"events{SUFFIXES[kind]}", films)
    if kind == "labelstudio":  # what it makes of predictions that somebody accepts
        files[0].write_text(files[0].read_text().replace('"predictions"', '"annotations"'))
    found = read_marks(tmp_path)
    frames = {("cam1", 1975, 2000, "jump"), ("cam1", 1980, 1990, "jump"), ("cam1", 0, 1, 'a <b> & "c", é')}
    assert in_frames(found) == truth() | frames
    assert len(found.marks) == len(EVENTS) + 3
    if kind != "csv":  # a table has no row for a video without events
        names = sorted(Path(video).name.replace("%20", " ") for video in found.videos)
        assert names == ["cam1.mp4", "cam2.mp4", "none 1.mp4"]


def test_elan_tiers_hold_nothing_that_overlaps(tmp_path: Path) -> None:
    events = [("a.mp4", float(s), s + 2.5, "x", 1.0) for s in range(5)] + [("a.mp4", 0.0, 9.0, "y\x00\x08", 1.0)]
    (path,) = write("elan", events, tmp_path / "a.eaf")
    root = ElementTree.parse(path).getroot()
    assert [child.tag for child in root] == ["HEADER", "TIME_ORDER", *["TIER"] * 4, "LINGUISTIC_TYPE"]
    slots = {slot.get("TIME_SLOT_ID"): int(slot.get("TIME_VALUE", "")) for slot in root.iter("TIME_SLOT")}
    for tier in root.iter("TIER"):
        times = [
            (slots[a.get("TIME_SLOT_REF1")], slots[a.get("TIME_SLOT_REF2")])
            for a in tier.iter("ALIGNABLE_ANNOTATION")
        ]
        assert all(end <= start for (_, end), (start, _) in pairwise(times))
    assert [m.label for m in read_marks(path).marks if m.end == 9] == ["y"]


def test_many_files_are_joined_quickly() -> None:
    marks, start = Marks(), time.monotonic()
    for number in range(20_000):
        marks.join(Marks(videos={f"{number}.mp4": "", "a.mp4": f"{number}"}, files=Counter(ELAN=1)))
    assert time.monotonic() - start < 1
    assert (len(marks.videos), marks.videos["a.mp4"], marks.files) == (20_001, "0", {"ELAN": 20_000})


def test_frames_of_an_event_are_those_that_begin_in_it() -> None:
    film = Film(12, 100)
    assert film.frames_of(0, 2.875) == (0, 35)  # frame 34 begins at 2.833 s
    assert film.frames_of(1.083, 2.917) == (13, 35)  # rounded times of frames 13 and 35
    assert film.frames_of(3.01, 3.02) == (37, 38)

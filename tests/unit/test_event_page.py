"""The page about events: what it says and draws, of files worked by hand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from support import tsm

from tsmcli.intervals.read import Events
from tsmcli.intervals.tiou import Interval
from tsmcli.recipes.event_timelines import timelines
from tsmcli.report.event_page import LEFT_PX, SHOWN, WIDE_PX, clock

EVIL = "</title></svg><script>alert('1')</script>"
TRUTH = """path,start,end,label
good.mp4,10,20,wave
bad.mp4,10,20,wave
bad.mp4,40,50,wave
bad.mp4,30,40,jump
bad.mp4,0,5,still
bad.mp4,60,70,Ambiguous
"""
GOOD = [(10, 20, "wave", 0.9)]
BAD = [(10, 14, "wave", 0.8), (60, 62, "wave", 0.7), (31, 41, "jump", 0.9), (90, 95, "nod", 0.5)]
"""Of the wave 4 of 10 s: a tIoU of 0.4. The jump: 9 of 11 s, 0.82. Nobody marked a wave at 60 s, or a nod."""


def write_events(path: Path, videos: dict[str, Sequence[tuple[float, float, str, float]]]) -> None:
    rows = [
        {"video": video, "duration_sec": 100,
         "events": [{"start_sec": a, "end_sec": b, "name": n, "score": s} for a, b, n, s in events]}
        for video, events in videos.items()
    ]  # fmt: skip
    names = ["still", "wave", "jump", "nod"]
    path.write_text(json.dumps({"class_names": names, "background": ["still"], "videos": rows}))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "true.csv").write_text(TRUTH)
    write_events(tmp_path / "events.json", {"good.mp4": GOOD, "bad.mp4": BAD})
    return tmp_path


def drawings(page: Path) -> dict[str, ElementTree.Element]:
    """The drawing of each video, in the order of the page."""
    found = re.findall(r"<h4>(.*?)</h4>.*?<figure[^>]*>(.*?)</figure>", page.read_text(), re.DOTALL)
    return {unescape(video): ElementTree.fromstring(svg) for video, svg in found}


def bars(svg: ElementTree.Element) -> list[tuple[str, float, float, str]]:
    """Kind, seconds of 100 where it begins and ends, and tooltip."""
    found = []
    for rect in svg.iter("rect"):
        start, width = (float(rect.attrib[key]) for key in ("x", "width"))
        ends = [(x - LEFT_PX) / WIDE_PX * 100 for x in (start, start + width)]
        found.append((rect.attrib["class"], *(round(x, 1) for x in ends), rect[0].text or ""))
    return found


def test_what_is_drawn(here: Path) -> None:
    told = tsm("report", "--events", "events.json", "--list", "true.csv", "--json").json()
    assert told["report"] == "events.html"
    assert (told["true"], told["found"], told["false_alarms"]) == (4, 3, 2)
    found = drawings(Path(told["report"]))
    assert list(found) == ["bad.mp4", "good.mp4"]  # most mistakes first
    assert bars(found["good.mp4"]) == [
        ("found", 10, 20, "wave, 0:00:10.00 to 0:00:20.00: true interval, found"),
        ("right", 10, 20, "wave, 0:00:10.00 to 0:00:20.00, probability 0.900: event, right"),
    ]
    assert [bar[:3] for bar in bars(found["bad.mp4"])] == [
        ("found", 10, 20), ("found", 30, 40), ("missed", 40, 50), ("ambiguous", 60, 70),
        ("partly", 10, 14), ("right", 31, 41), ("alarm", 60, 62), ("alarm", 90, 95),
    ]  # fmt: skip
    heights = {float(rect.attrib["y"]) for rect in found["good.mp4"].iter("rect")}
    assert len(heights) == 2  # the event lies below the true interval
    words = [text.text for text in found["bad.mp4"].iter("text")]
    assert words == [
        "0:00:00", "0:00:15", "0:00:30", "0:00:45", "0:01:00", "0:01:15", "0:01:30",
        "Ambiguous", "jump", "nod", "wave",
    ]  # fmt: skip
    text = " ".join(Path("events.html").read_text().split())
    assert "true intervals: 3 (1 missed); events: 4 (1 right, 1 overlapping, 2 false alarms)" in text


def test_the_scores_are_those_of_eval(here: Path) -> None:
    scored = tsm(
        "eval", "events.json", "--metrics", "tiou_map", "tiou_map=thumos14", "--list", "true.csv", "--json"
    )
    told = tsm("report", "--events", "events.json", "--list", "true.csv", "--out", "pages/p.html", "--json").json()
    assert told == {**scored.json(), "report": "pages/p.html"}
    page = re.sub(r"<[^>]*>", " ", Path("pages/p.html").read_text())
    text = " ".join(page.split())
    for said in (
        f"{told['tiou_map']['mean']:.2%}", "false alarms 2 36 an hour", "found 3 of 4",
        "delay 0.00 s", "1 events of classes without a true interval",
    ):  # fmt: skip
        assert said.replace("%", " %") in text


def test_names_are_text(here: Path) -> None:
    write_events(here / "events.json", {f"{EVIL}.mp4": [(1, 2, EVIL, 0.5)], "good.mp4": []})
    Path("true.csv").write_text(f'path,start,end,label\n"{EVIL}.mp4",1,2,"{EVIL}"\n"{EVIL}x",1,,wave\n')
    done = tsm("report", "--events", "events.json", "--list", "true.csv")
    assert done.code == 0, done.err
    text = Path("events.html").read_text()
    assert "<script" not in text
    assert not re.search(r"https?://|@import|url\((?!#)|src=", text)
    found = drawings(Path("events.html"))
    assert bars(found[f"{EVIL}.mp4"])[0][3].startswith(EVIL)
    assert bars(found[f"{EVIL}x"])[0][3] == "wave, 0:00:01.00 to the end: true interval, missed"
    assert "1 videos of the list were not looked at" in done.err


def test_the_worst_of_many(here: Path) -> None:
    videos: dict[str, Any] = {f"{i:02}.mp4": [(t, t + 1, "wave", 0.5) for t in range(i)] for i in range(60)}
    write_events(here / "events.json", videos)
    Path("true.csv").write_text("path,start,end,label\n07.mp4,0,7,wave\n")
    done = tsm("report", "--events", "events.json", "--list", "true.csv")
    assert f"timelines of the {SHOWN} videos with most mistakes, of 60" in done.out
    assert list(drawings(Path("events.html"))) == [f"{i:02}.mp4" for i in range(59, 59 - SHOWN, -1)]
    assert "the 50 worst of 60" in Path("events.html").read_text()


def test_videos_of_unknown_length() -> None:
    """Of ActivityNet's form: the last end is all that is known."""
    events = Events([Interval("a", 5, 8, "wave", 0.5), Interval("a", 1, 2, "wave", 0.5)])
    (one,) = timelines(events, [Interval("a", 5, 9, "wave")])
    assert (one.length_sec, one.seen, one.count("right"), one.count("alarm")) == (9, True, 1, 1)


def test_refusals(here: Path) -> None:
    for args, words in (
        (["--list", "true.csv", "runs"], "RUN is for the page about a run"),
        (["--list", "true.csv", "--seed", "0"], "--seed is for the page about a run"),
        (["--list", "true.csv", "--set", "a=1"], "--set is for the page about a run"),
        ([], "tsm report --events EVENTS.json --list INTERVALS.csv"),
        (["--list", "true.csv", "--out", "events.json"], "--out names another file"),
    ):
        refused = tsm("report", "--events", "events.json", *args)
        assert refused.code == 2, refused.err
        assert words in refused.err
    for name in ("none.json", "true.csv"):
        refused = tsm("report", "--events", name, "--list", "true.csv", "--out", "p.html")
        assert refused.code == 3, refused.err
    assert not list(here.glob("*.html"))


def test_no_torch(here: Path) -> None:
    code = (
        "import sys, tsmcli.cli as c\n"
        "try: c.app(['report', '--events', 'events.json', '--list', 'true.csv'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'matplotlib', 'av'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert Path("events.html").is_file()


def test_clock() -> None:
    assert [clock(0), clock(59.999), clock(3723.4), clock(360_000)] == [
        "0:00:00",
        "0:01:00",
        "1:02:03",
        "100:00:00",
    ]
    assert [clock(3723.456, 2), clock(59.999, 2), clock(-0.1, 2)] == ["1:02:03.46", "0:01:00.00", "0:00:00.00"]

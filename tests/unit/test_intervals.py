"""Lists of intervals: what is read, what is written, and what is wrong with a line."""

from __future__ import annotations

import contextlib
import math
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsmcli.data.intervals import Span
from tsmcli.data.listfile import VideoRecord, read_list, with_labels, write_intervals, write_list
from tsmcli.errors import DataError

NAMES = ["wave", "high five", "7", "Jump"]


def record(path: str, label: int, *span: float, frames: bool = False) -> VideoRecord:
    return VideoRecord(path, None, label, span=Span(*span, frames=frames) if span else None)


def test_times_frames_and_names(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    text = (
        'Label, note,end,start,path\r\n\r\n1,x,14.000000000000002,12.5,"a, b.mp4"\r\nHIGH_FIVE,,1:02:05,61:03.250,c d.mp4\r\n'
        "jump,,f350,f300,e.mp4\r\n,,,,\r\nwave,,,,f.mp4\r\n3,,,5,f.mp4\r\n0,,.5,,f.mp4\r\n"
    )
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    records = read_list(path, "video", classes=NAMES, first_label=None)
    assert records == [
        record("a, b.mp4", 1, 12.5, 14.000000000000002), record("c d.mp4", 1, 3663.25, 3725),
        record("e.mp4", 3, 300, 350, frames=True), record("f.mp4", 0), record("f.mp4", 3, 5, math.inf),
        record("f.mp4", 0, 0, 0.5),
    ]  # fmt: skip
    names = [r.name for r in records]
    assert names[:3] == ["a, b.mp4@12.5-14.000000000000002", "c d.mp4@3663.25-3725", "e.mp4@f300-f350"]
    assert names[3:] == ["f.mp4", "f.mp4@5-end", "f.mp4@0-0.5"]


@pytest.mark.parametrize("names", [NAMES, []])
def test_written_lists_are_read_back(tmp_path: Path, names: list[str]) -> None:
    records = [
        record("a, b.mp4", 0, 1e-7, 14.000000001), record("#c.mp4", 2), record(' "d".mp4', 3, 0, math.inf),
        record("e", 1, 3, 9, frames=True), record("e", 1, 100000 / 3, 5e8),
    ]  # fmt: skip
    write_intervals(tmp_path / "list.csv", records, names)
    read = read_list(tmp_path / "list.csv", "video", classes=NAMES)
    assert read == [r._replace(path=f"./{r.path}" if r.path[0] in "# " else r.path) for r in records]
    assert len({r.name for r in records}) == len(records)
    write_list(tmp_path / "numbers.txt", records)
    assert read_list(tmp_path / "numbers.txt", "video", classes=NAMES) == read
    assert ("high five" in (tmp_path / "list.csv").read_text()) == bool(names)


def test_several_labels(tmp_path: Path) -> None:
    records = [with_labels(record("a.mp4", -1, 1, 2), labels) for labels in ([0, 3], [], [2])]
    write_intervals(tmp_path / "list.csv", records, NAMES)
    assert read_list(tmp_path / "list.csv", "video", classes=NAMES, several=True) == records
    with pytest.raises(DataError, match="no class is called 'wave;Jump'"):
        read_list(tmp_path / "list.csv", "video", classes=NAMES)


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("a.mp4,3,3,0", "the start 3 is not before the end 3"),
        ("a.mp4,0:04,3,0", "the start 0:04 is not before the end 3"),
        ("a.mp4,-1,3,0", "'-1' is no time"),
        ("a.mp4,0,nan,0", "'nan' is no time"),
        ("a.mp4,0,1:60,0", "'1:60' is no time"),
        ("a.mp4,f1,3,0", "one is a frame, one a time"),
        ("a.mp4,0,3,dance", "no class is called 'dance'"),
        ("a.mp4,0,3,", "there is no label"),
        ("a.mp4,0", "there is no label"),
        (",0,3,1", "there is no path"),
        ("a.mp4,0,3,4", "label 4, but there are 4 classes"),
    ],
)  # fmt: skip
def test_wrong_lines_are_named(tmp_path: Path, line: str, wrong: str) -> None:
    path = tmp_path / "list.csv"
    path.write_text(f'path,start,end,label\n"two\nlines.mp4",0,1,0\n{line}\n')
    with pytest.raises(DataError, match="list.csv:4: ") as caught:
        read_list(path, "video", classes=NAMES)
    assert wrong in str(caught.value)
    assert caught.value.hint == "a line is: path,start,end,label"


def test_tables_that_are_no_lists(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text("path,start,end,label\n")
    with pytest.raises(DataError, match="the list is empty"):
        read_list(path, "video", classes=NAMES)
    path.write_text("path,start,end,label\na.mp4,0,1,wave\n")
    with pytest.raises(DataError, match="no class is called 'wave'"):
        read_list(path, "video")
    assert read_list(path, "video", classes=None) == [record("a.mp4", 0, 0, 1)]
    path.write_text("path,start,end,label\na.mp4,0,1,1\nb.mp4,0,1,2\n")
    with pytest.raises(DataError, match="do they count from 1"):
        read_list(path, "video", classes=NAMES, first_label=None)
    assert [r.label for r in read_list(path, "video", classes=NAMES, first_label=1)] == [0, 1]


@given(st.text(st.sampled_from('ab.:;,"\n\r\\#-f019 \0é'), max_size=60), st.booleans())
def test_any_table_is_read_or_refused(text: str, several: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "list.csv")
        path.write_text(f"path,start,end,label\n{text}", encoding="utf-8", newline="")
        with contextlib.suppress(DataError):
            for found in read_list(path, "video", classes=NAMES, several=several):
                assert found.span is None or 0 <= found.span.start < found.span.end


def test_many_intervals_are_read_quickly(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    write_intervals(path, [record(f"v{i % 1000}.mp4", i % 4, i, i + 2.5) for i in range(10_000)], NAMES)
    start = time.monotonic()
    assert len(read_list(path, "video", classes=NAMES)) == 10_000
    assert time.monotonic() - start < 2

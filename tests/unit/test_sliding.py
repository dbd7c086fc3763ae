"""Windows of long videos, and the videos that words on the command line name."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import number_of, numbered_frames, write_frames, write_video

from tsmcli.config import Config, DataConfig, ModelConfig, Views
from tsmcli.core.sampling import sample_test
from tsmcli.data import pyav_reader
from tsmcli.data.find_videos import find_videos
from tsmcli.data.intervals import Span
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import Split
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.data.sliding import Sliding, read_windows, window_spans
from tsmcli.data.spatial import eval_views
from tsmcli.errors import DataError

VIEWS = Views(crop_px=96, resize_px=None)


@given(st.integers(1, 500), st.integers(1, 60), st.integers(1, 80))
def test_windows_reach_from_the_first_frame_to_the_last(frames: int, length: int, step: int) -> None:
    spans = window_spans(frames, length, step)
    assert spans[0][0] == 0
    assert spans[-1][1] == frames
    assert all(end - first == min(length, frames) for first, end in spans)
    assert all(b - a == step for (a, _), (b, _) in pairwise(spans[:-1]))
    assert len(spans) < 2 or 0 < spans[-1][0] - spans[-2][0] <= step


def test_windows_by_hand() -> None:
    assert window_spans(10, 4, 2) == [(0, 4), (2, 6), (4, 8), (6, 10)]
    assert window_spans(11, 4, 4) == [(0, 4), (4, 8), (7, 11)]
    assert window_spans(3, 4, 2) == [(0, 3)]


def config(store: str) -> Config:
    return Config(data=DataConfig(store=store), model=ModelConfig(num_segments=4))


def test_a_window_sees_its_own_frames(tmp_path: Path) -> None:
    """40 frames at 20 per second: windows of 0.8 s are 16 frames, whose segment middles are 2, 6, 10, 14."""
    video = write_video(tmp_path / "a.mp4", numbered_frames(40, 96, 160), fps=20, g="12", qp="8")
    split, record = Split([], Path(), Path()), VideoRecord(str(video), None, 0)
    found = list(read_windows(split, record, config("video"), VIEWS, Sliding(0.8, 0.5)))
    assert [(round(w.start_sec, 3), round(w.end_sec, 3)) for w in found] == [
        (0, 0.8),
        (0.5, 1.3),
        (1.0, 1.8),
        (1.2, 2.0),
    ]
    assert [w.total for w in found] == [4] * 4
    assert found[0].views.shape == (1, 4, 96, 96, 3)
    wide = Views(crop="three", crop_px=96, resize_px=96)  # the first crop holds the left side, where the number is
    found = list(read_windows(split, record, config("video"), wide, Sliding(0.8, 0.5)))
    numbers = [
        [number_of(np.pad(frame, ((0, 0), (0, 64), (0, 0)))) for frame in window.views[0]] for window in found
    ]
    assert numbers == [[2, 6, 10, 14], [12, 16, 20, 24], [22, 26, 30, 34], [26, 30, 34, 38]]


@pytest.mark.parametrize(
    ("name", "codec"), [("a.avi", "libx264"), ("a.ts", "libx264"), ("a.flv", "libx264"), ("a.wmv", "wmv2")]
)
def test_windows_over_a_file_without_index_take_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str
) -> None:
    """The frames of reading each window by itself, decoded once to count them and once to read them."""
    video = write_video(tmp_path / name, numbered_frames(200, 96, 176), codec, fps=20, g="12", bf="0")
    wide = Views(clips=2, crop="three", crop_px=96, resize_px=96)
    with PyAVReader(video) as reader:
        spans = window_spans(reader.num_frames, 16, 4)
        plain = [reader.read(first + sample_test(end - first, 4, wide).ravel()) for first, end in spans]
    decoded, all_frames = [0], pyav_reader.decoded

    def counting(*args: Any, **options: Any) -> Iterator[Any]:
        for frame in all_frames(*args, **options):
            decoded[0] += 1
            yield frame

    monkeypatch.setattr(pyav_reader, "decoded", counting)
    split, record = Split([], Path(), Path()), VideoRecord(str(video), None, 0)
    found = list(read_windows(split, record, config("video"), wide, Sliding(0.8, 0.2)))
    assert len(found) == len(spans) == 47
    for window, frames in zip(found, plain, strict=True):
        assert np.array_equal(window.views, eval_views(frames, 4, wide))
    assert decoded[0] <= 2 * 200


def test_windows_of_an_interval(tmp_path: Path) -> None:
    """As those of the interval cut out, lossless: their times count from its start."""
    frames, options = numbered_frames(40, 96, 160), {"fps": 20, "g": "12", "qp": "0"}
    whole = write_video(tmp_path / "a.mp4", frames, **options)
    cut = write_video(tmp_path / "b.mp4", frames[10:35], **options)
    split, record = Split([], Path(), Path()), VideoRecord(str(whole), None, 0, span=Span(0.5, 1.75))
    ours, theirs = (
        [*read_windows(split, one, config("video"), VIEWS, Sliding(0.8, 0.5))]
        for one in (record, VideoRecord(str(cut), None, 0))
    )
    assert len(ours) == 2
    for a, b in zip(ours, theirs, strict=True):
        assert a[:3] == pytest.approx(b[:3])
        assert np.array_equal(a.views, b.views)


def test_windows_of_a_frame_folder_go_by_the_given_rate(tmp_path: Path) -> None:
    write_frames(tmp_path / "clip", numbered_frames(20))
    record = VideoRecord(str(tmp_path / "clip"), 20, 0)
    found = list(
        read_windows(Split([], Path(), Path()), record, config("frames"), VIEWS, Sliding(1.0, 1.0, fps=10))
    )
    assert [(w.start_sec, w.end_sec) for w in found] == [(0, 1), (1, 2)]


def test_a_broken_video_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    record = VideoRecord(str(tmp_path / "a.mp4"), None, 0)
    with pytest.raises(DataError, match=r"a\.mp4: cannot be decoded"):
        list(read_windows(Split([], Path(), Path()), record, config("video"), VIEWS, Sliding(1.0, 1.0)))


def test_find_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frames = numbered_frames(4, 32, 160)
    write_frames(tmp_path / "mixed/frames", frames, "frame{}.jpg", start=0)
    write_frames(tmp_path / "mixed/holes", frames)
    (tmp_path / "mixed/holes/img_00002.jpg").unlink()
    for name in ("mixed/b.mp4", "mixed/deep/a.MKV", "mixed/notes.txt", "[1].mp4", "clip.zip"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "empty").mkdir()
    split = find_videos(["mixed", "*.zip", "[1].mp4", "empty", "gone*"])
    found = {Path(record.path).as_posix(): record for record in split.records}
    assert [*found] == [
        "mixed/b.mp4",
        "mixed/deep/a.MKV",
        "mixed/frames",
        "mixed/holes",
        "clip.zip",
        "[1].mp4",
        "empty",
        "gone*",
    ]
    assert found["mixed/frames"].store == "frames"
    assert found["mixed/frames"].num_frames == 4
    assert found["mixed/frames"].naming == ("frame{:01}.jpg", 0)
    assert found["clip.zip"].store == "zip"
    problems = {Path(path).as_posix(): problem for path, problem in split.quarantine.items()}
    assert problems["mixed/holes"].endswith("frame 2 of 1 to 4 is missing")
    assert "no videos or numbered pictures" in problems["empty"]
    assert problems["gone*"] == "no such video"
    assert len(problems) == 3
    assert [r.path for r in find_videos(["mixed/frames", "mixed/frames/"]).records] == ["mixed/frames"]

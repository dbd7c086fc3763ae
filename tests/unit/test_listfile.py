"""List files: round trips and messages."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tsmcli.data.listfile import VideoRecord, read_list, write_list
from tsmcli.errors import DataError

words = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)
names = st.lists(words, min_size=1, max_size=3).map(" ".join).filter(lambda name: not name.startswith("#"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(names, st.integers(1, 9999), st.integers(0, 999)), min_size=1, max_size=8))
def test_round_trip_with_spaces_in_paths(tmp_path: Path, lines: list[tuple[str, int, int]]) -> None:
    for store, records in (
        ("frames", [VideoRecord(path, frames, label) for path, frames, label in lines]),
        ("video", [VideoRecord(path, None, label) for path, _, label in lines]),
    ):
        write_list(tmp_path / "list.txt", records)
        assert read_list(tmp_path / "list.txt", store) == records  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["a.mp4 ", "\ta.mp4", "a\nb.mp4", "a\u2028b.mp4", "a\udcff.mp4"])
def test_paths_that_could_not_be_read_back_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(DataError, match="rename|cannot stand|not valid"):
        write_list(tmp_path / "list.txt", [VideoRecord(path, None, 0)])
    assert not (tmp_path / "list.txt").exists()


def test_empty_lines_and_comments_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("# my videos\n\n a b.mp4   3 \n")
    assert read_list(tmp_path / "list.txt", "video") == [VideoRecord("a b.mp4", None, 3)]


@pytest.mark.parametrize(
    ("line", "store", "message"),
    [
        ("clip.mp4", "video", "2: expected `<video file> <label>`, got 'clip.mp4'"),
        ("clip.mp4 three", "video", "2: 'three' is not a whole number"),
        ("clip.mp4 -1", "video", "2: '-1' is not a whole number"),
        ("clip.mp4 1.0", "video", "2: '1.0' is not a whole number"),
        ("folder 12", "frames", "2: expected `<folder> <number of frames> <label>`, got 'folder 12'"),
        ("folder 0 1", "frames", "2: a video of 0 frames"),
        ("clip.mp4 5", "video", "2: label 5, but there are 5 classes (0 to 4)"),
    ],
)
def test_messages_name_file_and_line(tmp_path: Path, line: str, store: str, message: str) -> None:
    path = tmp_path / "list.txt"
    path.write_text(f"{'good 3 0' if store == 'frames' else 'good.mp4 0'}\n{line}\n")
    with pytest.raises(DataError) as caught:
        read_list(path, store, classes=list("abcde"))  # type: ignore[arg-type]
    assert f"{path}:{message}" in str(caught.value)


def test_the_first_problems_are_shown_and_the_rest_counted(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("x\n" * 12)
    with pytest.raises(DataError) as caught:
        read_list(path, "video")
    assert str(caught.value).count("expected") == 5
    assert "and 7 more lines" in str(caught.value)


def test_missing_empty_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no list file"):
        read_list(tmp_path / "none.txt", "video")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(DataError, match="the list is empty"):
        read_list(tmp_path / "empty.txt", "video")
    (tmp_path / "binary.txt").write_bytes(b"a 0\n\xff\x00\x81")
    with pytest.raises(DataError, match=r"binary.txt:2: cannot be read as a list"):
        read_list(tmp_path / "binary.txt", "video")

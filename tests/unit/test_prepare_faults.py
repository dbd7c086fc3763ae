"""Data as they really are: left-over files, links in circles, full disks, damaged notes, two runs at once."""

from __future__ import annotations

import errno
import json
import ntpath
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import cv2
import pytest
from support import make_folder_dataset, numbered_frames, tsm, write_frames, write_video

from tsmcli.config import DataConfig
from tsmcli.data.find_videos import find_videos
from tsmcli.data.listfile import read_list
from tsmcli.data.location import Places, find_classes, find_split
from tsmcli.data.media import scan
from tsmcli.data.workers import Begin
from tsmcli.errors import DataError
from tsmcli.prepare import extract
from tsmcli.prepare.extract import Job, Size, do_job, stored_frames
from tsmcli.prepare.matching import plan_media
from tsmcli.prepare.official import prepare
from tsmcli.recipes.events import result_of

FRAMES = numbered_frames(6, 48, 168)


def make_table(source: Path, rows: str = "a.mp4,x,train\nb.mp4,y,val\n") -> Path:
    """Two videos and a table."""
    source.mkdir(parents=True, exist_ok=True)
    for name in "ab":
        write_video(source / f"{name}.mp4", FRAMES)
    (source / "annotations.csv").write_text(f"path,label,split\n{rows}", encoding="utf-8")
    return source


def convert(source: Path, out: Path, *options: object) -> Any:
    return tsm(
        "prepare-data", "csv", "--source", source, "--out", out, "--store", "frames", "--workers", 1, *options
    )


def job(tmp_path: Path, kind: Any = "frames") -> Job:
    write_video(tmp_path / "a.mp4", FRAMES)
    return Job(tmp_path / "a.mp4", tmp_path / "out" / "a", kind, Size(), "img_{:05}.jpg", 1)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("img_1.jpg", "img_1.JPG"), "two files are frame 1: img_1.JPG and img_1.jpg"),
        (("1.jpg", "01.jpg", "2.jpg"), "two files are frame 1: 01.jpg and 1.jpg"),
        (("1.jpg", "02.jpg"), "02.jpg is not named as 1.jpg is"),
    ],
)
def test_frames_whose_names_do_not_fit_together_are_a_problem_of_their_folder(
    tmp_path: Path, names: tuple[str, ...], problem: str
) -> None:
    (tmp_path / "clip").mkdir()
    for name in names:
        (tmp_path / "clip" / name).touch()
    assert problem in scan(tmp_path).gaps[Path("clip")]
    assert problem in find_videos([str(tmp_path / "clip")]).quarantine[str(tmp_path / "clip")]


def test_what_a_file_manager_leaves_is_no_frame(tmp_path: Path) -> None:
    write_frames(tmp_path / "clip", FRAMES)
    for name in (".DS_Store", "._img_00001.jpg", "Thumbs.db"):
        (tmp_path / "clip" / name).touch()
    for number in range(1, 7):
        (tmp_path / "clip" / f"._img_{number:05}.jpg").touch()
    (found,) = scan(tmp_path).frames["clip"]
    assert (found.count, found.template) == (6, "img_{:05}.jpg")
    made = job(tmp_path)
    assert do_job(made).frames == 6
    for name in (".DS_Store", "._img_00001.jpg", "Thumbs.db"):
        (made.target / name).touch()
    assert stored_frames(made) == 6


def test_links_in_circles_neither_repeat_videos_nor_go_on_for_ever(tmp_path: Path) -> None:
    clips = make_folder_dataset(tmp_path / "clips", videos=2)
    (clips / "a_link").symlink_to("wave")
    for link, target in (("latest", "."), ("newest", "."), ("jump/up", "..")):
        (clips / link).symlink_to(target)
    (tmp_path / "far").mkdir()
    write_video(tmp_path / "far" / "far.mp4", FRAMES)
    (clips / "far").symlink_to(tmp_path / "far")
    code = "import sys; from tsmcli.data.find_videos import find_videos\nfor v in find_videos(sys.argv[1:]).records: print(v.path)"
    own = [f"clips/{label}/{name}_clip {i}.mp4" for label in ("jump", "wave") for i, name in enumerate("ab")]
    for words in ("clips", "clips/**/*.mp4"):
        done = subprocess.run(
            [sys.executable, "-c", code, words],
            cwd=tmp_path,
            timeout=30,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.splitlines() == ["clips/far/far.mp4", *own]
    made = tsm(
        "prepare-data", "folder", "--source", clips, "--out", tmp_path / "out", "--val-share", "0.5", "--json"
    )
    assert [*made.json()["classes"]] == ["far", "jump", "wave"], "a link to the whole is no class"


def test_a_second_run_into_a_folder_is_refused_while_the_first_is_at_work(tmp_path: Path) -> None:
    source, out = make_table(tmp_path / "in"), tmp_path / "out"
    first = prepare(plan_media("csv", source, out, store="frames"), workers=1)
    next(first)
    (out / "rawframes").mkdir()
    live = extract.part_of(out / "rawframes" / "b")
    live.mkdir()
    refused = convert(source, out)
    assert refused.code == 2
    assert "another process is preparing" in refused.err
    assert "hint: let it end" in refused.err
    assert live.exists()
    assert result_of(first).counts == {"train": 1, "val": 1}
    assert convert(source, out).code == 0


def test_frames_that_vanish_while_they_are_written_are_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, write = job(tmp_path), extract._write_frames

    def and_lose_one(job: Job, part: Path, begin: Begin) -> int:
        count = write(job, part, begin)
        (part / "img_00001.jpg").unlink()
        return count

    monkeypatch.setattr(extract, "_write_frames", and_lose_one)
    assert "not all of its 6 frames are there" in do_job(made).error
    assert list(made.target.parent.iterdir()) == []


def test_rows_that_lead_out_of_the_folder_stay_inside(tmp_path: Path) -> None:
    """Another file of the same stem beside the original is no conversion of it."""
    make_table(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "a.zip").write_bytes(b"unrelated")
    source = make_table(tmp_path / "in", f"../elsewhere/a.mp4,x,train\n{tmp_path}/elsewhere/b.mp4,y,val\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = tsm(
        "prepare-data", "csv", "--source", source, "--out", tmp_path / "out", "--store", "zip", "--json"
    ).json()
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path for path in after if path not in before and tmp_path / "out" not in path.parents} == set()
    assert {path: after[path] for path in before} == before
    assert done["videos"] == {"train": 1, "val": 1}
    split = find_split(DataConfig(store="zip"), Places(folder=tmp_path / "out"), "train", None)
    assert [record.path for record in split.records] == ["elsewhere/a.zip"]
    assert (split.media / "elsewhere/a.zip").is_file()


@pytest.mark.parametrize("problem", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_full_disk_ends_a_conversion_and_leaves_the_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: int
) -> None:
    source, out = make_table(tmp_path / "in"), tmp_path / "out"
    assert convert(source, out).code == 0
    lists = {path: path.read_bytes() for path in out.glob("*") if path.is_file()}
    write_video(source / "c.mp4", FRAMES)
    with (source / "annotations.csv").open("a") as table:
        table.write("c.mp4,x,val\n")
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == "img_00003.jpg":
            raise OSError(problem, os.strerror(problem), str(path))
        return write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        done = convert(source, out)
    assert done.code == 5
    assert f"rawframes/c: {os.strerror(problem)}" in done.err
    assert {path: path.read_bytes() for path in out.glob("*") if path.is_file()} == lists
    assert sorted(path.name for path in (out / "rawframes").iterdir()) == ["a", "b"]
    assert convert(source, out).code == 0


def test_a_disk_that_is_full_when_lists_are_written_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = make_table(tmp_path / "in"), tmp_path / "out"
    assert convert(source, out).code == 0
    listed = (out / "folder_train_list_rawframes.txt").read_bytes()
    write = Path.write_text

    def full(path: Path, *args: Any, **options: Any) -> int:
        if "_list_" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return write(path, *args, **options)

    monkeypatch.setattr(Path, "write_text", full)
    done = convert(source, out)
    assert done.code == 5
    assert "folder_train_list_rawframes.txt: No space left on device" in done.err
    assert (out / "folder_train_list_rawframes.txt").read_bytes() == listed
    assert not list(out.glob("*.part*"))


def test_media_on_another_drive_have_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_folder_dataset(tmp_path / "clips", videos=2)
    monkeypatch.setattr(os.path, "relpath", lambda path, start: ntpath.relpath(r"D:\clips", r"C:\data"))
    made = tsm("prepare-data", "folder", "--source", source, "--out", tmp_path / "out")
    assert made.code == 0
    stores = json.loads((tmp_path / "out" / "manifest.json").read_text())["stores"]
    assert stores["video"]["media"]["val"] == str(source.resolve())


def test_frames_are_written_where_opencv_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows it cannot write `für/img_00001.jpg`."""
    monkeypatch.setattr(cv2, "imwrite", lambda *_: False)
    assert do_job(job(tmp_path)).error == ""


def test_an_encoder_that_fails_ends_one_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, limits: DataConfig) -> None:
        raise av.error.ExternalError(-542398533, "Generic error in an external library")

    made = job(tmp_path, "seekable")
    monkeypatch.setattr(extract, "PyAVReader", fail)
    assert "Generic error in an external library" in do_job(made).error


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.mp4 0\n", encoding="utf-8-sig")
    assert read_list(tmp_path / "list.txt", "video")[0].path == "a.mp4"
    (tmp_path / "classes.txt").write_text("jump\nwave\n", encoding="utf-8-sig")
    assert find_classes(DataConfig(), Places(folder=tmp_path)) == ["jump", "wave"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("quarantine.txt", b"a.mp4\t\xff\xfe"),
        ("manifest.json", b"[]"),
        ("manifest.json", b"[" * 100_000),
        ("manifest.json", b'{"stores": []}'),
        ("manifest.json", b'{"stores": {"video": []}}'),
        ("manifest.json", b'{"stores": {"video": {"media": {"train": 3}}}}'),
        ("manifest.json", b'{"stores": {"video": {"frame_template": "{a}"}}}'),
        ("manifest.json", b'{"stores": {"video": {"start_index": "one"}}}'),
    ],
)
def test_damaged_notes_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / "videos").mkdir()
    (tmp_path / "folder_train_list_videos.txt").write_text("a.mp4 0\n")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        find_split(DataConfig(), Places(folder=tmp_path), "train", None)


@pytest.mark.parametrize("name", ["manifest.json", "conversion-frames.json"])
@pytest.mark.parametrize("content", ["[]", "{", '"frames"'])
def test_damaged_notes_are_named_before_a_conversion(tmp_path: Path, name: str, content: str) -> None:
    source, out = make_table(tmp_path / "in"), tmp_path / "out"
    out.mkdir()
    (out / name).write_text(content)
    done = convert(source, out)
    assert done.code == 3
    assert name in done.err
    assert "hint: remove it" in done.err
    assert not (out / "rawframes").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (f"a.mp4,{'1' * 5000},train\nb.mp4,0,val\n", "annotations.csv:2: the label '1111"),
        ("a.mp4,0,train\n\nb.mp4,²,val\n", "annotations.csv:4: the label '²' is not a whole number"),
        (f"a.mp4,x,train\nb.mp4,{'y' * 200_000},val\n", "annotations.csv:3: field larger than field limit"),
        ("a.mp4,x,train\n\n\nb.mp4,y,exam\n", "annotations.csv:5: split 'exam' is neither train nor val"),
        ("a, b.mp4,x,train\n", "annotations.csv:2: more fields than columns"),
        ("a.mp4,,train\n", "annotations.csv:2: no label"),
        ('a.mp4,"x\ny",train\nb.mp4,z,val\n', "cannot be a class name"),
    ],
)
def test_rows_that_cannot_be_meant_are_named(tmp_path: Path, rows: str, message: str) -> None:
    source = make_table(tmp_path / "in", rows)
    done = tsm("prepare-data", "csv", "--source", source, "--out", tmp_path / "out")
    assert done.code == 3
    assert message in done.err
    assert len(done.err) < 1000
    assert not (tmp_path / "out").exists()


def test_a_label_of_many_digits_is_a_line_with_a_problem(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"a.mp4 0\nb.mp4 {'9' * 5000}\n")
    with pytest.raises(DataError, match=r"list.txt:2: '9{40}' is not a whole number"):
        read_list(tmp_path / "list.txt", "video")


def test_a_check_goes_on_after_a_reader_that_fails_unforeseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_data: Path
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("mode 77 is not known")

    monkeypatch.setattr("tsmcli.prepare.verify.open_reader", fail)
    done = tsm("prepare-data", "--check", "--out", demo_data, "--workers", 1, "--json")
    assert done.code == 3
    assert {p["detail"] for p in json.loads(done.out)["problems"]} == {"mode 77 is not known"}


def test_class_folders_can_be_converted(tmp_path: Path) -> None:
    source = make_folder_dataset(tmp_path / "clips", videos=2)
    command = (
        "prepare-data",
        "folder",
        "--source",
        source,
        "--out",
        source,
        "--store",
        "seekable",
        "--short-side",
        32,
    )
    done = tsm(*command, "--json").json()
    assert done["classes"] == {"jump": {"train": 1, "val": 1}, "wave": {"train": 1, "val": 1}}
    split = find_split(DataConfig(), Places(folder=source), "train", None)
    assert all((source / "seekable" / record.path).is_file() for record in split.records)
    assert tsm(*command, "--json").json() == done, "what it made is no class"


def test_what_a_killed_conversion_left_is_removed(tmp_path: Path) -> None:
    job = Job(tmp_path / "a.mp4", tmp_path / "out" / "a.mp4", "seekable", Size(), "", 1)
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    end = f".part-{platform.node()}-{gone.stdout.strip()}"
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / f"a.mp4{end}{end}").touch()
    extract.remove_parts([job])
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of file sizes")
@pytest.mark.parametrize("room", [0, 1000])
def test_a_disk_without_room_for_a_video(tmp_path: Path, room: int) -> None:
    code = f"""
import resource; from pathlib import Path; from fractions import Fraction; import numpy as np
from tsmcli.data.video_writer import VideoWriter
resource.setrlimit(resource.RLIMIT_FSIZE, ({room}, {room}))
with VideoWriter(Path("a.mp4"), Fraction(25)) as video:
    for number in range(60):
        video.write(np.random.default_rng(number).integers(0, 255, (120, 160, 3), np.uint8))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "File too large" in done.stderr) == (1, True)
    assert not list(tmp_path.iterdir())

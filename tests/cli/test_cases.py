"""Files as people have them, in `tests/cases`. Each stands for a kind that is easily read wrong."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import number_of, numbered_frames, tsm, write_frames, write_video

from tsmcli.config import DataConfig
from tsmcli.core.tsm import build_model
from tsmcli.data.decode import open_reader
from tsmcli.data.listfile import VideoRecord, read_list
from tsmcli.data.live import open_source
from tsmcli.data.location import Places, Split, find_classes, find_split
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.data.sliding import frames_shown, window_spans
from tsmcli.engine.checkpoint import Checkpoint, Progress, save_checkpoint
from tsmcli.errors import DataError
from tsmcli.prepare.extract import Job, Size, do_job
from tsmcli.prepare.own import natural
from tsmcli.presets import load_preset

CASES = Path(__file__).parents[1] / "cases"
VIDEO = CASES / "video"
CLASSES = ["bend", "jack", "wave1"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the checkpoint of a small network in it."""
    monkeypatch.chdir(tmp_path)
    config = load_preset("demo", ["model.width=0.125", "train.workers=0"])
    names = [f"class {i}" for i in range(8)]
    model = build_model(config, 8, seed=0)
    torch.nn.init.normal_(model.fc.weight, std=0.5, generator=torch.Generator().manual_seed(1))
    save_checkpoint(Path("best.pt"), Checkpoint("demo", config, names, Progress(epoch=1), model.state_dict()))
    return tmp_path


def colours(frame: np.ndarray[Any, Any]) -> dict[str, str]:
    """Where the red and the blue block are: `upper left`, ..."""
    found = {}
    for name, channel, other in (("red", 0, 2), ("blue", 2, 0)):
        strong = (frame[..., channel].astype(int) - frame[..., other] > 120).nonzero()
        if len(strong[0]) > 20:
            y, x = (np.mean(axis) / side for axis, side in zip(strong, frame.shape, strict=False))
            found[name] = f"{'upper' if y < 0.5 else 'lower'} {'left' if x < 0.5 else 'right'}"
    return found


@pytest.mark.parametrize(
    ("name", "red"),
    [
        ("plain.mp4", "upper left"), ("hflip.mp4", "upper right"), ("vflip.mp4", "lower left"),
        ("rot90.mp4", "upper right"), ("rot180.mp4", "lower right"), ("coverfirst.mp4", "upper left"),
        ("anim.gif", "upper left"), ("cam.MTS", "upper left"), ("neg.mkv", "upper left"), ("rec.webm", "upper left"),
    ],
)  # fmt: skip
def test_orientation_in_reading_streams_and_conversion(tmp_path: Path, name: str, red: str) -> None:
    """Where FFmpeg's own program shows the red block."""
    with PyAVReader(VIDEO / name) as reader:
        assert reader.num_frames == 48
        assert colours(reader.read(np.array([5]))[0])["red"] == red
    shots = list(open_source(VIDEO / name))
    assert len(shots) == 48
    assert colours(shots[5].frame)["red"] == red
    made = do_job(Job(VIDEO / name, tmp_path / "v", "frames", Size(), "img_{:05}.jpg", 1))
    assert made.frames == 48, made.error
    split, record = Split([], tmp_path, tmp_path), VideoRecord("v", 48, 0, "frames")
    with open_reader(split, record, DataConfig()) as folder:
        assert colours(folder.read(np.array([5]))[0])["red"] == red


@pytest.mark.parametrize("name", ["hflip.mp4", "vflip.mp4", "rot90.mp4"])
def test_decord_refuses_what_it_would_show_wrong(name: str) -> None:
    record = VideoRecord(name, None, 0)
    with (
        pytest.raises(DataError, match="shown turned or mirrored") as refused,
        open_reader(Split([], VIDEO, VIDEO), record, DataConfig(decoder="decord")),
    ):
        pass
    assert refused.value.hint == "--set data.decoder=pyav"


@pytest.mark.parametrize(
    ("name", "frames", "rate", "last"),
    [
        ("rec.webm", 48, 47 / 1.856, 1.856), ("plain.mp4", 48, 25, 1.88), ("anim.gif", 48, 10, 4.7),
        ("inter.mpg", 24, 12, 23 / 12), ("neg.mkv", 48, 25, 1.88), ("cam.MTS", 48, 25, 1.88),
    ],
)  # fmt: skip
def test_times_of_frames(tmp_path: Path, name: str, frames: int, rate: float, last: float) -> None:
    """The reader, a stream, and a seekable copy have the times of the file, and its mean rate."""
    with PyAVReader(VIDEO / name) as reader:
        times = reader.times
        assert reader.num_frames == len(times) == frames
        assert float(reader.timeline.rate) == pytest.approx(rate)
        assert (times[0], times[-1]) == (0, pytest.approx(last))
    assert [shot.time_sec for shot in open_source(VIDEO / name)] == pytest.approx(times.tolist(), abs=1e-6)
    assert not do_job(Job(VIDEO / name, tmp_path / "v.mp4", "seekable", Size(), "", 1)).error
    with PyAVReader(tmp_path / "v.mp4") as copy:
        assert copy.times == pytest.approx(times, abs=1e-4)


def test_windows_of_a_browsers_recording(here: Path) -> None:
    found = tsm("predict", "best.pt", VIDEO / "rec.webm", "--window", "0.5", "--json").json()["videos"][0]
    spans = [(window["start_sec"], window["end_sec"]) for window in found["windows"]]
    assert spans[:-1] == [(i / 4, i / 4 + 0.5) for i in range(6)]
    assert spans[-1] == pytest.approx((1.357, 1.857))


def test_sound_with_a_cover_is_no_video(here: Path) -> None:
    refused = tsm("predict", "best.pt", VIDEO / "song.m4a")
    assert refused.code == 3
    assert "song.m4a: no video stream, only a cover picture" in refused.err


def scores(*paths: Path, **options: str) -> list[list[float]]:
    """The probabilities of all classes, video by video."""
    found = tsm("predict", "best.pt", *paths, "--topk", "8", "--json").json()
    return [[guess["probability"] for guess in video["top"]] for video in found["videos"]]


def test_zips_and_folders_of_the_same_frames(here: Path) -> None:
    """Numbers without leading zeros, a folder's entry, and what a Mac puts beside frames change nothing."""
    (right,) = scores(CASES / "frames/padded.zip")
    with zipfile.ZipFile(CASES / "frames/padded.zip") as source:
        pictures = [source.read(name) for name in sorted(source.namelist())]
    with zipfile.ZipFile("mac.zip", "w") as archive:
        archive.writestr("my clip/.DS_Store", b"x")
        for number, picture in enumerate(pictures):
            archive.writestr(f"my clip/{number}.JPG", picture)
            archive.writestr(f"__MACOSX/my clip/._{number}.JPG", b"x")
    for name in ("unpadded.zip", "withfolder.zip", "apple"):
        assert scores(CASES / "frames" / name) == [right], name
    with zipfile.ZipFile("windows.zip", "w") as archive:
        for number, picture in enumerate(pictures):
            archive.writestr(f"my clip\\{number}.jpg", picture)
    assert scores(Path("mac.zip"), Path("windows.zip")) == [right, right]
    Path("plain").mkdir()
    for number, picture in enumerate(pictures):
        Path(f"plain/frame_{number:04}.jpg").write_bytes(picture)
    Path("plain/Thumbs.db").write_bytes(b"x")
    assert scores(Path("plain")) == [right]


def test_frames_of_several_videos_are_never_one(here: Path) -> None:
    frames = numbered_frames(6, 64, 160)
    write_frames(Path("both"), frames[:3], "a_{:03}.jpg")
    for path in write_frames(Path("more"), frames[3:], "b_{:03}.jpg").iterdir():
        path.rename(Path("both") / path.name)
    with zipfile.ZipFile("two.zip", "w") as archive:
        for path in Path("both").iterdir():
            archive.write(path, f"{path.name[0]}/{path.name}")
    refused = tsm("predict", "best.pt", "both", "two.zip")
    assert refused.code == 3
    assert "both: frames of 2 videos in one folder (3 a_*, 3 b_*)" in refused.err
    assert "two.zip: holds frames of 2 videos (a, b)" in refused.err


def lay_out(root: Path, names: list[str], source: Path = VIDEO / "plain.mp4") -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / name)
    return root


def prepared(source: Path, *options: str) -> dict[str, dict[str, int]]:
    """Videos per class and split."""
    found: dict[str, dict[str, int]] = tsm(
        "prepare-data", "folder", "--source", source, "--out", "out", *options, "--json"
    ).json()["classes"]
    return found


@pytest.mark.parametrize(
    ("train", "val"),
    [("train", "test"), ("Training", "Testing"), ("train", "valid"), ("TRAIN", "dev"), ("train", "Validation")],
)
def test_splits_by_any_name(here: Path, train: str, val: str) -> None:
    names = [f"{train}/{c}/{i}.mp4" for c in CLASSES for i in (1, 2)] + [f"{val}/{c}/3.mp4" for c in CLASSES]
    assert prepared(lay_out(Path("in"), names)) == {c: {"train": 2, "val": 1} for c in CLASSES}
    said = tsm("prepare-data", "folder", "--source", "in", "--out", "out").out
    assert f"note: {val}/ is the val split" in said


def test_a_test_split_beside_a_validation_split_is_left_out_and_said(here: Path) -> None:
    names = [f"{split}/{c}/{split}.mp4" for split in ("train", "val", "test") for c in CLASSES]
    assert prepared(lay_out(Path("in"), names)) == {c: {"train": 1, "val": 1} for c in CLASSES}
    said = tsm("prepare-data", "folder", "--source", "in", "--out", "out").out
    assert "left out in in: 3 files that are not used (3 .mp4): test/bend/test.mp4, " in said


def test_accents_that_are_stored_in_two_ways_are_one_class(here: Path) -> None:
    names = ["train/caf\u00e9/1.mp4", "train/bar/1.mp4", "val/cafe\u0301/2.mp4", "val/bar/2.mp4"]
    assert prepared(lay_out(Path("in"), names)) == {c: {"train": 1, "val": 1} for c in ("bar", "caf\u00e9")}


def test_classes_may_be_called_train_and_test(here: Path) -> None:
    """Without class folders in them they are no splits."""
    names = [f"{c}/{i}.mp4" for c in ("train", "tram", "test") for i in (1, 2)]
    assert [*prepared(lay_out(Path("in"), names))] == ["test", "train", "tram"]


def test_what_a_mac_leaves_is_no_class(here: Path) -> None:
    names = [f"{c}/{i}.mp4" for c in CLASSES for i in range(4)]
    lay_out(Path("in"), names + [f"__MACOSX/{c}/._{i}.mp4" for c in CLASSES for i in range(4)])
    found = prepared(Path("in"))
    assert [*found] == CLASSES
    assert sum(sum(counts.values()) for counts in found.values()) == 12


def test_suffixes_count_and_what_is_left_out_is_named(here: Path) -> None:
    lay_out(Path("in"), [f"{c}/{i}.mp4" for c in CLASSES for i in range(4)])
    lay_out(Path("in"), [f"wave1/g{i}.gif" for i in range(2)], VIDEO / "anim.gif")
    lay_out(Path("in"), [f"wave1/c{i}.MTS" for i in range(2)], VIDEO / "cam.MTS")
    lay_out(Path("in"), ["bend/data.xyz", "bend/photo.png"])
    os.mkfifo("in/jack/pipe.mp4")
    assert sum(prepared(Path("in"))["wave1"].values()) == 8
    said = tsm("prepare-data", "folder", "--source", "in", "--out", "out").out
    assert "left out in in: 3 files that are not used" in said
    assert "bend/data.xyz, bend/photo.png, jack/pipe.mp4" in said


def test_a_class_without_validation_videos_goes_on_with_a_note(here: Path) -> None:
    names = [f"train/{c}/{i}.mp4" for c in CLASSES for i in range(3)] + [f"val/{c}/9.mp4" for c in CLASSES[:2]]
    done = tsm("prepare-data", "folder", "--source", lay_out(Path("in"), names), "--out", "out")
    assert done.code == 0, done.err
    assert "note: 1 of 3 classes have no val video, so its accuracy is not known: 'wave1'" in done.out


def test_numbers_in_class_names_are_in_their_order(here: Path) -> None:
    lay_out(Path("in"), [f"{c}/{i}.mp4" for c in ("10", "9", "clip 10", "clip 9", "1") for i in (1, 2)])
    assert [*prepared(Path("in"))] == ["1", "9", "10", "clip 9", "clip 10"]


def test_class_folders_of_frame_folders(here: Path) -> None:
    for label, name in enumerate(CLASSES):
        for clip in ("x", "y"):
            write_frames(Path("in") / name / clip, numbered_frames(4 + label, 64, 160), "f{}.png", start=0)
    done = tsm("prepare-data", "folder", "--source", "in", "--out", "out", "--json").json()
    assert (done["store"], done["videos"]) == ("frames", {"train": 3, "val": 3})
    split = find_split(DataConfig(store="frames"), Places(folder=Path("out")), "train", CLASSES)
    with open_reader(split, split.records[2], DataConfig(store="frames")) as reader:
        assert [number_of(frame) for frame in reader.read(np.arange(6))] == [0, 1, 2, 3, 4, 5]


def test_lists_and_classes_with_byte_order_marks(tmp_path: Path) -> None:
    text = CASES / "text"
    assert read_list(text / "bom.txt", "video", classes=CLASSES) == read_list(
        text / "plain.txt", "video", classes=CLASSES
    )
    assert find_classes(DataConfig(), Places(classes=text / "classes_bom.txt")) == CLASSES
    for encoding in ("utf-16", "utf-8-sig"):
        copy = tmp_path / "list.txt"
        copy.write_text((text / "plain.txt").read_text().replace("\n", "\r\n"), encoding=encoding, newline="")
        assert read_list(copy, "video", classes=CLASSES) == read_list(text / "plain.txt", "video", classes=CLASSES)


def table(here: Path, text: str | bytes, names: list[str]) -> Any:
    """Prepare what a table says of videos with these names."""
    lay_out(here / "in", names)
    (here / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return tsm("prepare-data", "csv", "--source", "in", "--annotations", "t.csv", "--out", "out", "--json")


BENDS = [f"{c}/{who}_{c}{mirror}.mp4" for c in CLASSES for who in ("daria", "denis") for mirror in ("", "_mirror")]


@pytest.mark.parametrize("name", ["t_plain.csv", "t_quoted.csv"])
def test_tables_with_and_without_quotes(here: Path, name: str) -> None:
    assert sum(table(here, (CASES / "text" / name).read_bytes(), BENDS).json()["videos"].values()) == 12


@pytest.mark.parametrize(
    "text",
    [
        '"","Path"," LABEL "\n"1","a\\x.mp4","u"\n"2","a\\y.mp4","v"\n',
        "path;label\r\na/x.mp4;u\r\na/y.mp4;v\r\n",
        "path\tlabel\ta comment\na/x.mp4\tu\ta, b; c\na/y.mp4\tv\t\n",
        "Label, Path\nu, a/x.mp4\nv, a/y.mp4\n",
    ],
)
def test_tables_as_programs_write_them(here: Path, text: str) -> None:
    assert table(here, text, ["a/x.mp4", "a/y.mp4"]).json()["videos"]["train"] == 2


def test_a_row_without_a_label_is_an_error_with_its_line(here: Path) -> None:
    refused = table(here, (CASES / "text/t_blank.csv").read_bytes(), BENDS)
    assert refused.code == 3
    assert "t.csv:2: no label" in refused.err


def test_a_table_of_frame_folders(here: Path) -> None:
    for name in BENDS:
        write_frames(
            here / "in" / name.removesuffix(".mp4"), numbered_frames(4, 64, 160), "frame_{:04}.jpg", start=0
        )
    (here / "t.csv").write_bytes((CASES / "text/t_rawframes.csv").read_bytes())
    done = tsm("prepare-data", "csv", "--source", "in", "--annotations", "t.csv", "--out", "out", "--json").json()
    assert (done["store"], sum(done["videos"].values())) == ("frames", 12)


def test_labels_that_are_numbers(here: Path) -> None:
    """In the order of numbers; numbers from 1 are never shifted by one in silence."""
    names = [f"{i}.mp4" for i in range(12)]
    done = table(here, "path,label\n" + "".join(f"{i}.mp4,{i}\n" for i in range(12)), names)
    assert done.code == 0, done.err
    assert Path("out/classes.txt").read_text().split("\n")[9:12] == ["class 9", "class 10", "class 11"]
    refused = table(here, "path,label\n" + "".join(f"{i}.mp4,{i + 1}\n" for i in range(12)), names)
    assert refused.code == 3
    assert "the labels are not all of 0 to 12" in refused.err


def test_the_files_of_ucf101(here: Path) -> None:
    """Numbered class names, labels from 1, and a test list without labels."""
    media = lay_out(here / "media", BENDS)
    places = Places(train_list=CASES / "ucf/trainlist01.txt", val_list=CASES / "ucf/testlist01.txt", media=media,
                    classes=CASES / "ucf/classInd.txt")  # fmt: skip
    classes = find_classes(DataConfig(), places)
    assert classes == CLASSES
    for split in ("train", "val"):
        for record in find_split(DataConfig(), places, split, classes).records:
            assert record.path.startswith(classes[record.label])


def test_a_list_that_may_count_from_one_is_a_question(here: Path) -> None:
    media = lay_out(here / "media", ["a.mp4", "b.mp4"])
    Path("list.txt").write_text("a.mp4 1\nb.mp4 2\n")
    places = Places(train_list=Path("list.txt"), media=media)
    with pytest.raises(DataError, match="labels are 1 to 2, without 0: do they count from 1"):
        find_split(DataConfig(), places, "train", CLASSES)
    for first, labels in ((0, [1, 2]), (1, [0, 1])):
        data = DataConfig(first_label=first)  # type: ignore[arg-type]
        assert [record.label for record in find_split(data, places, "train", CLASSES).records] == labels


def test_paths_of_windows_and_of_macs(here: Path) -> None:
    """A list may spell a path otherwise than the disk does."""
    media = lay_out(here / "media", ["a/x.mp4", "caf\u00e9/y.mp4", "cafe\u0301s/z.mp4"])
    Path("list.txt").write_text("a\\x.mp4 0\ncafe\u0301/y.mp4 1\ncaf\u00e9s/z.mp4 2\n", encoding="utf-8")
    found = find_split(DataConfig(), Places(train_list=Path("list.txt"), media=media), "train", CLASSES)
    assert all((media / record.path).is_file() for record in found.records)


def test_frame_folders_with_names_of_their_own(here: Path) -> None:
    for start, suffix, name in ((0, "jpg", "frame_{:04}"), (1, "png", "{:06}"), (7, "webp", "x{}")):
        write_frames(here / "rf" / suffix, numbered_frames(5, 64, 160), f"{name}.{suffix}", start)
    Path("list.txt").write_text("jpg 5 0\npng 5 1\nwebp 5 1\n")
    data = DataConfig(store="frames")
    split = find_split(data, Places(train_list=Path("list.txt"), media=here / "rf"), "train", CLASSES)
    for record in split.records:
        with open_reader(split, record, data) as reader:
            assert [number_of(frame) for frame in reader.read(np.arange(5))] == [0, 1, 2, 3, 4]
    Path("list.txt").write_text("jpg 6 0\n")
    split = find_split(data, Places(train_list=Path("list.txt"), media=here / "rf"), "train", CLASSES)
    with (
        pytest.raises(DataError, match="the list says 6 frames, but there are 5"),
        open_reader(split, split.records[0], data),
    ):
        pass


def test_of_two_files_of_one_name_the_readable_one_is_taken(here: Path) -> None:
    """As in the public copies of Kinetics, which keep whole copies of broken files in a folder of their own."""
    done = tsm("prepare-data", "k400", "--source", CASES / "k400", "--out", "out", "--json").json()
    assert done["videos"] == {"train": 3, "val": 1}
    lines = Path("out/kinetics400_train_list_videos.txt").read_text().splitlines()
    assert "replacement_for_corrupted_k400/bbbbbbbbbbb_000005_000015.mp4 399" in lines
    (said,) = (line for line in done["differences"] if "more than once" in line)
    assert "replacement_for_corrupted_k400/bbbbbbbbbbb_000005_000015.mp4 is used, not train/" in said


NAMES = [
    "w\u0151.mp4",
    "12:30:00.mp4",
    "cam1:front.mp4",
    "%05d.mp4",
    "-x.mp4",
    "rtsp:a.mp4",
    "http:b.mp4",
    "a\nb.mp4",
    "\x1b[31m.mp4",
]


def test_any_name_is_the_name_of_a_file(here: Path) -> None:
    lay_out(Path("in"), NAMES)
    (here / os.fsdecode(b"in/\xff.mp4")).write_bytes((VIDEO / "plain.mp4").read_bytes())
    found = tsm("predict", "best.pt", "in", "--json").json()
    assert [len(found["videos"]), found["failed"]] == [len(NAMES) + 1, []]
    said = tsm("predict", "best.pt", "in").out
    assert "\x1b" not in said
    assert "a\\nb.mp4" in said, "a row stays a row"
    command = [sys.executable, "-m", "tsmcli", "predict", "best.pt", "in", "--topk", "1", "--csv"]
    env = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, capture_output=True, timeout=100, env=env, check=False)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout.decode("cp1252"))))
    assert len(rows) == len(NAMES) + 1, "letters that the encoding lacks lose no row"


def test_a_playlist_by_another_name_opens_nothing(here: Path) -> None:
    shutil.copy(VIDEO / "plain.mp4", "secret.mp4")
    texts = {
        "list.mp4": "ffconcat version 1.0\nfile secret.mp4\n",
        "play.ts": "#EXTM3U\n#EXTINF:1,\nsecret.mp4\n",
        "call.mkv": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        "dash.mov": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>',
    }
    for name, text in texts.items():
        Path(name).write_text(text)
    refused = tsm("predict", "best.pt", *texts, "--json")
    assert refused.code == 3
    tree = json.loads(refused.out)
    assert [video["video"] for video in tree["failed"]] == [*texts]


@pytest.mark.parametrize("kind", ["fifo", "device", "socket"])
def test_what_is_no_file_is_refused_at_once(here: Path, kind: str) -> None:
    path = Path("/dev/zero") if kind == "device" else here / "x.mp4"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        import socket

        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("x.mp4")
    assert "not a regular file" in tsm("predict", "best.pt", path).err
    for refused in (
        tsm("train", "--preset", "demo", "--train-list", path),
        tsm("train", "--preset", "demo", "--train-list", CASES / "text/plain.txt", "--classes", path),
        tsm("prepare-data", "csv", "--source", here, "--annotations", path),
    ):
        assert refused.code in (2, 3)


def test_what_a_file_may_cost_is_bounded(here: Path) -> None:
    for key, value, words in (
        ("max_pixels", 160 * 96, "frames of 160x96 pixels"), ("max_frames", 48, "48 frames"),
        ("max_sec", 1.92, "1.92 seconds"), ("max_bytes", (VIDEO / "plain.mp4").stat().st_size, " bytes"),
    ):  # fmt: skip
        less = value - 1 if isinstance(value, int) else value - 0.01
        assert tsm("predict", "best.pt", VIDEO / "plain.mp4", "--set", f"data.{key}={value}").code == 0
        refused = tsm("predict", "best.pt", VIDEO / "plain.mp4", "--set", f"data.{key}={less}")
        assert refused.code == 3
        assert f"data.{key} allows" in refused.err
        assert words in refused.err
    lay_out(Path("in"), ["a/1.mp4", "a/2.mp4", "b/1.mp4", "b/2.mp4"])
    refused = tsm("prepare-data", "folder", "--source", "in", "--store", "zip", "--set", "data.max_frames=9")
    assert refused.code == 3
    assert "data.max_frames allows 9" in refused.err


def test_label_files_behind_links(here: Path) -> None:
    (here / "labels").mkdir()
    for name in ("train.csv", "val.csv"):
        shutil.copy(CASES / "k400" / name, here / "labels" / name)
    shutil.copytree(CASES / "k400", here / "media", ignore=shutil.ignore_patterns("*.csv"))
    (here / "media/link").symlink_to(here / "labels")
    done = tsm("prepare-data", "k400", "--source", "media", "--out", "out", "--json").json()
    assert done["videos"] == {"train": 3, "val": 1}


def test_windows_of_a_video_of_varying_rate() -> None:
    """Frames 0.1 s apart, then 1 s: windows hold what is shown in them, also where nothing new is."""
    times = np.array([0.0, 0.1, 0.2, 3.2, 4.2])
    spans = window_spans(5.2, 1.0, 1.0)
    assert np.allclose(spans, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (4.2, 5.2)])
    assert [frames_shown(times, *span) for span in spans] == [(0, 3), (2, 3), (2, 3), (3, 4), (4, 5), (4, 5)]


def test_names_that_no_list_can_hold_are_failures_of_their_own(here: Path) -> None:
    """The others are prepared, a folder that begins with # among them."""
    lay_out(Path("in"), [f"{c}/{i}.mp4" for c in ("#yoga", "wave") for i in (1, 2)] + ["wave/a\nb.mp4"])
    (here / os.fsdecode(b"in/wave/\xff.mp4")).write_bytes(b"no video")
    done = tsm("prepare-data", "folder", "--source", "in", "--out", "out", "--store", "zip")
    assert done.code == 3
    assert "'wave/a\\nb.mp4' cannot stand in a list" in done.err
    assert len(list(csv.reader(io.StringIO(Path("out/failures.csv").read_text())))) == 3
    split = find_split(DataConfig(store="zip"), Places(folder=Path("out")), "train", ["#yoga", "wave"])
    for record in split.records:
        with open_reader(split, record, DataConfig(store="zip")) as reader:
            assert reader.num_frames == 48


def test_class_names_that_are_numbered_keep_their_numbers(here: Path) -> None:
    names = ["1 finger", "2 fingers", "3 fingers"]
    prepared(lay_out(Path("in"), [f"{c}/{i}.mp4" for c in names for i in (1, 2)]))
    assert find_classes(DataConfig(), Places(folder=Path("out"))) == names
    for text in ("1\tfinger\n2\tfist\n", "id,name\n0,finger\n1,fist\n", "01: finger\n02: fist\n"):
        Path("classes.txt").write_text(text)
        assert find_classes(DataConfig(), Places(classes=Path("classes.txt"))) == ["finger", "fist"]


def test_names_that_differ_in_zeros_have_one_order() -> None:
    names = ["1", "01", "001", "a2", "a02"]
    orders = {tuple(sorted(order, key=natural)) for order in permutations(names)}
    assert orders == {("001", "01", "1", "a02", "a2")}


def test_a_list_that_contradicts_itself_is_a_question(here: Path) -> None:
    media = lay_out(here / "media", BENDS[:6])
    lines = {"all": "bend\\daria_bend.mp4 1\njack/g1/x.mp4 2\n", "some": "bend/daria_bend.mp4 1\njack/x.mp4 1\n"}
    for name, text in lines.items():
        Path(f"{name}.txt").write_text(text)
    found = read_list(Path("all.txt"), "video", classes=CLASSES, first_label=None, media=media)
    assert [record.label for record in found] == [0, 1]
    with pytest.raises(DataError, match="show labels from 1, those of others do not"):
        read_list(Path("some.txt"), "video", classes=CLASSES, first_label=None, media=media)


def test_a_file_that_begins_with_a_hash_is_no_comment(here: Path) -> None:
    lay_out(here, ["#20_a.mp4", "b.mp4"])
    Path("list.txt").write_text("# my videos 3\n#20_a.mp4 0\nb.mp4 1\n")
    assert [record.path for record in read_list(Path("list.txt"), "video", media=here)] == ["#20_a.mp4", "b.mp4"]


def test_a_split_is_drawn_of_the_videos_that_are_there(here: Path) -> None:
    text = "path,label\n" + "".join(f"{i}.mp4,{'uv'[i % 2]}\n" for i in range(8))
    done = table(here, text, [f"{i}.mp4" for i in (0, 1, 2, 3)])
    assert done.json()["videos"] == {"train": 2, "val": 2}


def test_names_with_braces_and_capitals(here: Path) -> None:
    write_frames(here / "rf/x", numbered_frames(4, 64, 160), "clip{{1}}_{:03}.jpg", start=0)
    with open_reader(Split([], here / "rf", here), VideoRecord("x", 4, 0, "frames"), DataConfig()) as reader:
        assert [number_of(frame) for frame in reader.read(np.arange(4))] == [0, 1, 2, 3]
    lay_out(Path("in"), ["a/V1.mp4", "b/v1.mp4", "c/w.mp4", "d/w2.mp4"])
    done = table(here, "path,label\nv1,x\nw,y\nw2,y\n", [])
    assert "b/v1.mp4" in Path("out/folder_train_list_videos.txt").read_text(), done.err


def test_stores_of_other_classes_are_not_mixed(here: Path) -> None:
    lay_out(Path("in"), [f"{c}/{i}.mp4" for c in "abc" for i in (1, 2)])
    for store in ("zip", "video"):
        assert tsm("prepare-data", "folder", "--source", "in", "--out", "out", "--store", store).code == 0
    shutil.rmtree("in/a")
    refused = tsm("prepare-data", "folder", "--source", "in", "--out", "out", "--store", "video")
    assert refused.code == 3
    assert "out is prepared as zip, too, with other classes" in refused.err


def test_an_avi_is_streamed_at_its_own_times(tmp_path: Path) -> None:
    """Its frames are stored in another order than they are shown in."""
    path = write_video(tmp_path / "a.avi", numbered_frames(24, 96, 160), bf="3", g="12")
    with PyAVReader(path) as reader:
        assert [shot.time_sec for shot in open_source(path)] == pytest.approx(reader.times.tolist(), abs=1e-6)
        assert reader.times[-1] == pytest.approx(23 / 25)


@pytest.mark.parametrize("out", ["12:30", "file:x"])
def test_what_is_written_may_have_any_name_too(here: Path, out: str) -> None:
    lay_out(Path("in"), [f"{c}/{i}.mp4" for c in "ab" for i in (1, 2)])
    assert tsm("prepare-data", "folder", "--source", "in", "--out", out, "--store", "seekable").code == 0
    assert len(list(Path(out).rglob("*.mp4"))) == 4

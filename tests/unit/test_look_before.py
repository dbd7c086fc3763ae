"""tsm data check: what will hurt a training, from names and counts, and from a look into the videos."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from support import Frame, make_folder_dataset, tsm, write_video

from tsmcli.config import AugmentConfig, Config
from tsmcli.data.listfile import VideoRecord, write_list
from tsmcli.prepare.demo import make_demo
from tsmcli.prepare.findings import Finding, Listed, find_by_name, find_sides, recording_of
from tsmcli.prepare.inspect import find_in_videos, first_alike
from tsmcli.prepare.verify import Look
from tsmcli.recipes.events import result_of

CLASSES = ("jump", "wave")


def listed(train: str, val: str = "", label: int = 0) -> list[Listed]:
    """Videos by their names, in words."""
    return [
        Listed(split, name, label) for split, names in (("train", train), ("val", val)) for name in names.split()
    ]


def many(pattern: str, train: int, val: int, label: int = 0) -> list[Listed]:
    names = [pattern.format(i) for i in range(train + val)]
    return listed(" ".join(names[:train]), " ".join(names[train:]), label)


def kinds(findings: list[Finding]) -> dict[str, tuple[str, ...]]:
    return {finding.kind: finding.where for finding in findings}


def test_classes_with_few_videos_are_named_with_their_counts() -> None:
    enough = many("{}x.mp4", 10, 3, label=0)
    assert find_by_name(CLASSES, [*enough, *many("{}y.mp4", 10, 3, label=1)]) == []
    train, val = find_by_name(CLASSES, [*enough, *many("{}y.mp4", 9, 2, label=1)])
    assert (train.split, train.where, val.split, val.where) == ("train", ("wave (9)",), "val", ("wave (2)",))
    assert str(train).startswith("1 of 2 classes have fewer than 10 train videos: wave (9); collect more")
    assert find_by_name(CLASSES, enough) == []  # a class without videos is for the check of the lists


def test_uneven_classes() -> None:
    even = [*many("{}x.mp4", 100, 3), *many("{}y.mp4", 10, 3, label=1)]
    assert find_by_name(CLASSES, even) == []
    (found,) = find_by_name(CLASSES, [*even, *listed("more.mp4")])
    assert (found.kind, found.where) == ("uneven classes", ("jump (101)", "wave (10)"))
    assert "train.balance=power" in found.advice


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("wave/IMG_0012_02.mp4", "IMG_0012"),
        ("wave/anna_w07.mp4", "anna"),
        ("anna (2).MOV", "anna"),
        ("v_SoccerJuggling_g23_c01.avi", "v_SoccerJuggling_g23"),
        ("frames/anna_01", "anna"),
        ("zips/anna.b-3.zip", "anna.b"),
        ("anna_clip_03.mp4", "anna_clip"),
        ("0042.mp4", ""),
        ("talks/day0.mp4@12.5-14.zip", "day0.mp4"),
        ("day0.avi@f3-f50", "day0.avi"),
        ("VID_20260101_120000.mp4", "VID_20260101_120000"),  # a time is no counter
        ("abseiling/SOX5yA1l24A_000012_000022.mp4", "SOX5yA1l24A_000012_000022"),
    ],
)
def test_what_is_left_of_a_name_without_its_counter(path: str, name: str) -> None:
    assert recording_of(path) == name


def test_clips_of_one_recording_in_both_splits_are_found_by_name() -> None:
    persons = many("anna_{}.mp4", 10, 2) + many("ben_{}.mp4", 10, 0) + many("eve_{}.mp4", 0, 10)
    (found,) = find_by_name(["jump"], persons)
    assert (found.kind, found.severity, found.where) == ("recording in both", "will mislead", ("jump/anna*",))
    assert found.detail.startswith("2 validation videos")
    assert "--group" in found.advice


@pytest.mark.parametrize(
    "pattern", ["jump_{:03}.mp4", "{}.mp4", "clip {}.mp4", "VID_20260101_12{:04}.mp4", "jump1_{}.mp4"]
)
def test_a_scheme_of_names_is_no_recording(pattern: str) -> None:
    assert find_by_name(["jump"], many(pattern, 20, 5)) == []


def test_a_class_that_is_named_as_one_recording() -> None:
    found = kinds(find_by_name(CLASSES, [*many("IMG_0012_{}.mp4", 10, 3), *many("{}y.mp4", 10, 3, label=1)]))
    assert found == {"recording in both": ("jump/IMG_0012*",), "one recording": ("jump (IMG_0012*)",)}


@pytest.mark.parametrize(
    ("classes", "count"),
    [
        (["swipe left", "swipe_right", "stop"], 2),
        (["turnLeft", "turnRight"], 2),
        (["from left to right", "from right to left"], 2),
        (["clockwise", "counter-clockwise"], 2),
        (["left hand up", "stop"], 0),  # its mirror image is no other class
        (["brightening", "leftover", "upright"], 0),
    ],
)
def test_classes_that_a_mirror_image_exchanges(classes: list[str], count: int) -> None:
    for flips in (True, False):
        assert sum(len(found.where) for found in find_sides(classes, flips=flips)) == count


def scene(seed: int, way: int = 1, frames: int = 24, seat: int = 20) -> list[Frame]:
    """A square that moves to the right or back, on a texture that depends on the seed."""
    noise = np.random.default_rng(seed).integers(20, 200, (4, 5, 3), np.uint8)
    background = cv2.resize(noise, (128, 96), interpolation=cv2.INTER_CUBIC)
    pictures = []
    for number in range(frames)[::way]:
        picture = background.copy()
        picture[seat : seat + 20, 4 * number : 4 * number + 20] = 240
        pictures.append(picture)
    return pictures


def thumbs(*clips: list[Frame]) -> np.ndarray:
    grey = [
        [cv2.cvtColor(cv2.resize(f, (16, 16), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY) for f in c]
        for c in clips
    ]
    return np.array(grey)[:, [3, 10, 13, 20]]


def test_copies_are_alike_and_other_clips_of_a_scene_are_not() -> None:
    clip = scene(0)
    noisy = [
        np.clip(f * 0.8 + np.random.default_rng(i).normal(0, 8, f.shape), 0, 255).astype(np.uint8)
        for i, f in enumerate(clip)
    ]
    others = [scene(0, way=-1), scene(0, seat=50), scene(1)]
    assert first_alike(thumbs(clip, *others, noisy, others[1])).tolist() == [0, 1, 2, 3, 0, 2]


def test_flat_clips_are_like_nothing() -> None:
    black = [np.zeros((96, 128, 3), np.uint8)] * 24
    fade = [np.full((96, 128, 3), 5 * i, np.uint8) for i in range(24)]
    assert first_alike(thumbs(black, black, fade, fade)).tolist() == [0, 1, 2, 3]


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    clips = thumbs(*(scene(seed % 5) for seed in range(12)))
    expected = [number % 5 for number in range(12)]
    assert first_alike(clips).tolist() == expected
    monkeypatch.setattr("tsmcli.prepare.inspect._BLOCK", 3)
    assert first_alike(clips).tolist() == expected


def look(
    number: int,
    label: int,
    size: tuple[int, int] = (320, 240),
    frames: int = 24,
    rate: float = 25,
) -> Look:
    pictures = thumbs(scene(number, way=(1, -1)[number // 6 % 2], seat=14 * (number % 6)))[0]
    return Look(
        "val" if number % 5 == 4 else "train",
        Path("media"),
        f"{number}.mp4",
        (label,),
        frames,
        size,
        rate,
        pictures,
    )


def test_nothing_is_found_in_plain_videos() -> None:
    assert find_in_videos(CLASSES, [look(i, i % 2) for i in range(20)], Config()) == []


def test_short_videos_are_counted_by_class() -> None:
    videos = [look(i, i % 2, frames=7 if i < 3 else 8) for i in range(10)]
    (found,) = find_in_videos(CLASSES, videos, Config())
    assert (found.kind, found.where) == ("short", ("jump (2)", "wave (1)"))


def test_orientation_that_tells_classes_apart_misleads() -> None:
    mixed = [look(i, i % 2, size=(240, 320) if i < 4 else (320, 240)) for i in range(20)]
    apart = [look(i, i % 2, size=((240, 320), (320, 240))[i % 2]) for i in range(20)]
    (found,), (worse,) = (find_in_videos(CLASSES, videos, Config()) for videos in (mixed, apart))
    assert (found.severity, worse.severity) == ("may hurt", "will mislead")
    assert found.where == ("train 4 upright and 12 wide", "val 0 upright and 4 wide")
    assert worse.where == ("jump (all upright)", "wave (all wide)")


def test_sizes_and_rates_that_differ_much() -> None:
    videos = [look(i, i % 2, size=(80, 60) if i < 2 else (320, 240), rate=60 if i < 3 else 12) for i in range(20)]
    dense = Config(augment=AugmentConfig(sampling="dense"))
    assert kinds(find_in_videos(CLASSES, videos, Config())) == {"short sides": ("18 of 240 px", "2 of 60 px")}
    assert kinds(find_in_videos(CLASSES, videos, dense))["frame rates"] == ("17 of 12 a second", "3 of 60 a second")


def make_lists(folder: Path) -> list[str]:
    """Videos without a prepared folder: a smaller copy in validation, a copy of another class, and no more alike."""
    clips = {
        "a.mp4": scene(0),
        "b.mp4": scene(0, way=-1),
        "c.mp4": scene(0, seat=50),
        "d.mp4": scene(1),
        "v.mp4": scene(2),
    }
    for name, frames in clips.items():
        write_video(folder / name, frames)
    write_video(folder / "copy of a.mkv", [cv2.resize(frame, (64, 48)) for frame in clips["a.mp4"]], crf="30")
    write_video(folder / "other d.mp4", clips["d.mp4"], crf="30")
    train = [
        VideoRecord(name, None, label) for name, label in (("a.mp4", 0), ("b.mp4", 1), ("c.mp4", 1), ("d.mp4", 0))
    ]
    write_list(folder / "train.txt", [*train, VideoRecord("other d.mp4", None, 1)])
    write_list(folder / "val.txt", [VideoRecord("copy of a.mkv", None, 0), VideoRecord("v.mp4", None, 1)])
    (folder / "classes.txt").write_text("jump\nwave\n")
    places = {"train-list": "train.txt", "val-list": "val.txt", "classes": "classes.txt", "media": "."}
    return [word for option, name in places.items() for word in (f"--{option}", str(folder / name))]


def test_check_of_lists_finds_copies_and_prints_them_as_json(tmp_path: Path) -> None:
    places = make_lists(tmp_path)
    found = tsm("data", "check", *places, "--workers", 1, "--json").json()
    assert {frozenset(finding) for finding in found} == {
        frozenset(("kind", "severity", "split", "where", "detail", "advice"))
    }
    where = {(finding["kind"], finding["split"]): finding["where"] for finding in found}
    assert where["leak", "val"] == ["copy of a.mkv = a.mp4"]
    assert where["two labels", ""] == ["other d.mp4 (wave) = d.mp4 (jump)"]
    assert {*where} == {
        ("leak", "val"),
        ("two labels", ""),
        ("few videos", "train"),
        ("few videos", "val"),
        ("short sides", ""),
    } - {("short sides", "")}


def test_a_video_that_cannot_be_read_makes_the_check_fail(tmp_path: Path) -> None:
    places = make_lists(tmp_path)
    (tmp_path / "c.mp4").write_bytes(b"no video")
    done = tsm("data", "check", *places, "--workers", 1)
    assert done.code == 3
    first, second, *rest = done.out.splitlines()
    assert first == "will fail"
    assert second.startswith(f"  1 train videos cannot be read: {tmp_path / 'c.mp4'}: ")
    assert rest.index("will mislead") < rest.index("may hurt")
    assert "error: 1 of 7 videos cannot be used" in done.err


def test_a_clean_dataset_and_flips_that_keep_labels(tmp_path: Path) -> None:
    result_of(make_demo(tmp_path / "demo", train_clips=10, val_clips=3))
    command = ("data", "check", "--preset", "demo", "--data", tmp_path / "demo", "--workers", 1)
    clean = tsm(*command)
    assert (clean.code, clean.out) == (0, "nothing to complain about: 104 videos, 8 classes\n")
    (found,) = tsm(*command, "--set", "augment.flip_swaps_labels=false", "--json").json()
    assert (found["kind"], len(found["where"])) == ("left and right", 4)
    limited = (  # as many files may be open as a thousand are for long lists
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\nfrom tsmcli.cli import main\nmain()"
    )
    again = [sys.executable, "-c", limited, *map(str, command)]
    assert subprocess.run(again, capture_output=True, text=True, timeout=60, check=False).stdout == clean.out


@pytest.mark.parametrize("store", ["frames", "zip"])
def test_prepare_says_what_names_show_and_where_to_look_further(tmp_path: Path, store: str) -> None:
    source, out = make_folder_dataset(tmp_path / "clips", videos=5, classes=("left", "right")), tmp_path / "out"
    done = tsm("prepare-data", "folder", "--source", source, "--out", out, "--store", store, "--workers", 1)
    assert "note: 2 of 2 classes have fewer than 10 train videos: left (4), right (4); " in done.out
    assert "note: 2 class names tell left from right" in done.out
    command = f"data check --data {out} --set data.store={store}"
    assert f"tsm {command} looks at the videos themselves\n" in done.out
    found = tsm(*command.split(), "--workers", 1, "--json").json()
    assert {finding["kind"] for finding in found} == {"few videos"}

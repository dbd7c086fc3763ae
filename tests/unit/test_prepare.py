"""The demo clips, and folders of one's own videos."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import make_folder_dataset, tsm

from tsmcli.config import DataConfig
from tsmcli.data.listfile import read_list
from tsmcli.data.location import Places, find_split
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.errors import DataError, UsageError
from tsmcli.prepare.demo import FRAMES, MOTIONS, make_demo
from tsmcli.prepare.matching import plan_media
from tsmcli.prepare.official import PreparedDataset, prepare
from tsmcli.prepare.own import choose
from tsmcli.recipes.events import result_of


def prepare_folder(source: Path, out: Path, **options: Any) -> PreparedDataset:
    return result_of(prepare(plan_media("folder", source, out, **options), workers=1))


def per_class(done: PreparedDataset) -> dict[tuple[str, str], int]:
    """(split, class name) -> number of videos."""
    plan = done.plan
    return dict(Counter((f.item.split, plan.annotations.classes[f.item.label]) for f in plan.found))


def decoded(path: Path) -> list[np.ndarray]:
    with PyAVReader(path) as reader:
        return reader.read(np.arange(reader.num_frames))


def test_each_class_is_its_partner_played_backwards(demo_data: Path) -> None:
    """To the last bit after decoding: only the order of frames tells them apart."""
    for motion in MOTIONS:
        forwards = decoded(demo_data / f"videos/val/{motion}_001.mp4")
        backwards = decoded(demo_data / f"videos/val/{motion}_reversed_001.mp4")
        assert len(forwards) == FRAMES
        assert all(np.array_equal(a, b) for a, b in zip(forwards, backwards[::-1], strict=True))
        assert not np.array_equal(forwards[0], forwards[-1])


def test_objects_move_as_the_class_says(demo_data: Path) -> None:
    """Where the clip changes most from its background, the change moves right, or down."""
    for motion, axis in (("right", 1), ("down", 0)):
        frames = [f.astype(float).mean(2) for f in decoded(demo_data / f"videos/train/{motion}_000.mp4")]
        background = np.median(frames, axis=0)
        places = []
        for frame in frames:
            change = np.abs(frame - background) > 40
            places.append(np.argwhere(change)[:, axis].mean())
        assert np.polyfit(range(FRAMES), places, 1)[0] > 0.5, motion


def test_the_same_seed_gives_the_same_bytes(demo_data: Path, tmp_path: Path) -> None:
    again = tmp_path / "demo"
    result_of(make_demo(again, train_clips=4, val_clips=2))
    files = sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(demo_data) for p in demo_data.rglob("*") if p.is_file())
    assert all((again / f).read_bytes() == (demo_data / f).read_bytes() for f in files)
    other = tmp_path / "other"
    result_of(make_demo(other, seed=1, train_clips=1, val_clips=1))
    name = "videos/train/right_000.mp4"
    assert (other / name).read_bytes() != (demo_data / name).read_bytes()


def test_lists_are_balanced(demo_data: Path) -> None:
    for split, clips in (("train", 4), ("val", 2)):
        records = read_list(demo_data / f"demo_{split}_list_videos.txt", "video")
        labels = [record.label for record in records]
        assert [labels.count(label) for label in range(8)] == [clips] * 8
        assert all((demo_data / "videos" / record.path).is_file() for record in records)


def test_a_folder_of_something_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="is no demo dataset"):
        result_of(make_demo(tmp_path, train_clips=1, val_clips=1))
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_demo_data_beside_other_things_are_not_overwritten(tmp_path: Path) -> None:
    result_of(make_demo(tmp_path / "demo", train_clips=1, val_clips=1))
    (tmp_path / "demo" / "my_list.txt").touch()
    with pytest.raises(UsageError, match="holds other things, too: my_list.txt"):
        result_of(make_demo(tmp_path / "demo", train_clips=1, val_clips=1))


def test_media_are_found_behind_a_link(tmp_path: Path) -> None:
    source = make_folder_dataset(tmp_path / "clips", videos=3)
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "away")
    prepare_folder(source, tmp_path / "link" / "out")
    split = find_split(DataConfig(), Places(folder=tmp_path / "link" / "out"), "val", None)
    assert all((split.media / record.path).is_file() for record in split.records)


def test_class_folders(tmp_path: Path) -> None:
    source = make_folder_dataset(tmp_path / "my clips", videos=5)
    done = prepare_folder(source, tmp_path / "out", val_share=0.4)
    assert done.plan.annotations.classes == ["jump", "wave"]
    assert per_class(done) == {("train", "jump"): 3, ("train", "wave"): 3, ("val", "jump"): 2, ("val", "wave"): 2}
    train, val = (read_list(tmp_path / f"out/folder_{s}_list_videos.txt", "video") for s in ("train", "val"))
    assert {r.path for r in train} | {r.path for r in val} == {
        p.relative_to(source).as_posix() for p in source.rglob("*.mp4")
    }
    assert not {r.path for r in train} & {r.path for r in val}
    assert (tmp_path / "out/classes.txt").read_text() == "jump\nwave\n"
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert ((tmp_path / "out") / manifest["stores"]["video"]["media"]["val"]).resolve() == source.resolve()


def test_groups_stay_in_one_split(tmp_path: Path) -> None:
    source = make_folder_dataset(tmp_path / "clips", videos=5)
    prepare_folder(source, tmp_path / "out", group="^([a-z]+)_")
    people = {
        split: {Path(r.path).name[0] for r in read_list(tmp_path / f"out/folder_{split}_list_videos.txt", "video")}
        for split in ("train", "val")
    }
    assert len(people["val"]) == 1
    assert not people["train"] & people["val"]
    with pytest.raises(UsageError, match="does not match a_clip 0.mp4"):
        prepare_folder(source, tmp_path / "out", group="person(\\d)")
    with pytest.raises(UsageError, match="not a regular expression"):
        prepare_folder(source, tmp_path / "out", group="(")


def test_a_ready_split_is_kept(tmp_path: Path) -> None:
    make_folder_dataset(tmp_path / "clips" / "train", videos=2)
    make_folder_dataset(tmp_path / "clips" / "val", videos=1)
    done = prepare_folder(tmp_path / "clips", tmp_path / "out")
    assert per_class(done) == {("train", "jump"): 2, ("train", "wave"): 2, ("val", "jump"): 1, ("val", "wave"): 1}


def test_nothing_found_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        prepare_folder(tmp_path / "none", tmp_path / "out")
    (tmp_path / "clips" / "jump").mkdir(parents=True)
    (tmp_path / "clips" / "jump" / "a.txt").touch()
    with pytest.raises(
        DataError, match=r"0 class folders with videos; at least 2 are needed. Found 0 videos .* \(1 .txt\)"
    ):
        prepare_folder(tmp_path / "clips", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_class_with_one_video_goes_on_with_a_note(tmp_path: Path) -> None:
    source = make_folder_dataset(tmp_path / "clips", videos=2)
    (source / "jump" / "b_clip 1.mp4").unlink()
    done = tsm("prepare-data", "folder", "--source", source, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    assert "1 of 2 classes have no val video, so its accuracy is not known: 'jump'" in done.out


@given(st.integers(2, 50), st.floats(0.01, 0.99), st.integers(0, 1000))
def test_both_parts_get_something(count: int, share: float, seed: int) -> None:
    chosen = choose([str(i) for i in range(count)], share, np.random.default_rng(seed))
    assert 1 <= len(chosen) <= count - 1
    assert len({*chosen}) == len(chosen)

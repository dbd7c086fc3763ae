"""UCF101 and HMDB51: official lists of three splits, archives, and training on a split."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from rar import FILE, rar
from support import numbered_frames, tsm, write_frames, write_video

from tsmcli.catalog import CATALOG
from tsmcli.config import DataConfig
from tsmcli.data.listfile import read_list
from tsmcli.data.location import Places, find_split
from tsmcli.errors import DataError
from tsmcli.prepare.annotations import LabelFiles
from tsmcli.prepare.datasets import read_hmdb51, read_ucf101

UCF, HMDB = (CATALOG[name].class_names() or [] for name in ("ucf101", "hmdb51"))
ODD = ("Prelinger[1947]_{}", "#437_&_{}", "a;b!(c)~@+_{}")
"""Names of clips, as HMDB51 has them."""
SMALL = ["data.dataset=ucf101", "model.width=0.125", "train.epochs=1", "train.lr_steps=[]", "train.val_every=1",
         "train.workers=0", "train.batch=4"]  # fmt: skip


def spelled(name: str) -> str:
    """A class as file names have it."""
    return name.replace("HandstandPushups", "HandStandPushups")


def write_ucf(folder: Path, clips: Callable[[int, int], int], classes: list[str] = UCF) -> list[str]:
    """Lists in which groups 1 to 7, 8 to 14 and 15 to 21 are for testing; returns the paths of all clips.

    Args:
        clips: of a class (its number) and a group: how many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classInd.txt").write_bytes(b"".join(b"%d %s\r\n" % (i, n.encode()) for i, n in enumerate(UCF, 1)))
    every = [
        (group, f"{name}/v_{spelled(name)}_g{group:02}_c{clip:02}.avi", UCF.index(name) + 1)
        for i, name in enumerate(classes)
        for group in range(1, 26)
        for clip in range(1, clips(i, group) + 1)
    ]
    for split in (1, 2, 3):
        lists: dict[str, list[str]] = {"train": [], "test": []}
        for group, path, number in every:
            test = (group - 1) // 7 == split - 1
            lists["test" if test else "train"].append(path if test else f"{path} {number}")
        for kind, lines in lists.items():
            text = "".join(f"{line}\r\n" for line in lines)
            (folder / f"{kind}list{split:02}.txt").write_bytes(text.encode())
    return [path for _, path, _ in every]


def official_clips(i: int, group: int) -> int:
    """So many clips that each split has its official counts."""
    block = min((group - 1) // 7, 3)
    return 5 + (i * (4 if block == 3 else 7) + (group - 1) % 7 < (248, 199, 161, 87)[block])


def write_hmdb(folder: Path, clips: Callable[[int], int], train: int = 70, test: int = 30) -> dict[str, list[str]]:
    """A list for each class and split, with marks 1, 2 and 0; returns class -> names of its clips."""
    folder.mkdir(parents=True)
    found = {}
    for i, name in enumerate(HMDB):
        names = [ODD[clip % 3].format(f"{name}_f_cm_np1_ba_med_{clip}.avi") for clip in range(clips(i))]
        for split in (1, 2, 3):
            marks = ([1] * train + [2] * test + [0] * len(names))[: len(names)]
            turned = marks[split:] + marks[:split]
            lines = "".join(f"{video} {mark} \n" for video, mark in zip(names, turned, strict=True))
            (folder / f"{name}_test_split{split}.txt").write_text(lines)
        found[name] = names
    return found


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = numbered_frames(8, height=64, width=80)
    return write_video(tmp_path_factory.mktemp("clip") / "clip.avi", frames, "mpeg4")


@pytest.fixture
def ucf(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the ZIP of lists and the videos of three classes, one clip in every seventh group."""
    monkeypatch.chdir(tmp_path)
    names = write_ucf(
        Path("lists"), lambda _, group: group % 7 == 1, ["ApplyEyeMakeup", "HandstandPushups", "YoYo"]
    )
    with zipfile.ZipFile("lists.zip", "w") as file:
        for path in Path("lists").iterdir():
            file.write(path, f"ucfTrainTestlist/{path.name}")
    for name in names:
        place = Path("videos/UCF-101", name)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(clip, place)
    return tmp_path


def test_the_official_order_of_classes() -> None:
    """UCF101's is that of the alphabet without regard to capitals; `sorted` exchanges two pairs."""
    assert (len(UCF), sorted(UCF, key=str.lower) == UCF) == (101, True)
    assert [(i, name) for i, (name, other) in enumerate(zip(UCF, sorted(UCF), strict=True)) if name != other] == [
        (34, "Hammering"), (35, "HammerThrow"), (46, "JumpingJack"), (47, "JumpRope")
    ]  # fmt: skip
    assert (len(HMDB), sorted(HMDB) == HMDB) == (51, True)
    assert (HMDB[20], HMDB[44]) == ("kick", "sword")


def test_official_counts_of_ucf101(tmp_path: Path) -> None:
    paths = write_ucf(tmp_path, official_clips)
    assert len(paths) == 13320
    found = read_ucf101("ucf101", LabelFiles(tmp_path))
    assert Counter(item.split for item in found.items) == CATALOG["ucf101"].videos
    assert (found.classes, found.notes) == (UCF, ())
    pushups = {item.names[0] for item in found.items if item.label == 36}
    assert len(pushups) == sum(path.startswith("HandstandPushups/") for path in paths)
    assert all(name.startswith("HandstandPushups/v_HandStandPushups_g") for name in pushups)
    assert len(found.files) == 7


def test_official_counts_of_hmdb51(tmp_path: Path) -> None:
    clips = write_hmdb(tmp_path / "lists", lambda i: 132 + (i < 34))
    assert sum(map(len, clips.values())) == 6766
    found = read_hmdb51("hmdb51", LabelFiles(tmp_path))
    assert Counter(item.split for item in found.items) == CATALOG["hmdb51"].videos
    each = Counter((item.split, item.label) for item in found.items)
    assert {each["train_split_2", label] for label in range(51)} == {70}
    assert found.items[0].names == (f"brush_hair/{Path(clips['brush_hair'][0]).stem}",)
    (tmp_path / "lists" / "wave_test_split2.txt").unlink()
    with pytest.raises(DataError, match="no list of wave: looked for wave_test_split2.txt"):
        read_hmdb51("hmdb51", LabelFiles(tmp_path))


def test_lists_of_hmdb51_in_the_form_of_ucf101(tmp_path: Path) -> None:
    (tmp_path / "trainlist01.txt").write_text("wave/a[1]_wave_0.avi 51\n")
    (tmp_path / "testlist01.txt").write_text("kick/b_kick_0.avi 21\n")
    found = read_hmdb51("hmdb51", LabelFiles(tmp_path))
    assert [(item.split, item.label) for item in found.items] == [("train_split_1", 50), ("val_split_1", 20)]


def test_a_group_in_both_parts_is_told(tmp_path: Path) -> None:
    """The same number in another class, or in another split, is another recording."""
    write_ucf(tmp_path, lambda _, __: 2, UCF[:3])
    path = tmp_path / "testlist02.txt"
    path.write_text(path.read_text() + "ApplyLipstick/v_ApplyLipstick_g22_c02.avi\n")
    (note,) = read_ucf101("ucf101", LabelFiles(tmp_path)).notes
    assert note == "split 2: 1 groups of clips of one recording are in train and in val: ApplyLipstick g22"


@pytest.mark.parametrize(
    ("read", "name", "line", "message"),
    [
        (read_ucf101, "trainlist01.txt", "HandStandPushups/v_x_g01_c01.avi 37", "1: no class named 'HandStandPushups'"),
        (read_ucf101, "trainlist01.txt", "v_YoYo_g01_c01.avi 101", "1: expected `class/video.avi`, got 'v_YoYo_g01_c01.avi 101'"),
        (read_ucf101, "train.txt", "", "no list of a split: looked for trainlist01.txt, testlist01.txt; found train"),
        (read_hmdb51, "brush_hair_test_split1.txt", "a.avi", "1: expected `video.avi` and a mark of 0, 1 or 2"),
        (read_hmdb51, "brush_hair_test_split1.txt", "a.avi 3 ", "1: expected `video.avi` and a mark of 0, 1 or 2"),
        (read_hmdb51, "a.txt", "", "no list of a split: looked for brush_hair_test_split1.txt; found a.txt"),
    ],
)  # fmt: skip
def test_broken_lists(tmp_path: Path, read: Callable[..., object], name: str, line: str, message: str) -> None:
    if read is read_hmdb51 and "split" in name:
        write_hmdb(tmp_path / "lists", lambda _: 0)
        (tmp_path / "lists" / name).unlink()
    (tmp_path / name).write_text(f"{line}\n")
    with pytest.raises(DataError) as caught:
        read("ucf101" if read is read_ucf101 else "hmdb51", LabelFiles(tmp_path))
    assert message in str(caught.value)


def test_ucf101_from_a_zip_of_lists(ucf: Path) -> None:
    """Every clip is converted once for three splits; a clip that is not there is told."""
    lost = Path("videos/UCF-101/YoYo/v_YoYo_g15_c01.avi")
    lost.unlink()
    options = ("--annotations", "lists.zip", "--source", "videos")
    plan = tsm("prepare-data", "ucf101", *options, "--store", "frames", "--dry-run", "--json").json()
    assert (plan["annotated"], plan["found"], Path("data").exists()) == (12, 11, False)
    done = tsm("prepare-data", "ucf101", *options, "--store", "frames", "--workers", "1", "--json").json()
    assert list(done["videos"].items()) == [
        ("train_split_1", 8), ("val_split_1", 3), ("train_split_2", 8), ("val_split_2", 3), ("train_split_3", 9),
        ("val_split_3", 2),
    ]  # fmt: skip
    assert "train_split_3: 9 videos are annotated, officially 9624" in done["differences"]
    assert "1 annotated videos were not found: YoYo/v_YoYo_g15_c01" in done["differences"]
    assert Path("data/ucf101/missing.csv").read_text().splitlines()[1:] == [
        "train_split_1,YoYo/v_YoYo_g15_c01", "train_split_2,YoYo/v_YoYo_g15_c01", "val_split_3,YoYo/v_YoYo_g15_c01"
    ]  # fmt: skip
    assert len(list(Path("data/ucf101/rawframes").glob("*/*"))) == 11
    test = read_list(Path("data/ucf101/ucf101_val_split_2_rawframes.txt"), "frames")
    assert [record[:3] for record in test] == [
        ("ApplyEyeMakeup/v_ApplyEyeMakeup_g08_c01", 8, 0),
        ("HandstandPushups/v_HandStandPushups_g08_c01", 8, 36),
        ("YoYo/v_YoYo_g08_c01", 8, 100),
    ]
    checked = tsm("prepare-data", "ucf101", "--check", "--workers", "1", "--set", "data.split=3", "--json")
    assert (checked.code, json.loads(checked.out)["videos"]) == (3, 11)
    assert {(p["split"], p["kind"]) for p in json.loads(checked.out)["problems"]} == {
        ("train", "empty class"), ("val", "empty class")
    }  # fmt: skip


def test_trained_on_two_splits(ucf: Path) -> None:
    """Their mean, from the same table as seeds and folds; a checkpoint is tested on its own split."""
    tsm("prepare-data", "ucf101", "--annotations", "lists", "--source", "videos", "--json").json()
    trained = tsm("train", "--preset", "demo", "--splits", "1", "2", "--work-dir", "run", "--json", "--set", *SMALL)
    tops = [run["top1"] for run in trained.json()["runs"].values()]
    assert list(trained.json()["runs"]) == ["split-1", "split-2"]
    assert trained.json()["last"]["mean"] == pytest.approx(sum(tops) / 2)
    tested = tsm("test", "--checkpoint", "run/split-2/last.pt", "--out", "scores.json", "--set", "train.workers=0")
    assert tested.code == 0, tested.err
    assert "v_YoYo_g08_c01" in Path("scores.json").read_text()
    assert "v_YoYo_g01_c01" not in Path("scores.json").read_text()
    refused = tsm("train", "--preset", "demo", "--splits", "1", "4", "--set", *SMALL)
    assert (refused.code, "data.split=4: ucf101 has splits 1 to 3" in refused.err) == (2, True)
    named = ("--train-list", "data/ucf101/ucf101_train_split_1_videos.txt")
    refused = tsm("train", "--preset", "demo", "--splits", "1", "2", *named, "--set", *SMALL)
    assert (refused.code, "--splits takes the place of {}" in refused.err) == (2, True)


def test_a_split_that_is_not_there(ucf: Path) -> None:
    for path in Path("lists").glob("t*list03.txt"):
        path.unlink()
    done = tsm("prepare-data", "ucf101", "--annotations", "lists", "--source", "videos")
    assert done.code == 0, done.err
    assert "val_split_3: 0 videos" in done.out
    assert "read them with --set data.store=video data.split=N" in done.out
    with pytest.raises(DataError, match="no list file .*ucf101_val_split_3_videos.txt for the val") as caught:
        find_split(DataConfig(dataset="ucf101", split=3), Places(), "val", None)
    assert caught.value.hint == "data/ucf101 is prepared with split 1 and 2: --set data.split=1"
    refused = tsm("train", "--preset", "demo", "--set", "data.dataset=ucf101", "data.split=4")
    assert (refused.code, "data.split=4: ucf101 has splits 1 to 3" in refused.err) == (2, True)
    refused = tsm("train", "--preset", "demo", "--set", "data.split=2")
    assert (refused.code, "data.split=2: demo has one split" in refused.err) == (2, True)


def test_lists_and_folders_of_other_tools(tmp_path: Path) -> None:
    """Made in the places that MMAction2's scripts use, they need no preparation."""
    folder = tmp_path / "hmdb51"
    write_frames(folder / "rawframes" / "kick" / "a[1]_kick_0", numbered_frames(3))
    (folder / "hmdb51_val_split_3_rawframes.txt").write_text("kick/a[1]_kick_0 3 20\n")
    data = DataConfig(dataset="hmdb51", store="frames", split=3)
    (record,) = find_split(data, Places(data_root=tmp_path), "val", HMDB).records
    assert record[:3] == ("kick/a[1]_kick_0", 3, 20)


def test_hmdb51_from_archives(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A RAR of lists and a RAR of RARs; names hold what shells and patterns obey; unpacked once."""
    pytest.importorskip("libarchive", exc_type=Exception)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    clips = write_hmdb(Path("lists"), lambda i: 6 * (i in (20, 50)), train=3, test=2)
    lists = {f"testTrainMulti_7030_splits/{p.name}": (FILE, p.read_bytes()) for p in Path("lists").iterdir()}
    Path("splits.rar").write_bytes(rar(lists))
    inner = {
        f"{name}.rar": (FILE, rar({f"{name}/{video}": (FILE, clip.read_bytes()) for video in videos}))
        for name, videos in clips.items() if videos
    }  # fmt: skip
    Path("hmdb51_org.rar").write_bytes(rar(inner))
    ask = ("prepare-data", "hmdb51", "--annotations", "splits.rar", "--source", "hmdb51_org.rar")
    refused = tsm(*ask, "--dry-run")
    assert (refused.code, "--dry-run writes nothing" in refused.err) == (2, True)
    done = tsm(*ask, "--json").json()
    assert done["videos"] == {part: 6 if part.startswith("train") else 4 for part in CATALOG["hmdb51"].parts}
    split = find_split(DataConfig(dataset="hmdb51", split=2), Places(), "val", HMDB)
    assert Counter(record.label for record in split.records) == {20: 2, 50: 2}
    assert all((split.media / record.path).is_file() for record in split.records)
    assert not list(Path("data/hmdb51/unpacked").rglob("*.rar"))
    kept = next(Path("data/hmdb51/unpacked").rglob("*.avi")).stat().st_mtime_ns
    again = tsm(*ask, "--store", "frames", "--workers", "1", "--json").json()
    assert (again["videos"], again["failures"]) == (done["videos"], 0)
    assert next(Path("data/hmdb51/unpacked").rglob("*.avi")).stat().st_mtime_ns == kept


def test_archives_that_cannot_be_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lists.zip").write_bytes(b"PK\5\6" + bytes(18))
    Path("videos").mkdir()
    Path("UCF101.rar").write_bytes(rar({}))
    monkeypatch.setitem(sys.modules, "libarchive", None)
    refused = tsm("prepare-data", "ucf101", "--annotations", "lists.zip", "--source", "UCF101.rar")
    assert refused.code == 5
    assert "or unpack it yourself (unrar x, 7z x or unzip), and give the folder: --source DIR" in refused.err
    refused = tsm("prepare-data", "ucf101", "--annotations", "lists.zip", "--source", "videos")
    assert (refused.code, "no list of a split" in refused.err) == (3, True)
    with zipfile.ZipFile("lists.zip", "w") as file:
        file.writestr("../trainlist01.txt", "YoYo/v_YoYo_g01_c01.avi 101\n")
    refused = tsm("prepare-data", "ucf101", "--annotations", "lists.zip", "--source", "videos")
    assert (refused.code, "leads out of the folder" in refused.err) == (3, True)
    with zipfile.ZipFile("lists.zip", "w") as file:
        file.writestr("trainlist01.txt", "YoYo/v_YoYo_g01_c01.avi 101\n")
    Path("videos/UCF101.rar").touch()
    refused = tsm("prepare-data", "ucf101", "--annotations", "lists.zip", "--source", "videos")
    assert refused.code == 3
    assert "none of the 1 annotated videos is there" in refused.err
    assert "--source FILE unpacks an archive" in refused.err

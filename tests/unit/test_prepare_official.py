"""Official label files plus small media -> lists, for all five datasets and one's own table."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import number_of, numbered_frames, real_data, tsm, write_frames, write_video

from tsmcli.catalog import CATALOG
from tsmcli.config import DataConfig
from tsmcli.data.decode import open_reader
from tsmcli.data.listfile import read_list
from tsmcli.data.location import Places, find_classes, find_split
from tsmcli.data.media import scan
from tsmcli.errors import DataError
from tsmcli.prepare.annotations import LabelFiles
from tsmcli.prepare.datasets import read_lines_of_labels
from tsmcli.prepare.extract import Size

FRAMES = numbered_frames(12, height=48, width=168)


def names(dataset: str) -> list[str]:
    found = CATALOG[dataset].class_names()
    assert found
    return found


def make_sthv1(source: Path, prefix: str = "something-something-v1", dataset: str = "sthv1") -> None:
    """Label files as they are distributed, and frame folders."""
    classes = names(dataset)
    source.mkdir(parents=True, exist_ok=True)
    (source / f"{prefix}-labels.csv").write_text("\n".join(classes) + "\n")
    (source / f"{prefix}-train.csv").write_text(f"101;{classes[2]}\n102;{classes[0]}\n")
    (source / f"{prefix}-validation.csv").write_text(f"201;{classes[4]}\n202;{classes[26]}\n")
    for number, video in enumerate(("101", "102", "201")):
        write_frames(source / "20bn" / "frames" / video, FRAMES[: 8 + number], "{:05}.jpg")


def lists(folder: Path, dataset: str, store: str) -> dict[str, list[tuple[Any, ...]]]:
    return {
        split: [tuple(r[:3]) for r in read_list(folder / CATALOG[dataset].list_name(store, split), store)]  # type: ignore[arg-type]
        for split in ("train", "val")
    }


@pytest.mark.parametrize(("dataset", "prefix"), [("sthv1", "something-something-v1"), ("jester", "jester-v1")])
def test_something_v1_and_jester(tmp_path: Path, dataset: str, prefix: str) -> None:
    """Labels are in the published order, not the alphabet's; a missing video is named."""
    make_sthv1(tmp_path / "in", prefix, dataset)
    done = tsm("prepare-data", dataset, "--source", tmp_path / "in", "--out", tmp_path / "out", "--json").json()
    assert done["videos"] == {"train": 2, "val": 1}
    assert any("1 annotated videos were not found: 202" in line for line in done["differences"])
    assert any(
        f"train: 2 videos are annotated, officially {CATALOG[dataset].videos['train']}" in d
        for d in done["differences"]
    )
    assert lists(tmp_path / "out", dataset, "frames") == {
        "train": [("20bn/frames/101", 8, 2), ("20bn/frames/102", 9, 0)],
        "val": [("20bn/frames/201", 10, 4)],
    }
    data = DataConfig(dataset=dataset, store="frames")
    places = Places(folder=tmp_path / "out")
    assert find_classes(data, places) == names(dataset)
    split = find_split(data, places, "val", None)
    with open_reader(split, split.records[0], data) as reader:
        assert reader.read(np.array([9]))[0].shape == (48, 168, 3)


def test_real_label_files_of_jester(tmp_path: Path) -> None:
    labels = real_data() / "annotations" / "jester" / "jester-v1-labels.csv"
    (tmp_path / labels.name).write_bytes(labels.read_bytes())
    (tmp_path / "jester-v1-train.csv").write_text("1;Swiping Left\n2;No gesture\n")
    found = read_lines_of_labels("jester", LabelFiles(tmp_path))
    assert found.classes == names("jester")
    assert [item.label for item in found.items] == [0, 25]


def test_a_labels_file_in_another_order_gets_the_published_one(tmp_path: Path) -> None:
    """A copy of Jester's labels circulates with classes 4 and 5 exchanged; the checkpoints know one order."""
    shuffled = names("jester")[::-1]
    (tmp_path / "jester-v1-labels.csv").write_text("\n".join(shuffled) + "\n")
    (tmp_path / "jester-v1-train.csv").write_text("1;Pulling Hand In\n")
    found = read_lines_of_labels("jester", LabelFiles(tmp_path))
    assert found.classes == names("jester")
    assert found.items[0].label == 5
    assert "its order is not the published one, first at line 1" in found.notes[0]


def test_something_v2(tmp_path: Path) -> None:
    """Templates lose their brackets; videos are webm; real label files where they are at hand."""
    source = tmp_path / "in"
    source.mkdir()
    classes = names("sthv2")
    (source / "something-something-v2-labels.json").write_text(
        json.dumps({n: str(i) for i, n in enumerate(classes)})
    )
    entries = [{"id": "7", "template": "Pushing [something] from left to right", "label": "x"},
               {"id": "8", "template": "Moving [something] and [something] closer to each other"}]  # fmt: skip
    (source / "something-something-v2-train.json").write_text(json.dumps(entries))
    (source / "something-something-v2-validation.json").write_text(json.dumps(entries[:1]))
    for video in ("7", "8"):
        write_video(source / f"{video}.webm", FRAMES, "libvpx-vp9", **{"cpu-used": "8", "deadline": "realtime"})
    done = tsm("prepare-data", "sthv2", "--source", source, "--out", tmp_path / "out", "--json").json()
    assert (done["store"], done["videos"]) == ("video", {"train": 2, "val": 1})
    pushing = classes.index("Pushing something from left to right")
    assert lists(tmp_path / "out", "sthv2", "video")["train"][0] == ("7.webm", None, pushing)


def test_real_label_files_of_something_v2(tmp_path: Path) -> None:
    folder = real_data() / "annotations" / "sthv2"
    for path in folder.glob("*.json"):
        (tmp_path / path.name).symlink_to(path)
    write_video(tmp_path / "74225.webm", FRAMES, "libvpx-vp9", **{"cpu-used": "8", "deadline": "realtime"})
    done = tsm("prepare-data", "sthv2", "--source", tmp_path, "--out", tmp_path / "out", "--json").json()
    assert done["videos"] == {"train": 0, "val": 1}
    assert any("24776 annotated videos were not found" in line for line in done["differences"])
    label = names("sthv2").index("Spinning something that quickly stops spinning")
    records = read_list(
        tmp_path / "out" / CATALOG["sthv2"].list_name("video", "val"), "video", classes=names("sthv2")
    )
    assert [r[:3] for r in records] == [("74225.webm", None, label)]


def make_kinetics(source: Path) -> None:
    source.mkdir(parents=True)
    header = "label,youtube_id,time_start,time_end,split,is_cc\n"
    (source / "kinetics_train.csv").write_text(
        f'{header}abseiling,_4YTwq0-73Y,44,54,train,0\n"air drumming",ab cd,2,12,train,0\n'
    )
    (source / "kinetics_val.csv").write_text(f"{header}zumba,_6VIemu6cZQ,47,57,val,0\n")
    for name in (
        "train/abseiling/_4YTwq0-73Y_000044_000054",
        "train/air drumming/ab cd",
        "val/_6VIemu6cZQ_000047_000057",
    ):
        path = source / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, FRAMES)


def test_kinetics(tmp_path: Path) -> None:
    make_kinetics(tmp_path / "in")
    done = tsm("prepare-data", "k400", "--source", tmp_path / "in", "--out", tmp_path / "out", "--json").json()
    assert done["videos"] == {"train": 2, "val": 1}
    assert lists(tmp_path / "out", "k400", "video") == {
        "train": [
            ("train/abseiling/_4YTwq0-73Y_000044_000054.mp4", None, 0),
            ("train/air drumming/ab cd.mp4", None, 1),
        ],
        "val": [("val/_6VIemu6cZQ_000047_000057.mp4", None, 399)],
    }


def test_published_kinetics_validation_list(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "kinetics_val_list.txt").write_text(
        "0wR5jVB-WPk_000417_000427.mp4, 300, 0\nZVDR2od1gn8_000037_000047 300 399\n"
    )
    (source / "kinetics_class2ind.txt").write_text("abseiling 0\nzumba 399\n")
    write_video(source / "0wR5jVB-WPk.mp4", FRAMES)
    done = tsm("prepare-data", "k400", "--source", source, "--out", tmp_path / "out", "--json").json()
    assert done["videos"] == {"train": 0, "val": 1}
    (source / "kinetics_class2ind.txt").write_text("abseiling 1\n")
    refused = tsm("prepare-data", "k400", "--source", source, "--out", tmp_path / "out")
    assert refused.code == 3
    assert "class 'abseiling' has index 1 there and 0 here" in refused.err


def test_diving48(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    vocabulary = [name.split("+") for name in names("diving48")]
    (source / "Diving48_vocab.json").write_text(json.dumps(vocabulary))
    (source / "Diving48_V2_train.json").write_text(json.dumps([{"vid_name": "a_1", "label": 26, "start_frame": 0}]))
    (source / "Diving48_V2_test.json").write_text(json.dumps([{"vid_name": "b_2", "label": 47}]))
    for name in ("a_1", "b_2"):
        write_video(source / f"{name}.mp4", FRAMES)
    tsm("prepare-data", "diving48", "--source", source, "--out", tmp_path / "out", "--json").json()
    assert lists(tmp_path / "out", "diving48", "video") == {
        "train": [("a_1.mp4", None, 26)],
        "val": [("b_2.mp4", None, 47)],
    }


def test_a_table_of_ones_own(tmp_path: Path) -> None:
    source = tmp_path / "in"
    (source / "deep er").mkdir(parents=True)
    for name in ("a.mp4", "deep er/b.mp4", "c.mp4"):
        write_video(source / name, FRAMES)
    (source / "annotations.csv").write_text(
        "path,label,split\na.mp4,wave,train\ndeep er/b.mp4,jump,train\nc.mp4,jump,val\n"
    )
    tsm("prepare-data", "csv", "--source", source, "--out", tmp_path / "out", "--json").json()
    assert lists(tmp_path / "out", "folder", "video") == {
        "train": [("a.mp4", None, 1), ("deep er/b.mp4", None, 0)],
        "val": [("c.mp4", None, 0)],
    }
    assert (tmp_path / "out/classes.txt").read_text() == "jump\nwave\n"


@pytest.mark.parametrize("store", ["frames", "zip", "seekable"])
def test_storage(tmp_path: Path, store: str) -> None:
    """Every kind of storage holds the same frames at the asked size, and reads back through the lists."""
    make_kinetics(tmp_path / "in")
    done = tsm("prepare-data", "k400", "--source", tmp_path / "in", "--out", tmp_path / "out", "--store", store,
               "--short-side", "96", "--workers", "2", "--json").json()  # fmt: skip
    data = DataConfig(dataset="k400", store=done["store"])
    split = find_split(data, Places(folder=tmp_path / "out"), "train", names("k400"))
    assert [r.num_frames for r in split.records] == [None if store == "seekable" else 12] * 2
    for record in split.records:
        with open_reader(split, record, data) as reader:
            assert reader.num_frames == 12
            frames = reader.read(np.array([11, 0, 5, 5]))
            assert {frame.shape for frame in frames} == {(96, 336, 3)}
            assert np.array_equal(frames[2], frames[3])
            first, last = (frames[i].mean() for i in (1, 0))
            assert abs(first - FRAMES[0].mean()) < 6
            assert abs(last - FRAMES[11].mean()) < 6
    before = snapshot(tmp_path / "out")
    again = tsm("prepare-data", "k400", "--source", tmp_path / "in", "--out", tmp_path / "out", "--store", store,
                "--short-side", "96", "--json").json()  # fmt: skip
    assert again == done
    assert snapshot(tmp_path / "out", times=True)[0] == snapshot(tmp_path / "out", times=True)[0]
    assert snapshot(tmp_path / "out") == before


def snapshot(folder: Path, *, times: bool = False) -> Any:
    files = {
        p.relative_to(folder).as_posix(): p
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.suffix != ".lock"
    }
    if times:
        return [
            {
                name: path.stat().st_mtime_ns
                for name, path in files.items()
                if name.endswith((".jpg", ".zip", ".mp4"))
            }
        ]
    return {name: path.read_bytes() for name, path in files.items()}


def test_failures_are_listed_and_the_rest_is_done(tmp_path: Path) -> None:
    make_kinetics(tmp_path / "in")
    (tmp_path / "in/train/abseiling/_4YTwq0-73Y_000044_000054.mp4").write_bytes(b"no video")
    done = tsm(
        "prepare-data",
        "k400",
        "--source",
        tmp_path / "in",
        "--out",
        tmp_path / "out",
        "--store",
        "frames",
        "--json",
    )
    assert done.code == 3
    assert json.loads(done.out)["videos"] == {"train": 1, "val": 1}
    rows = (tmp_path / "out/failures.csv").read_text().splitlines()
    assert rows[0] == "video,reason"
    assert "_4YTwq0-73Y_000044_000054.mp4" in rows[1]
    assert not list((tmp_path / "out").rglob("*.part-*"))


def test_shards_together_are_the_whole(tmp_path: Path) -> None:
    make_kinetics(tmp_path / "in")
    options = ("--source", tmp_path / "in", "--store", "frames", "--json")
    whole = tsm("prepare-data", "k400", *options, "--out", tmp_path / "whole")
    assert whole.code == 0
    for part, complete in (("1/2", False), ("2/2", True)):
        done = tsm("prepare-data", "k400", *options, "--out", tmp_path / "parts", "--shard", part).json()
        assert done["complete"] is complete
        assert bool(list((tmp_path / "parts").glob("*.txt"))) is complete
    assert snapshot(tmp_path / "parts") == snapshot(tmp_path / "whole")
    assert tsm("prepare-data", "k400", *options, "--out", tmp_path / "parts").json()["complete"]
    assert snapshot(tmp_path / "parts") == snapshot(tmp_path / "whole"), "a run without parts does it all again"


@pytest.mark.slow
def test_killed_at_any_moment_and_resumed_it_is_the_same(tmp_path: Path) -> None:
    """SIGKILL at 10 random moments; in the end every byte is as in an undisturbed run, and nothing is done twice."""
    source = tmp_path / "in"
    source.mkdir()
    rows = ["path,label,split"]
    frames = numbered_frames(60)
    for i in range(240):
        write_video(source / f"v{i}.mp4", frames[i % 20 :])
        rows.append(f"v{i}.mp4,{i % 2},{'train' if i % 3 else 'val'}")
    (source / "annotations.csv").write_text("\n".join(rows) + "\n")
    command = [sys.executable, "-m", "tsmcli", "prepare-data", "csv", "--source", str(source), "--store", "frames",
               "--short-side", "128", "--workers", "2", "--out"]  # fmt: skip
    subprocess.run([*command, str(tmp_path / "whole")], check=True, capture_output=True)
    rng = np.random.default_rng(0)
    finished: dict[str, int] = {}

    def look() -> int:
        """Every finished video keeps the time it was finished at."""
        for folder in (tmp_path / "cut" / "rawframes").glob("v*"):
            if ".part-" not in folder.name:
                stamp = folder.stat().st_mtime_ns
                assert finished.setdefault(folder.name, stamp) == stamp, f"{folder.name} was done twice"
        return len(finished)

    for _ in range(10):
        before = look()
        process = subprocess.Popen(
            [*command, str(tmp_path / "cut")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while look() == before and process.poll() is None:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.1))
        assert process.poll() is None, "it was done before it could be killed: more videos are needed"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.3)  # its workers go with it
    assert 10 <= look() < 240
    subprocess.run([*command, str(tmp_path / "cut")], check=True, capture_output=True)
    assert look() == 240
    assert snapshot(tmp_path / "cut") == snapshot(tmp_path / "whole")


def test_sizes() -> None:
    assert Size(short_side=256).of(340, 256) == (340, 256)
    assert Size(short_side=256).of(1280, 720) == (455, 256)
    assert Size(short_side=256).of(480, 854) == (256, 455)
    assert Size(exact=(340, 256)).of(1920, 1080) == (340, 256)
    assert Size(height=240).of(427, 320) == (320, 240)
    assert Size().of(11, 7) == (11, 7)


def test_videos_of_one_name_in_different_folders_stay_apart(tmp_path: Path) -> None:
    source = tmp_path / "in"
    rows = ["path,label"]
    for label in ("jump", "wave"):
        (source / label).mkdir(parents=True)
        for i in range(3):
            write_video(source / label / f"00{i}.mp4", FRAMES[i:])
            rows.append(f"{label}/00{i}.mp4,{label}")
    (source / "annotations.csv").write_text("\n".join(rows) + "\n")
    command = (
        "prepare-data",
        "csv",
        "--source",
        source,
        "--store",
        "zip",
        "--out",
        source,
        "--workers",
        "1",
        "--json",
    )
    assert tsm(*command).json()["videos"] == {"train": 4, "val": 2}
    found = {r for rows in lists(source, "folder", "zip").values() for r in rows}
    assert found == {
        (f"{label}/00{i}.zip", 12 - i, n) for n, label in enumerate(("jump", "wave")) for i in range(3)
    }
    before = snapshot(source)
    assert tsm(*command).code == 0  # what it made itself is no source
    assert snapshot(source) == before
    other = tsm(*command, "--short-side", "32")
    assert other.code == 2
    assert "already holds zip of size: original, not short side 32" in other.err


def test_nothing_of_the_users_is_deleted(tmp_path: Path) -> None:
    """What looks half-written but belongs to no job, or to a living process, stays; what a dead one left goes."""
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a", "b", "walk.part-1"):
        write_video(source / f"{name}.mp4", FRAMES)
    (source / "annotations.csv").write_text("path,label,split\na.mp4,x,train\nb.mp4,y,val\n")
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here = platform.node()
    (source / "rawframes" / f"a.part-{here}-{gone.pid}").mkdir(parents=True)
    (source / "rawframes" / f"a.part-{here}-{os.getppid()}").mkdir()
    (source / "rawframes" / "note.part-1").touch()
    assert tsm("prepare-data", "csv", "--source", source, "--store", "frames", "--out", source).code == 0
    assert (source / "walk.part-1.mp4").exists()
    assert (source / "rawframes" / "note.part-1").exists()
    assert not (source / "rawframes" / f"a.part-{here}-{gone.pid}").exists()
    assert (source / "rawframes" / f"a.part-{here}-{os.getppid()}").exists(), "its process may still write it"


def test_frame_folders_named_differently_are_read_all_the_same(tmp_path: Path) -> None:
    make_sthv1(tmp_path / "in")
    write_frames(tmp_path / "in" / "20bn" / "frames" / "202", FRAMES[:5], "img_{:05}.jpg", start=0)
    done = tsm("prepare-data", "sthv1", "--source", tmp_path / "in", "--out", tmp_path / "out", "--json")
    assert done.json()["videos"] == {"train": 2, "val": 2}
    data = DataConfig(dataset="sthv1", store="frames")
    split = find_split(data, Places(folder=tmp_path / "out"), "val", names("sthv1"))
    (odd,) = (record for record in split.records if record.path.endswith("202"))
    with open_reader(split, odd, data) as reader:
        assert [number_of(frame) for frame in reader.read(np.arange(odd.num_frames))] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "options", [("--dry-run",), ("--store", "zip"), ("--full",), ("--size", "0x64"), ("--shard", "3/2")]
)
def test_options_that_do_not_apply_are_refused(tmp_path: Path, options: tuple[str, ...]) -> None:
    refused = tsm("prepare-data", "--out", tmp_path / "out", *options)
    assert refused.code == 2
    assert not (tmp_path / "out").exists()


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    make_kinetics(tmp_path / "in")
    facts = tsm(
        "prepare-data",
        "k400",
        "--source",
        tmp_path / "in",
        "--out",
        tmp_path / "out",
        "--store",
        "zip",
        "--dry-run",
        "--json",
    ).json()
    assert (facts["annotated"], facts["found"], facts["conversion"]) == (3, 3, "zip")
    assert facts["estimated_bytes"] > 10_000
    assert not (tmp_path / "out").exists()


def test_nothing_found_says_what_was_looked_for(tmp_path: Path) -> None:
    make_sthv1(tmp_path / "in")
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "readme.txt").touch()
    refused = tsm(
        "prepare-data",
        "sthv1",
        "--source",
        tmp_path / "media",
        "--annotations",
        tmp_path / "in",
        "--out",
        tmp_path / "out",
    )
    assert refused.code == 3
    assert "none of the 4 annotated videos is there; looked for names such as 101; found 0 videos" in refused.err
    refused = tsm("prepare-data", "sthv1", "--source", tmp_path / "media")
    assert refused.code == 3
    assert "looked for something-something-v1-labels.csv; found readme.txt" in refused.err


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("something-something-v1-train.csv", "101 Holding something\n", "train.csv:1: expected `id;label`"),
        ("something-something-v1-train.csv", "101;Juggling\n", "train.csv:1: no class named 'Juggling'"),
        ("something-something-v1-labels.csv", "A\nA\n", "class names repeat"),
    ],
)
def test_broken_label_files(tmp_path: Path, name: str, text: str, message: str) -> None:
    make_sthv1(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError) as caught:
        read_lines_of_labels("sthv1", LabelFiles(tmp_path))
    assert message in str(caught.value)


def test_two_different_label_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder, text in (("a", "x"), ("b", "y")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "labels.json").write_text(text)
    with pytest.raises(DataError, match="several different files named labels.json"):
        LabelFiles(tmp_path).find(("labels.json",))


def test_frame_folders_with_gaps_are_not_used(tmp_path: Path) -> None:
    write_frames(tmp_path / "good", FRAMES[:4], "img_{:05}.jpg")
    write_frames(tmp_path / "holes", FRAMES[:4], "{:06}.jpg", start=0)
    (tmp_path / "holes" / "000002.jpg").unlink()
    media = scan(tmp_path)
    (good,) = media.frames["good"]
    assert (good.count, good.start_index, good.template) == (4, 1, "img_{:05}.jpg")
    assert media.gaps == {Path("holes"): "frame 2 of 0 to 3 is missing"}


def test_check_finds_what_is_wrong_and_quarantine_is_obeyed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "clips"
    for label in ("jump", "wave"):
        (source / label).mkdir(parents=True)
        for i in range(4):
            write_video(source / label / f"{i}.mp4", FRAMES)
    write_video(source / "wave" / "3.mp4", FRAMES[:3])
    tsm("prepare-data", "folder", "--source", source, "--out", "mine")
    clean = tsm("prepare-data", "folder", "--check", "--out", "mine", "--workers", "1", "--json")
    assert [p["kind"] for p in json.loads(clean.out)["problems"]] == ["short"]
    records = read_list(Path("mine/folder_train_list_videos.txt"), "video")
    (source / records[0].path).write_bytes(b"")
    listed = Path("mine/folder_val_list_videos.txt")
    listed.write_text(listed.read_text() + f"{records[1].path} {records[1].label}\n")
    report = tsm(
        "prepare-data",
        "folder",
        "--check",
        "--full",
        "--out",
        "mine",
        "--quarantine",
        "--report",
        "all.csv",
        "--json",
    )
    assert report.code == 3
    problems = json.loads(report.out)["problems"]
    assert {(p["kind"], p["path"]) for p in problems} >= {
        ("unreadable", records[0].path),
        ("duplicate", records[1].path),
    }
    assert len(Path("all.csv").read_text().splitlines()) == len(problems) + 1
    split = find_split(DataConfig(), Places(folder=Path("mine")), "train", None)
    assert [*split.quarantine] == [records[0].path]
    with pytest.raises(DataError, match="in quarantine"), open_reader(split, records[0], DataConfig()):
        pass
    assert (source / records[0].path).exists()


def test_data_show(tmp_path: Path, demo_data: Path) -> None:
    from PIL import Image

    for target, options, rows in (
        ("train", (), 6),
        ("val", ("--protocol", "test"), 6),
        (str(demo_data / "videos/val/right_000.mp4"), ("--set", "test.clips=2", "test.crop=ten"), 20),
    ):
        out = tmp_path / "sheet.png"
        done = tsm("data", "show", target, "--data", demo_data, "--out", out, *options)
        assert done.code == 0, done.err
        assert f"{rows} views" in done.out
        with Image.open(out) as sheet:
            assert sheet.size[1] == 36 + 100 * rows

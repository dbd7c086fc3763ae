"""Whatever lies in a file or a folder, reading it gives a result or an error of ours, never a traceback."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import signal
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from tsmcli.catalog import CATALOG
from tsmcli.config import DataConfig, Store
from tsmcli.data.find_videos import find_videos
from tsmcli.data.frame_zip import FrameZip
from tsmcli.data.listfile import read_json, read_lines, read_list
from tsmcli.data.location import Places, find_classes, find_split, read_manifest, read_quarantine
from tsmcli.data.media import Media, scan
from tsmcli.engine.processes import ALONE
from tsmcli.errors import DataError, TsmError
from tsmcli.prepare.annotations import read_csv
from tsmcli.prepare.datasets import read_annotations
from tsmcli.prepare.own import read_folder, read_table
from tsmcli.recipes.feature_file import Features, load_features
from tsmcli.recipes.score import PartialScores
from tsmcli.recipes.study.logs import Curves, read_log
from tsmcli.results import Results, load_results, load_score_list, read_meta

pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")
Inputs = st.SearchStrategy[Any]
SPLIT: dict[str, Any] = {"val_share": 0.2, "group": None, "seed": 0}
DEEP = "<brackets>"

STORED = {"media": {"train": "videos"}, "frame_template": "img_{:05}.jpg", "start_index": 1}
HEAD = {"num_listed": 2, "bad": [["c", "cut off"]], "meta": {"class_names": ["jump", "wave"], "sha256": "ab"}}
VIDEOS = [{"path": "a", "label": 1, "scores": [0, 1]}, {"path": "b", "label": 0, "scores": [1, 0]}]
ARRAYS = {"paths": np.array(["a", "b"]), "labels": np.array([1, 0]), "scores": np.eye(2, dtype=np.float32)}
LOGS: list[list[Any]] = [
    [{"train/epoch": 0, "train/step": 1, "train/steps": 2, "train/loss": 1.5, "train/top1": None},
     {"val/epoch": 0, "val/top1": 0.5}],
    [{"mode": "train", "epoch": 1, "iter": 20, "loss": 1.5, "lr": 0.1},
     {"mode": "val", "epoch": 1, "top1_acc": 0.5}],
]  # fmt: skip
LINES_OF_LABELS = {"labels": "Turning\nHolding\n", "train": "1;Holding\n2;Turning\n", "validation": "3;Holding\n"}
DIVES = json.dumps([name.split("+") for name in CATALOG["diving48"].class_names() or []])
OFFICIAL: dict[str, dict[str, Any]] = {
    "k400": {"train.csv": "label,youtube_id,time_start,time_end\nabseiling,0wR5jVB-WPk,417,427\n",
             "kinetics_val_list.txt": "0wR5jVB-WPk, 300, 0\n", "kinetics_class2ind.txt": "abseiling 0\n"},
    "sthv1": {f"something-something-v1-{name}.csv": text for name, text in LINES_OF_LABELS.items()},
    "sthv2": {"labels.json": {"Holding a": "0"}, "train.json": [{"id": 1, "template": "Holding [a]"}]},
    "jester": {f"jester-v1-{name}.csv": text for name, text in LINES_OF_LABELS.items()},
    "diving48": {"Diving48_vocab.json": DIVES, "Diving48_V2_train.json": [{"vid_name": 1, "label": 5}]},
    "ucf101": {"classInd.txt": "1 ApplyEyeMakeup\r\n", "trainlist01.txt": "YoYo/v_YoYo_g01_c01.avi 101\r\n"},
    "hmdb51": {"testlist02.txt": "kick/a_kick_1.avi\n", "brush_hair_test_split1.txt": "a.avi 1 \n"},
}  # fmt: skip


def holds_for(**inputs: Inputs) -> Callable[[Callable[..., None]], Callable[[int], None]]:
    """Test a property on a few inputs, always the same, and among the slow tests on many."""

    def test_of(holds: Callable[..., None]) -> Callable[[int], None]:
        @pytest.mark.parametrize("examples", [25, pytest.param(2000, marks=pytest.mark.slow)])
        def test(examples: int) -> None:
            how = settings(max_examples=examples, derandomize=examples == 25, deadline=None)
            settings(how, suppress_health_check=[*HealthCheck])(given(**inputs)(holds))()

        test.__doc__ = holds.__doc__
        return test

    return test_of


@contextmanager
def folder_with(files: dict[str, bytes]) -> Iterator[Path]:
    """A clean folder that holds these files."""
    with tempfile.TemporaryDirectory() as name:
        for file, data in files.items():
            Path(name, file).write_bytes(data)
        yield Path(name)


def attempt(read: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """The result, or the TsmError; within half a minute."""
    signal.signal(signal.SIGALRM, lambda *_: pytest.fail("it waits for ever"))
    signal.alarm(30)
    try:
        result = read(*args, **options)
    except TsmError as error:
        result = error
    finally:
        signal.alarm(0)
    assert not isinstance(result, TsmError) or str(result), "an error says something"
    return result


def mostly(usual: Inputs, odd: Inputs) -> Inputs:
    return st.sampled_from([usual] * 5 + [odd]).flatmap(lambda chosen: chosen)


def edit(data: bytes, edits: list[tuple[int, int, bytes, int]]) -> bytes:
    """Replace bytes at some places, which count from either end, by others, once or many times."""
    for at, length, new, times in edits:
        start = at % (len(data) + 1)
        data = data[:start] + new * times + data[start + length :]
    return data


odd_bytes = st.binary(max_size=4) | st.just(b"\xed\xa0\x80")
odd_text = st.sampled_from(["", "1e999", "nan", *"\ufeff\r\n\v\x85\u2028\0\t \"',;#-9²٣éx{["]).map(str.encode)
lengths, times = st.sampled_from([0, 1, 2, 4, 5000]), mostly(st.just(1), st.sampled_from([5000, 150_000]))
edits = st.tuples(st.integers(-200, 2000), lengths, mostly(odd_text, odd_bytes), times)


def edited(files: Inputs) -> Inputs:
    """Such files with a few places changed, cut out or filled; or any bytes at all."""
    return mostly(st.builds(edit, files, st.lists(edits, min_size=1, max_size=3)), st.binary())


plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=9)
strange = st.sampled_from([DEEP, np.inf, 10**400, "9" * 400, "x" * 300, "\0", "\ud800", "{}", "{:x}{}"])
values = st.sampled_from([plain, strange]).flatmap(lambda chosen: chosen)
trees = mostly(values, st.recursive(values, lambda t: st.lists(t) | st.dictionaries(st.text(), t), max_leaves=5))


def like(tree: Any) -> Inputs:
    """JSON trees like this one; any part may be absent, or another."""
    parts: Inputs = st.just(tree)
    if isinstance(tree, dict):
        of_keys = {key: like(value) for key, value in tree.items()}
        parts = mostly(st.fixed_dictionaries(of_keys), st.fixed_dictionaries({}, optional=of_keys))
    elif isinstance(tree, list):
        parts = st.tuples(*map(like, tree)).map(list)
    return mostly(parts, trees)


def texts_of(right: Any) -> st.SearchStrategy[str]:
    """A text as it is, or JSON like a tree."""
    if isinstance(right, str):
        return st.just(right)
    depths = st.sampled_from([1, 900, 100_000]) | st.integers(500, 3000)
    deep = depths.map(lambda depth: "[" * depth + "]" * depth)
    return st.builds(lambda tree, deep: json.dumps(tree).replace(json.dumps(DEEP), deep), like(right), deep)


def files_of(right: Any) -> Inputs:
    """Files that should hold a text or a JSON tree."""
    texts = texts_of(right)
    codecs = mostly(st.just("utf-8"), st.sampled_from(["utf-8-sig", "utf-16", "utf-16-le"]))
    return texts.map(str.encode) | edited(st.builds(str.encode, texts, codecs))


@holds_for(
    data=files_of("a b.mp4 4\njump/c.mp4 12 3\n0/d.mp4\n"),
    store=st.sampled_from(get_args(Store)),
    classes=st.integers(1, 9),
)
def test_list(data: bytes, store: Store, classes: int) -> None:
    """A wrong line is named with its number."""
    with folder_with({"list": data}) as folder:
        names = [*map(str, range(classes - 1)), "jump"]
        found = attempt(read_list, folder / "list", store, classes=names, first_label=None, media=folder)
        if isinstance(found, DataError):
            words = " cannot be read as a list:| the list is empty| its labels are| the folders of some"
            assert re.search(f"list:([1-9][0-9]*:|{words})", str(found))
        else:
            assert all(record.path and 0 <= record.label < classes for record in found)
        found = attempt(read_list, folder / "list", store, classes=names, media=folder, several=True)
        if not isinstance(found, DataError):
            assert all(record.path and all(0 <= label < classes for label in record.every) for record in found)
        attempt(read_lines, folder / "list", "a list")


@holds_for(data=files_of("path,label,split\na.mp4,jump,train\nb.mp4,wave,val\n"))
def test_table(data: bytes) -> None:
    """A wrong row is named with the number of its line."""
    with folder_with({"table": data}) as folder:
        found = attempt(read_csv, folder / "table", ("path", "label"))
        if isinstance(found, DataError):
            assert re.search("table:([1-9][0-9]*:| cannot be read as a table:| no rows)", str(found))
        attempt(read_table, folder / "table", 0.2, 0)
        attempt(read_table, folder / "table", 0.2, 0, several=True)
        attempt(read_annotations, "csv", Media(folder), folder / "table", **SPLIT)


@holds_for(
    manifest=files_of({"dataset": "folder", "stores": {"video": STORED}}),
    classes=files_of("jump\nwave\n"),
    quarantine=files_of("a.mp4\tcut off\nb.mp4\n"),
    dataset=st.sampled_from(["folder", "sthv1"]),
)
def test_prepared_folder(manifest: bytes, classes: bytes, quarantine: bytes, dataset: str) -> None:
    files = {"manifest.json": manifest, "classes.txt": classes, "quarantine.txt": quarantine, "list": b"a.mp4 1\n"}
    with folder_with(files) as folder:
        (folder / "videos").mkdir()
        data, places = DataConfig(dataset=dataset), Places(folder=folder, train_list=folder / "list")
        for kind in (dict, list):
            attempt(read_json, folder / "manifest.json", kind)
        attempt(read_manifest, folder)
        attempt(read_quarantine, folder)
        attempt(find_classes, data, places)
        attempt(find_split, data, places, "train", ["jump", "wave"])


def official(dataset: str) -> Inputs:
    files = {name: files_of(right) for name, right in OFFICIAL[dataset].items()}
    return st.tuples(st.just(dataset), st.fixed_dictionaries(files) | st.fixed_dictionaries({}, optional=files))


@holds_for(labels=st.one_of([official(dataset) for dataset in OFFICIAL]))
def test_official_label_files(labels: tuple[str, dict[str, bytes]]) -> None:
    with folder_with(labels[1]) as folder:
        attempt(read_annotations, labels[0], Media(folder), None, **SPLIT)


def make_zip(members: Iterable[tuple[str, bytes]], method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, data in members:
            file.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


JPEG, PNG = (cv2.imencode(suffix, np.full((8, 8, 3), 99, np.uint8))[1].tobytes() for suffix in (".jpg", ".png"))
methods = st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
pictures = mostly(st.just(JPEG), st.sampled_from([PNG, b"", b"text"]) | edited(st.just(JPEG)))
members = st.sampled_from(["1.jpg", "2.jpg", "a/1.jpg", "a/", "é.jpg", "../x", "\\", ""]) | st.text(max_size=5)
zips = st.builds(make_zip, st.lists(st.tuples(members, pictures), max_size=4), methods)


@holds_for(data=zips | edited(zips))
def test_zip_of_frames(data: bytes) -> None:
    with folder_with({"zip": data}) as folder:
        frames = attempt(FrameZip, folder / "zip", DataConfig(max_pixels=10_000))
        if isinstance(frames, FrameZip):
            for index in (0, frames.num_frames - 1):
                found = attempt(frames.read, np.array([index]))
                assert isinstance(found, DataError) or (found[0].dtype == np.uint8 and found[0].shape[2] == 3)
            frames.close()


odd_names = (
    "train Val TEST val __MACOSX ._x.mp4 a.mp4 B.MP4 1.jpg 02.JPG x{0}1.jpg ... é e\u0301 [a]* 12 \udcff.mp4"
)
names = st.sampled_from([*odd_names.split(), "train.csv", " ", "a b", "n\nl.mp4"])
names |= st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=6)
nodes = st.sampled_from([b"", b"x", None, "..", ".", "../..", "gone", "a.mp4", "train"])
folders = st.dictionaries(names, nodes, max_size=4)
folders = st.recursive(folders, lambda below: st.dictionaries(names, below | nodes, max_size=4), max_leaves=6)


def make(path: Path, node: dict[str, Any] | bytes | str | None) -> None:
    """A folder, a file, a link, or a pipe; nothing where the file system does not take the name."""
    with suppress(OSError):
        if isinstance(node, dict):
            path.mkdir(parents=True)
            for name, inner in node.items():
                make(path / name, inner)
        elif isinstance(node, bytes):
            path.write_bytes(node)
        elif isinstance(node, str):
            path.symlink_to(node)
        else:
            os.mkfifo(path)


@holds_for(tree=folders)
def test_folder(tree: dict[str, Any]) -> None:
    with folder_with({}) as folder:
        root = folder / "a" / "b"
        make(root, tree)
        media = scan(root)
        attempt(read_folder, media, 0.2, None, 0)
        attempt(read_annotations, "k400", media, None, **SPLIT)
        attempt(find_videos, [str(root), f"{root}/**/*"])


def npy(array: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


arrays = st_numpy.arrays(st_numpy.scalar_dtypes(), st_numpy.array_shapes(min_dims=0, min_side=0, max_side=3)).map(
    npy
)
parts = {f"{name}.npy": mostly(st.just(npy(right)), arrays | st.just(b"text")) for name, right in ARRAYS.items()}
heads = {"head.npy": mostly(texts_of(HEAD).map(np.array).map(npy), arrays)}
npz = st.builds(make_zip, st.fixed_dictionaries(parts | heads).map(dict.items), methods)


SEVERAL = files_of({**HEAD, "videos": [{"path": "a", "labels": [0, 1], "scores": [0, 1]}]})


@holds_for(data=npz | edited(npz) | files_of({**HEAD, "videos": VIDEOS}) | SEVERAL | files_of([[0.1, 0.9], [1, 2]]))
def test_scores(data: bytes) -> None:
    with folder_with({"s.npz": data, "s.json": data}) as folder:
        for path in (folder / "s.npz", folder / "s.json"):
            found = attempt(load_results, path)
            assert isinstance(found, DataError | Results)
        attempt(load_score_list, folder / "s.json")
        attempt(read_meta, folder / "s.npz")


rows = {"features": np.zeros((2, 3), np.float32), "class_names": np.array(["jump", "wave"]), **ARRAYS}
named = {f"{name}.npy": mostly(st.just(npy(right)), arrays | st.just(b"text")) for name, right in rows.items()}
features = st.builds(make_zip, st.fixed_dictionaries(named | heads).map(dict.items), methods)


@holds_for(data=features | edited(features))
def test_features(data: bytes) -> None:
    with folder_with({"f.npz": data}) as folder:
        found = attempt(load_features, folder / "f.npz")
        assert isinstance(found, DataError | Features)


logs = st.one_of([st.tuples(*map(texts_of, log)).map("\n".join).map(str.encode) for log in LOGS])


@holds_for(data=logs | edited(logs))
def test_log(data: bytes) -> None:
    """What can be drawn is numbers."""
    with folder_with({"log": data}) as folder:
        found = attempt(read_log, folder / "log")
        if isinstance(found, Curves):
            assert all(type(number) is float for points in found.series.values() for number in chain(*points))


@holds_for(data=files_of([0, "AAAAAA=="]))
def test_scores_of_a_test_that_was_stopped(data: bytes) -> None:
    """Damaged lines are left out."""
    key = hashlib.sha256(b"{}").hexdigest().encode()
    with folder_with({"scores.npz.partial-0": b"%b\n%b\n" % (key, data)}) as folder:
        PartialScores(folder / "scores.npz", {}, ALONE)

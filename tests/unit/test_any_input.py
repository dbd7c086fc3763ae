"""Whatever lies in a file or a folder, reading it gives a result or an error of ours, never a traceback."""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

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
from tsmcli.recipes.score import PartialScores
from tsmcli.recipes.study.logs import read_log
from tsmcli.results import Results, load_results, load_score_list, read_meta

pytestmark = pytest.mark.filterwarnings("ignore:Duplicate name")

STORES = cast("tuple[Store, ...]", get_args(Store))
DEEP = "<brackets>"
ODD = ["", "\ufeff", "\r", "\r\n", "\n", "\x0b", "\x85", "\u2028", "\0", '"', "'", ",", ";", "\t", " ", "#", "-1", "1e999",
       "nan", "9", "²", "٣", "é", "x", "{", "["]  # fmt: skip

TABLE = "path,label,split\na.mp4,jump,train\nb.mp4,wave,val\n"
RESULTS = Results(["a", "b"], np.array([1, 0]), np.eye(2, dtype=np.float32), 3, [("c", "cut off")], {"sha256": "0"})
HEAD = {"num_listed": 2, "bad": [["c.mp4", "cut off"]], "meta": {"class_names": ["jump", "wave"], "sha256": "ab"}}
SCORES = {
    **HEAD,
    "videos": [{"path": "a", "label": 1, "scores": [0, 1]}, {"path": "b", "label": 0, "scores": [1, 0]}],
}
STORED = {"media": {"train": "videos"}, "frame_template": "img_{:05}.jpg", "start_index": 1}
MANIFEST = {"dataset": "folder", "stores": {"video": STORED}}
LOGS = [
    [{"train/epoch": 0, "train/step": 1, "train/steps": 2, "train/loss": 1.5, "train/lr": 0.1, "train/top1": None},
     {"val/epoch": 0, "val/top1": 0.5}],
    [{"env_info": "Linux"}, {"mode": "train", "epoch": 1, "iter": 20, "lr": 0.1, "loss": 1.5, "top1_acc": 0.5},
     {"mode": "val", "epoch": 1, "iter": 9, "top1_acc": 0.5}],
]  # fmt: skip
LINES_OF_LABELS = {"labels": "Turning\nHolding\n", "train": "1;Holding\n2;Turning\n", "validation": "3;Holding\n"}
OFFICIAL: dict[str, dict[str, Any]] = {
    "k400": {"train.csv": "label,youtube_id,time_start,time_end\nabseiling,0wR5jVB-WPk,417,427\n",
             "kinetics_val_list.txt": "0wR5jVB-WPk_000417_000427, 300, 0\n", "kinetics_class2ind.txt": "abseiling 0\n"},
    "sthv1": {f"something-something-v1-{name}.csv": text for name, text in LINES_OF_LABELS.items()},
    "jester": {f"jester-v1-{name}.csv": text for name, text in LINES_OF_LABELS.items()},
    "sthv2": {"labels.json": {"Holding it": "0", "Turning it": "1"}, "train.json": [{"id": 1, "template": "Holding [it]"}]},
    "diving48": {"Diving48_V2_train.json": [{"vid_name": "a_1", "label": 5}], "Diving48_vocab.json": json.dumps([name.split("+") for name in CATALOG["diving48"].class_names() or []])},
}  # fmt: skip


def holds_for(**kinds: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[[int], None]]:
    """Make a test of a property: it is tried on a few inputs, always the same, and by the slow tests on many."""

    def test_of(holds: Callable[..., None]) -> Callable[[int], None]:
        @pytest.mark.parametrize("examples", [25, pytest.param(2000, marks=pytest.mark.slow)])
        def test(examples: int) -> None:
            how = settings(max_examples=examples, derandomize=examples == 25, deadline=None,
                           suppress_health_check=[*HealthCheck])  # fmt: skip
            how(given(**kinds)(holds))()

        test.__doc__ = holds.__doc__
        return test

    return test_of


@contextmanager
def folder_with(**files: bytes) -> Iterator[Path]:
    """A clean folder that holds these files."""
    with tempfile.TemporaryDirectory() as name:
        for file, data in files.items():
            Path(name, file).write_bytes(data)
        yield Path(name)


def attempt(read: Callable[..., Any], *args: Any) -> Any:
    """The result, or the TsmError."""
    try:
        return read(*args)
    except TsmError as error:
        return error


def mostly(usual: st.SearchStrategy[Any], odd: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.sampled_from([usual, usual, usual, odd]).flatmap(lambda chosen: chosen)


def edit(data: bytes, edits: list[tuple[int, int, bytes, int]]) -> bytes:
    """Replace bytes at some places, which count from either end, by others, once or many times."""
    for at, length, new, times in edits:
        at = at % (len(data) + 1)
        data = data[:at] + new * times + data[at + length :]
    return data


def edited(files: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Such files with a few places changed, cut out or filled; or any bytes at all."""
    lengths, times = st.sampled_from([0, 1, 1, 4, 5000]), st.sampled_from([1, 1, 1, 1, 5000, 150_000])
    new = mostly(st.sampled_from(ODD).map(str.encode), st.binary(max_size=4) | st.just(b"\xed\xa0\x80"))
    places = st.tuples(st.integers(-200, 2000), lengths, new, times)
    return mostly(st.builds(edit, files, st.lists(places, min_size=1, max_size=3)), st.binary())


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=9)
values |= st.sampled_from(
    [DEEP, np.inf, np.nan, 10**400, 1e300, "9" * 400, "x" * 300, "\0", "\ud800", "{}", "{:x}{}"]
)
trees = st.recursive(
    values, lambda t: st.lists(t, max_size=3) | st.dictionaries(st.text(max_size=3), t, max_size=3)
)


def like(tree: Any) -> st.SearchStrategy[Any]:
    """JSON trees like this one; any part may be absent, or another."""
    parts = st.just(tree)
    if isinstance(tree, dict):
        of_all = {key: like(value) for key, value in tree.items()}
        parts |= st.fixed_dictionaries(of_all) | st.fixed_dictionaries({}, optional=of_all)
    elif isinstance(tree, list):
        parts |= st.tuples(*map(like, tree)).map(list)
    return mostly(parts, trees)


def dump(tree: Any, depth: int) -> str:
    return json.dumps(tree).replace(json.dumps(DEEP), "[" * depth + "]" * depth)


def texts_of(right: Any) -> st.SearchStrategy[str]:
    """A text as it is, or JSON like a tree."""
    depths = st.sampled_from([1, 900, 100_000]) | st.integers(500, 3000)
    return st.just(right) if isinstance(right, str) else st.builds(dump, like(right), depths)


def files_of(right: Any) -> st.SearchStrategy[bytes]:
    """Files that should hold a text or a JSON tree."""
    texts = texts_of(right)
    codecs = mostly(st.just("utf-8"), st.sampled_from(["utf-8-sig", "utf-16", "utf-16-le"]))
    return texts.map(str.encode) | edited(st.builds(str.encode, texts, codecs))


@holds_for(
    data=files_of("a b.mp4 4\nc.mp4 12 3\n"), store=st.sampled_from(STORES), classes=st.none() | st.integers(1, 9)
)
def test_list_file(data: bytes, store: Store, classes: int | None) -> None:
    """A wrong line is named with its number."""
    with folder_with(list=data) as folder:
        found = attempt(read_list, folder / "list", store, classes)
        if isinstance(found, DataError):
            assert re.search(r"list:([1-9][0-9]*: |.* cannot be read as a list| the list is empty)", str(found))
        else:
            assert all(record.path and 0 <= record.label < (classes or 10**9) for record in found)


@holds_for(data=files_of(TABLE))
def test_table(data: bytes) -> None:
    """A wrong row is named with the number of its line."""
    with folder_with(table=data) as folder:
        found = attempt(read_csv, folder / "table", ("path", "label"))
        if isinstance(found, DataError):
            assert re.search(r"table:([1-9][0-9]*: | cannot be read as a table| no rows)", str(found))
        attempt(read_table, folder / "table", 0.2, 0)
        attempt(
            partial(read_annotations, "csv", Media(folder), folder / "table", val_share=0.2, group=None, seed=0)
        )


@holds_for(data=files_of("jump\nwave\n") | files_of([MANIFEST]))
def test_lines_and_json(data: bytes) -> None:
    with folder_with(file=data) as folder:
        for read, what in ((read_lines, "a list"), (read_json, dict), (read_json, list)):
            found = attempt(cast("Any", read), folder / "file", what)
            assert not isinstance(found, DataError) or str(folder / "file") in str(found)


@holds_for(
    manifest=files_of(MANIFEST), classes=files_of("jump\nwave\n"), quarantine=files_of("a.mp4\tcut off\nb.mp4\n"),
    data=st.builds(DataConfig, dataset=st.sampled_from(["folder", "sthv1"])),
)  # fmt: skip
def test_prepared_folder(manifest: bytes, classes: bytes, quarantine: bytes, data: DataConfig) -> None:
    files = {
        "manifest.json": manifest,
        "classes.txt": classes,
        "quarantine.txt": quarantine,
        "list": b"a.mp4 3 1\n",
    }
    with folder_with(**files) as folder:
        (folder / "videos").mkdir()
        places = Places(folder=folder, train_list=folder / "list")
        attempt(read_manifest, folder)
        attempt(read_quarantine, folder)
        attempt(find_classes, data, places)
        attempt(find_split, data, places, "train", None)


def _official(dataset: str) -> st.SearchStrategy[tuple[str, dict[str, bytes]]]:
    files = {name: files_of(right) for name, right in OFFICIAL[dataset].items()}
    return st.tuples(st.just(dataset), st.fixed_dictionaries(files) | st.fixed_dictionaries({}, optional=files))


@holds_for(labels=st.sampled_from(list(OFFICIAL)).flatmap(_official))
def test_official_label_files(labels: tuple[str, dict[str, bytes]]) -> None:
    dataset, files = labels
    with folder_with(**files) as folder:
        attempt(partial(read_annotations, dataset, Media(folder), None, val_share=0.2, group=None, seed=0))


def _zip(members: list[tuple[str, bytes]], method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, data in members:
            file.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


JPEG, PNG = (cv2.imencode(suffix, np.full((8, 8, 3), 99, np.uint8))[1].tobytes() for suffix in (".jpg", ".png"))
members = st.lists(
    st.tuples(
        st.sampled_from(["1.jpg", "2.jpg", "a/1.jpg", "a/", "é.jpg", "../x", "\\", ""]) | st.text(max_size=5),
        st.sampled_from([JPEG, JPEG, JPEG, PNG, b"", b"text"]) | edited(st.just(JPEG)),
    ),
    max_size=4,
)
zips = st.builds(_zip, members, st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))


@holds_for(data=zips | edited(zips))
def test_frame_zip(data: bytes) -> None:
    with folder_with(zip=data) as folder:
        frames = attempt(FrameZip, folder / "zip", DataConfig(max_pixels=10_000))
        if isinstance(frames, FrameZip):
            for index in (0, frames.num_frames - 1):
                found = attempt(frames.read, np.array([index]))
                assert isinstance(found, DataError) or (found[0].dtype == np.uint8 and found[0].shape[2] == 3)
            frames.close()


names = st.sampled_from(
    ["train", "Val", "TEST", "val", "__MACOSX", "._x.mp4", "a.mp4", "B.MP4", "1.jpg", "02.JPG", "1.jpeg", "x{0}1.jpg", "...",
     "a b", " ", "é", "e\u0301", "[a]*", "12", "\udcff.mp4", "n\nl.mp4", "train.csv"]
) | st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=6)  # fmt: skip
nodes = st.sampled_from([b"", b"", b"x", None, "..", ".", "../..", "gone", "a.mp4", "train"])
folders = st.recursive(
    st.dictionaries(names, nodes), lambda inner: st.dictionaries(names, inner | nodes), max_leaves=9
)


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
    with folder_with() as folder:
        root = folder / "a" / "b"
        make(root, tree)
        media = scan(root)
        attempt(read_folder, media, 0.2, None, 0)
        attempt(partial(read_annotations, "folder", media, None, val_share=0.2, group=None, seed=0))
        attempt(find_videos, [str(root), f"{root}/**/*", f"{root}/*"])


def _npz(parts: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, value in parts.items():
            part = io.BytesIO(value if isinstance(value, bytes) else b"")
            if not isinstance(value, bytes):
                np.save(part, value)
            file.writestr(f"{name}.npy", part.getvalue())
    return buffer.getvalue()


arrays = st_numpy.arrays(st_numpy.scalar_dtypes(), st_numpy.array_shapes(min_dims=0, min_side=0, max_side=3))
right_parts = {"paths": np.array(["a", "b"]), "labels": np.array([1, 0]), "scores": np.eye(2, dtype=np.float32)}
parts = {name: mostly(st.just(right), arrays | st.just(b"text")) for name, right in right_parts.items()}
npz = st.fixed_dictionaries({**parts, "head": mostly(texts_of(HEAD).map(np.array), arrays)}).map(_npz)


def check_scores(data: bytes) -> None:
    with folder_with(**{"s.npz": data, "s.json": data}) as folder:
        for suffix in ("npz", "json"):
            found = attempt(load_results, folder / f"s.{suffix}")
            if isinstance(found, Results):
                assert len(found.paths) == len(found.labels) == len(found.scores) <= found.num_listed
                assert isinstance(found.paths, list)
        attempt(load_score_list, folder / "s.json")
        attempt(read_meta, folder / "s.npz")


test_scores_in_json = holds_for(data=files_of(SCORES) | files_of([[0.1, 0.9], [1, 2]]))(check_scores)
test_scores_in_npz = holds_for(data=npz | edited(npz))(check_scores)

logs = st.one_of(st.tuples(*map(texts_of, log)).map("\n".join) for log in LOGS).map(str.encode)


@holds_for(data=logs | edited(logs))
def test_log(data: bytes) -> None:
    with folder_with(log=data) as folder:
        found = attempt(read_log, folder / "log")
        if not isinstance(found, TsmError):
            assert all(isinstance(x, float) for series in found.series.values() for point in series for x in point)


@holds_for(data=files_of([0, "AAAAAA=="]))
def test_scores_of_a_test_that_was_stopped(data: bytes) -> None:
    with folder_with() as folder:
        PartialScores(folder / "scores.npz", {}, ALONE)
        with (folder / "scores.npz.partial-0").open("ab") as file:
            file.write(data + b"\n")
        PartialScores(folder / "scores.npz", {}, ALONE)

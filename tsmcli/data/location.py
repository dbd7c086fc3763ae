"""Where the lists and media of a dataset lie on this machine, and what its classes are called.

Every prepared dataset is one folder:

    data/sthv1/sthv1_train_list_rawframes.txt    one line a video
    data/sthv1/sthv1_val_list_rawframes.txt
    data/sthv1/rawframes/                        the media, or wherever manifest.json says
    data/sthv1/classes.txt                       class names in index order (optional for catalog datasets)
    data/sthv1/manifest.json                     where the media lie, how frames are named (optional)
    data/sthv1/quarantine.txt                    videos that are known to be broken (optional)
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tsmcli.catalog import CATALOG, Dataset
from tsmcli.config import DataConfig, Store
from tsmcli.data.listfile import (
    VideoRecord,
    read_json,
    read_lines,
    read_list,
    read_text,
    write_intervals,
    write_list,
)
from tsmcli.data.media import is_there, spellings
from tsmcli.errors import DataError
from tsmcli.files import remove, write_text

_MANIFEST_HINT = "remove it; tsm prepare-data writes it anew"
_SEVERAL = "--set data.multi_label=true takes all of them"


@dataclass(frozen=True)
class Places:
    """What the command line says about where data lies; None means the usual place.

    Attributes:
        data_root: folder of all datasets.
        folder: folder of this dataset, instead of one below `data_root`.
        train_list, val_list: list files.
        media: the folder that list paths are relative to.
        classes: a file of class names, one a line, in index order.
    """

    data_root: Path = Path("data")
    folder: Path | None = None
    train_list: Path | None = None
    val_list: Path | None = None
    media: Path | None = None
    classes: Path | None = None


@dataclass(frozen=True)
class Split:
    """The videos of a split.

    Attributes:
        records: the lines of the list.
        media: the folder that their paths are relative to.
        frame_template, start_index: how frame files are named and numbered.
        quarantine: path -> reason of videos that are not to be opened.
        notes: what is unusual about them.
        num_classes: K; 0 where labels are not looked at.
    """

    records: list[VideoRecord]
    media: Path
    list_file: Path
    frame_template: str = "img_{:05}.jpg"
    start_index: int = 1
    quarantine: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    num_classes: int = 0


def dataset_folder(data: DataConfig, places: Places) -> Path:
    """The folder of a dataset."""
    return places.folder or places.data_root / CATALOG[data.dataset].folder


def find_list(data: DataConfig, places: Places, split: str) -> Path:
    """The list file of a split, which may not be there."""
    facts, given = CATALOG[data.dataset], places.train_list if split == "train" else places.val_list
    path = dataset_folder(data, places) / facts.list_name(data.store, facts.part(split, data.split))
    return given or (path if path.exists() or not _table(path).exists() else _table(path))


def _table(path: Path) -> Path:
    """What a list is called if it holds intervals."""
    return path.with_suffix(".csv")


def find_split(data: DataConfig, places: Places, split: str, classes: Sequence[str] | None) -> Split:
    """Read the list of a split (`train` or `val`) and find its media.

    Args:
        classes: their names, to check and understand labels; None: labels are not looked at.

    Raises:
        DataError: the list is missing or malformed, or the media folder is missing; with the command that
            makes it.
    """
    facts, folder = CATALOG[data.dataset], dataset_folder(data, places)
    part = facts.part(split, data.split)
    given = places.train_list if split == "train" else places.val_list
    list_file = find_list(data, places, split)
    if not list_file.exists():
        wrong = f"no list file {list_file} for the {split} videos of {facts.title}"
        raise DataError(wrong, _how_to_make(data, folder))
    ours = not given and (folder / "manifest.json").exists()
    first = 0 if ours or classes is None else data.first_label
    try:
        stored = read_manifest(folder)["stores"].get(data.store, {})
        told = folder / stored.get("media", {}).get(part, facts.media(data.store, part))
        template = str(stored.get("frame_template", facts.frame_template))
        start = int(stored.get("start_index", facts.start_index))
        template.format(start)
        several = bool(stored.get("multi_label"))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError):
        where = f"{folder / 'manifest.json'}: damaged where it tells of the {data.store} store"
        raise DataError(where, _MANIFEST_HINT) from None
    if ours and several and not data.multi_label:
        raise DataError(f"{list_file}: its videos may have several labels", _SEVERAL)
    media = places.media or told
    records = read_list(
        list_file, data.store, classes=classes, first_label=first, media=media, several=data.multi_label
    )
    if not os.path.isdir(media):  # noqa: PTH112  a name that is too long is none
        hint = f"--media DIR says where it is\n{_how_to_make(data, folder)}"
        raise DataError(f"no media folder {media}, which the paths in {list_file} are relative to", hint)
    numbered = (record for record in records if record.path.rpartition(" ")[2].isdigit() and " " in record.path)
    _check_store(next(numbered, records[0]), media, list_file, data.store)
    records = [_as_stored(record, media) for record in records]
    return Split(
        records, media, list_file, template, start, read_quarantine(folder), num_classes=len(classes or ())
    )  # fmt: skip


def _as_stored(record: VideoRecord, media: Path) -> VideoRecord:
    """A record whose path is spelled as on this disk, if it is there in another spelling than in the list."""
    first, *others = spellings(record.path)
    if others and not is_there(media / first):
        there = (path for path in others if is_there(media / path))
        return record._replace(path=next(there, first))
    return record


def _check_store(record: VideoRecord, media: Path, list_file: Path, store: Store) -> None:
    """Raise DataError for a list of frame folders, or of several labels, where videos with one are expected."""
    folder, _, count = record.path.rpartition(" ")
    if store == "video" and count.isdigit() and (media / folder).is_dir():
        raise DataError(f"{list_file}: a list of frame folders, not of videos", hint="--set data.store=frames")
    video = re.sub("( [0-9]+)+$", "", record.path)
    if record.labels is None and is_there(media / video) and not is_there(media / record.path):
        raise DataError(f"{list_file}: {video} has several labels", _SEVERAL)


def find_classes(data: DataConfig, places: Places) -> list[str]:
    """Class names in index order; DataError if there are none, or not as many as the dataset has."""
    facts, folder = CATALOG[data.dataset], dataset_folder(data, places)
    path = places.classes or folder / "classes.txt"
    names = None if places.classes else facts.class_names()
    if path.exists():
        names = [line.strip() for _, line in read_lines(path, "class names")]
        names = _without_numbers(names) if places.classes else names
    if names is not None and (twice := [name for name, count in Counter(names).items() if count > 1]):
        raise DataError(f"{path}: {twice[0]!r} is there twice")
    if names is None:
        raise DataError(f"no file of class names {path}", "" if places.classes else _how_to_make(data, folder))
    if facts.num_classes is not None and len(names) != facts.num_classes:
        raise DataError(f"{path}: {len(names)} class names, but {facts.title} has {facts.num_classes} classes")
    if len(names) < 2:
        raise DataError(f"{path}: {len(names)} class names; at least 2 are needed")
    return names


def _without_numbers(names: list[str]) -> list[str]:
    """Class names from lines such as `1 ApplyEyeMakeup` or `0,wave`, if all are numbered so, from 0 or from 1."""
    matches = [re.fullmatch(r"0*([0-9]+)[\s,;:]+(\S.*)", name) for name in names]
    if len(matches) > 1 and not matches[0]:  # a heading
        matches = matches[1:]
    numbers = [match[1] for match in matches if match]
    counts = [[str(first + i) for i in range(len(matches))] for first in (0, 1)]
    return [match[2] for match in matches if match] if numbers in counts else names


def read_manifest(folder: Path) -> dict[str, Any]:
    """`manifest.json` of a prepared dataset, or one without stores; DataError if it is damaged."""
    path = folder / "manifest.json"
    tree = read_json(path, dict, _MANIFEST_HINT) if path.exists() else {}
    if not isinstance(tree.setdefault("stores", {}), dict):
        raise DataError(f"{path}: no manifest", hint=_MANIFEST_HINT)
    return tree


def write_dataset(
    folder: Path, dataset: Dataset, store: Store, records: dict[str, list[VideoRecord]], classes: Sequence[str],
    media: dict[str, str], **facts: Any,
) -> dict[str, int]:  # fmt: skip
    """Write lists, class names and the manifest of a prepared dataset; the manifest keeps facts of other stores.

    Args:
        records: of each part; the list of a part without videos is removed.
        media: part -> folder that the paths of its list are relative to.
        facts: what else the manifest is to say about this store.

    Returns:
        The number of videos of each part.
    """
    folder.mkdir(parents=True, exist_ok=True)
    manifest = read_manifest(folder)
    others = [name for name in manifest["stores"] if name != store]
    names, there = "".join(f"{name}\n" for name in classes), folder / "classes.txt"
    if others and there.exists() and read_text(there, "class names") != names:
        wrong = f"{folder} is prepared as {others[0]}, too, with other classes"
        raise DataError(wrong, "choose another --out, or remove that folder")
    for split, videos in records.items():
        path = folder / dataset.list_name(store, split)
        table = _table(path)
        if any(record.span for record in videos):
            write_intervals(table, videos, classes)
            remove(path)
            continue
        remove(table)
        if videos:
            write_list(path, videos)
        else:
            remove(path)  # one of an earlier run would not belong to the other list
    write_text(there, names)
    counts = {split: len(videos) for split, videos in records.items()}
    own = {"media": media, "videos": counts, **facts}
    text = json.dumps({"dataset": dataset.name, "stores": {**manifest["stores"], store: own}}, indent=2) + "\n"
    write_text(folder / "manifest.json", text)
    return counts


def path_from(folder: Path, other: Path) -> str:
    """`other` relative to `folder`, links resolved; absolute where the two are on different drives of Windows."""
    try:
        return os.path.relpath(other.resolve(), folder.resolve())
    except ValueError:
        return str(other.resolve())


def read_quarantine(folder: Path) -> dict[str, str]:
    """`quarantine.txt`: a path, a tab and a reason a line; DataError if it is damaged."""
    path = folder / "quarantine.txt"
    lines = (line.partition("\t") for _, line in (read_lines(path, "a quarantine") if path.exists() else ()))
    return {video: f"in quarantine ({path}): {reason or 'no reason given'}" for video, _, reason in lines}


def prepared_stores(dataset: str, folder: Path) -> list[Store]:
    """The stores that a folder has a training list for."""
    stores: tuple[Store, ...] = ("frames", "video", "zip")
    facts = CATALOG[dataset]
    parts = [part for part in facts.parts if part.startswith("train")]
    lists = {store: [folder / facts.list_name(store, part) for part in parts] for store in stores}
    return [s for s, paths in lists.items() if any(p.exists() or _table(p).exists() for p in paths)]


def _how_to_make(data: DataConfig, folder: Path) -> str:
    other = prepared_stores(data.dataset, folder)
    if other and data.store not in other:
        return f"{folder} is prepared as {other[0]}: --set data.store={other[0]}"
    facts = CATALOG[data.dataset]
    lists = [folder / facts.list_name(data.store, facts.part("train", n + 1)) for n in range(facts.splits)]
    there = [n for n, path in enumerate(lists, 1) if path.exists()]
    if there and data.split not in there:
        return f"{folder} is prepared with split {' and '.join(map(str, there))}: --set data.split={there[0]}"
    if data.dataset == "demo":
        return "tsm prepare-data makes it"
    if data.dataset == "folder":
        return "tsm prepare-data folder --source DIR makes it from a folder of class folders"
    source = f"the videos or frames and the official label files in DIR (get them at {CATALOG[data.dataset].home})"
    return f"tsm prepare-data {data.dataset} --source DIR --store {data.store} makes it from {source}"

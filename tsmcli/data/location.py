"""Where the lists and media of a dataset lie on this machine, and what its classes are called.

Every prepared dataset is one folder:

    data/sthv1/sthv1_train_list_rawframes.txt    one line a video
    data/sthv1/sthv1_val_list_rawframes.txt
    data/sthv1/rawframes/                        the media, or wherever `media` of manifest.json points
    data/sthv1/classes.txt                       class names in index order (optional for catalog datasets)
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tsmcli.catalog import CATALOG
from tsmcli.config import DataConfig
from tsmcli.data.listfile import VideoRecord, read_list
from tsmcli.errors import DataError


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
    """The videos of a split and the folder their paths are relative to."""

    records: list[VideoRecord]
    media: Path
    list_file: Path


def dataset_folder(data: DataConfig, places: Places) -> Path:
    """The folder of a dataset."""
    return places.folder or places.data_root / CATALOG[data.dataset].folder


def find_split(data: DataConfig, places: Places, split: str, num_classes: int | None) -> Split:
    """Read the list of a split (`train` or `val`) and find its media.

    Raises:
        DataError: the list is missing or malformed, or the media folder is missing; with the command that
            makes it.
    """
    facts, folder = CATALOG[data.dataset], dataset_folder(data, places)
    given = places.train_list if split == "train" else places.val_list
    list_file = given or folder / facts.list_name(data.store, split)
    if not list_file.exists():
        raise DataError(f"no list file {list_file} for the {split} videos of {facts.title}", _how_to_make(data))
    records = read_list(list_file, data.store, num_classes)
    media = places.media or _media_of_manifest(folder) or folder / facts.media(data.store, split)
    if not media.is_dir():
        raise DataError(f"no media folder {media}, which the paths in {list_file} are relative to",
                        hint=f"--media DIR says where it is\n{_how_to_make(data)}")  # fmt: skip
    return Split(records, media, list_file)


def find_classes(data: DataConfig, places: Places) -> list[str]:
    """Class names in index order.

    Raises:
        DataError: there are none, or not as many as the dataset has.
    """
    facts = CATALOG[data.dataset]
    path = places.classes or dataset_folder(data, places) / "classes.txt"
    if path.is_file():
        names = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    elif places.classes:
        raise DataError(f"no file of class names {path}")
    elif (known := facts.class_names()) is not None:
        names = known
    else:
        raise DataError(f"no file of class names {path}", hint=_how_to_make(data))
    if facts.num_classes is not None and len(names) != facts.num_classes:
        raise DataError(f"{path}: {len(names)} class names, but {facts.title} has {facts.num_classes} classes")
    if len(names) < 2:
        raise DataError(f"{path}: {len(names)} class names; at least 2 are needed")
    return names


def write_manifest(folder: Path, manifest: dict[str, object]) -> None:
    """Write `manifest.json`, whole or not at all."""
    part = folder / "manifest.json.part"
    part.write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    part.replace(folder / "manifest.json")


def _media_of_manifest(folder: Path) -> Path | None:
    """`media` of manifest.json, relative to the dataset's folder."""
    path = folder / "manifest.json"
    if not path.is_file():
        return None
    try:
        media = json.loads(path.read_text(encoding="utf-8")).get("media")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a manifest: {error}", hint="tsm prepare-data writes it anew") from None
    return folder / media if media else None


def _how_to_make(data: DataConfig) -> str:
    facts = CATALOG[data.dataset]
    if data.dataset == "demo":
        return "tsm prepare-data makes it"
    if data.dataset == "folder":
        return "tsm prepare-data folder --source DIR makes it from a folder of class folders"
    home = f" (get the videos at {facts.home})" if facts.home else ""
    return f"tsm prepare-data {data.dataset} says how to make it{home}"

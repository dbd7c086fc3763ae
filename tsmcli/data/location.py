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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tsmcli.catalog import CATALOG, Dataset
from tsmcli.config import DataConfig
from tsmcli.data.listfile import VideoRecord, read_list
from tsmcli.errors import DataError
from tsmcli.files import write_text


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
    """

    records: list[VideoRecord]
    media: Path
    list_file: Path
    frame_template: str = "img_{:05}.jpg"
    start_index: int = 1
    quarantine: dict[str, str] = field(default_factory=dict)


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
        raise DataError(
            f"no list file {list_file} for the {split} videos of {facts.title}", _how_to_make(data, folder)
        )
    records = read_list(list_file, data.store, num_classes)
    stored = read_manifest(folder).get("stores", {}).get(data.store, {})
    told = stored.get("media", {}).get(split)
    media = places.media or (folder / told if told else folder / facts.media(data.store, split))
    if not media.is_dir():
        raise DataError(
            f"no media folder {media}, which the paths in {list_file} are relative to",
            hint=f"--media DIR says where it is\n{_how_to_make(data, folder)}",
        )
    template = stored.get("frame_template", facts.frame_template)
    start = stored.get("start_index", facts.start_index)
    return Split(records, media, list_file, template, start, read_quarantine(folder))


def find_classes(data: DataConfig, places: Places) -> list[str]:
    """Class names in index order.

    Raises:
        DataError: there are none, or not as many as the dataset has.
    """
    facts, folder = CATALOG[data.dataset], dataset_folder(data, places)
    path = places.classes or folder / "classes.txt"
    if path.is_file():
        try:
            names = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as class names: {error}") from None
    elif places.classes:
        raise DataError(f"no file of class names {path}")
    elif (known := facts.class_names()) is not None:
        names = known
    else:
        raise DataError(f"no file of class names {path}", hint=_how_to_make(data, folder))
    if facts.num_classes is not None and len(names) != facts.num_classes:
        raise DataError(f"{path}: {len(names)} class names, but {facts.title} has {facts.num_classes} classes")
    if len(names) < 2:
        raise DataError(f"{path}: {len(names)} class names; at least 2 are needed")
    return names


def read_manifest(folder: Path) -> dict[str, Any]:
    """`manifest.json` of a prepared dataset, or an empty one.

    Raises:
        DataError: it is damaged.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        return {}
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a manifest: {error}", hint="tsm prepare-data writes it anew") from None
    if not isinstance(tree, dict):
        raise DataError(f"{path}: not a manifest", hint="tsm prepare-data writes it anew")
    return tree


def write_manifest(folder: Path, dataset: Dataset, store: str, facts: dict[str, Any]) -> None:
    """Put the facts of a store into `manifest.json`, keeping those of other stores."""
    manifest = read_manifest(folder)
    stores = {**manifest.get("stores", {}), store: facts}
    text = json.dumps({"dataset": dataset.name, "stores": stores}, indent=2) + "\n"
    write_text(folder / "manifest.json", text)


def read_quarantine(folder: Path) -> dict[str, str]:
    """`quarantine.txt`: a path and a reason a line, with a tab between them."""
    path = folder / "quarantine.txt"
    if not path.is_file():
        return {}
    lines = (line.partition("\t") for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    return {video: f"in quarantine ({path}): {reason or 'no reason given'}" for video, _, reason in lines}


def _how_to_make(data: DataConfig, folder: Path) -> str:
    other = [
        s for s in ("frames", "video", "zip") if (folder / CATALOG[data.dataset].list_name(s, "train")).exists()
    ]
    if other and data.store not in other:
        return f"{folder} is prepared as {other[0]}: --set data.store={other[0]}"
    if data.dataset == "demo":
        return "tsm prepare-data makes it"
    if data.dataset == "folder":
        return "tsm prepare-data folder --source DIR makes it from a folder of class folders"
    home = CATALOG[data.dataset].home
    return (
        f"tsm prepare-data {data.dataset} --source DIR --store {data.store} makes it "
        f"from the videos or frames and the official label files in DIR (get them at {home})"
    )

"""What the official label files of each dataset say, and one's own folder or table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tsmcli.catalog import CATALOG
from tsmcli.data.listfile import read_json, read_lines, whole_number
from tsmcli.data.media import Media
from tsmcli.errors import DataError, UsageError
from tsmcli.prepare.annotations import Annotations, Item, LabelFiles, look_up, read_csv, read_entries, zoo_order
from tsmcli.prepare.own import read_folder, read_table

_K400_FILES = {
    "train": ("kinetics_train.csv", "kinetics400_train.csv", "train.csv", "tiny_train.csv"),
    "val": ("kinetics_val.csv", "kinetics400_val.csv", "validate.csv", "val.csv", "tiny_val.csv"),
}
_K400_LISTS = ("kinetics_val_list.txt", "valid_processed.txt")
_STHV2_FILES = {
    "train": ("something-something-v2-train.json", "train.json"),
    "val": ("something-something-v2-validation.json", "validation.json"),
}


def read_annotations(
    dataset: str, media: Media, where: Path | None, *, val_share: float, group: str | None, seed: int,
    several: bool = False,
) -> Annotations:  # fmt: skip
    """Read the label files of a dataset, or make labels from class folders.

    Args:
        dataset: a name of the catalog, or `csv`.
        where: the folder of the label files, or the table; None: in the folder of the media.
        val_share, group, seed: how `folder` and `csv` are split where they do not say it.
        several: a video may have several labels, or none.

    Raises:
        DataError: no label file, or one that cannot be understood.
        UsageError: several labels in anything but a table.
    """
    if several and dataset != "csv":
        hint = "tsm prepare-data csv takes a table with all labels of a video"
        raise UsageError(f"data.multi_label: a video of {dataset} has one label", hint)
    if dataset == "folder":
        found = read_folder(media, val_share, group, seed)
    elif dataset == "csv":
        found = read_table(where or media.root / "annotations.csv", val_share, seed, media.has, several=several)
    else:
        readers = {"k400": read_k400, "sthv1": read_lines_of_labels, "jester": read_lines_of_labels,
                   "sthv2": read_sthv2, "diving48": read_diving48,
                   "ucf101": read_ucf101, "hmdb51": read_hmdb51}  # fmt: skip
        found = readers[dataset](dataset, LabelFiles(where or media.root))
    if odd := [name for name in found.classes if name.splitlines() != [name] or not name.strip()]:
        raise DataError(f"{odd[0]!r} cannot be a class name: it is blank, or holds a line break")
    return found


def read_k400(dataset: str, files: LabelFiles) -> Annotations:
    """Kinetics: the official CSV files, or the validation list that was published with the zoo.

    Videos are named `<id>_<start>_<end>` with six digits each, or by their id alone.
    """
    classes = CATALOG[dataset].class_names() or []
    index = {name: i for i, name in enumerate(classes)}
    items: list[Item] = []
    for split, names in _K400_FILES.items():
        path = files.find(names)
        for where, row in read_csv(path, ("label", "youtube_id", "time_start", "time_end")) if path else ():
            name = row["label"].replace('"', "")
            label = look_up(index, name if name in index else name.replace("_", " "), where)
            try:
                start, end = int(float(row["time_start"])), int(float(row["time_end"]))
            except (ValueError, OverflowError):
                raise DataError(f"{where}: time_start and time_end are not numbers") from None
            video = row["youtube_id"]
            items.append(Item(split, (f"{video}_{start:06}_{end:06}", video), label, folder_name(classes[label])))
    if not any(item.split == "val" for item in items) and (path := files.find(_K400_LISTS)):
        _check_k400_index(files, index)
        items += [_listed(line, f"{path}:{number}", classes) for number, line in read_lines(path, "a list")]
    if not items:
        files.need((*_K400_FILES["train"], *_K400_FILES["val"], *_K400_LISTS), "Kinetics CSV or validation list")
    return Annotations(classes, items, files.used)


def _listed(line: str, where: str, classes: list[str]) -> Item:
    """`video_id, num_frames, label_index`; between them commas or blanks, before the label any numbers."""
    fields = [field for field in re.split(r"[,\s]+", line.strip()) if field]
    label = whole_number(fields[-1]) if len(fields) > 1 else None
    if label is None or label >= len(classes):
        raise DataError(f"{where}: expected `video_id, num_frames, label_index`, got {line.strip()[:80]!r}")
    stem = Path(fields[0]).stem
    return Item("val", (stem, re.sub(r"_\d{6}_\d{6}$", "", stem)), label, folder_name(classes[label]))


def _check_k400_index(files: LabelFiles, index: dict[str, int]) -> None:
    """The published class index, where it lies beside the list, must be ours."""
    path = files.find(("kinetics_class2ind.txt",))
    for number, line in read_lines(path, "a class index") if path else ():
        name, _, label = line.strip().rpartition(" ")
        name = name.replace("_", " ").strip().strip('"')
        if index.get(name, -1) != whole_number(label):
            raise DataError(f"{path}:{number}: class {name!r} has index {label} there and {index.get(name)} here")


def folder_name(class_name: str) -> str:
    """`playing violin` -> `playing_violin`, as MMAction2 names class folders."""
    return class_name.replace(" ", "_")


def read_lines_of_labels(dataset: str, files: LabelFiles) -> Annotations:
    """Something-Something V1 and Jester: a file of class names, one a line, and `id;label` CSV files."""
    prefix = {"sthv1": "something-something-v1", "jester": "jester-v1"}[dataset]
    labels = files.need((f"{prefix}-labels.csv",), "labels file")
    classes, notes = zoo_order(dataset, [line.strip() for _, line in read_lines(labels, "labels")], labels)
    index = {name: i for i, name in enumerate(classes)}
    paths = {"train": files.need((f"{prefix}-train.csv",), "train file"),
             "val": files.find((f"{prefix}-validation.csv",))}  # fmt: skip
    items = []
    for split, path in paths.items():
        for number, line in read_lines(path, "labels") if path else ():
            video, separator, label = line.partition(";")
            if not separator:
                raise DataError(f"{path}:{number}: expected `id;label`, got {line.strip()[:80]!r}")
            items.append(Item(split, (video.strip(),), look_up(index, label.strip(), f"{path}:{number}")))
    return Annotations(classes, items, files.used, notes)


def read_sthv2(dataset: str, files: LabelFiles) -> Annotations:
    """Something-Something V2: JSON files; a template with its brackets removed is a class name."""
    labels = files.need(("something-something-v2-labels.json", "labels.json"), "labels file")
    try:
        index = {name: int(number) for name, number in read_json(labels, dict).items()}
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{labels}: expected class name -> number: {error}") from None
    classes = sorted(index, key=index.__getitem__)
    if [index[name] for name in classes] != list(range(len(classes))):
        raise DataError(f"{labels}: the class numbers are not 0 to {len(classes) - 1}")
    classes, notes = zoo_order(dataset, classes, labels)
    index = {name: i for i, name in enumerate(classes)}
    items = []
    for split, names in _STHV2_FILES.items():
        path = files.find(names)
        for where, video, template in read_entries(path, "id", "template") if path else ():
            name = template.replace("[", "").replace("]", "")
            items.append(Item(split, (video,), look_up(index, name, where)))
    if not items:
        files.need(_STHV2_FILES["train"] + _STHV2_FILES["val"], "train or validation file with videos")
    return Annotations(classes, items, files.used, notes)


def read_diving48(dataset: str, files: LabelFiles) -> Annotations:
    """Diving48, version 2: JSON files of videos, whose test split serves as validation.

    Labels are taken as they are; class names are the four attributes of the vocabulary, joined.
    """
    classes = CATALOG[dataset].class_names() or []
    if vocabulary := files.find(("Diving48_vocab.json",)):
        named = ["+".join(map(str, x)) if isinstance(x, list) else "" for x in read_json(vocabulary, list)]
        if named != classes:
            raise DataError(f"{vocabulary}: its {len(named)} classes are not those of Diving48 version 2")
    paths = {"train": files.need(("Diving48_V2_train.json",), "train file"),
             "val": files.find(("Diving48_V2_test.json",))}  # fmt: skip
    items = []
    for split, path in paths.items():
        for where, video, word in read_entries(path, "vid_name", "label") if path else ():
            label = whole_number(word)
            if label is None or label >= len(classes):
                raise DataError(f"{where}: label {word[:40]}, but there are {len(classes)} classes")
            items.append(Item(split, (video,), label))
    return Annotations(classes, items, files.used)


def read_ucf101(dataset: str, files: LabelFiles) -> Annotations:
    """UCF101: `trainlist01.txt`, `testlist01.txt` and so on. A line is `class/video.avi`, and in train a number.

    The folder says the class: in `HandstandPushups` all file names have another spelling of it.
    """
    facts = CATALOG[dataset]
    classes = facts.class_names() or []
    index, items, notes = {name: i for i, name in enumerate(classes)}, list[Item](), list[str]()
    if path := files.find(("classInd.txt",)):
        notes += zoo_order(dataset, [line.split()[-1] for _, line in read_lines(path, "a class index")], path)[1]
    for number in range(1, facts.splits + 1):
        for split, kind in (("train", "trainlist"), ("val", "testlist")):
            path = files.find((f"{kind}{number:02}.txt",))
            for at, line in read_lines(path, "a list") if path else ():
                *_, folder, video = ["", *line.split()[0].split("/")]
                if not folder or not video:
                    raise DataError(f"{path}:{at}: expected `class/video.avi`, got {line.strip()[:80]!r}")
                label = look_up(index, folder, f"{path}:{at}")
                items.append(_clip(facts.part(split, number), classes[label], video, label))
    if not items:
        files.need(("trainlist01.txt", "testlist01.txt"), "list of a split")
    return Annotations(classes, items, files.used, (*notes, *_shared_groups(dataset, items)))


def read_hmdb51(dataset: str, files: LabelFiles) -> Annotations:
    """HMDB51: `<class>_test_split1.txt` and so on. A line is `video.avi` and a mark: 1 train, 2 test, 0 neither.

    Lists in the form of UCF101, which other tools make, are taken where there are none of these.
    """
    facts = CATALOG[dataset]
    classes, items = facts.class_names() or [], list[Item]()
    for number in range(1, facts.splits + 1):
        names = [f"{name}_test_split{number}.txt" for name in classes]
        paths = [files.find((name,)) for name in names]
        for label, path in enumerate(paths if any(paths) else ()):
            path = path or files.need((names[label],), f"list of {classes[label]}")
            for at, line in read_lines(path, "a list"):
                video, mark = [*line.split(), "", ""][:2]
                if mark not in ("0", "1", "2"):
                    wrong = f"expected `video.avi` and a mark of 0, 1 or 2, got {line.strip()[:80]!r}"
                    raise DataError(f"{path}:{at}: {wrong}")
                if mark != "0":
                    part = facts.part("train" if mark == "1" else "val", number)
                    items.append(_clip(part, classes[label], video, label))
    if not items and files.find(("trainlist01.txt", "testlist01.txt")):
        return read_ucf101(dataset, files)
    if not items:
        files.need((f"{classes[0]}_test_split1.txt",), "list of a split")
    return Annotations(classes, items, files.used)


def _clip(part: str, folder: str, video: str, label: int) -> Item:
    return Item(part, (f"{folder}/{Path(video).stem}",), label, folder)


def _shared_groups(dataset: str, items: list[Item]) -> Iterator[str]:
    """A line for each split with clips of one recording, `_g07` in their names, in train and in val."""
    groups: dict[str, set[str]] = {}
    for item in items:
        if found := re.fullmatch(r".*_(g[0-9]+)_c[0-9]+", item.names[0]):
            groups.setdefault(item.split, set()).add(f"{item.folder} {found[1]}")
    facts = CATALOG[dataset]
    for number in range(1, facts.splits + 1):
        train, val = (groups.get(facts.part(split, number), set()) for split in ("train", "val"))
        if both := sorted(train & val):
            shown = ", ".join(both[:5]) + ", ..." * (len(both) > 5)
            yield f"split {number}: {len(both)} groups of clips of one recording are in train and in val: {shown}"

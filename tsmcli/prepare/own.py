"""One's own videos: a folder of class folders, or a table.

    clips/wave/anna_01.mp4      class "wave"
    clips/wave/ben_01.mp4
    clips/jump/anna_02.mp4      class "jump"

Class folders may also lie below `train/` and `val/`, which then are the split.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np

from tsmcli.data.listfile import whole_number
from tsmcli.data.media import Media, left_out, spellings
from tsmcli.errors import DataError, UsageError
from tsmcli.prepare.annotations import Annotations, Item, read_csv

T = TypeVar("T")

_SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validate": "val", "validation": "val",
    "dev": "val", "eval": "val", "evaluation": "val", "test": "test", "testing": "test",
}  # fmt: skip
"""What people call splits, in lower case."""


def read_folder(media: Media, val_share: float, group: str | None, seed: int) -> Annotations:
    """A class for each folder in `media` that has videos, or folders of frames if there are no videos.

    Args:
        val_share: share of each class's videos (or groups) that goes to validation.
        group: a regular expression; videos whose names it finds the same text in stay in one split. Clips of one
            person or one recording in both splits make validation accuracy meaningless.

    Raises:
        DataError: fewer than two class folders with videos.
        UsageError: the regular expression is wrong, or does not match a file.
    """
    frames = sorted(found.path for found in chain(*media.frames.values()))
    there = sorted(chain(*media.videos.values())) or frames
    ready = _ready_splits(there)
    depth = 1 if ready else 0
    paths = [p for p in there if len(p.parts) > depth + 1 and (not ready or ready.get(p.parts[0]))]
    labels = [unicodedata.normalize("NFC", path.parts[depth]).strip() for path in paths]
    classes = sorted(set(labels), key=natural)
    if len(classes) < 2:
        wrong = f"{media.root}: {len(classes)} class folders with videos; at least 2 are needed"
        tops = {path.parts[0] for path in there if len(path.parts) > 2}
        inside = f"; or is it --source {media.root / min(tops)}?" if len(tops) == 1 else ""
        hint = f"expected {media.root}/<class name>/<video>{inside}"
        raise DataError(f"{wrong}. Found {media.summary()}", hint)
    index = {name: i for i, name in enumerate(classes)}
    drawn: set[int] = set()
    if "val" not in ready.values():
        drawn = _draw_groups(paths, val_share, group, seed) if group else draw_val(labels, val_share, seed)
    items = []
    for number, (path, label) in enumerate(zip(paths, labels, strict=True)):
        split = "val" if number in drawn else ready.get(path.parts[0]) or "train"
        items.append(Item(split, (path.as_posix(),), index[label], path.parent.as_posix()))
    notes = [f"{folder}/ is the {split} split" for folder, split in ready.items() if split and folder != split]
    notes += _split_in_doubt(paths) if not ready else []
    unused = sorted({*there, *media.left_out, *(frames if there != frames else ())} - {*paths})
    notes += left_out(unused, media.root)
    notes += [f"left out: {path}: {wrong}" for path, wrong in media.gaps.items() if there == frames]
    return Annotations(classes, items, [], tuple(notes), facts={"seed": seed})


def _ready_splits(paths: Sequence[Path]) -> dict[str, str]:
    """Top folders that are splits, with class folders in them -> `train`, `val`, or nothing if it is not used.

    A test split serves as validation where there is none. A single training split stands for all videos.
    """
    tops = {path.parts[0] for path in paths if len(path.parts) > 1}
    deep = sorted({path.parts[0] for path in paths if len(path.parts) > 2})
    found = {top: split for top in deep if (split := split_of(top))}
    if "train" not in found.values() or (len({*found.values()}) < 2 and len(tops) > 1):
        return {}
    return _test_as_val(found)


def _split_in_doubt(paths: Sequence[Path]) -> list[str]:
    """A note where all class folders hold folders of the same names, which may be the classes."""
    inside: dict[str, set[str]] = {}
    for path in paths:
        inside.setdefault(path.parts[0], set()).update(path.parts[1:-1][:1])
    same = set.intersection(*inside.values())
    if not same:
        return []
    tops, names = (", ".join(sorted(found)[:4]) for found in (inside, same))
    return [f"classes are {tops}; each holds folders named {names}: are those the classes?"]


def split_of(name: str) -> str | None:
    """`train`, `val` or `test`, by any usual name: `Training`, `val_data`, `test set`."""
    return _SPLITS.get(re.sub(r"[ _-]*(set|data|split)$", "", name.lower()))


def _test_as_val(splits: dict[str, str]) -> dict[str, str]:
    """The same with `val` for `test` where nothing is `val`, and with nothing for `test` where something is."""
    instead = "" if "val" in splits.values() else "val"
    return {name: instead if split == "test" else split for name, split in splits.items()}


def thin_classes(classes: Sequence[str], items: Sequence[Item]) -> Iterator[str]:
    """What there is to say of classes that lack videos in a split."""
    counts = Counter((item.split, label) for item in items for label in item.every)
    for split, so in (("train", "it cannot be learned"), ("val", "its accuracy is not known")):
        lacking = [name for label, name in enumerate(classes) if not counts[split, label]]
        if len(lacking) == len(classes):
            yield f"there are no {split} videos at all; training needs --set train.validation=false"
        elif lacking:
            shown = ", ".join(map(repr, lacking[:5])) + ", ..." * (len(lacking) > 5)
            yield f"{len(lacking)} of {len(classes)} classes have no {split} video, so {so}: {shown}"


def natural(name: str) -> tuple[list[str | tuple[int, str]], str]:
    """A key by which `clip 2` comes before `clip 10`."""
    parts = re.split("([0-9]+)", name)
    return [(len(n := part.lstrip("0")), n) if i % 2 else part for i, part in enumerate(parts)], name


def read_table(
    path: Path, val_share: float, seed: int, is_there: Callable[[str], bool] = lambda _path: True,
    *, several: bool = False,
) -> Annotations:  # fmt: skip
    """A table with the columns `path` and `label`, and `split` (train or val) if it is known.

    Labels are class names, sorted into an order, or numbers, kept as they are. Without a split a share of each
    class, of the videos that are there, drawn with `seed`, becomes validation.

    Args:
        several: a video may have several labels, divided by `|`, or by `;` where no label has a `|`; or none.

    Raises:
        DataError: a column is missing, or a value cannot be understood.
    """
    if not path.is_file():
        raise UsageError(f"no table {path}", hint="--annotations FILE is a CSV with the columns path,label[,split]")
    rows = read_csv(path, ("path", "label"))
    written = _divided([row["label"] for _, row in rows]) if several else [[row["label"]] for _, row in rows]
    numeric = all(name.isdigit() for own in written for name in own)
    for (where, row), own in zip(rows, written, strict=True):
        if absent := [name for name in ("path", *["label"] * (not several)) if not row[name]]:
            raise DataError(f"{where}: no {' and no '.join(absent)}", hint="fill it in, or delete the row")
        if numeric and (odd := [name for name in own if whole_number(name) is None]):
            raise DataError(f"{where}: the label {odd[0][:40]!r} is not a whole number")
    names = [[unicodedata.normalize("NFC", name) for name in own] for own in written]
    labels = sorted({name for own in names for name in own}, key=natural)
    if numeric and labels != [str(i) for i in range(len(labels))]:
        hint = "numbers of classes count from 0; or write class names"
        raise DataError(f"{path}: the labels are not all of 0 to {labels[-1]}", hint)
    if len(labels) < 2:
        raise DataError(f"{path}: {len(labels)} class; at least 2 are needed")
    index = {name: i for i, name in enumerate(labels)}
    said = [row.get("split", "").lower() for _, row in rows]
    for (where, _), word in zip(rows, said, strict=True):
        if word and not split_of(word):
            raise DataError(f"{where}: split {word[:40]!r} is neither train nor val")
    splits = _test_as_val({word: split_of(word) or "" for word in sorted({*said} - {""})})
    there = [number for number, (_, row) in enumerate(rows) if is_there(row["path"])]
    found = [names[number] for number in there]
    drawn = draw_several(found, val_share, seed) if several else draw_val([n for (n,) in found], val_share, seed)
    drawn = {there[i] for i in drawn}
    items = []
    for number, ((_, row), own, word) in enumerate(zip(rows, names, said, strict=True)):
        split = splits[word] if word else "val" if number in drawn else "train"
        if split:
            every = sorted({index[name] for name in own})
            item = Item(split, tuple(spellings(row["path"])), [*every, -1][0], _inside(Path(row["path"]).parent))
            items.append(item._replace(labels=tuple(every)) if several else item)
    if not any(item.split == "train" for item in items):
        raise DataError(f"{path}: no row for train", hint="add some, or leave the column split out")
    classes = [f"class {n}" for n in labels] if numeric else labels
    notes = [f"split {word} is used as {split}" for word, split in splits.items() if split and split != word]
    notes += [f"left out: {said.count(w)} rows of split {w}: there is val" for w, s in splits.items() if not s]
    facts = {"seed": seed, **({"multi_label": True} if several else {})}
    return Annotations(classes, items, [path], tuple(notes), facts=facts)


def _divided(labels: Sequence[str]) -> list[list[str]]:
    """The names in every label."""
    mark = "|" if any("|" in label for label in labels) else ";"
    return [[name.strip() for name in label.split(mark) if name.strip()] for label in labels]


def _inside(folder: Path) -> str:
    """A folder without what leads out of the one it is joined to: `/clips/../wave` -> `clips/wave`."""
    return Path(*(part for part in folder.parts if part not in ("..", folder.anchor))).as_posix()


def draw_val(labels: Sequence[str], val_share: float, seed: int) -> set[int]:
    """Positions that become validation: a share of each class, at least one where a class has two."""
    rng = np.random.default_rng(seed)
    positions: dict[str, list[int]] = {}
    for position, label in enumerate(labels):
        positions.setdefault(label, []).append(position)
    return {i for label in sorted(positions) for i in choose(positions[label], val_share, rng)}


def draw_several(labels: Sequence[Sequence[str]], val_share: float, seed: int) -> set[int]:
    """The same where a video may have several labels: class by class, the rarest first; each stays in training."""
    rng, drawn = np.random.default_rng(seed), set[int]()
    videos, taken = Counter(name for own in labels for name in set(own)), Counter[str]()
    for name in sorted(videos, key=lambda name: (videos[name], name)):
        wanted = min(max(1, round(val_share * videos[name])), videos[name] - 1)
        for i in rng.permutation([i for i, own in enumerate(labels) if name in own]).tolist():
            if taken[name] < wanted and i not in drawn and all(taken[n] < videos[n] - 1 for n in labels[i]):
                drawn.add(i)
                taken.update(set(labels[i]))
    return drawn.union(choose([i for i, own in enumerate(labels) if not own], val_share, rng))


def groups_of(paths: Sequence[Path], pattern: str) -> list[str]:
    """The group of each video: what a regular expression finds in its name, or its first parenthesis alone.

    Raises:
        UsageError: it is no regular expression, or finds nothing in a name.
    """
    try:
        group = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"--group {pattern}: not a regular expression: {error}") from None
    keys = []
    for path in paths:
        match = group.search(path.name)
        if not match:
            raise UsageError(f"--group {pattern} does not match {path.name}")
        keys.append((match[1] if match.groups() else match[0]) or "")
    return keys


def _draw_groups(paths: list[Path], val_share: float, pattern: str, seed: int) -> set[int]:
    """Positions of the videos of whole groups, drawn at random, the same for all classes."""
    keys = groups_of(paths, pattern)
    drawn = {*choose(sorted(set(keys)), val_share, np.random.default_rng(seed))}
    return {i for i, key in enumerate(keys) if key in drawn}


def choose(items: list[T], share: float, rng: np.random.Generator) -> list[T]:
    """At least one of two or more, never all."""
    count = min(max(1, round(share * len(items))), len(items) - 1)
    return [items[i] for i in rng.permutation(len(items))[:count]]

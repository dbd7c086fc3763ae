"""One's own videos: a folder of class folders -> lists, class names, manifest. Nothing is copied.

    clips/wave/anna_01.mp4      class "wave"
    clips/wave/ben_01.mp4
    clips/jump/anna_02.mp4      class "jump"

Class folders may also lie below `train/` and `val/`, which then are the split.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tsmcli import __version__
from tsmcli.catalog import CATALOG
from tsmcli.data.listfile import VideoRecord, write_list
from tsmcli.data.location import write_manifest
from tsmcli.data.media import VIDEO_SUFFIXES
from tsmcli.errors import DataError, UsageError
from tsmcli.files import write_text


@dataclass(frozen=True)
class Prepared:
    """What was written.

    Attributes:
        folder: the prepared dataset.
        classes: class names in index order.
        videos: (split, class name) -> number of videos.
    """

    folder: Path
    classes: list[str]
    videos: dict[tuple[str, str], int]


def prepare_folder(
    source: Path, out: Path, *, val_share: float = 0.2, group: str | None = None, seed: int = 0
) -> Prepared:
    """Split a folder of class folders and write the lists.

    Args:
        val_share: share of each class's videos (or groups) that goes to validation.
        group: a regular expression; videos whose names it finds the same text in stay in one split. Clips of one
            person or one recording in both splits make validation accuracy meaningless.

    Raises:
        DataError: no class folders or no videos; a class without a video for one of the splits.
        UsageError: the regular expression is wrong, or does not match a file.
    """
    if not source.is_dir():
        raise DataError(f"no folder {source}")
    split_ready = (source / "train").is_dir() and (source / "val").is_dir()
    found = {split: _videos_by_class(source / split) for split in ("train", "val")} if split_ready else {}
    videos = _videos_by_class(source) if not split_ready else _merge(found["train"], found["val"])
    classes = _class_names(source, videos)
    if not split_ready:
        found = _split(videos, val_share, _group_of(group), seed)
    counts = {}
    records: dict[str, list[VideoRecord]] = {}
    for split, by_class in found.items():
        records[split] = []
        for label, name in enumerate(classes):
            paths = by_class.get(name, [])
            if not paths:
                raise DataError(f"class {name!r} has no {split} video", hint="add videos, or change --val-share")
            counts[split, name] = len(paths)
            records[split] += [VideoRecord(path.relative_to(source).as_posix(), None, label) for path in paths]
    out.mkdir(parents=True, exist_ok=True)
    for split, lines in records.items():
        write_list(out / CATALOG["folder"].list_name("video", split), lines)
    write_text(out / "classes.txt", "\n".join(classes) + "\n")
    media = os.path.relpath(source.resolve(), out.resolve())
    facts = {
        "media": {"train": media, "val": media},
        "videos": {split: len(lines) for split, lines in records.items()},
        "seed": seed,
        "versions": {"tsm": __version__},
    }
    write_manifest(out, CATALOG["folder"], "video", facts)
    return Prepared(out, classes, counts)


def _videos_by_class(source: Path) -> dict[str, list[Path]]:
    """Class name -> its videos at any depth, sorted."""
    return {
        folder.name: sorted(p for p in folder.rglob("*") if p.suffix.lower() in VIDEO_SUFFIXES and p.is_file())
        for folder in sorted(source.iterdir())
        if folder.is_dir() and not folder.name.startswith(".")
    }


def _merge(a: dict[str, list[Path]], b: dict[str, list[Path]]) -> dict[str, list[Path]]:
    return {name: a.get(name, []) + b.get(name, []) for name in sorted({*a, *b})}


def _class_names(source: Path, videos: dict[str, list[Path]]) -> list[str]:
    classes = [name for name, paths in videos.items() if paths]
    if len(classes) >= 2:
        return classes
    suffixes = Counter(p.suffix.lower() or "no suffix" for p in source.rglob("*") if p.is_file())
    seen = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(5)) or "no files at all"
    raise DataError(
        f"{source}: {len(classes)} class folders with videos; at least 2 are needed. Found {len(videos)} folders "
        f"and {seen}",
        hint=f"expected {source}/<class name>/<video>, with videos ending in {' '.join(sorted(VIDEO_SUFFIXES))}",
    )


def _group_of(pattern: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(pattern) if pattern else None
    except re.error as error:
        raise UsageError(f"--group {pattern}: not a regular expression: {error}") from None


def _split(
    videos: dict[str, list[Path]], val_share: float, group: re.Pattern[str] | None, seed: int
) -> dict[str, dict[str, list[Path]]]:
    """Per class at random; with groups, whole groups at random, the same for all classes."""
    rng = np.random.default_rng(seed)
    val_groups: set[str] = set()
    if group:
        groups = sorted({_group_key(path, group) for paths in videos.values() for path in paths})
        val_groups = set(choose(groups, val_share, rng))
    split: dict[str, dict[str, list[Path]]] = {"train": {}, "val": {}}
    for name, paths in videos.items():
        if group:
            val = {path for path in paths if _group_key(path, group) in val_groups}
        else:
            val = {paths[int(i)] for i in choose([str(i) for i in range(len(paths))], val_share, rng)}
        split["train"][name] = [path for path in paths if path not in val]
        split["val"][name] = [path for path in paths if path in val]
    return split


def choose(items: list[str], share: float, rng: np.random.Generator) -> list[str]:
    """At least one of two or more, never all."""
    count = min(max(1, round(share * len(items))), len(items) - 1)
    return [items[i] for i in rng.permutation(len(items))[:count]]


def _group_key(path: Path, group: re.Pattern[str]) -> str:
    match = group.search(path.name)
    if not match:
        raise UsageError(f"--group {group.pattern} does not match {path.name}")
    return (match[1] if match.groups() else match[0]) or ""

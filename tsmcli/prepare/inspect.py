"""What will hurt a training, told from lists and from a look into every video: `tsm data check`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tsmcli.catalog import CATALOG
from tsmcli.config import Config
from tsmcli.data.location import Places
from tsmcli.prepare.extract import VideosCounted
from tsmcli.prepare.findings import (
    GROUP,
    SEVERITIES,
    Finding,
    Listed,
    Severity,
    find_by_name,
    find_sides,
)
from tsmcli.prepare.verify import IN_BOTH, IN_TWO, Look, Problem, VideoChecked, check

_FLAT = 4.0
"""Grey levels: a clip with less contrast than this shows nothing by which it could be known again."""
_ALIKE = 0.4
"""Two clips are the same if they differ by less than this share of how much they change in time."""
_NOISE = 0.06
"""What a still clip may differ from its copy, in standard deviations of its pixels."""
_BLOCK = 256
_SMALL = 4
"""So many videos of a class, or fewer, show nothing about the class."""
_MIXED = 3
"""Short sides that differ by more than this factor, and frame rates, are named."""

_PROBLEMS: dict[str, tuple[Severity, str, str]] = {
    "unreadable": ("will fail", "videos cannot be read", "replace them, or take them out of the list"),
    "frame count": ("may hurt", "videos have not as many frames as promised", "tsm prepare-data writes new lists"),
    "duplicate": ("may hurt", "videos are in the list more than once", "take out the other lines"),
    "empty class": ("may hurt", "videos are lacking for some classes", "add some, or take out the classes"),
    IN_TWO: ("will mislead", "recordings are in both lists", "keep all intervals of each in one, or use --folds"),
    IN_BOTH: ("will mislead", "videos are training videos, too", "take them out of one list"),
}
"""What verification finds -> how bad that is, in words, and what to do."""


@dataclass(frozen=True)
class Inspection:
    """How many videos and classes were looked at, and what was found, the worst first."""

    videos: int
    classes: int
    findings: list[Finding]


def inspect(
    config: Config, places: Places, *, workers: int
) -> Generator[VideosCounted | VideoChecked, None, Inspection]:
    """Look at the lists that a preset would train with, and into all their videos.

    Raises:
        DataError: a list is missing or malformed.
    """
    val = config.train.validation
    report = yield from check(config.data, places, num_segments=1, full=False, workers=workers, validation=val)
    classes, splits = report.classes, report.splits
    listed = [
        Listed(name, record.path, label, record.span is not None)
        for name, split in splits.items()
        for record in split.records
        for label in record.every
    ]
    augment = config.augment
    swaps = augment.flip_swaps_labels and CATALOG[config.data.dataset].flip_pairs
    findings = [*_of_problems(report.problems), *find_by_name(classes, listed)]
    if augment.flip_prob > 0 and not swaps:
        findings += find_sides(classes, flips=True)
    findings += find_in_videos(classes, report.looks, config)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Inspection(report.videos, len(classes), findings)


def find_in_videos(classes: Sequence[str], looks: Sequence[Look], config: Config) -> list[Finding]:
    """Copies, clips shorter than T, mixed shapes: among the videos that could be read."""
    if not looks:
        return []
    found = [*_copies(classes, looks), *_short(classes, looks, config.model.num_segments)]
    found += _orientation(classes, looks)
    sides = [min(look.size) for look in looks]
    found += _spread("short sides", sides, "px", "small ones get enlarged and look blurred")
    if config.augment.sampling == "dense":  # else clips are of whole videos, whatever their rate
        rates = [max(1, round(look.rate)) for look in looks if look.rate]
        advice = "64 frames are no fixed time; --set augment.sampling=uniform"
        found += _spread("frame rates", rates, "a second", advice)
    return found


def _of_problems(problems: Sequence[Problem]) -> Iterator[Finding]:
    groups = defaultdict[tuple[str, str], list[Problem]](list)
    for problem in problems:
        groups[IN_BOTH if problem.detail == IN_BOTH else problem.kind, problem.split].append(problem)
    for (kind, split), same in groups.items():
        severity, words, advice = _PROBLEMS[kind]
        where = tuple(map(_told, same))
        count = "" if kind == "empty class" else f"{len(same)} "
        name = "in both lists" if kind == IN_BOTH else kind
        yield Finding(name, severity, split, where, f"{count}{split} {words}", advice)


def _told(problem: Problem) -> str:
    path, detail = problem.path, problem.detail
    if not path or (problem.kind == "unreadable" and path in detail):  # the reason names the video
        return detail
    return path if detail == IN_BOTH else f"{path}: {detail}"


def first_alike(thumbs: NDArray[np.uint8]) -> NDArray[np.int64]:
    """For each clip the number of the first one that shows the same: its own where there is none before it.

    Small grey pictures at the same shares of the clips are compared, whatever their exposure and contrast. Copies
    differ by what encoding changes; other clips of a scene differ by as much as a clip changes in time.

    Args:
        thumbs: [N, times, h, w].
    """
    flat = np.empty((len(thumbs), thumbs[0].size), np.float32)
    limit = np.empty(len(thumbs), np.float32)
    for start in range(0, len(thumbs), _BLOCK):
        block = slice(start, start + _BLOCK)
        pictures = thumbs[block].reshape(*thumbs[block].shape[:2], -1).astype(np.float32)
        pictures -= pictures.mean(axis=2, keepdims=True)
        contrast = np.sqrt(np.square(pictures).mean(axis=(1, 2)))
        pictures /= np.maximum(contrast, _FLAT)[:, None, None]
        moving = pictures - pictures.mean(axis=1, keepdims=True)
        limit[block] = np.maximum(_ALIKE * np.sqrt(np.square(moving).mean(axis=(1, 2))), _NOISE)
        limit[block][contrast < _FLAT] = 0  # nothing is like it
        flat[block] = pictures.reshape(len(pictures), -1)
    first = np.arange(len(flat))
    for start in range(0, len(flat), _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, len(flat)))
        apart = 2 - 2 * (flat[rows] @ flat[: rows[-1] + 1].T) / flat.shape[1]  # mean square difference
        alike = apart < np.square(np.minimum(limit[rows, None], limit[None, : rows[-1] + 1]))
        alike[rows - start, rows] = True
        first[rows] = alike.argmax(axis=1)
    return first


def _copies(classes: Sequence[str], looks: Sequence[Look]) -> Iterator[Finding]:
    own = {(look.media.resolve(), look.path, look.labels): look for look in reversed(looks)}
    once = list(own.values())[::-1]  # a file in two lists is no copy
    leaks, twice, labels = list[str](), defaultdict[str, list[str]](list), list[str]()
    for look, number in zip(once, first_alike(np.stack([look.thumbs for look in once])), strict=True):
        first = once[number]
        if look.labels != first.labels:
            said = [f"{one.path} ({', '.join(classes[label] for label in one.labels)})" for one in (look, first)]
            labels.append(" = ".join(said))
        if look.split != first.split:
            leaks.append(f"{look.path} = {first.path}")
        elif look is not first and look.labels == first.labels:
            twice[look.split].append(f"{look.path} = {first.path}")
    if labels:
        detail = f"{len(labels)} videos show the same as one of another class"
        yield Finding("two labels", "will mislead", "", tuple(labels), detail, "keep the right one")
    if leaks:
        detail = f"{len(leaks)} validation videos show the same as a training video"
        yield Finding("leak", "will mislead", "val", tuple(leaks), detail, f"remove them, or {GROUP}")
    for split, copies in twice.items():
        detail = f"{len(copies)} {split} videos show the same as another"
        yield Finding("copies", "may hurt", split, tuple(copies), detail, "keep one of each")


def _short(classes: Sequence[str], looks: Sequence[Look], num_segments: int) -> Iterator[Finding]:
    short = [look for look in looks if look.num_frames < num_segments]
    if short:
        counts = Counter(classes[label] for look in short for label in look.labels)
        where = tuple(f"{name} ({count})" for name, count in counts.most_common())
        detail = f"{len(short)} videos have fewer frames than the {num_segments} of a clip, so frames repeat"
        advice = "use longer ones, or --set model.num_segments=N"
        yield Finding("short", "may hurt", "", where, detail, advice)


def _orientation(classes: Sequence[str], looks: Sequence[Look]) -> Iterator[Finding]:
    """Upright beside wide videos; worse where that tells classes apart."""
    ways = "upright", "wide"
    kinds = [[look for look in looks if look.size[1 - k] > look.size[k]] for k in (0, 1)]
    if not all(kinds):
        return
    detail = " and ".join(f"{len(kind)} videos are {way}" for kind, way in zip(kinds, ways, strict=True))
    counts = [Counter(classes[label] for look in kind for label in look.labels) for kind in kinds]
    only = [[n for n, count in counts[k].items() if count > _SMALL and n not in counts[1 - k]] for k in (0, 1)]
    if all(only):
        where = tuple(f"{name} (all {way})" for names, way in zip(only, ways, strict=True) for name in names)
        advice = "film all classes both ways, or all in one way"
        yield Finding("orientation", "will mislead", "", where, f"{detail}, which tells classes apart", advice)
        return
    splits = {name: [sum(look.split == name for look in kind) for kind in kinds] for name in ("train", "val")}
    where = tuple(f"{name} {a} {ways[0]} and {b} {ways[1]}" for name, (a, b) in splits.items() if a + b)
    yield Finding("orientation", "may hurt", "", where, detail, "all classes and both splits should have both")


def _spread(kind: str, values: Sequence[int], unit: str, advice: str) -> Iterator[Finding]:
    """Sizes or rates that differ by a large factor."""
    counts = Counter(values)
    if counts and max(counts) > _MIXED * min(counts):
        where = tuple(f"{count} of {value} {unit}" for value, count in counts.most_common())
        yield Finding(kind, "may hurt", "", where, f"{kind} are from {min(counts)} to {max(counts)} {unit}", advice)

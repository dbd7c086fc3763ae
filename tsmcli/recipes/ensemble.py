"""Read score files, ours or MMAction2's, put them in one order, and average several. No torch."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tsmcli.data.listfile import VideoRecord, labels_of, read_list
from tsmcli.data.media import VIDEO_SUFFIXES, suffix_of
from tsmcli.errors import DataError, UsageError
from tsmcli.results import Results, check_results, load_results, load_score_list

_NOT_STATED = "not stated"
"""The protocol of MMAction2's files."""


def open_scores(path: Path, list_file: Path | None = None) -> Results:
    """The results in a file of ours, or in MMAction2's list of scores, whose videos and labels a list file names.

    Raises:
        DataError: the file is missing, damaged or of another number of videos; a list without a list file.
    """
    if path.suffix in (".pkl", ".pickle"):
        hint = "MMAction2 writes the same scores as JSON: test.py CONFIG CHECKPOINT --out result.json"
        raise DataError(f"{path}: pickles are not read, as they can run code", hint)
    scores = load_score_list(path) if path.suffix == ".json" else None
    if scores is None:
        return load_results(path)
    if list_file is None:
        hint = "--list FILE names the list of the videos, whose lines end with the label"
        raise DataError(f"{path}: scores without labels", hint)
    records = read_any_list(list_file)
    if len(records) != len(scores):
        raise DataError(f"{path}: scores of {len(scores)} videos, but {list_file} has {len(records)}")
    try:
        labels = labels_of(records, scores.shape[1])
    except ValueError as error:
        raise DataError(f"{list_file}: {error}") from None
    meta = {"list": str(list_file), "preset": path.stem, "protocol_name": _NOT_STATED}
    results = Results([r.name for r in records], labels, scores, len(records), meta=meta)
    check_results(path, results)
    return results


def check_list_used(parts: Sequence[Results], list_file: Path | None) -> None:
    """Raise UsageError for a list that no file needs: it would not choose videos."""
    if list_file and all(part.meta.get("protocol_name") != _NOT_STATED for part in parts):
        hint = "to test other videos: tsm test --list"
        raise UsageError("--list names the videos of files that do not: these do", hint)


def read_any_list(path: Path) -> list[VideoRecord]:
    """The lines of a list of videos or of frame folders: every line of the latter has a number before the label.

    A name of a video file with more than one number behind it shows that videos may have several labels.
    """
    records = read_list(path, "video")
    bare = ((record.path, re.sub("( [0-9]+)+$", "", record.path)) for record in records)
    if any(video != path and suffix_of(video) in VIDEO_SUFFIXES for path, video in bare):
        return read_list(path, "video", several=True)
    if all(record.path.rpartition(" ")[2].isdigit() and " " in record.path for record in records):
        return read_list(path, "frames")
    return records


def average(parts: Sequence[Results], sources: Sequence[Path], weights: Sequence[float] | None) -> Results:
    """The weighted mean of the scores of several files, in the order of the first: an ensemble, or RGB and flow.

    Args:
        weights: one a file; None: all equal. Only their ratios count.

    Raises:
        DataError: the files are not of the same videos and classes.
        UsageError: not one weight a file, weights that sum to nothing, raw scores beside probabilities, or several
            number formats.
    """
    weights = weights or [1.0] * len(parts)
    if len(weights) != len(parts):
        raise UsageError(f"{len(weights)} weights for {len(parts)} files", hint="--weights takes one a file")
    if not all(0 <= weight < math.inf for weight in weights) or not sum(weights):
        raise UsageError("weights are positive numbers, some of which may be 0")
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    others = zip(parts[1:], sources[1:], strict=True)
    parts = [first, *(align(first, part, sources[0], source) for part, source in others)]
    if len({is_probability(part) for part in parts}) > 1:
        hint = "--softmax turns raw scores into probabilities"
        raise UsageError("some files hold probabilities and some raw scores, which have no common mean", hint)
    numbers = {part.meta.get("engine", {}).get("precision", "fp32") for part in parts}
    if len(numbers) > 1:
        hint = "test all of them with the same --precision"
        raise UsageError(f"scores in {' and '.join(sorted(numbers))} are not averaged", hint)
    scores = np.zeros(first.scores.shape, np.float32)
    for part, weight in zip(parts, weights, strict=True):
        scores += np.float32(weight / sum(weights)) * part.scores
    return replace(first, scores=scores, meta=_meta(parts, sources, weights))


def align(first: Results, other: Results, first_name: Path | str, other_name: Path | str) -> Results:
    """`other` in the order of `first`, matched by path; DataError where videos, labels or classes differ."""
    classes, others = first.scores.shape[1], other.scores.shape[1]
    if classes != others:
        raise DataError(f"{other_name}: scores of {others} classes, but {first_name} has {classes}")
    ours, theirs = first.meta.get("class_names"), other.meta.get("class_names")
    if ours and theirs and ours != theirs:
        i = next(i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
        raise DataError(f"{other_name}: class {i} is {theirs[i]!r}, but in {first_name} it is {ours[i]!r}")
    rows = {path: row for row, path in enumerate(other.paths)}
    if len(rows) < len(other.paths) or len(set(first.paths)) < len(first.paths):
        if first.paths != other.paths:
            raise DataError(f"{first_name} and {other_name} name videos twice, so they cannot be matched by path")
        order = np.arange(len(first.paths))
    else:
        _check_same_videos(first.paths, other.paths, first_name, other_name)
        order = np.array([rows[path] for path in first.paths])
    labels = zip(first.paths, first.labels, other.labels[order], strict=True)
    for path, label, there in labels:
        if np.shape(label) != np.shape(there) or (label != there).any():
            here, there = (np.flatnonzero(x).tolist() if np.shape(x) else x for x in (label, there))
            raise DataError(f"{other_name}: {path} has label {there}, but in {first_name} it has {here}")
    return replace(other, paths=first.paths, labels=first.labels, scores=other.scores[order])


def to_probabilities(results: Results) -> Results:
    """The softmax of raw scores, or the sigmoid where a video may have several labels; probabilities stay."""
    if is_probability(results):
        return results
    if results.multi_label:
        return replace(results, scores=np.exp(-np.logaddexp(np.float32(0), -results.scores)))
    exponents = np.exp(results.scores - results.scores.max(axis=1, keepdims=True))
    return replace(results, scores=exponents / exponents.sum(axis=1, keepdims=True))


def is_probability(results: Results) -> bool:
    """Whether every row is a distribution over the classes, or a probability of each."""
    scores: NDArray[np.float32] = results.scores
    if results.multi_label:
        return bool((scores >= 0).all() and (scores <= 1).all())
    return bool((scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3))


def _check_same_videos(ours: list[str], theirs: list[str], first: Path | str, other: Path | str) -> None:
    for these, those, here, there in ((ours, theirs, first, other), (theirs, ours, other, first)):
        if missing := sorted(set(these) - set(those)):
            wrong = f"{len(missing)} of {len(these)} videos of {here} are not in {there}, the first is {missing[0]}"
            raise DataError(wrong, "both must be of the same videos: test both on the same list")


def _meta(parts: Sequence[Results], sources: Sequence[Path], weights: Sequence[float]) -> dict[str, object]:
    def joined(key: str) -> str:
        return " + ".join(dict.fromkeys(str(part.meta.get(key, "unknown")) for part in parts))

    names = next((part.meta["class_names"] for part in parts if part.meta.get("class_names")), None)
    members = [{"file": str(file), "weight": weight} for file, weight in zip(sources, weights, strict=True)]
    return {key: joined(key) for key in ("preset", "protocol_name")} | {"class_names": names, "members": members}

"""Saved scores of a test: one row a video, with everything needed to recompute any metric. No torch."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsmcli.errors import DataError, UsageError
from tsmcli.files import part_of, replacing

_HINT = "tsm test writes one"


@dataclass(frozen=True)
class Results:
    """The scores of a list of videos.

    Attributes:
        paths, labels: the videos that were scored, in list order; labels are int64 [N]; bool [N, K] where
            a video may have several.
        scores: float32 [N, K]; probabilities, or logits where `average` is score.
        num_listed: videos in the list, readable or not.
        bad: (path, reason) of those that could not be read.
        meta: protocol, preset, checkpoint, environment.
    """

    paths: list[str]
    labels: NDArray[Any]
    scores: NDArray[np.float32]
    num_listed: int
    bad: list[tuple[str, str]] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def coverage(self) -> str:
        """`47 of 50 videos`."""
        return f"{len(self.paths)} of {self.num_listed} videos"

    @property
    def multi_label(self) -> bool:
        """Whether a video may have several labels."""
        return self.labels.ndim == 2


def many_hot(labels: Sequence[Sequence[int]], num_classes: int) -> NDArray[np.bool_]:
    """Any number of labels a video as bool [N, K]; ValueError for one that is no class."""
    table = np.zeros((len(labels), num_classes), np.bool_)
    for row, own in zip(table, labels, strict=True):
        if odd := [label for label in own if type(label) is not int or not 0 <= label < num_classes]:
            raise ValueError(f"{odd[0]!r} is none of {num_classes} classes, 0 to {num_classes - 1}")
        row[list(own)] = True
    return table


def save_results(path: Path, results: Results) -> None:
    """Write a `.npz` (compact), `.json` (readable) or `.csv` (for a spreadsheet) file, whole or not at all.

    A `.csv` has a row a video: its path, label (several are divided by `|`), five best classes by name, and all
    scores. It is not read back.

    Raises:
        UsageError: another suffix.
    """
    check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {"num_listed": results.num_listed, "bad": results.bad, "meta": results.meta}
    with replacing(path) as part:
        if path.suffix == ".json":
            videos = [
                {"path": video, **_label(label), "scores": [float(f"{s:.9g}") for s in scores]}
                for video, label, scores in zip(results.paths, results.labels, results.scores, strict=True)
            ]
            part.write_text(json.dumps({**head, "videos": videos}), encoding="utf-8")
        elif path.suffix == ".csv":
            _write_csv(part, results)
        else:
            paths, words = np.array(results.paths, dtype=np.str_), np.array(json.dumps(head))
            with part.open("wb") as file:
                np.savez_compressed(file, paths=paths, labels=results.labels, scores=results.scores, head=words)


def _label(label: NDArray[Any]) -> dict[str, Any]:
    return {"labels": np.flatnonzero(label).tolist()} if label.ndim else {"label": int(label)}


def _write_csv(path: Path, results: Results) -> None:
    classes = results.scores.shape[1]
    names = results.meta.get("class_names") or [str(label) for label in range(classes)]
    best = np.argsort(-results.scores, axis=1, kind="stable")[:, :5]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        ranks = [f"top{rank + 1}" for rank in range(best.shape[1])]
        writer.writerow(["path", "label", *ranks, *(f"score_{label}" for label in range(classes))])
        for video, label, five, scores in zip(results.paths, results.labels, best, results.scores, strict=True):
            true = "|".join(names[i] for i in np.flatnonzero(label)) if label.ndim else names[label]
            writer.writerow([video, true, *(names[i] for i in five), *(f"{score:.9g}" for score in scores)])


def check_suffix(path: Path) -> None:
    """Raise UsageError unless results can be written under this name."""
    if path.suffix not in (".npz", ".json", ".csv"):
        raise UsageError(
            f"{path}: results are saved as .npz, .json or .csv, not {path.suffix or 'without a suffix'}"
        )


def check_writable(path: Path) -> None:
    """Raise UsageError or OSError unless results can be written under a name, before there are any."""
    check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    part.touch()
    part.unlink()


def load_results(path: Path) -> Results:
    """Read what `save_results` wrote, and check it.

    Raises:
        DataError: the file is missing, is something else, or its numbers do not fit together.
    """
    if path.suffix == ".csv":
        raise DataError(f"{path}: scores in CSV are for other programs", hint="tsm reads .npz and .json")
    _check_file(path)
    with reading(path, "a results file", _HINT):
        if path.suffix == ".npz":
            with open_arrays(path) as file:
                head = json.loads(str(file["head"]))
                paths = list(file["paths"].tolist())
                labels, scores = np.asarray(file["labels"]), np.asarray(file["scores"])
        else:
            head = _read_json(path)
            videos = head["videos"]
            paths, scores = [video["path"] for video in videos], _matrix([video["scores"] for video in videos])
            if videos and "labels" in videos[0]:
                labels = many_hot([video["labels"] for video in videos], scores.shape[1])
            else:
                labels = np.array([video["label"] for video in videos])
        bad, meta = [(video, reason) for video, reason in head["bad"]], dict(head.get("meta", {}))
        results = Results(paths, labels, scores, head["num_listed"], bad, meta)
    check_results(path, results)
    return results


@contextmanager
def reading(path: Path, kind: str, hint: str) -> Iterator[None]:
    """Turn whatever the bytes of a file raise into a DataError: nearly any of them can raise nearly anything."""
    try:
        yield
    except Exception as error:
        what: object = str(error) or type(error).__name__
        if isinstance(error, KeyError):
            what = f"there is no {str(error.args[0]).removesuffix(' is not a file in the archive')!r} in it"
        raise DataError(f"{path}: not {kind}: {what}", hint) from None


@contextmanager
def open_arrays(path: Path) -> Iterator[Any]:
    """The arrays of a `.npz`, by name; no code in it is run. ValueError for another file."""
    if not zipfile.is_zipfile(path):
        raise ValueError("no archive of numpy arrays")
    with path.open("rb") as whole, np.load(whole, allow_pickle=False) as file:
        yield file


def read_meta(path: Path) -> dict[str, Any] | None:
    """What a `.npz` of ours says of its scores, without reading them; None where there is no such file."""
    try:
        with path.open("rb") as whole, np.load(whole, allow_pickle=False) as file:
            return dict(json.loads(str(file["head"])).get("meta", {}))
    except Exception:  # see `load_results`
        return None


def load_score_list(path: Path) -> NDArray[np.float32] | None:
    """Scores [N, K] of a JSON list with a list of class scores a video, as MMAction2 writes; None: another file.

    Raises:
        DataError: it is such a list, but damaged or with rows of several lengths.
    """
    _check_file(path)
    try:
        with path.open("rb") as file:
            if file.read(1 << 10).lstrip()[:1] != b"[":
                return None
        return _matrix(_read_json(path))
    except Exception as error:
        raise DataError(
            f"{path}: not a list with a list of scores a video: {error}",
            hint="MMAction2 writes one with: test.py CONFIG CHECKPOINT --out result.json",
        ) from None


def _check_file(path: Path) -> None:
    if not path.is_file():  # a device may never end
        raise DataError(f"{path}: not a file" if path.exists() else f"no results file {path}", hint=_HINT)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON, or cut short: {error.msg}") from None
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None


def _matrix(rows: list[list[float]]) -> NDArray[np.float32]:
    """Rows of numbers as float32 [N, K]; ValueError where they are not of one length, or something else."""
    if not all(isinstance(row, list) for row in rows):
        raise ValueError("it holds other things than lists of scores, too")
    for number, row in enumerate(rows, 1):
        if len(row) != len(rows[0]):
            raise ValueError(f"row {number} has {len(row)} scores, row 1 has {len(rows[0])}")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and a message says so
        matrix = np.array(rows, dtype=np.float32)
    if rows and matrix.ndim != 2:
        raise ValueError("a score is a list itself")
    return matrix if rows else np.empty((0, 0), np.float32)


def check_results(path: Path, results: Results) -> None:
    """Raise DataError unless the numbers fit together, are finite, and every label has a score and a name."""
    n, scores, labels = len(results.paths), results.scores, results.labels
    if n and (scores.dtype.kind != "f" or labels.dtype.kind not in ("b" if labels.ndim == 2 else "iu")):
        types = f"scores of type {scores.dtype} and labels of type {labels.dtype}"
        raise DataError(f"{path}: {types}; expected numbers and whole numbers")
    if scores.ndim != 2 or len(scores) != n or labels.shape not in ((n,), scores.shape) or n == 0:
        shapes = f"scores {list(scores.shape)} and labels {list(labels.shape)}"
        raise DataError(f"{path}: {n} videos, {shapes} do not fit together")
    if len(odd := np.flatnonzero(~np.isfinite(scores).all(axis=1))):
        raise DataError(f"{path}: the scores of {results.paths[odd[0]]} are not finite")
    classes = scores.shape[1]
    if not results.multi_label and len(wrong := np.flatnonzero((labels < 0) | (labels >= classes))):
        label = f"{results.paths[wrong[0]]} has label {labels[wrong[0]]}"
        raise DataError(f"{path}: {label}, but the scores are of {classes} classes, 0 to {classes - 1}")
    names = results.meta.get("class_names") or []
    words = [*results.paths, *(names if isinstance(names, list) else [None]), *(w for b in results.bad for w in b)]
    if not all(isinstance(word, str) for word in words) or not isinstance(results.num_listed, int):
        raise DataError(f"{path}: paths, class names or reasons that are no texts, or num_listed is no number")
    if results.num_listed < n:
        raise DataError(f"{path}: scores of {n} videos, of a list of {results.num_listed}")
    if not isinstance(results.meta.get("sha256") or "", str):
        raise DataError(f"{path}: the SHA-256 of the checkpoint is no text")
    if names and len(names) != classes:
        raise DataError(f"{path}: {len(names)} class names for scores of {classes} classes")
    cuts = results.meta.get("thresholds")
    if cuts is not None and not (
        isinstance(cuts, list) and len(cuts) == classes and all(isinstance(cut, int | float) for cut in cuts)
    ):
        raise DataError(f"{path}: its thresholds are not a number for each of {classes} classes")

"""Saved scores of a test: one row a video, with everything needed to recompute any metric. No torch."""

from __future__ import annotations

import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsmcli.errors import DataError, UsageError


@dataclass(frozen=True)
class Results:
    """The scores of a list of videos.

    Attributes:
        paths: the videos that were scored, in list order.
        labels: int64 [N].
        scores: float32 [N, K]; probabilities, or logits where `average` is score.
        num_listed: videos in the list, readable or not.
        bad: (path, reason) of those that could not be read.
        meta: protocol, preset, checkpoint, environment.
    """

    paths: list[str]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    num_listed: int
    bad: list[tuple[str, str]] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def coverage(self) -> str:
        """`47 of 50 videos`."""
        return f"{len(self.paths)} of {self.num_listed} videos"


def save_results(path: Path, results: Results) -> None:
    """Write a `.npz` (compact) or `.json` (readable) file, whole or not at all.

    Raises:
        UsageError: another suffix.
    """
    check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    head = {"num_listed": results.num_listed, "bad": results.bad, "meta": results.meta}
    if path.suffix == ".json":
        videos = [
            {"path": video, "label": int(label), "scores": [float(f"{s:.9g}") for s in scores]}
            for video, label, scores in zip(results.paths, results.labels, results.scores, strict=True)
        ]
        part.write_text(json.dumps({**head, "videos": videos}), encoding="utf-8")
    else:
        with part.open("wb") as file:
            np.savez_compressed(
                file,
                paths=np.array(results.paths, dtype=np.str_),
                labels=results.labels,
                scores=results.scores,
                head=np.array(json.dumps(head)),
            )
    part.replace(path)


def check_suffix(path: Path) -> None:
    """Raise UsageError unless results can be written under this name."""
    if path.suffix not in (".npz", ".json"):
        raise UsageError(f"{path}: results are saved as .npz or .json, not {path.suffix or 'without a suffix'}")


def load_results(path: Path) -> Results:
    """Read what `save_results` wrote, and check it.

    Raises:
        DataError: the file is missing, is something else, or its numbers do not fit together.
    """
    try:
        if path.suffix == ".json":
            tree = json.loads(path.read_text(encoding="utf-8"))
            head, videos = tree, tree["videos"]
            paths = [video["path"] for video in videos]
            labels = np.array([video["label"] for video in videos], dtype=np.int64)
            scores = np.array([video["scores"] for video in videos], dtype=np.float32)
        else:
            with np.load(path, allow_pickle=False) as file:
                head = json.loads(str(file["head"]))
                paths, labels, scores = file["paths"].tolist(), file["labels"], file["scores"]
        results = Results(
            paths, labels, scores, head["num_listed"], [(p, r) for p, r in head["bad"]], dict(head.get("meta", {}))
        )
    except FileNotFoundError:
        raise DataError(f"no results file {path}", hint="tsm test writes one") from None
    except (
        OSError,
        EOFError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise DataError(f"{path}: not a results file: {error}", hint="tsm test writes one") from None
    _check(path, results)
    return results


def _check(path: Path, results: Results) -> None:
    n = len(results.paths)
    if results.scores.ndim != 2 or len(results.scores) != n or results.labels.shape != (n,) or n == 0:
        raise DataError(
            f"{path}: {n} videos, scores {list(results.scores.shape)} and labels {list(results.labels.shape)} "
            "do not fit together"
        )
    if not np.isfinite(results.scores).all():
        row = int(np.flatnonzero(~np.isfinite(results.scores).all(axis=1))[0])
        raise DataError(f"{path}: the scores of {results.paths[row]} are not finite")
    if results.labels.min() < 0 or results.labels.max() >= results.scores.shape[1]:
        raise DataError(
            f"{path}: label {results.labels.max()}, but the scores are of {results.scores.shape[1]} classes"
        )

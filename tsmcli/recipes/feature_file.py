"""Saved features: `.npz` files that numpy alone reads. No torch."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsmcli.errors import DataError
from tsmcli.files import replacing
from tsmcli.results import open_arrays, reading

_HINT = "tsm features writes one"


@dataclass(frozen=True)
class Features:
    """The features of a list of videos.

    Attributes:
        values: float32 [N, ..., C]; a row a video, or a row a window.
        paths, labels: of each row; labels are int64 [N], or bool [N, K] where a video may have several.
        num_listed: videos in the list, readable or not.
        bad: (path, reason) of those that could not be read.
        meta: what the features are of: `of`, protocol, preset, checkpoint.
    """

    values: NDArray[np.float32]
    paths: list[str]
    labels: NDArray[Any]
    class_names: list[str]
    num_listed: int
    bad: list[tuple[str, str]] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)


def save_features(
    path: Path, shape: tuple[int, ...], rows: Iterable[NDArray[np.float32]], head: dict[str, Any], **others: Any
) -> None:
    """Write a `.npz` file, whole or not at all, with one video's rows in memory at a time.

    Args:
        shape: of all features together, [N, ..., C].
        rows: the features, in order.
        head: what else there is to say, as JSON.
        others: further arrays, by their names in the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part, zipfile.ZipFile(part, "w") as archive:
        with archive.open("features.npy", "w", force_zip64=True) as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            for row in rows:
                file.write(row.astype("<f4").tobytes())
        for name, array in {**others, "head": json.dumps(head)}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.array(array), allow_pickle=False)


def load_features(path: Path) -> Features:
    """Read what `save_features` wrote, and check it.

    Raises:
        DataError: the file is missing, is something else, or its numbers do not fit together.
    """
    if not path.is_file():
        raise DataError(f"{path}: not a file" if path.exists() else f"no features {path}", hint=_HINT)
    with reading(path, "a file of features", _HINT):
        with open_arrays(path) as file:
            head = json.loads(str(file["head"]))
            bad = [(str(video), str(reason)) for video, reason in head["bad"]]
            paths, names = [str(p) for p in file["paths"].tolist()], [str(n) for n in file["class_names"].tolist()]
            values = file["features"].astype(np.float32, casting="same_kind", copy=False)
            labels = file["labels"]
            labels = labels if labels.dtype == bool else labels.astype(np.int64, casting="same_kind", copy=False)
            found = Features(values, paths, labels, names, int(head["num_listed"]), bad, dict(head["meta"]))
        _check(found)
    return found


def _check(found: Features) -> None:
    """ValueError unless there are rows, each has a path and the label of a class, and all numbers are finite."""
    values, labels = found.values, found.labels
    if values.ndim < 2 or not values.size or len(labels) != len(values) or len(found.paths) != len(values):
        raise ValueError(f"{len(found.paths)} paths, {len(labels)} labels, features {list(values.shape)}")
    if labels.dtype == bool and labels.shape != (len(values), len(found.class_names)):
        raise ValueError(f"labels {list(labels.shape)} of {len(found.class_names)} classes")
    if labels.dtype != bool and (labels.ndim != 1 or labels.min() < 0 or labels.max() >= len(found.class_names)):
        raise ValueError(f"labels {labels.min()} to {labels.max()}, but {len(found.class_names)} classes")
    if not np.isfinite(values).all():
        raise ValueError("its numbers are not finite")

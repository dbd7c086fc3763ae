"""What features say of the classes without any training of the network: a linear classifier, and neighbours.

Pure numpy and scikit-learn, no torch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsmcli.errors import DataError
from tsmcli.metrics import interval, mean_class, mean_class_interval, top_k
from tsmcli.recipes.feature_file import Features, load_features

Rows = NDArray[np.float64]
Labels = NDArray[np.int64]

FOLDS = 5
_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
"""The C of the logistic regression that are tried, for features that are standardised."""
_SAFE = 1e-2
"""The C where a class has a single video, so that none can be left out."""


@dataclass(frozen=True)
class Guessed:
    """The accuracy of a classifier, and its 95 % intervals for so many videos."""

    top1: float
    top1_interval: tuple[float, float]
    mean_class: float
    mean_class_interval: tuple[float, float]


@dataclass(frozen=True)
class Probe:
    """What a probe found, and how: of the features of which network, and by which videos."""

    features: str
    how: str
    coverage: str
    complete: bool
    linear: Guessed
    neighbours: Guessed


def probe(train: Path, val: Path | None = None) -> Probe:
    """Classify the videos of a file of features by those of another file, or by cross-validation within one.

    Raises:
        DataError: a file is broken, or of windows; the files are not of one network, one kind and the same classes;
            or there are too few videos or classes.
    """
    given = _of_videos(train)
    scored = _of_videos(val) if val else given
    x, y = _rows(given), given.labels
    check_classes(str(train), y, given.class_names, 1 if val else 2)
    if val:
        _check_pair(train, given, val, scored)
        others = _rows(scored)
        said = [method(x, y, others) for method in (linear, neighbours)]
        how = f"trained on the {len(y)} videos of {train}, scored on those of {val}"
    else:
        parts = list(folds_of(y, FOLDS).split(x, y))
        said = [_crosswise(method, x, y, parts) for method in (linear, neighbours)]
        how = f"{len(parts)}-fold cross-validation over the videos of {train}, each fold with all classes"
    meta, classes = scored.meta, len(given.class_names)
    guessed = [accuracy(labels, scored.labels, classes) for labels in said]
    of = f"{meta.get('preset')}, protocol {meta.get('protocol_name')}, averaged over each video"
    coverage = f"{len(scored.paths)} of {scored.num_listed} videos"
    return Probe(of, how, coverage, not (given.bad or scored.bad), *guessed)


def linear(x: NDArray[Any], labels: Labels, others: NDArray[Any]) -> Labels:
    """The labels that a logistic regression gives to other videos; its C is chosen by cross-validation within `x`.

    Args:
        x, others: features [N, C] and [M, C]; they are standardised by the mean and spread of `x`.
        labels: [N], of at least two classes.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(x.astype(np.float64))
    x, others = (scaler.transform(rows.astype(np.float64)) for rows in (x, others))
    if len(x) < x.shape[1]:  # turned into the space that the videos span: the same classifier from fewer columns
        axes = np.linalg.svd(x, full_matrices=False)[2].T
        x, others = x @ axes, others @ axes
    model = LogisticRegression(C=_SAFE, max_iter=100)
    if np.unique(labels, return_counts=True)[1].min() > 1:  # the C with the largest likelihood of videos left out
        model = GridSearchCV(model, {"C": _STRENGTHS}, scoring="neg_log_loss", cv=folds_of(labels, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a hundred steps are enough to choose and to compare
        said: Labels = model.fit(x, labels).predict(others)
    return said


def neighbours(x: NDArray[Any], labels: Labels, others: NDArray[Any]) -> Labels:
    """The labels that most of the 5 nearest videos have, by the cosine; see `linear`."""
    from sklearn.neighbors import KNeighborsClassifier

    near = KNeighborsClassifier(min(5, len(x)), metric="cosine", algorithm="brute")
    said: Labels = near.fit(x, labels).predict(others)
    return said


def accuracy(said: Labels, labels: Labels, classes: int) -> Guessed:
    """How many of some predictions are right."""
    scores = np.eye(classes)[said]
    top1 = top_k(scores, labels)
    between = mean_class_interval(scores, labels)
    return Guessed(top1, interval(top1, len(labels)), mean_class(scores, labels), between)


def check_classes(where: str, labels: Labels, names: list[str], each: int) -> None:
    """Raise DataError for fewer than two classes, or for one with fewer than `each` videos."""
    found, counts = np.unique(labels, return_counts=True)
    if len(found) < 2:
        raise DataError(f"{where}: videos of {len(found)} class; at least 2 are needed")
    if counts.min() < each:
        few = f"class {names[found[counts.argmin()]]!r} has 1 video; cross-validation needs 2 of each"
        raise DataError(f"{where}: {few}", hint="tsm probe TRAIN.npz VAL.npz trains on one list, scores another")


def folds_of(labels: Labels, most: int) -> Any:
    """Folds for cross-validation, drawn once: at most so many, and each class is in every one."""
    from sklearn.model_selection import StratifiedKFold

    count = min(most, int(np.unique(labels, return_counts=True)[1].min()))
    return StratifiedKFold(count, shuffle=True, random_state=0)


def _crosswise(
    method: Callable[[NDArray[Any], Labels, NDArray[Any]], Labels], x: Rows, labels: Labels, parts: Iterable[Any]
) -> Labels:
    said = np.empty_like(labels)
    for known, left_out in parts:
        said[left_out] = method(x[known], labels[known], x[left_out])
    return said


def _of_videos(path: Path) -> Features:
    found = load_features(path)
    if found.meta.get("of") == "window":
        hint = "tsm features without --window writes features of videos"
        raise DataError(f"{path}: features of windows, which have no labels of their own", hint)
    if found.labels.ndim == 2:
        raise DataError(f"{path}: videos with several labels", hint="a probe is for videos with one label each")
    return found


def _rows(found: Features) -> Rows:
    """Features of videos [N, C]: the mean over views and frames."""
    values = found.values
    rows: Rows = values.reshape(len(values), -1, values.shape[-1]).mean(1, dtype=np.float64)
    return rows


def _check_pair(a: Path, one: Features, b: Path, other: Features) -> None:
    if one.class_names != other.class_names:
        raise DataError(f"{b}: its classes are not those of {a}", hint="extract both with the same class names")
    if one.values.shape[-1] != other.values.shape[-1]:
        width = f"features of {other.values.shape[-1]} numbers, {a} of {one.values.shape[-1]}"
        raise DataError(f"{b}: {width}", hint="extract both with the same network")
    for key, what in (("of", "kind"), ("sha256", "checkpoint"), ("network", "network")):
        mine, theirs = one.meta.get(key), other.meta.get(key)
        if mine != theirs:
            hint = "extract both with the same --of, checkpoint and preset"
            raise DataError(f"{b}: features of another {what} ({theirs}) than those of {a} ({mine})", hint)

"""Mistakes worth looking at: the clips of the worst classes and of the most confused pairs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tsmcli.data.dataset import VideoDataset
from tsmcli.errors import DataError
from tsmcli.recipes.ensemble import to_probabilities
from tsmcli.recipes.evaluate import ClassScore, most_confused
from tsmcli.recipes.study.reopen import Reopened
from tsmcli.results import Results

GROUPS, CLIPS = 5, 2
"""Worst classes, and most confused pairs, that are shown; clips of each."""


@dataclass(frozen=True)
class ShownClip:
    """A video that was taken for another class, with the frames [T, h, w, 3] of its first view."""

    path: str
    true: str
    said: str
    probability: float
    frames: NDArray[np.uint8]


@dataclass(frozen=True)
class ClipGroup:
    """Some mistakes of a class, or of a pair of classes."""

    title: str
    text: str
    clips: list[ShownClip]


def worst_classes(results: Results, classes: Sequence[ClassScore], test: Reopened) -> list[ClipGroup]:
    """The classes with the smallest share of right videos, with their clips that misled the network most."""
    wrong = results.scores.argmax(axis=1) != results.labels
    groups = []
    for found in sorted((c for c in classes if c.videos), key=lambda c: c.top1 or 0.0)[:GROUPS]:
        if found.taken_for is None:
            continue
        rows = np.flatnonzero(wrong & (results.labels == found.index))
        taken_for, share = found.taken_for
        right = round((found.top1 or 0.0) * found.videos)
        text = f"{right} of {found.videos} right; most often taken for {taken_for} ({100 * share:.1f} %)"
        groups.append(ClipGroup(found.name, text, _load(results, test, rows)))
    return groups


def confused_pairs(
    results: Results, matrix: NDArray[np.int64], test: Reopened, shown: Sequence[ClipGroup]
) -> list[ClipGroup]:
    """The pairs (true, taken for) with the most videos, with other clips than those already shown."""
    names, guesses = test.class_names, results.scores.argmax(axis=1)
    hidden = {clip.path for group in shown for clip in group.clips}
    groups = []
    for true, said, videos in most_confused(matrix, GROUPS):
        rows = np.flatnonzero((results.labels == true) & (guesses == said))
        back = f"{matrix[said, true]} of {matrix[said].sum()}"
        text = f"{videos} of {matrix[true].sum()} videos; the other way round {back}"
        groups.append(ClipGroup(f"{names[true]} → {names[said]}", text, _load(results, test, rows, hidden)))
    return groups


def _load(
    results: Results, test: Reopened, rows: NDArray[np.intp], hidden: Collection[str] = ()
) -> list[ShownClip]:
    """The readable ones of these videos, the most wrongly sure first, as many as are shown."""
    shown: list[ShownClip] = []
    names, dataset = test.class_names, VideoDataset(test.split, test.config, test.views)
    scores = to_probabilities(results).scores[rows]
    for i in np.argsort(-scores.max(axis=1), kind="stable").tolist():
        record = test.split.records[rows[i]]
        if record.name in hidden or len(shown) == CLIPS:
            continue
        try:
            views, _ = dataset.load(record, np.random.default_rng(0))
        except DataError:
            continue  # it was read in the test; now it is gone, and another one serves
        true, said = names[int(results.labels[rows[i]])], names[int(scores[i].argmax())]
        shown.append(ShownClip(record.name, true, said, float(scores[i].max()), views[0]))
    return shown

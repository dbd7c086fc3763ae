"""Mistakes worth looking at: the clips of the worst classes and of the most confused pairs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from tsmcli.data.dataset import VideoDataset
from tsmcli.errors import DataError
from tsmcli.metrics import confusion
from tsmcli.recipes.ensemble import to_probabilities
from tsmcli.recipes.evaluate import class_scores, most_confused
from tsmcli.recipes.study.reopen import Reopened
from tsmcli.results import Results


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


def worst_classes(results: Results, test: Reopened, count: int, clips: int) -> list[ClipGroup]:
    """The classes with the smallest share of right videos, with their clips that misled the network most."""
    wrong = results.scores.argmax(axis=1) != results.labels
    scored = class_scores(confusion(results.scores, results.labels), test.class_names)
    groups = []
    for found in sorted((c for c in scored if c.videos), key=lambda c: c.top1 or 0.0)[:count]:
        if found.taken_for is None:
            continue
        rows = np.flatnonzero(wrong & (results.labels == found.index))
        taken_for, share = found.taken_for
        right = round((found.top1 or 0.0) * found.videos)
        text = f"{right} of {found.videos} right; most often taken for {taken_for} ({100 * share:.1f} %)"
        groups.append(ClipGroup(found.name, text, list(islice(_load(results, test, rows), clips))))
    return groups


def confused_pairs(
    results: Results, test: Reopened, count: int, clips: int, shown: Sequence[ClipGroup]
) -> list[ClipGroup]:
    """The pairs (true, taken for) with the most videos, with other clips than those already shown."""
    names, matrix, guesses = (
        test.class_names,
        confusion(results.scores, results.labels),
        results.scores.argmax(axis=1),
    )
    hidden = {clip.path for group in shown for clip in group.clips}
    groups = []
    for true, said, videos in most_confused(matrix, count):
        rows = np.flatnonzero((results.labels == true) & (guesses == said))
        back = f"{matrix[said, true]} of {matrix[said].sum()}"
        text = f"{videos} of {matrix[true].sum()} videos; the other way round {back}"
        loaded = list(islice(_load(results, test, rows, hidden), clips))
        groups.append(ClipGroup(f"{names[true]} → {names[said]}", text, loaded))
    return groups


def _load(
    results: Results, test: Reopened, rows: NDArray[np.intp], hidden: Collection[str] = ()
) -> Iterator[ShownClip]:
    """The readable ones of these videos, the most wrongly sure first."""
    names, dataset = test.class_names, VideoDataset(test.split, test.config, test.views)
    scores = to_probabilities(results).scores[rows]
    for i in np.argsort(-scores.max(axis=1), kind="stable").tolist():
        record = test.split.records[rows[i]]
        if record.path in hidden:
            continue
        try:
            views, _ = dataset.load(record, np.random.default_rng(0))
        except DataError:
            continue  # it was read in the test; now it is gone, and another one serves
        true, said = names[int(results.labels[rows[i]])], names[int(scores[i].argmax())]
        yield ShownClip(record.path, true, said, float(scores[i].max()), views[0])

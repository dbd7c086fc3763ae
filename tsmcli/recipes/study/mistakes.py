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
    names = test.class_names
    scored = [c for c in class_scores(confusion(results.scores, results.labels), names) if c.videos]
    wrong = _Wrong(results, test)
    groups = []
    for found in sorted(scored, key=lambda c: c.top1 or 0.0)[:count]:
        if found.taken_for is None:
            continue
        rows = np.flatnonzero(wrong.mistaken & (results.labels == found.index))
        taken_for, share = found.taken_for
        right = round((found.top1 or 0.0) * found.videos)
        text = f"{right} of {found.videos} right; most often taken for {taken_for} ({100 * share:.1f} %)"
        groups.append(ClipGroup(found.name, text, wrong.clips(rows, clips)))
    return groups


def confused_pairs(
    results: Results, test: Reopened, count: int, clips: int, shown: Sequence[ClipGroup]
) -> list[ClipGroup]:
    """The pairs (true, taken for) with the most videos, with other clips than those already shown."""
    names, matrix = test.class_names, confusion(results.scores, results.labels)
    wrong = _Wrong(results, test, {clip.path for group in shown for clip in group.clips})
    groups = []
    for true, said, videos in most_confused(matrix, count):
        rows = np.flatnonzero((results.labels == true) & (wrong.said == said))
        text = (
            f"{videos} of {matrix[true].sum()} videos; the other way round {matrix[said, true]} of "
            f"{matrix[said].sum()}"
        )
        groups.append(ClipGroup(f"{names[true]} → {names[said]}", text, wrong.clips(rows, clips)))
    return groups


class _Wrong:
    """The mistakes of a test."""

    def __init__(self, results: Results, test: Reopened, hidden: Collection[str] = ()) -> None:
        self.results = results
        self.test = test
        self.hidden = hidden
        self.said = results.scores.argmax(axis=1)
        self.mistaken = self.said != results.labels
        self.probability = to_probabilities(results).scores.max(axis=1)

    def clips(self, rows: NDArray[np.intp], count: int) -> list[ShownClip]:
        """The first readable of these videos, the most wrongly sure first."""
        order = rows[np.argsort(-self.probability[rows], kind="stable")]
        return list(islice(self._load(order.tolist()), count))

    def _load(self, rows: Sequence[int]) -> Iterator[ShownClip]:
        names, test = self.test.class_names, self.test
        dataset = VideoDataset(test.split, test.config, test.views)
        for row in rows:
            record = test.split.records[row]
            if record.path in self.hidden:
                continue
            try:
                views, _ = dataset.load(record, np.random.default_rng(0))
            except DataError:
                continue  # it was read in the test; now it is gone, and another one serves
            said, true = int(self.said[row]), int(self.results.labels[row])
            yield ShownClip(record.path, names[true], names[said], float(self.probability[row]), views[0])

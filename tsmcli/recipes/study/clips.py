"""Clips as the network sees them, with what there is to say about each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tsmcli.config import Config
from tsmcli.data.dataset import VideoDataset
from tsmcli.data.listfile import VideoRecord, read_list
from tsmcli.data.location import Places, Split, find_classes, find_split
from tsmcli.errors import DataError
from tsmcli.presets import load_preset
from tsmcli.recipes.demo import DemoResult
from tsmcli.recipes.network import choose_protocol

Tone = Literal["plain", "quiet", "right", "wrong"]


@dataclass(frozen=True)
class ClipRow:
    """A clip [T, h, w, 3], and lines of text, each with its tone."""

    frames: NDArray[np.uint8]
    lines: list[tuple[str, Tone]]


def load_clips(
    config: Config, places: Places, target: str, protocol: str | None, count: int
) -> tuple[str, list[ClipRow]]:
    """Every view of the first `count` videos, and a title.

    Args:
        target: `train` or `val` for the lists of the preset's dataset, a list file, or a video file.
        protocol: `train` for random training clips, or a test protocol.

    Raises:
        DataError: there is no such list or video, or a video cannot be read.
    """
    split, classes = _split(config, places, target)
    training = protocol == "train" or (protocol is None and target == "train")
    views = None if training else choose_protocol(config, protocol)
    dataset = VideoDataset(split, config, views)
    rows = []
    for number, record in enumerate(split.records[:count]):
        rng = np.random.default_rng([config.train.seed, 0, number, 1])  # as in the first epoch of training
        clips, label = dataset.load(record, rng)
        for view, clip in enumerate(clips):
            lines: list[tuple[str, Tone]] = [(Path(record.name).name, "plain")]
            if training or len(clips) > 1:
                lines.append(("training clip" if training else f"view {view + 1} of {len(clips)}", "quiet"))
            seen = sorted(label) if isinstance(label, tuple) else [label]
            before, now = (
                ", ".join(classes[i] for i in which) or "no label" if classes else ""
                for which in (record.every, seen)
            )
            if classes and before != now:  # a flip may change it
                lines.append((f"{before} -> {now}", "wrong"))
            elif classes:
                lines.append((now, "right"))
            rows.append(ClipRow(clip, lines))
    title = f"protocol {views.name}" if views else "training clips"
    return f"{title}, T = {config.model.num_segments}, time runs to the right", rows


def _split(config: Config, places: Places, target: str) -> tuple[Split, list[str]]:
    """The videos to show and the class names, if there are any."""
    if target in ("train", "val"):
        classes = find_classes(config.data, places)
        return find_split(config.data, places, target, classes), classes
    path = Path(target)
    if not path.is_file():
        raise DataError(f"no list or video {path}")
    if path.suffix in (".txt", ".csv"):
        media = places.media or path.parent
        records = read_list(path, config.data.store, classes=None, media=media, several=config.data.multi_label)
        return Split(records, media, path), []
    return Split([VideoRecord(path.name, None, 0)], path.parent, path), []


def demo_clips(result: DemoResult) -> list[ClipRow]:
    """The first validation clip of every class, with what each of the two networks said."""
    config, names = load_preset("demo"), result.tsm.meta["class_names"]
    split = find_split(config.data, Places(folder=result.data), "val", names)
    dataset = VideoDataset(split, config, config.test)
    rows = []
    for label, name in enumerate(names):
        path = result.tsm.paths[result.tsm.labels.tolist().index(label)]
        record = next(record for record in split.records if record.name == path)
        views, _ = dataset.load(record, np.random.default_rng(0))
        lines: list[tuple[str, Tone]] = [(f"true: {name}", "plain")]
        for title, results in (("with shift", result.tsm), ("without", result.tsn)):
            guess = int(results.scores[results.paths.index(path)].argmax())
            lines.append((f"{title}: {names[guess]}", "right" if guess == label else "wrong"))
        rows.append(ClipRow(views[0], lines))
    return rows

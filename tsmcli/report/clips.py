"""A picture of what the network sees of some videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tsmcli.config import Config, Views
from tsmcli.data.dataset import VideoDataset
from tsmcli.data.listfile import VideoRecord, read_list
from tsmcli.data.location import Places, Split, find_classes, find_split
from tsmcli.errors import DataError
from tsmcli.recipes.network import choose_protocol
from tsmcli.report.contact_sheet import Row, write_contact_sheet


def write_clips(config: Config, places: Places, target: str, protocol: str | None, count: int, out: Path) -> int:
    """Draw every view of the first `count` videos, one a row; returns the number of rows.

    Args:
        target: `train` or `val` for the lists of the preset's dataset, a list file, or a video file.
        protocol: `train` for random training clips, or a test protocol.

    Raises:
        DataError: there is no such list or video, or a video cannot be read.
    """
    split, classes = _split(config, places, target)
    training = protocol == "train" or (protocol is None and target == "train")
    views: Views | None = None if training else choose_protocol(config, protocol)
    dataset = VideoDataset(split, config, views)
    rows = []
    for number, record in enumerate(split.records[:count]):
        rng = np.random.default_rng([config.train.seed, 0, number, 1])  # as in the first epoch of training
        clips, label = dataset.load(record, rng)
        for view, clip in enumerate(clips):
            lines = [(Path(record.path).name, "black")]
            lines.append(
                (f"view {view + 1} of {len(clips)}" if len(clips) > 1 else "training clip" * training, "#555555")
            )
            if classes:
                swapped = label != record.label
                name = classes[record.label]
                lines.append(
                    (f"{name} -> {classes[label]}" if swapped else name, "#c0202b" if swapped else "#0a7d2c")
                )
            rows.append(Row(clip, tuple(line for line in lines if line[0])))
    title = "training clips" if views is None else f"protocol {views.name}"
    write_contact_sheet(out, rows, f"{title}, T = {config.model.num_segments}, time runs to the right")
    return len(rows)


def _split(config: Config, places: Places, target: str) -> tuple[Split, list[str]]:
    """The videos to show and the class names, if there are any."""
    if target in ("train", "val"):
        return find_split(config.data, places, target, None), find_classes(config.data, places)
    path = Path(target)
    if not path.is_file():
        raise DataError(f"no list or video {path}")
    if path.suffix == ".txt":
        media = places.media or path.parent
        return Split(read_list(path, config.data.store), media, path), []
    return Split([VideoRecord(path.name, None, 0)], path.parent, path), []

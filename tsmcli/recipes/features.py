"""Features of videos: what the trunk of a network makes of them, before the classifier, written to a file."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsmcli.config import Config, Views
from tsmcli.data.dataset import Loader, VideoDataset
from tsmcli.data.decode import check_decoder
from tsmcli.data.listfile import labels_of
from tsmcli.data.location import Places, Split, find_split
from tsmcli.data.messages import BadVideo
from tsmcli.data.shards import eval_shard
from tsmcli.data.sliding import Sliding, read_windows
from tsmcli.engine.device import choose_device
from tsmcli.engine.events import VideoScored
from tsmcli.engine.inference import Choice, Engine, score_in_order
from tsmcli.engine.processes import ALONE, StopSignals, World, interrupted
from tsmcli.engine.scores import Pooling, pool, pool_videos
from tsmcli.errors import DataError, EnvironmentProblem, Interrupted, UsageError
from tsmcli.presets import Preset
from tsmcli.recipes.engines import open_engine
from tsmcli.recipes.events import Scoring, Stage
from tsmcli.recipes.feature_file import save_features
from tsmcli.recipes.network import choose_protocol, open_trunk
from tsmcli.recipes.score import Kept, PartialScores, ScoreEvent
from tsmcli.recipes.test import describe
from tsmcli.results import check_writable

Of = Pooling | Literal["window"]


@dataclass(frozen=True)
class Extracted:
    """A file of features: the shape of its array, how many videos it has, and which could not be read."""

    file: Path
    of: Of
    shape: tuple[int, ...]
    num_videos: int
    num_listed: int
    bad: list[tuple[str, str]]

    @property
    def coverage(self) -> str:
        """`47 of 50 videos`."""
        return f"{self.num_videos} of {self.num_listed} videos"


def extract(
    checkpoint: Path, preset: Preset | None, places: Places, out: Path,
    *, of: Pooling = "video", sliding: Sliding | None = None, split_name: Literal["train", "val"] = "val",
    overrides: Sequence[str] = (), protocol: str | None = None, device_name: str = "auto",
    engine: Choice | None = None, world: World = ALONE,
) -> Generator[Stage | ScoreEvent, None, Extracted | None]:  # fmt: skip
    """Write the features of every video of a list; only process 0 writes the file, and returns what is in it.

    Features are kept video by video on the way; the same command, started again after it was stopped, goes on.

    Args:
        checkpoint, preset, overrides: as in `open_trunk`.
        out: `.npz`; all processes must see its folder.
        of: what a row has features of; see `Pooling`.
        sliding: features of windows instead, averaged over frames and views, a row each.
        protocol: as in `choose_protocol`.
        world: this process among those that share the work.

    Raises:
        DataError: no video could be read.
        Interrupted: a signal came, to any process.
    """
    if out.suffix != ".npz":
        raise UsageError(f"{out}: features are saved as .npz")
    if world.is_main:
        check_writable(out)
    opened = yield from open_trunk(checkpoint, preset, overrides, places)
    config = opened.config
    views, device = choose_protocol(config, protocol), choose_device(device_name)
    check_decoder(config.data)
    split = find_split(config.data, places, split_name, opened.class_names)
    network = yield from open_engine(
        opened, engine or Choice(), device, views, len(split.records), windows=sliding is not None, features=True
    )
    facts = (f"{describe(config, views, split, device)}, {network.choice}",)
    yield Stage(f"features of {split.list_file} by {opened.path}", facts)
    meta = {
        **opened.describe(), "of": "window" if sliding else of, "protocol": views.model_dump(),
        "protocol_name": views.name, "sliding": sliding and sliding._asdict(), "list": str(split.list_file),
        "media": str(split.media),
    }  # fmt: skip
    everything = {**meta, "config": config.model_dump(), "videos": split.records, "media": split.media.resolve()}
    everything |= network.choice.identity()
    meta["engine"] = network.choice.describe()
    bad: list[BadVideo] = []
    with closing(PartialScores(out, everything, world)) as partial, StopSignals() as signals:
        left = [number for number in range(len(split.records)) if number not in partial.kept]
        if len(left) < len(split.records):
            done = f"{len(split.records) - len(left)} of {len(split.records)} videos"
            yield Stage(f"{done} were done before; going on from there")
        shard = [left[i] for i in eval_shard(len(left), rank=world.rank, world_size=world.size)]
        yield Scoring("features", len(shard))
        work = _Work(network, opened.model.fc.in_features, config, split, views, of, signals)
        with closing(_windows(work, sliding, shard) if sliding else _whole(work, shard)) as events:
            for event in events:
                if isinstance(event, BadVideo):
                    bad.append(event)
                else:
                    partial.add(event)
                yield event
        parts = world.gather((partial.kept, bad, signals.number))
        if number := max(part[2] for part in parts):
            stop, hint = interrupted(number), "the features so far are kept: the same command goes on from there"
            raise Interrupted(str(stop), hint, exit_code=stop.exit_code)
        return _write(out, meta, work, opened.class_names, parts, partial) if world.is_main else None


@dataclass(frozen=True)
class _Work:
    """What is extracted from which videos, by which network, how many numbers; it stops when a signal comes."""

    engine: Engine
    width: int
    config: Config
    split: Split
    views: Views
    of: Pooling
    signals: StopSignals

    def stop(self) -> bool:
        return self.signals.number > 0


_Events = Generator[VideoScored | BadVideo, None, None]


def _whole(work: _Work, shard: Sequence[int]) -> _Events:
    """The features of each video."""
    dataset = VideoDataset(work.split, work.config, work.views)
    with Loader(dataset, stop=work.stop, pin=work.engine.pin) as loader:
        for event in pool_videos(work.engine, loader.videos(shard), work.of):
            if work.stop():
                return
            yield event


def _windows(work: _Work, sliding: Sliding, shard: Sequence[int]) -> _Events:
    """The features of each video's windows together: rows [2 + C], with start and end in seconds before them."""
    for number in shard:
        record, rows = work.split.records[number], list[Tensor]()
        windows = read_windows(work.split, record, work.config, work.views, sliding)
        parts = ((part, torch.from_numpy(part.views).movedim(-1, 2)) for part in windows)
        try:
            for part, features in score_in_order(work.engine, parts):
                if work.stop():
                    return
                times = torch.tensor([part.start_sec, part.end_sec])
                rows.append(torch.cat([times, pool(features, "video")]))
        except DataError as error:
            yield BadVideo(number, record.name, str(error))
        else:
            yield VideoScored(number, torch.stack(rows))


def _write(
    out: Path, meta: dict[str, Any], work: _Work, class_names: list[str],
    parts: Sequence[tuple[dict[int, Kept], list[BadVideo], int]], partial: PartialScores,
) -> Extracted:  # fmt: skip
    """Put what all processes kept into one file, in the order of the list."""
    kept = {number: place for part in parts for number, place in part[0].items()}
    bad = sorted((video for part in parts for video in part[1]), key=lambda video: video.number)
    records, num_views = work.split.records, work.views.views
    if len(kept) + len(bad) != len(records):
        wrong = f"{len(kept) + len(bad)} of {len(records)} videos came back to process 0"
        raise EnvironmentProblem(wrong, hint=f"all processes must see the folder of {out}")
    if not kept:
        wrong = f"none of the {len(bad)} videos of {work.split.list_file} could be read"
        raise DataError(f"{wrong}; {bad[0].path}: {bad[0].reason}")
    order, width, of = sorted(kept), work.width, meta["of"]
    size = kept[order[0]].size
    lengths = [kept[number].size // (2 + width) if of == "window" else 1 for number in order]
    inner = {"clip": (size // width,), "frame": (num_views, size // (num_views * width))}.get(of, ())
    times: list[NDArray[np.float32]] = []  # filled while the rows are written

    def rows() -> Iterator[NDArray[np.float32]]:
        for number in order:
            values = partial.read(kept[number])
            if of == "window":
                times.extend(values.reshape(-1, 2 + width)[:, :2])
                values = values.reshape(-1, 2 + width)[:, 2:]
            yield values

    shape = (sum(lengths), *inner, width)
    reasons = [(video.path, video.reason) for video in bad]
    head = {"num_listed": len(records), "bad": reasons, "meta": meta}
    save_features(
        out, shape, rows(), head,
        paths=np.repeat([records[number].name for number in order], lengths),
        labels=np.repeat(labels_of([records[number] for number in order], len(class_names)), lengths, axis=0),
        class_names=class_names, **({"times_sec": times} if of == "window" else {}),
    )  # fmt: skip
    partial.remove()
    return Extracted(out, of, shape, len(order), len(records), reasons)

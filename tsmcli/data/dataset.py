"""A list of videos as a torch dataset: read, sample, decode, transform."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tsmcli.catalog import CATALOG
from tsmcli.config import Config, Views
from tsmcli.core.sampling import sample_test, sample_train
from tsmcli.data.container import unreadable
from tsmcli.data.decode import open_reader
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import Split
from tsmcli.data.rand_augment import draw_signs, rand_augment
from tsmcli.data.shards import TrainOrder
from tsmcli.data.spatial import eval_views, train_view
from tsmcli.data.workers import start_worker
from tsmcli.errors import DataError


class Sample(NamedTuple):
    """One video, ready: its position in the list, its views uint8 [V, T, h, w, 3], its label."""

    number: int
    views: Tensor
    label: int


class BadVideo(NamedTuple):
    """A video that could not be read, and why. It is counted, never replaced by another."""

    number: int
    path: str
    reason: str


class Batch(NamedTuple):
    """N videos.

    Attributes:
        numbers: int64 [N], positions in the list.
        views: uint8 [N, V, T, 3, h, w], stored channels-last: a quarter of the bytes of float32.
        labels: int64 [N].
        bad: the videos of this batch that could not be read; N counts only the others.
    """

    numbers: Tensor
    views: Tensor
    labels: Tensor
    bad: list[BadVideo]


class VideoDataset(Dataset[Sample | BadVideo]):
    """The videos of a list.

    A key is (epoch, index), or an index. Random choices come from a generator seeded by (seed, epoch, index), so
    a sample does not depend on the worker that makes it.

    Args:
        views: the test protocol; None draws random training clips.
    """

    def __init__(self, split: Split, config: Config, views: Views | None) -> None:
        self.split = split
        self.config = config
        self.views = views
        self.flip_map = CATALOG[config.data.dataset].flip_map
        run = config.augment.rand_augment_signs == "run"
        self.signs = draw_signs(np.random.default_rng([config.train.seed, 2])) if run else None

    def __len__(self) -> int:
        return len(self.split.records)

    def __getitem__(self, key: tuple[int, int] | int) -> Sample | BadVideo:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        record = self.split.records[index]
        try:
            views, label = self.load(record, np.random.default_rng([self.config.train.seed, epoch, index, 1]))
        except DataError as error:
            return BadVideo(index, record.path, str(error))
        return Sample(index, torch.from_numpy(views), label)

    def load(self, record: VideoRecord, rng: np.random.Generator) -> tuple[Any, int]:
        """One video's views, uint8 [V, T, h, w, 3], and its label, which a flip may have changed.

        Raises:
            DataError: the video cannot be read.
        """
        try:
            return self._load(record, rng)
        except (OSError, ValueError, cv2.error) as error:  # whatever a library says of a strange file
            raise unreadable(self.split.media / record.path, error) from error

    def _load(self, record: VideoRecord, rng: np.random.Generator) -> tuple[Any, int]:
        segments, augment = self.config.model.num_segments, self.config.augment
        with open_reader(self.split, record, self.config.data) as reader:
            if self.views is None:
                indices = sample_train(reader.num_frames, segments, augment, rng)
            else:
                indices = sample_test(reader.num_frames, segments, self.views)
            frames = reader.read(indices.ravel())
        if len({frame.shape for frame in frames}) > 1:
            raise DataError(f"{self.split.media / record.path}: its frames change size")
        if self.views is None:
            views, label = train_view(frames, record.label, augment, self.flip_map, rng)
            if augment.rand_augment:
                rand_augment(views[0], rng, self.signs)
            return views, label
        return eval_views(frames, segments, self.views), record.label


def collate(items: Iterable[Sample | BadVideo]) -> Batch:
    """Stack what was read, and list what was not."""
    items = list(items)
    samples = [item for item in items if isinstance(item, Sample)]
    views = torch.stack([s.views for s in samples]) if samples else torch.empty(0, 1, 1, 1, 1, 3, dtype=torch.uint8)
    return Batch(
        numbers=torch.tensor([s.number for s in samples], dtype=torch.int64),
        views=views.movedim(-1, 3),  # [N, V, T, h, w, 3] seen as [N, V, T, 3, h, w]
        labels=torch.tensor([s.label for s in samples], dtype=torch.int64),
        bad=[item for item in items if isinstance(item, BadVideo)],
    )


def train_loader(dataset: VideoDataset, order: TrainOrder) -> DataLoader[Any]:
    """The batches of `order`, loaded ahead by `train.workers` processes."""
    return _loader(dataset, batch_sampler=order)


def eval_loader(dataset: VideoDataset, shard: Sequence[int]) -> DataLoader[Any]:
    """The videos of a shard, one a batch (their views already fill the network)."""
    return _loader(dataset, sampler=shard, batch_size=1)


def _loader(dataset: VideoDataset, **batches: Any) -> DataLoader[Any]:
    workers = dataset.config.train.workers
    return DataLoader(
        dataset,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=workers > 0,
        worker_init_fn=_start_worker,
        **batches,
    )


def _start_worker(_worker: int) -> None:
    """One thread a worker: the workers are the parallelism.

    Signals to the whole process group are for the process that owns the workers, which ends them when it is done.
    """
    start_worker()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    torch.set_num_threads(1)

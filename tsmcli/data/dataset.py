"""A list of videos as batches: read, sample, decode, transform, in several processes ahead of the network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsmcli.catalog import CATALOG
from tsmcli.config import Config, Views
from tsmcli.core.sampling import sample_test, sample_train
from tsmcli.data.container import unreadable
from tsmcli.data.decode import open_reader
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import Split
from tsmcli.data.messages import SHARED, SHM_HINT, BadVideo
from tsmcli.data.ptv_augment import augment_clip
from tsmcli.data.rand_augment import draw_signs, rand_augment
from tsmcli.data.spatial import eval_views, train_view
from tsmcli.data.workers import AHEAD, Begin, WorkerPool, start_worker
from tsmcli.errors import DataError, EnvironmentProblem
from tsmcli.results import many_hot

Key = tuple[int, ...] | int
"""Of a video: its position in the list; or (epoch, position), or (epoch, position, n) for its n-th repetition."""


class Sample(NamedTuple):
    """One video, ready: its position in the list, its views uint8 [V, T, h, w, 3], its label or many-hot labels."""

    number: int
    views: NDArray[np.uint8]
    label: int | NDArray[np.bool_]


class Batch(NamedTuple):
    """N videos.

    Attributes:
        numbers: int64 [N], positions in the list.
        views: uint8 [N, V, T, 3, h, w], stored channels-last: a quarter of the bytes of float32.
        labels: int64 [N], or many-hot float32 [N, K] where a video may have several.
        bad: the videos of this batch that could not be read; N counts only the others.
    """

    numbers: Tensor
    views: Tensor
    labels: Tensor
    bad: list[BadVideo]


class Stacked(NamedTuple):
    """A batch as arrays, which is how it goes from process to process: views [N, V, T, h, w, 3]."""

    numbers: NDArray[np.int64]
    labels: NDArray[np.int64] | NDArray[np.float32]
    views: NDArray[np.uint8]
    bad: list[BadVideo]


class BatchTask(NamedTuple):
    """The videos of a batch: their keys, and by position why some of them are not to be opened again."""

    keys: Sequence[Key]
    lost: Mapping[int, str] = {}

    def without(self, position: int, reason: str) -> BatchTask:
        """The task without one of its videos."""
        return self._replace(lost={**self.lost, position: reason})


class VideoDataset:
    """The videos of a list.

    Random choices come from a generator seeded by (seed, key), so a sample does not depend on the worker that
    makes it.

    Args:
        views: the test protocol; None draws random training clips.
    """

    def __init__(self, split: Split, config: Config, views: Views | None) -> None:
        self.split, self.config, self.views = split, config, views
        self.flip_map = CATALOG[config.data.dataset].flip_map
        run = config.augment.rand_augment_signs == "run"
        self.signs = draw_signs(np.random.default_rng([config.train.seed, 2])) if run else None

    def __len__(self) -> int:
        return len(self.split.records)

    def __getitem__(self, key: Key) -> Sample | BadVideo:
        epoch, index, *again = key if isinstance(key, tuple) else (0, key)
        record, seed = self.split.records[index], [self.config.train.seed, epoch, index, 1, *again]
        try:
            views, label = self.load(record, np.random.default_rng(seed))
        except DataError as error:
            return BadVideo(index, record.name, str(error))
        if isinstance(label, tuple):
            return Sample(index, views, many_hot([label], self.split.num_classes)[0])
        return Sample(index, views, label)

    def read_batch(self, task: BatchTask, begin: Begin) -> Stacked:
        """A batch of samples; `begin` gets the position of each video before it is opened."""
        items: list[Sample | BadVideo] = []
        for position, key in enumerate(task.keys):
            begin(position)
            if reason := task.lost.get(position):
                index = key[1] if isinstance(key, tuple) else key
                name = self.split.records[index].name
                items.append(BadVideo(index, name, f"{self.split.media / name}: {reason}"))
            else:
                items.append(self[key])
        return stack(items)

    def load(
        self, record: VideoRecord, rng: np.random.Generator, mark: Callable[[], object] = lambda: None
    ) -> tuple[Any, Any]:
        """One video's views, uint8 [V, T, h, w, 3], and its label or labels, which a flip may have changed.

        `mark` is called when the video is open, and when its frames are there.
        """
        try:
            return self._load(record, rng, mark)
        except (OSError, ValueError, cv2.error) as error:  # what libraries raise for a broken file
            raise unreadable(self.split.media / record.name, error) from error

    def _load(self, record: VideoRecord, rng: np.random.Generator, mark: Callable[[], object]) -> tuple[Any, Any]:
        label: Any = record.label if record.labels is None else record.labels
        segments, augment = self.config.model.num_segments, self.config.augment
        with open_reader(self.split, record, self.config.data) as reader:
            mark()
            if self.views is None:
                indices = sample_train(reader.num_frames, segments, augment, rng)
            else:
                indices = sample_test(reader.num_frames, segments, self.views)
            frames = reader.read(indices.ravel())
        mark()
        if len({frame.shape for frame in frames}) > 1:
            raise DataError(f"{self.split.media / record.name}: its frames change size")
        if self.views is None:
            views, label = train_view(frames, label, augment, self.flip_map, rng)
            if augment.rand_augment:
                rand_augment(views[0], rng, self.signs)
            if augment.pytorchvideo != "none":
                augment_clip(views[0], augment.pytorchvideo, rng)
            return views, label
        return eval_views(frames, segments, self.views), label


def stack(items: Sequence[Sample | BadVideo]) -> Stacked:
    """Put the pixels of the readable videos into one array, and list the others."""
    samples = [item for item in items if isinstance(item, Sample)]
    kind: Any = np.float32 if any(isinstance(sample.label, np.ndarray) for sample in samples) else np.int64
    return Stacked(
        np.array([sample.number for sample in samples], np.int64),
        np.array([sample.label for sample in samples], kind),
        np.stack([sample.views for sample in samples]) if samples else np.empty((0, 1, 1, 1, 1, 3), np.uint8),
        [item for item in items if isinstance(item, BadVideo)],
    )


def collate(items: Sequence[Sample | BadVideo]) -> Batch:
    """Samples as a batch."""
    return _as_tensors(stack(items))


def _as_tensors(s: Stacked) -> Batch:
    views = torch.from_numpy(s.views).movedim(-1, 3)  # [N, V, T, h, w, 3] seen as [N, V, T, 3, h, w]
    return Batch(torch.from_numpy(s.numbers), views, torch.from_numpy(s.labels), s.bad)


class Loader:
    """Batches of a dataset, read ahead by `train.workers` processes. Use it as often as needed, then close it.

    A video that takes longer than `data.timeout_sec`, or that crashes the process that reads it, is a BadVideo.

    Args:
        stop: asked while no batch is ready; once it is true, no more batches come.
        pin: put batches into memory that a GPU reads directly.

    Raises:
        EnvironmentProblem: shared memory is too small.
    """

    def __init__(
        self, dataset: VideoDataset, *, stop: Callable[[], bool] = lambda: False, pin: bool = False
    ) -> None:
        self.dataset, self.stop, self.pin = dataset, stop, pin
        config = dataset.config
        check_shared_memory(config, dataset.views)
        self.pool: WorkerPool[BatchTask, Stacked] = WorkerPool(
            dataset.read_batch, config.train.workers, timeout_sec=config.data.timeout_sec, prepare=_start_worker
        )

    def __enter__(self) -> Loader:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.close()

    def batches(self, keys: Iterable[Sequence[Key]]) -> Iterator[Batch]:
        """The batches with these keys, in this order; EnvironmentProblem where a process was killed."""
        for stacked in self.pool.run(map(BatchTask, keys), BatchTask.without, stop=self.stop):
            batch = _as_tensors(stacked)
            yield batch._replace(views=batch.views.pin_memory()) if self.pin else batch

    def videos(self, numbers: Iterable[int]) -> Iterator[Batch]:
        """Videos by their position in the list, one per batch: the views of one are enough for the network."""
        return self.batches([number] for number in numbers)


def check_shared_memory(config: Config, views: Views | None) -> None:
    """Raise EnvironmentProblem where batches on their way between processes do not fit into /dev/shm."""
    workers = config.train.workers
    if not workers or not SHARED.is_dir():
        return
    clips, px = (views.views, views.crop_px) if views else (config.train.batch, config.augment.crop_px)
    batch = clips * config.model.num_segments * 3 * px**2
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    needed, free = processes * (AHEAD * workers + 1) * batch, shutil.disk_usage(SHARED).free
    if needed > free:
        each = f" in each of {processes} processes" if processes > 1 else ""
        raise EnvironmentProblem(
            f"shared memory ({SHARED}) has {free / 1e6:.0f} MB free, but {workers} data-loading processes need "
            f"{needed / 1e6:.0f} MB ({AHEAD * workers + 1} batches of {batch / 1e6:.1f} MB{each})",
            hint=SHM_HINT,
        )


def _start_worker() -> None:
    """One thread per worker: the workers already run in parallel."""
    start_worker()
    torch.set_num_threads(1)

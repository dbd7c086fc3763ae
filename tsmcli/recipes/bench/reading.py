"""How fast videos of a list become input of the network, and what the network waits for."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tsmcli.config import Config
from tsmcli.core.tsm import TSM, build_model
from tsmcli.data.dataset import Loader, VideoDataset
from tsmcli.data.decode import check_decoder
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import Places, find_split
from tsmcli.engine.device import choose_device, environment, for_inference
from tsmcli.engine.inference import view_logits
from tsmcli.errors import DataError
from tsmcli.recipes.bench.case import Case
from tsmcli.recipes.bench.network import num_classes

_STAGED, _KEPT = 32, 8
"""Videos whose reading is timed step by step; and with which the network is timed alone."""


@dataclass(frozen=True)
class DataMeasurement:
    """Reading of a list, alone and with the network.

    Attributes:
        list: the list file; its first video stands for the others if there are few.
        mode: `inference` reads the views of the test protocol, `training` a random clip.
        videos, bad: how many were read, and how many could not be.
        open_sec, decode_sec, transform_sec: a video's median, in one process.
        loader_videos_per_sec: the loader alone, with its worker processes.
        network_videos_per_sec: the network alone, as `tsm test` runs it; None in training mode, as the two below.
        together_videos_per_sec: reading and scoring, as `tsm test` does.
        waiting: share of the time together in which the network waited for a video.
        worker_bytes: (early, at the end) resident size of the largest worker; None where the system does not tell.
    """

    preset: str
    mode: str
    list: str
    protocol: str
    videos: int
    bad: int
    workers: int
    device: str
    open_sec: float
    decode_sec: float
    transform_sec: float
    loader_videos_per_sec: float
    network_videos_per_sec: float | None = None
    together_videos_per_sec: float | None = None
    waiting: float | None = None
    worker_bytes: tuple[int, int] | None = None
    environment: dict[str, Any] = field(default_factory=dict)


def measure_data(case: Case, places: Places, videos: int = 64) -> DataMeasurement:
    """Read some videos of a list step by step, then through the loader, then through loader and network.

    Args:
        case: preset, mode, protocol, device and threads.
        videos: how many, drawn at random; lists with fewer are read several times.

    Raises:
        DataError: the list or its media are missing, or none of the videos can be read.
        EnvironmentProblem: the device is missing.
    """
    if case.threads:
        torch.set_num_threads(case.threads)
    config, training = case.config, case.mode == "training"
    device = choose_device(case.device)
    check_decoder(config.data)
    split = find_split(config.data, places, "train" if training else "val", None)
    order = np.random.default_rng(0).permutation(len(split.records))
    split = replace(split, records=[split.records[i]._replace(labels=None) for i in np.resize(order, videos)])
    dataset = VideoDataset(split, config, None if training else case.views)
    reasons: list[str] = []
    timed = (_time_steps(dataset, record, reasons) for record in split.records[:_STAGED])
    steps = [step for step in timed if step]
    if not steps:
        raise DataError(f"none of {len(reasons)} videos of {split.list_file} could be read; {reasons[0]}")
    opened, decoded, transformed = np.median(steps, axis=0).tolist()
    with Loader(dataset) as loader:
        rate, bad, resident = _loader_rate(loader)
        protocol = "training" if training else case.views.name
        found = DataMeasurement(
            preset=case.name, mode=case.mode, list=str(split.list_file), protocol=protocol,
            videos=len(split.records), bad=bad, workers=config.train.workers, device=str(device), open_sec=opened,
            decode_sec=decoded, transform_sec=transformed, loader_videos_per_sec=rate, worker_bytes=resident,
            environment=environment(),
        )  # fmt: skip
        return found if training else _with_network(found, loader, config, device)


def _time_steps(dataset: VideoDataset, record: VideoRecord, reasons: list[str]) -> tuple[float, ...] | None:
    """Seconds of opening, decoding and cropping a video; for one that cannot be read None, and a reason more."""
    times = [time.perf_counter()]

    def mark() -> None:
        times.append(time.perf_counter())

    try:
        dataset.load(record, np.random.default_rng(0), mark)
    except DataError as error:
        reasons.append(str(error))
        return None
    mark()
    return tuple(later - earlier for earlier, later in pairwise(times))


def _loader_rate(loader: Loader) -> tuple[float, int, tuple[int, int] | None]:
    """Readable videos a second once the workers are there, how many could not be read, and the workers' sizes."""
    count = len(loader.dataset)
    for _ in loader.videos(range(min(count, 2 * loader.pool.count))):
        pass  # starts the workers, which stay
    bad, early, begin = 0, None, time.perf_counter()
    for number, batch in enumerate(loader.videos(range(count))):
        bad += len(batch.bad)
        if number == count // 4:
            early = _largest_worker(loader)
    rate = (count - bad) / (time.perf_counter() - begin)
    late = _largest_worker(loader)
    return rate, bad, (early, late) if early and late else None


def _with_network(found: DataMeasurement, loader: Loader, config: Config, device: torch.device) -> DataMeasurement:
    model = for_inference(build_model(config, num_classes(config), seed=0), device)
    scored, waited, worked = 0, 0.0, 0.0
    kept: list[Tensor] = []
    start = time.perf_counter()
    for number, batch in enumerate(loader.videos(range(len(loader.dataset)))):
        wait = time.perf_counter() - start
        seconds = _score(model, batch.views, device)
        if number > 0:  # the first video loads kernels, and starts workers
            scored, waited, worked = scored + len(batch.views), waited + wait, worked + seconds
        kept = [*kept, *batch.views][:_KEPT]
        start = time.perf_counter()
    if not scored:
        return found
    both = waited + worked
    found = replace(found, together_videos_per_sec=scored / both, waiting=waited / both)
    return replace(found, network_videos_per_sec=len(kept) / _score(model, kept, device))  # the workers are done


def _score(model: TSM, videos: Iterable[Tensor], device: torch.device) -> float:
    """Seconds to score videos, uint8 [V, T, 3, h, w] each."""
    start = time.perf_counter()
    for views in videos:
        view_logits(model, views, device)
    return time.perf_counter() - start


def _largest_worker(loader: Loader) -> int | None:
    """Resident bytes of the largest worker process of a loader."""
    sizes = []
    for worker in loader.pool.workers:
        status = Path(f"/proc/{worker.process.pid}/statm")
        if status.is_file():
            sizes.append(int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    return max(sizes, default=None)

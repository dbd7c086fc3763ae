"""Which process sees which video, and in which order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


def train_order(num_videos: int, *, seed: int, epoch: int) -> list[int]:
    """A permutation of all videos that depends on (seed, epoch) alone."""
    return [int(i) for i in np.random.default_rng([seed, epoch, 0]).permutation(num_videos)]


def eval_shard(num_videos: int, *, rank: int = 0, world_size: int = 1) -> range:
    """Every `world_size`-th video from `rank` on: all shards together hold each video once, without padding."""
    return range(rank, num_videos, world_size)


class TrainOrder:
    """Sampler that yields (epoch, index), so that a worker can make the random generator of that sample.

    `set_epoch` chooses the permutation of the next pass.
    """

    def __init__(self, num_videos: int, *, seed: int) -> None:
        self.num_videos = num_videos
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_videos

    def __iter__(self) -> Iterator[tuple[int, int]]:
        for index in train_order(self.num_videos, seed=self.seed, epoch=self.epoch):
            yield self.epoch, index

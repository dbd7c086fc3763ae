"""Which process sees which video, and in which order."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import numpy as np


def train_order(num_videos: int, *, seed: int, epoch: int) -> list[int]:
    """A permutation of all videos that depends on (seed, epoch) alone."""
    return [int(i) for i in np.random.default_rng([seed, epoch, 0]).permutation(num_videos)]


def eval_shard(num_videos: int, *, rank: int = 0, world_size: int = 1) -> range:
    """Every `world_size`-th video from `rank` on: all shards together hold each video once, without padding."""
    return range(rank, num_videos, world_size)


class TrainOrder:
    """Batch sampler of one process: yields lists of (epoch, index) keys.

    An epoch is one permutation cut into optimiser steps of `world_size * batch * accumulate` videos; a process
    takes every `world_size`-th video of a step, in up to `accumulate` batches. So the videos of a step depend on
    the total batch alone, however many processes share it, and an epoch can start at any step. Nothing is padded:
    the last step holds the remaining videos, and a process may get an empty batch there.
    """

    def __init__(
        self, num_videos: int, batch: int, accumulate: int = 1, *, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.num_videos, self.batch, self.seed = num_videos, batch, seed
        self.rank, self.world_size = rank, world_size
        self.total_batch = world_size * batch * accumulate
        self.steps = ceil(num_videos / self.total_batch)
        self.start(0)

    def start(self, epoch: int, step: int = 0) -> None:
        """Let the next pass be of this 0-based epoch, from this 0-based step on."""
        self.epoch, self.first_step = epoch, step
        self.order = train_order(self.num_videos, seed=self.seed, epoch=epoch)

    def batches(self, step: int) -> list[list[int]]:
        """The video numbers of this process in a step, batch by batch; at least one batch, maybe empty."""
        begin = step * self.total_batch
        mine = self.order[begin : begin + self.total_batch][self.rank :: self.world_size]
        return [mine[i : i + self.batch] for i in range(0, max(len(mine), 1), self.batch)]

    def __len__(self) -> int:
        return sum(len(self.batches(step)) for step in range(self.first_step, self.steps))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.first_step, self.steps):
            for numbers in self.batches(step):
                yield [(self.epoch, number) for number in numbers]

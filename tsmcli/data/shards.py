"""Which process of a run this is, which videos it sees, and in which order."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from tsmcli.errors import EnvironmentProblem

LAUNCHERS = "one machine: tsm ... --gpus N; several: torchrun --nnodes N --nproc-per-node M -m tsmcli ..."


def rank_and_size(env: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """The 0-based number of this process and how many there are, as torchrun or srun say it; (0, 1) alone.

    In a batch script of Slurm, outside srun, SLURM_NTASKS is what was asked for: nothing runs beside the script.

    Raises:
        EnvironmentProblem: the variables of the launcher are no such numbers.
    """
    if "RANK" in env and "WORLD_SIZE" in env:
        rank, size = whole_variable(env, "RANK"), whole_variable(env, "WORLD_SIZE")
    else:
        rank = whole_variable(env, "SLURM_PROCID", "0")
        asked = env.get("SLURM_NTASKS", "1") if rank else "1"
        size = whole_variable(env, "SLURM_STEP_NUM_TASKS", asked)
    if not 0 <= rank < size:
        raise EnvironmentProblem(f"this is process {rank} of {size}: they go from 0 to {size - 1}", LAUNCHERS)
    return rank, size


def whole_variable(env: Mapping[str, str], name: str, default: str = "") -> int:
    """A variable of a launcher; EnvironmentProblem where it is no whole number."""
    text = env.get(name, default)
    try:
        return int(text)
    except ValueError:
        raise EnvironmentProblem(f"the variable {name} is {text!r}, not a whole number", LAUNCHERS) from None


def train_order(
    num_videos: int, *, seed: int, epoch: int, chances: NDArray[np.float64] | None = None
) -> list[int]:  # fmt: skip
    """A permutation of all videos that depends on (seed, epoch) alone; with `chances` [N] as many draws of them."""
    rng = np.random.default_rng([seed, epoch, 0])
    drawn = rng.permutation(num_videos) if chances is None else rng.choice(num_videos, num_videos, p=chances)
    return [int(i) for i in drawn]


def class_chances(labels: Sequence[int], power: float) -> NDArray[np.float64]:
    """The chance of each video [N] to be drawn: MMAction2's class-frequency rule (`sample_by_class`, `power`).

    A class is drawn with a probability proportional to (its share of the videos) ** power, then one of its videos.
    So 1 draws all videos alike and 0 all classes alike.
    """
    _, of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights = (counts / len(labels)) ** power
    return np.asarray((weights / weights.sum() / counts)[of], np.float64)


def eval_shard(num_videos: int, *, rank: int = 0, world_size: int = 1) -> range:
    """Every `world_size`-th video from `rank` on: all shards together hold each video once, without padding."""
    return range(rank, num_videos, world_size)


class TrainOrder:
    """Batch sampler of one process: yields lists of (epoch, index) keys; a video's n-th repetition adds its n.

    An epoch is one permutation cut into optimiser steps of `world_size * batch * accumulate` videos; a process
    takes every `world_size`-th video of a step, in up to `accumulate` batches. So the videos of a step depend on
    the total batch alone, however many processes share it, and an epoch can start at any step. Nothing is padded:
    the last step holds the remaining videos, and a process may get an empty batch there.

    Args:
        chances: of each video [N]: an epoch is that many draws, with replacement; None: a permutation.
    """

    def __init__(
        self, num_videos: int, batch: int, accumulate: int = 1, *, seed: int, rank: int = 0, world_size: int = 1,
        chances: NDArray[np.float64] | None = None,
    ) -> None:  # fmt: skip
        self.num_videos, self.batch, self.seed, self.chances = num_videos, batch, seed, chances
        self.rank, self.world_size = rank, world_size
        self.total_batch = world_size * batch * accumulate
        self.steps = ceil(num_videos / self.total_batch)
        self.start(0)

    def start(self, epoch: int, step: int = 0) -> None:
        """Let the next pass be of this 0-based epoch, from this 0-based step on."""
        self.epoch, self.first_step = epoch, step
        self.keys: list[tuple[int, ...]] = []
        seen = Counter[int]()
        for number in train_order(self.num_videos, seed=self.seed, epoch=epoch, chances=self.chances):
            self.keys.append((epoch, number, seen[number]) if seen[number] else (epoch, number))
            seen[number] += 1

    def batches(self, step: int) -> list[list[tuple[int, ...]]]:
        """The keys of this process in a step, batch by batch; at least one batch, maybe empty."""
        begin = step * self.total_batch
        mine = self.keys[begin : begin + self.total_batch][self.rank :: self.world_size]
        return [mine[i : i + self.batch] for i in range(0, max(len(mine), 1), self.batch)]

    def __len__(self) -> int:
        return sum(len(self.batches(step)) for step in range(self.first_step, self.steps))

    def __iter__(self) -> Iterator[list[tuple[int, ...]]]:
        for step in range(self.first_step, self.steps):
            yield from self.batches(step)

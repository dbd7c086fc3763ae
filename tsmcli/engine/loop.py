"""One epoch of training, as a stream of events."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from tsmcli.config import Config
from tsmcli.core.tsm import normalize
from tsmcli.data.blend import blend
from tsmcli.data.dataset import Batch
from tsmcli.data.messages import BadVideo
from tsmcli.data.shards import TrainOrder
from tsmcli.engine.events import StepDone, VideosSkipped
from tsmcli.engine.learner import Learner, Step, take_step
from tsmcli.engine.optim import lr_factor, ordinary_lr, set_lr, set_training
from tsmcli.engine.processes import StopSignals, interrupted
from tsmcli.errors import ConfigError, DataError


def train_epoch(
    learner: Learner,
    batches: Iterable[Batch],
    order: TrainOrder,
    config: Config,
    signals: StopSignals | None = None,
    *,
    bad: int = 0,
) -> Iterator[StepDone | VideosSkipped]:
    """Train on the rest of the epoch, from where `order` is.

    All random choices come from (seed, epoch, step, rank), or from (seed, epoch, video).

    Args:
        batches: of this process, in the order that `order` gives.
        bad: unreadable videos that this epoch had before.

    Raises:
        DataError: more than `train.max_bad_videos` videos could not be read, or not one could.
        ConfigError: the loss or its gradient is not finite.
        Interrupted: a signal came, to any process; the last StepDone is the last step taken.
    """
    world, epoch, seed = learner.world, order.epoch, config.train.seed
    set_training(learner.model, config.train)
    taken, arriving, start = order.first_step, iter(batches), time.perf_counter()
    for step in range(order.first_step, order.steps):
        loaded = list(islice(arriving, len(order.batches(step))))  # fewer where a signal came
        waited = time.perf_counter() - start
        unread = [video for batch in loaded for video in batch.bad]
        stop = signals.number if signals else 0
        weight = sum(learner.weight_of(batch.labels) for batch in loaded)
        counts = [weight, sum(len(batch.numbers) for batch in loaded), len(unread), stop > 0]
        weight, *rest = world.sum(counts)
        videos, bad_now, stopped = map(int, rest)
        if stopped:
            raise interrupted(max(world.gather(stop)))
        if bad_now:
            bad += bad_now
            everyones = [video for videos_of_one in world.gather(unread) for video in videos_of_one]
            yield VideosSkipped(tuple(everyones))
            if bad > config.train.max_bad_videos:
                raise _too_many(bad, config.train.max_bad_videos, everyones[-1])
        if not videos:
            continue
        rng = np.random.default_rng([seed, epoch, step, world.rank, 3])
        torch.manual_seed(int(rng.integers(2**63)))  # dropout
        set_lr(learner.optimizer, lr_factor(config.train, epoch, step, order.steps))
        done = take_step(learner, (prepare(batch, learner, config, rng) for batch in loaded), weight)
        if not done.finite:
            raise _not_finite(learner, done, loaded, epoch, step)
        if done.overflow and learner.scaler.get_scale() < 1:
            raise ConfigError(
                f"fp16 trains nothing: at epoch {epoch + 1}, step {step + 1} the gradient is still out of range, "
                "although the loss is scaled down to below 1",
                hint="--precision bf16 or fp32; or lower train.lr",
            )
        taken += 1
        now = time.perf_counter()
        one_each = config.augment.mix == "none" and not config.data.multi_label
        top1 = done.hits / videos if one_each else None
        lr = ordinary_lr(learner.optimizer)
        yield StepDone(
            epoch, step + 1, order.steps, done.loss, top1, lr, done.grad_norm, videos, waited, now - start
        )
        start = time.perf_counter()
    if not taken:
        raise DataError(f"epoch {epoch + 1} had nothing to train on: none of its {bad} videos could be read")


def prepare(batch: Batch, learner: Learner, config: Config, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A batch on the device: normalised clips [N, T, 3, h, w] and labels, blended where the recipe says so."""
    labels = batch.labels.to(learner.device, non_blocking=True)
    if not len(labels):
        size = config.augment.crop_px
        return torch.empty(0, config.model.num_segments, 3, size, size, device=learner.device), labels
    clips = normalize(batch.views.to(learner.device, non_blocking=True).flatten(0, 1))
    if config.augment.mix != "none":
        clips, labels = blend(clips, labels, learner.model.fc.out_features, config.augment, rng)
    return clips, labels


def _too_many(bad: int, limit: int, last: BadVideo) -> DataError:
    return DataError(
        f"{bad} videos of this epoch could not be read, the last one: {last.reason}",
        hint=f"train.max_bad_videos is {limit}; repair the videos or take them off the list",
    )


def _not_finite(learner: Learner, done: Step, batches: list[Batch], epoch: int, step: int) -> ConfigError:
    own = [number for batch in batches for number in batch.numbers.tolist()]
    numbers = [number for numbers in learner.world.gather(own) for number in numbers]
    lr = ordinary_lr(learner.optimizer)
    return ConfigError(
        f"the loss is {done.loss} and its gradient's norm {done.grad_norm} at epoch {epoch + 1}, step {step + 1}, "
        f"learning rate {lr:g}, with videos {numbers} of the training list (0-based)",
        hint="lower train.lr, or look at these videos",
    )

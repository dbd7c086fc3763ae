"""One epoch of training, as a stream of events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from tsmcli.config import Config, TrainConfig
from tsmcli.core.tsm import TSM, normalize
from tsmcli.data.blend import blend
from tsmcli.data.dataset import BadVideo, Batch
from tsmcli.errors import ConfigError, DataError


@dataclass(frozen=True)
class StepDone:
    """One optimiser step.

    Attributes:
        epoch, step, steps: 0-based epoch; 1-based step of that many.
        loss, top1: of this batch, in training mode; top1 is None where MixUp or CutMix blends labels.
        lr: of the ordinary weights.
        grad_norm: L2 norm of all gradients, before clipping.
        videos: clips in the batch.
        data_sec, step_sec: waiting for data; the whole step including that.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    top1: float | None
    lr: float
    grad_norm: float
    videos: int
    data_sec: float
    step_sec: float


@dataclass(frozen=True)
class VideosSkipped:
    """Videos of a batch that could not be read; training goes on without them."""

    videos: tuple[BadVideo, ...]


def train_epoch(
    model: TSM,
    optimizer: torch.optim.Optimizer,
    loader: DataLoader[Any],
    config: Config,
    device: torch.device,
    epoch: int,
) -> Iterator[StepDone | VideosSkipped]:
    """Train on every batch of the loader once.

    Raises:
        DataError: more than `train.max_bad_videos` videos could not be read, or not one could.
        ConfigError: the loss or its gradient is not finite.
    """
    model.train()
    bad, taken, steps, start = 0, 0, len(loader), time.perf_counter()
    for step, batch in enumerate(loader, 1):
        waited = time.perf_counter() - start
        if batch.bad:
            bad += len(batch.bad)
            yield VideosSkipped(tuple(batch.bad))
            if bad > config.train.max_bad_videos:
                raise _too_many(bad, config.train, batch.bad[-1])
        if not len(batch.numbers):
            continue
        rng = np.random.default_rng([config.train.seed, epoch, step, 3])
        loss, logits, norm = train_step(model, optimizer, batch, config, device, rng)
        if not (torch.isfinite(loss) and torch.isfinite(norm)):
            raise _not_finite(loss, norm, batch, optimizer, epoch, step)
        taken += 1
        now = time.perf_counter()
        hits = (logits.argmax(1).cpu() == batch.labels).float()
        top1 = hits.mean().item() if config.augment.mix == "none" else None
        lr = optimizer.param_groups[2]["lr"]
        yield StepDone(
            epoch, step, steps, loss.item(), top1, lr, norm.item(), len(batch.numbers), waited, now - start
        )
        start = time.perf_counter()
    if not taken:
        raise DataError(f"epoch {epoch + 1} had nothing to train on: none of its {bad} videos could be read")


def train_step(
    model: TSM,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    config: Config,
    device: torch.device,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """Blend, forward, backward, clip, step: (loss, logits [N, K], gradient norm)."""
    clips = normalize(batch.views.to(device, non_blocking=True).flatten(0, 1))  # [N, T, 3, h, w]
    labels = batch.labels.to(device)
    if config.augment.mix != "none":
        clips, labels = blend(clips, labels, model.fc.out_features, config.augment, rng)
    return optimize(model, optimizer, clips, labels, config.train.clip_norm)


def optimize(
    model: TSM, optimizer: torch.optim.Optimizer, clips: Tensor, labels: Tensor, clip_norm: float
) -> tuple[Tensor, Tensor, Tensor]:
    """One step of cross entropy on normalised clips: (loss, logits [N, K], gradient norm).

    Labels are int64 [N], or soft ones [N, K].

    No step is taken where the loss or the gradient is not finite; the running statistics have then seen the batch.
    """
    logits = model(clips)
    loss = F.cross_entropy(logits, labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    if torch.isfinite(loss) and torch.isfinite(norm):
        optimizer.step()
    return loss.detach(), logits.detach(), norm


def _too_many(bad: int, config: TrainConfig, last: BadVideo) -> DataError:
    return DataError(
        f"{bad} videos of this epoch could not be read, the last one: {last.reason}",
        hint=f"train.max_bad_videos is {config.max_bad_videos}; repair the videos or take them off the list",
    )


def _not_finite(
    loss: Tensor, norm: Tensor, batch: Batch, optimizer: torch.optim.Optimizer, epoch: int, step: int
) -> ConfigError:
    lr = optimizer.param_groups[2]["lr"]
    return ConfigError(
        f"the loss is {loss.item()} and its gradient's norm {norm.item()} at epoch {epoch + 1}, step {step}, "
        f"learning rate {lr:g}, with videos {batch.numbers.tolist()} of the training list (0-based)",
        hint="lower train.lr, or look at these videos",
    )

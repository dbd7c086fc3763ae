"""What a training will do, checked before it does anything."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tsmcli.config import Config
from tsmcli.core.tsm import build_model
from tsmcli.data.dataset import Loader, VideoDataset, check_shared_memory
from tsmcli.data.decode import check_decoder
from tsmcli.data.location import Places, Split, find_classes, find_split
from tsmcli.data.shards import TrainOrder, class_chances
from tsmcli.engine.device import choose_precision
from tsmcli.engine.memory import free_memory, kept_numbers, num_parameters, step_bytes
from tsmcli.engine.optim import freeze, lr_factor, param_groups, scaled_lr
from tsmcli.engine.processes import World
from tsmcli.errors import ConfigError, DataError, EnvironmentProblem
from tsmcli.presets import Preset, override
from tsmcli.recipes.network import check_classes

SAMPLED_PATHS = 64


@dataclass(frozen=True)
class TrainPlan:
    """A training that can start: everything that can be known without building the network.

    Attributes:
        train, val: the videos; `val` is None without validation.
        lr: learning rate of the first epoch, scaled to the total batch.
        class_weights: float32 [K], what the loss of each class counts; None: all alike.
        warnings: what is odd but no reason to stop.
    """

    preset: Preset
    classes: list[str]
    train: Split
    val: Split | None
    device: torch.device
    world: World
    lr: float
    class_weights: Tensor | None
    warnings: tuple[str, ...]

    @property
    def config(self) -> Config:
        """The configuration of the preset."""
        return self.preset.config

    def order(self) -> TrainOrder:
        """The order of the training videos, for this process."""
        t = self.config.train
        labels = [record.label for record in self.train.records]
        return TrainOrder(
            len(labels), t.batch, t.accumulate, seed=t.seed, rank=self.world.rank, world_size=self.world.size,
            chances=class_chances(labels, t.balance_power) if t.balance == "power" else None,
        )  # fmt: skip


def make_train_plan(
    preset: Preset, places: Places, device: torch.device, world: World, *, overfit: int = 0, quick: bool = False
) -> TrainPlan:
    """Check everything that can fail: lists, labels, class names, some paths, decoder, device, precision.

    Args:
        overfit: train and validate on the first so many training videos only.
        quick: one epoch of two steps, and four validation videos.

    Raises:
        ConfigError, DataError, EnvironmentProblem: with what to do about it.
    """
    if quick:
        short = ["train.epochs=1", "train.lr_steps=[]", "train.probe=false"]
        preset = replace(preset, config=override(preset.config, short))
    config = preset.config
    check_decoder(config.data)
    choose_precision(config.train.precision, device)
    for views in (None, config.val) if config.train.validation else (None,):
        check_shared_memory(config, views)
    classes = find_classes(config.data, places)
    check_classes(config, classes)
    train = find_split(config.data, places, "train", classes)
    val = find_split(config.data, places, "val", classes) if config.train.validation else None
    if overfit:
        train = replace(train, records=train.records[:overfit])
        val = train if val else None
    if quick:
        two_steps = 2 * world.size * config.train.batch * config.train.accumulate
        train = replace(train, records=train.records[:two_steps])
        val = replace(val, records=val.records[:4]) if val else None
    if world.is_main:
        for split in (train, val) if val else (train,):
            check_paths(split)
    lr = scaled_lr(config.train, world.size)
    weights = _class_weights(config, classes, train)
    return TrainPlan(
        preset, classes, train, val, device, world, lr, weights, tuple(_oddities(config, classes, train))
    )


def _class_weights(config: Config, classes: list[str], train: Split) -> Tensor | None:
    given = config.train.class_weights
    if given == "none":
        return None
    if given == "balanced":
        videos = np.bincount([record.label for record in train.records], minlength=len(classes))
        balanced = videos.sum() / np.count_nonzero(videos) / np.maximum(videos, 1)
        return torch.tensor(np.where(videos, balanced, 1.0), dtype=torch.float32)
    if len(given) != len(classes):
        counts = f"{len(given)} numbers for {len(classes)} classes"
        raise ConfigError(f"train.class_weights has {counts}", hint="one for each line of classes.txt")
    return torch.tensor(given)


def check_paths(split: Split) -> None:
    """Look for a sample of the videos of a list; DataError where not one of them is there."""
    chosen = np.random.default_rng(0).permutation(len(split.records))[:SAMPLED_PATHS]
    paths = [split.media / split.records[i].path for i in chosen]
    missing = [path for path in paths if not path.exists()]
    if len(missing) == len(paths):
        hint = "--media DIR says which folder the paths of the list are relative to"
        wrong = f"none of {len(paths)} videos looked for are there: {split.list_file} names {missing[0]}"
        raise DataError(wrong, hint)


def check_disk(folder: Path, config: Config, num_classes: int) -> None:
    """Raise EnvironmentProblem where two checkpoints and one being written do not fit on the disk."""
    needed = 12 * num_parameters(config, num_classes) * kept_numbers(config)
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        wrong = f"{there}: {free / 1e6:.0f} MB free, but the checkpoints of this run need {needed / 1e6:.0f} MB"
        raise EnvironmentProblem(wrong, "make room, or choose another --work-dir")


def describe(plan: TrainPlan) -> tuple[str, ...]:
    """The facts to know before the first step."""
    t, world, order = plan.config.train, plan.world, plan.order()
    batch = f"{t.batch}" + (f" x {t.accumulate} accumulated" if t.accumulate > 1 else "")
    batch += f" x {world.size} processes" if world.size > 1 else ""
    scaled = f"{t.lr:g} for a batch of {t.lr_batch}, scaled to {plan.lr:g} for {order.total_batch}"
    val = f"{len(plan.val.records)} validation videos ({plan.val.list_file})" if plan.val else "no validation"
    return (
        f"{len(plan.train.records)} training videos ({plan.train.list_file}), {val}",
        f"device {plan.device}, {choose_precision(t.precision, plan.device)}, {t.epochs} epochs of {order.steps} "
        f"steps, batch {batch}",
        f"learning rate {scaled if plan.lr != t.lr else format(t.lr, 'g')}",
        *(f"note: {warning}" for warning in plan.warnings),
    )


@dataclass(frozen=True)
class DryRun:
    """Everything `tsm train --dry-run` says.

    Attributes:
        values: (key, value, origin) of the whole configuration.
        groups: (group, learning rate, weight decay, parameter names).
        rates: (0-based epoch, learning rate) wherever it changes; every epoch for a cosine.
        memory_bytes, free_bytes: estimate of a step in fp32, and what the device has left.
        missing: (list file, videos, how many are not there, one of them).
        first_batch: shapes and types of the first batch, and its unreadable videos.
    """

    facts: tuple[str, ...]
    values: tuple[tuple[str, object, str], ...]
    groups: tuple[tuple[str, float, float, tuple[str, ...]], ...]
    rates: tuple[tuple[int, float], ...]
    steps_per_epoch: int
    memory_bytes: int
    free_bytes: int | None
    missing: tuple[tuple[str, int, int, str], ...]
    first_batch: tuple[str, ...]


def dry_run(plan: TrainPlan, values: tuple[tuple[str, object, str], ...]) -> DryRun:
    """Work out what a training would do, and read its first batch; nothing is trained or written."""
    config, order = plan.config, plan.order()
    model = build_model(config.model, len(plan.classes), seed=0)
    freeze(model, config.train)
    groups = tuple(
        (g.name, plan.lr * g.lr_mult, config.train.weight_decay * g.decay_mult, tuple(n for n, _ in g.params))
        for g in param_groups(model, fc_lr5=config.train.fc_lr5)
    )
    rates = [
        (epoch, plan.lr * lr_factor(config.train, epoch, 0, order.steps)) for epoch in range(config.train.epochs)
    ]
    changes = [rate for i, rate in enumerate(rates) if i == 0 or rate[1] != rates[i - 1][1]]
    splits = [split for split in (plan.train, plan.val) if split]
    return DryRun(
        describe(plan), values, groups, tuple(changes), order.steps,
        step_bytes(config, len(plan.classes), config.train.batch), free_memory(plan.device),
        tuple(_missing(split) for split in splits), _first_batch(plan, order),
    )  # fmt: skip


def _first_batch(plan: TrainPlan, order: TrainOrder) -> tuple[str, ...]:
    config = override(plan.config, ["train.workers=0"])
    with Loader(VideoDataset(plan.train, config, None)) as loader:
        batch = next(loader.batches(order))
    views = f"clips {list(batch.views.shape)} {str(batch.views.dtype).removeprefix('torch.')} (N, V, T, 3, h, w)"
    several = config.data.multi_label
    labels = [row.nonzero().flatten().tolist() for row in batch.labels] if several else batch.labels.tolist()
    return (views, f"labels {labels}", *(f"unreadable: {video.reason}" for video in batch.bad))


def _missing(split: Split) -> tuple[str, int, int, str]:
    absent = [record.path for record in split.records if not (split.media / record.path).exists()]
    return (str(split.list_file), len(split.records), len(absent), absent[0] if absent else "")


def _oddities(config: Config, classes: list[str], train: Split) -> list[str]:
    seen = {label for record in train.records for label in record.every}
    odd = []
    if len(seen) < len(classes):
        absent = next(i for i in range(len(classes)) if i not in seen)
        odd.append(f"{len(classes) - len(seen)} classes have no training video, {classes[absent]!r} among them")
    late = [step for step in config.train.lr_steps if step >= config.train.epochs]
    if config.train.schedule == "step" and late:
        odd.append(f"the learning rate falls after epoch {late[0]}, but there are {config.train.epochs} epochs")
    return odd

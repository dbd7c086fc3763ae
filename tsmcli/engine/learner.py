"""A network with everything a training step changes, and the step itself."""

from __future__ import annotations

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tsmcli.config import TrainConfig
from tsmcli.core.recompute import statistics_kept
from tsmcli.core.tsm import TSM
from tsmcli.engine.device import allow_tf32, autocast, choose_precision
from tsmcli.engine.optim import freeze, make_optimizer, scaled_lr
from tsmcli.engine.processes import World
from tsmcli.errors import EnvironmentProblem


@dataclass
class Learner:
    """What a step changes.

    Attributes:
        model: the network itself.
        network: the same, compiled and with its gradients shared between processes, as the configuration says.
        average: moving average of the weights, or None.
        scaler: keeps fp16 gradients from vanishing; does nothing in other formats.
        class_weights: what the loss of each class counts, [K]; None: all alike.
        multi_label: each class of a video is right or wrong by itself.
    """

    model: TSM
    network: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: AveragedModel | None
    config: TrainConfig
    device: torch.device
    world: World
    class_weights: Tensor | None = None
    multi_label: bool = False

    @property
    def trained(self) -> TSM:
        """The network to validate and to keep: the average where there is one."""
        return cast(TSM, self.average.module) if self.average is not None else self.model

    def weight_of(self, labels: Tensor) -> float:
        """What videos count together, by their labels, int64 [N]: their number, or the sum of their weights."""
        return len(labels) if self.class_weights is None else float(self.class_weights.cpu()[labels].sum())

    def state(self) -> dict[str, Any]:
        """Everything of the optimisation that a resumed run needs, besides the weights of `trained`."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "averaged": int(self.average.n_averaged) if self.average is not None else 0,
            "raw_model": self.model.state_dict() if self.average is not None else None,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take up the state of another learner of the same configuration."""
        if self.average is not None:
            self.average.module.load_state_dict(self.model.state_dict())
            self.average.n_averaged.fill_(state["averaged"])
            self.model.load_state_dict(state["raw_model"])
        initial = [group["initial_lr"] for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, lr in zip(self.optimizer.param_groups, initial, strict=True):
            group["initial_lr"] = lr
        self.scaler.load_state_dict(state["scaler"])


def make_learner(
    model: TSM,
    config: TrainConfig,
    device: torch.device,
    world: World,
    class_weights: Tensor | None = None,
    *,
    multi_label: bool = False,
) -> Learner:
    """Prepare a network, already on its device, for training.

    Raises:
        ConfigError: it cannot be frozen as asked.
        EnvironmentProblem: the device lacks what the configuration asks for.
    """
    freeze(model, config)
    if config.sync_bn and world.size > 1:
        if device.type != "cuda":
            raise EnvironmentProblem("synchronised batch norm needs GPUs", hint="--set train.sync_bn=false")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema)) if config.ema else None
    model.backbone.recompute = config.recompute
    network: nn.Module = torch.compile(model) if config.compile else model  # type: ignore[assignment]
    if world.size > 1:
        ids = [device] if device.type == "cuda" else None
        # Each process has its own batch norm statistics; those of process 0 are validated and kept.
        network = DistributedDataParallel(network, device_ids=ids, broadcast_buffers=False)
    optimizer = make_optimizer(model, config, scaled_lr(config, world.size))
    precision = choose_precision(config.precision, device)
    if precision == "tf32":
        allow_tf32(True)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    weights = None if class_weights is None else class_weights.to(device)
    return Learner(model, network, optimizer, scaler, average, config, device, world, weights, multi_label)


class Step(NamedTuple):
    """What a step measured, over all processes.

    Attributes:
        loss: mean over the videos, weighted by class where there are weights.
        hits: videos whose label had the largest logit; meaningless for soft or several labels.
        grad_norm: L2 norm of all gradients before clipping.
        overflow: fp16 only: the gradient was out of range, so the scale is lowered and nothing was changed.
    """

    loss: float
    hits: int
    grad_norm: float
    overflow: bool

    @property
    def finite(self) -> bool:
        """Whether the step was taken, or left out only because an fp16 scale was too high."""
        return math.isfinite(self.loss) and (self.overflow or math.isfinite(self.grad_norm))


def take_step(learner: Learner, batches: Iterable[tuple[Tensor, Tensor]], weight: float) -> Step:
    """One optimiser step: forward and backward per batch, clip, step, average.

    The loss is the mean of `loss_sum` over all videos of the step, weighted by class where the learner has weights,
    whichever process and batch they are in, so the result does not depend on how they are spread. Nothing changes
    where loss or gradient is not finite; running statistics have then seen the batches.

    Args:
        batches: of this process: normalised clips [N, T, 3, H, W] and labels, int64 [N] or soft [N, K]. N may be 0.
        weight: of the videos of all batches of all processes together, see `Learner.weight_of`.
    """
    optimizer, scaler, world = learner.optimizer, learner.scaler, learner.world
    optimizer.zero_grad(set_to_none=True)
    loss_sum, hits, batches = 0.0, 0, list(batches)
    for last, (clips, labels) in zip([False] * (len(batches) - 1) + [True], batches, strict=True):
        with _gradients_shared(learner, now=last):
            logits, loss = _forward(learner, clips, labels)
            # DistributedDataParallel takes the mean over processes; a sum is wanted.
            scaler.scale(loss / (weight / world.size)).backward()
        loss_sum += loss.item()
        hits += int((logits.argmax(1) == (labels if labels.ndim == 1 else labels.argmax(1))).sum())
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(learner.model.parameters(), learner.config.clip_norm).item()
    total = world.sum([loss_sum, hits])
    step = Step(total[0] / weight, int(total[1]), norm, scaler.is_enabled() and not math.isfinite(norm))
    if math.isfinite(step.loss) and math.isfinite(norm):
        scaler.step(optimizer)
        if learner.average is not None:
            learner.average.update_parameters(learner.model)
    scaler.update()
    return step


def _forward(learner: Learner, clips: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits [N, K] and the sum of the N losses."""
    if len(clips):
        with autocast(learner.config.precision, learner.device):
            logits = learner.network(clips)
        loss = loss_sum(
            logits.to(clips.dtype), labels, learner.config, learner.class_weights, multi_label=learner.multi_label
        )
        return logits.detach(), loss
    # Every process must take part in sharing gradients: a black clip that counts for nothing.
    with statistics_kept(learner.model):
        nothing = learner.network(clips.new_zeros(1, *clips.shape[1:]))
    return nothing[:0].detach(), nothing.sum() * 0


def loss_sum(
    logits: Tensor, labels: Tensor, config: TrainConfig, weights: Tensor | None = None, *, multi_label: bool = False
) -> Tensor:
    """The sum of the losses of N videos with logits [N, K].

    A video's loss is the cross entropy, times the weight of its class where there are weights [K]. With several
    labels a video, it is the mean over the K classes of the binary cross entropy with many-hot labels [N, K]. Label
    smoothing s then moves them towards 1/2: y (1 - s) + s / 2.
    """
    smoothing = config.label_smoothing
    if multi_label:
        targets = labels.to(logits.dtype) * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / logits.shape[1]
    return F.cross_entropy(logits, labels, weights, reduction="sum", label_smoothing=smoothing)


def _gradients_shared(learner: Learner, *, now: bool) -> AbstractContextManager[object]:
    """Gradients go to the other processes with the last batch of a step only."""
    network = learner.network
    return nullcontext() if now or not isinstance(network, DistributedDataParallel) else network.no_sync()

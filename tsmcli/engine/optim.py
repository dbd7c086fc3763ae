"""The optimiser, with the TSM authors' parameter groups, and the schedule of its learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from tsmcli.config import TrainConfig
from tsmcli.core.tsm import TSM
from tsmcli.errors import ConfigError

_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_BATCH_NORM = nn.modules.batchnorm._BatchNorm
_NORMS = (_BATCH_NORM, nn.GroupNorm)


@dataclass(frozen=True)
class ParamGroup:
    """Parameters, as (name, parameter) in the network's order, and what their rate and decay are multiplied by."""

    name: str
    lr_mult: float
    decay_mult: float
    params: list[tuple[str, nn.Parameter]]


def param_groups(model: nn.Module, *, fc_lr5: bool = True) -> list[ParamGroup]:
    """The seven groups of the authors' policy, empty ones included, in their order.

    The first convolution, the other weights, their biases and the batch norms each get their own multipliers;
    with `fc_lr5` the classifier, which comes last, learns at 5 times (bias 10 times) the rate. Biases and batch
    norms have no weight decay.

    Raises:
        TypeError: a layer with parameters that the policy does not know.
    """
    rates = {"first_conv_weight": (1, 1), "first_conv_bias": (2, 0), "weight": (1, 1), "bias": (2, 0),
             "norm": (1, 0), "classifier_weight": (5, 1), "classifier_bias": (10, 0)}  # fmt: skip
    groups = {name: ParamGroup(name, lr_mult, decay_mult, []) for name, (lr_mult, decay_mult) in rates.items()}
    for path, module in model.named_modules():
        own = [(f"{path}.{name}", p) for name, p in module.named_parameters(recurse=False)]
        if isinstance(module, (*_CONVS, nn.Linear)):
            first = not groups["first_conv_weight"].params and isinstance(module, _CONVS)
            for name, parameter in own:
                groups["first_conv_" * first + name.rpartition(".")[2]].params.append((name, parameter))
        elif isinstance(module, _NORMS):
            groups["norm"].params.extend((name, p) for name, p in own if p.requires_grad)
        elif own:
            raise TypeError(f"no parameter group for {type(module).__name__} at {path}")
    for kind in ("weight", "bias") if fc_lr5 else ():
        groups[f"classifier_{kind}"].params.append(groups[kind].params.pop())
    return list(groups.values())


def make_optimizer(model: nn.Module, config: TrainConfig, lr: float) -> torch.optim.Optimizer:
    """SGD with momentum, or AdamW, over the parameter groups; `lr` is the rate of the first epoch."""
    groups = [
        {"name": group.name, "params": [p for _, p in group.params], "lr": lr * group.lr_mult,
         "initial_lr": lr * group.lr_mult, "weight_decay": config.weight_decay * group.decay_mult}
        for group in param_groups(model, fc_lr5=config.fc_lr5)
    ]  # fmt: skip
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=(config.momentum, 0.999))
    return torch.optim.SGD(groups, lr=lr, momentum=config.momentum)


def scaled_lr(config: TrainConfig, world_size: int = 1) -> float:
    """The learning rate for the real total batch: linear in it (Goyal et al., 2017)."""
    total = world_size * config.batch * config.accumulate
    return config.lr * total / config.lr_batch if config.scale_lr else config.lr


def lr_factor(config: TrainConfig, epoch: int, step: int = 0, steps: int = 1) -> float:
    """What schedule and warm-up multiply the learning rate by at a step of an epoch of `steps`, counted from 0.

    The last step (or epoch) of the warm-up has the full rate already, as mmengine's LinearLR.
    """
    if config.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * min((epoch + step / steps) / config.epochs, 1.0)))
    else:
        factor = config.lr_gamma ** sum(at <= epoch for at in config.lr_steps)
    step, steps = (0, 1) if config.warmup_by == "epoch" else (step, steps)
    done, last = epoch * steps + step, config.warmup_epochs * steps - 1
    return factor * (config.warmup_from + (1 - config.warmup_from) * done / last) if done < last else factor


def ordinary_lr(optimizer: torch.optim.Optimizer) -> float:
    """The learning rate of the ordinary weights, without a multiplier."""
    lr: float = next(group["lr"] for group in optimizer.param_groups if group["name"] == "weight")
    return lr


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group to its initial rate times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def freeze(model: TSM, config: TrainConfig) -> None:
    """Freeze what `frozen_stages` and `freeze_bn: partial` name. To be called before the optimiser is made."""
    stages = model.backbone.stages
    if config.frozen_stages >= len(stages):
        raise ConfigError(f"train.frozen_stages is {config.frozen_stages}; this trunk has {len(stages) - 1} stages")
    for stage in stages[: config.frozen_stages + 1]:
        stage.requires_grad_(False)
    if config.freeze_bn == "partial":
        for norm in _norms_but_first(model):
            norm.requires_grad_(False)


def set_training(model: TSM, config: TrainConfig) -> None:
    """Training mode, except for what is frozen. To be called before every epoch."""
    model.train()
    for stage in model.backbone.stages[: config.frozen_stages + 1]:
        stage.eval()
    if config.freeze_bn == "statistics":
        for module in model.backbone.modules():
            if isinstance(module, _BATCH_NORM):
                module.eval()
    if config.freeze_bn == "partial":
        for norm in _norms_but_first(model):
            norm.eval()


def _norms_but_first(model: TSM) -> Iterator[nn.Module]:
    """The 2D batch norms of the trunk after the first one (MMAction2's `partial_bn`)."""
    yield from [module for module in model.backbone.modules() if isinstance(module, nn.BatchNorm2d)][1:]

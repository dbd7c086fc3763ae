"""Parts of a network that do not learn, and batch norms that keep their statistics."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from tsmcli.config import TrainConfig
from tsmcli.core.tsm import TSM
from tsmcli.errors import ConfigError

_NORM = nn.modules.batchnorm._BatchNorm


def freeze(model: TSM, config: TrainConfig) -> None:
    """Take out of training what `frozen_stages` and `freeze_bn: partial` name. Once, before the optimiser is made.

    Raises:
        ConfigError: the trunk has fewer stages.
    """
    stages = model.backbone.stages
    if config.frozen_stages >= len(stages):
        raise ConfigError(f"train.frozen_stages is {config.frozen_stages}; this trunk has {len(stages) - 1} stages")
    for stage in stages[: config.frozen_stages + 1]:
        stage.requires_grad_(False)
    if config.freeze_bn == "partial":
        for norm in _norms_but_first(model):
            norm.requires_grad_(False)


def set_training(model: TSM, config: TrainConfig) -> None:
    """Training mode, except for what is frozen. Before every epoch."""
    model.train()
    for stage in model.backbone.stages[: config.frozen_stages + 1]:
        stage.eval()
    if config.freeze_bn == "statistics":
        for module in model.backbone.modules():
            if isinstance(module, _NORM):
                module.eval()
    if config.freeze_bn == "partial":
        for norm in _norms_but_first(model):
            norm.eval()


def _norms_but_first(model: TSM) -> Iterator[nn.Module]:
    """The 2D batch norms of the trunk after the first one (MMAction2's `partial_bn`)."""
    yield from [module for module in model.backbone.modules() if isinstance(module, nn.BatchNorm2d)][1:]

"""The whole configuration of an experiment, as frozen pydantic models.

A preset says what an experiment *is*. Facts of a dataset (class names, frame file names, what a mirror image
does to a label) live in `catalog.py`; the paths of a machine come from the command line. Defaults are the
values that the published recipes share (MMAction2 0.x, TSM configs), so a preset only states what differs.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from tsmcli.config.augment import AugmentConfig
from tsmcli.config.data import LIMITS, DataConfig, Decoder, Store
from tsmcli.config.model import Backbone, ModelConfig, NonLocalMode, Shift
from tsmcli.config.section import Section
from tsmcli.config.train import Precision, Recompute, TrainConfig
from tsmcli.config.views import PROTOCOLS, SamplingKind, Views

__all__ = [
    "LIMITS", "PROTOCOLS", "AugmentConfig", "Backbone", "Config", "DataConfig", "Decoder", "ModelConfig",
    "NonLocalMode", "Precision", "Recompute", "SamplingKind", "Section", "Shift", "Store", "TrainConfig", "Views",
]  # fmt: skip


class Config(Section):
    """One experiment, complete."""

    about: str = Field("", description="one line for people")
    source: str | None = Field(None, description="the MMAction2 config this reproduces; accepted as an alias")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()
    train: TrainConfig = TrainConfig()
    val: Views = Field(Views(), description="views scored during training; a protocol name or its values")
    test: Views = Field(Views(), description="views scored by `tsm test`; a protocol name or its values")

    @model_validator(mode="after")
    def _dense_clips_fit(self) -> Config:
        dense = "dense" in (self.augment.sampling, self.val.sampling, self.test.sampling)
        if dense and self.model.num_segments > 64:
            raise ValueError(f"dense sampling takes frames from 64, not {self.model.num_segments}")
        return self

    @model_validator(mode="after")
    def _one_label_to_balance(self) -> Config:
        if self.data.multi_label and (self.train.balance != "none" or self.train.class_weights != "none"):
            raise ValueError("train.balance and train.class_weights are for videos with one label each")
        return self

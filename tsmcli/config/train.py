"""How a network is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from tsmcli.config.section import Section

Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
Recompute = Literal["none", "block", "stage"]


class TrainConfig(Section):
    """Optimisation, with the learning rate and weight decay groups of the TSM authors."""

    epochs: int = Field(50, ge=1, le=1_000_000)
    batch: int = Field(8, ge=1, le=65536, description="videos per process and forward pass")
    accumulate: int = Field(1, ge=1, le=65536, description="forward passes per step, their gradients added up")
    lr: float = Field(0.01, gt=0, le=1e6, description="learning rate for a total batch of lr_batch videos")
    lr_batch: int = Field(64, ge=1, le=1_000_000, description="total batch that lr belongs to")
    scale_lr: bool = Field(True, description="scale lr linearly to the total batch: processes * batch * accumulate")
    schedule: Literal["step", "cosine"] = Field("step", description="cosine falls to zero over all epochs")
    lr_steps: tuple[int, ...] = Field((20, 40), description="step: epochs after which lr is multiplied by lr_gamma")
    lr_gamma: float = Field(0.1, gt=0, le=1)
    warmup_epochs: float = Field(
        0.0, ge=0, description="rise linearly to lr over so many epochs, the last of them at lr; may be a fraction"
    )
    warmup_by: Literal["step", "epoch"] = Field("step", description="how often the rate rises in the warm-up")
    warmup_from: float = Field(0.1, ge=0, le=1, description="the share of lr that the warm-up starts from")
    optimizer: Literal["sgd", "adamw"] = Field(
        "sgd", description="published: sgd; adamw suits small sets, at a learning rate of about 3e-4"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd; of adamw its first beta")
    weight_decay: float = Field(1e-4, ge=0, le=1e6)
    fc_lr5: bool = Field(True, description="classifier weight at 5x and bias at 10x the learning rate")
    clip_norm: float = Field(20.0, gt=0, description="largest L2 norm of all gradients together")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the label spread over all classes")
    balance: Literal["none", "power"] = Field(
        "none",
        description="power: draw a class with a probability proportional to (its share of the videos) ** "
        "balance_power, then one of its videos; as many draws an epoch as there are videos",
    )
    balance_power: float = Field(0.0, ge=0, le=1, description="0 draws all classes alike, 1 all videos alike")
    class_weights: Literal["none", "balanced"] | tuple[float, ...] = Field(
        "none",
        description="of the loss of each class, in index order; balanced: videos / (classes * videos of the class)",
    )
    ema: float = Field(
        0.0, ge=0, lt=1, description="decay of an average of the weights, which is then used; 0: off"
    )
    freeze_bn: Literal["none", "statistics", "partial"] = Field(
        "none",
        description="statistics: batch norms of the trunk use their running statistics; partial: all but the "
        "first do, and do not learn",
    )
    frozen_stages: int = Field(
        -1, ge=-1, description="-1: all of the trunk learns; 0: the stem is frozen; k: and its first k stages"
    )
    sync_bn: bool = Field(False, description="batch norm over the batches of all GPUs; published: each its own")
    precision: Precision = Field(
        "fp32", description="auto: bf16 where the GPU has it, else fp32; tf32: fp32 with shorter products, on a GPU"
    )
    recompute: Recompute = Field(
        "none", description="drop activations and compute them again in the backward pass, by block or by stage"
    )
    compile: bool = Field(False, description="torch.compile the network")
    deterministic: bool = Field(False, description="deterministic GPU operations, slower; a CPU always is")
    validation: bool = Field(True, description="score the validation list during training")
    val_every: int = Field(5, ge=1, description="epochs between validations; the last epoch always has one")
    probe: bool = Field(
        False, description="before a new training of up to 2,000 videos, say how far the starting features go"
    )
    patience: int = Field(
        0, ge=0, description="stop after so many validations in a row without a better one; 0: never"
    )
    save_every: int = Field(1, ge=1, description="epochs between checkpoints; the last epoch always has one")
    save_every_minutes: float = Field(
        10.0, ge=0, description="minutes between checkpoints within an epoch; 0: none"
    )
    log_every: int = Field(20, ge=1, description="steps between lines of the log")
    workers: int = Field(2, ge=0, le=256, description="data loading processes per process")
    max_bad_videos: int = Field(100, ge=0, description="stop after this many unreadable videos in one epoch")
    seed: int = Field(0, ge=0, le=2**32 - 1)

    @model_validator(mode="after")
    def _combinations(self) -> TrainConfig:
        if list(self.lr_steps) != sorted(set(self.lr_steps)) or any(step < 1 for step in self.lr_steps):
            raise ValueError(f"lr_steps must rise and be at least 1, not {list(self.lr_steps)}")
        if isinstance(self.class_weights, tuple) and any(weight <= 0 for weight in self.class_weights):
            raise ValueError(f"class_weights must be above 0, not {list(self.class_weights)}")
        if self.sync_bn and self.freeze_bn != "none":
            raise ValueError("sync_bn and freeze_bn cannot be combined: frozen batch norms have nothing to share")
        if self.sync_bn and self.accumulate > 1:
            raise ValueError(
                "sync_bn and accumulate cannot be combined: processes may differ in their last batches"
            )
        if self.compile and self.recompute != "none":
            raise ValueError("compile and recompute cannot be combined: the compiler decides what it recomputes")
        return self

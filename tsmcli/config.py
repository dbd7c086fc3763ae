"""The whole configuration of an experiment, as frozen pydantic models.

A preset says what an experiment *is*. Facts of a dataset (class names, frame file names, what a mirror image
does to a label) live in `catalog.py`; the paths of a machine come from the command line. Defaults are the
values that the published recipes share (MMAction2 0.x, TSM configs), so a preset only states what differs.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tsmcli.catalog import CATALOG

Backbone = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "mobilenet_v2"]
Shift = Literal["bidirectional", "unidirectional", "none"]
NonLocalMode = Literal["none", "gaussian", "embedded_gaussian", "dot_product"]
SamplingKind = Literal["uniform", "dense"]
Store = Literal["frames", "video", "zip"]
Decoder = Literal["auto", "pyav", "decord"]
Precision = Literal["auto", "fp32", "tf32", "bf16", "fp16"]
Recompute = Literal["none", "block", "stage"]


class Section(BaseModel):
    """Strict, frozen, and closed: an unknown key or a wrong type is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DataConfig(Section):
    """Which videos, and in which form they lie on disk."""

    dataset: str = Field(
        "folder", description="a name of the catalog: k400, sthv1, sthv2, jester, diving48, demo, folder"
    )
    store: Store = Field("video", description="video files, folders of JPEG frames, or a ZIP of JPEG frames each")
    first_label: Literal[0, 1] | None = Field(
        None,
        description="number of the first class in list files; null: 0, and lists that may count from 1 are refused",
    )
    decoder: Decoder = Field("auto", description="video decoder; auto is PyAV")
    timeout_sec: float = Field(120.0, ge=0, description="give up on a video after this long; 0: never")
    max_pixels: int = Field(  # twice a frame of 8K video
        64_000_000,
        ge=1,
        le=1_000_000_000,
        description="width times height of the largest frame or picture that is decoded",
    )
    max_frames: int = Field(5_000_000, ge=1, description="frames of the longest video that is opened")
    max_sec: float = Field(100_000.0, gt=0, description="seconds of the longest video that is opened")
    max_bytes: int = Field(100_000_000_000, ge=1, description="size of the largest video file that is opened")

    @field_validator("dataset")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value not in CATALOG:
            raise ValueError(f"data.dataset must be one of {', '.join(CATALOG)}, not {value!r}")
        return value


LIMITS = DataConfig()
"""How large a video may be, where nobody says otherwise."""


class ModelConfig(Section):
    """The network."""

    backbone: Backbone = Field("resnet50", description="2D trunk")
    num_segments: int = Field(8, ge=1, le=1024, description="T: frames the network sees per clip")
    shift: Shift = Field(
        "bidirectional",
        description="bidirectional: 1/shift_div of the channels from the next frame and as many from the "
        "previous; unidirectional: from the previous frame only; none: a plain 2D network (TSN)",
    )
    shift_div: int = Field(8, ge=2, le=1024, description="channels // shift_div channels move each way")
    shift_place: Literal["blockres", "block"] = Field(
        "blockres", description="blockres: shift inside the residual branch; block: before the whole block"
    )
    non_local: NonLocalMode = Field("none", description="non-local blocks in layer2 and layer3 of a ResNet-50")
    temporal_pool: bool = Field(False, description="halve T by max pooling over time before layer2 (ResNet)")
    width: float = Field(1.0, gt=0, le=4, description="channel multiplier of the trunk; published networks have 1")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout before the classifier")
    num_classes: int | None = Field(None, ge=2, le=100_000, description="K; null: as many as the dataset has")
    init: Literal["imagenet", "none"] = Field("imagenet", description="starting weights of the trunk")

    def identity(self) -> dict[str, Any]:
        """What a network is: two networks with the same values take the same weights and mean the same by them."""
        return self.model_dump(exclude={"dropout", "init", "num_classes"})

    @model_validator(mode="after")
    def _combinations(self) -> ModelConfig:
        if round(64 * self.width) < self.shift_div:
            raise ValueError(f"width: {self.width} leaves fewer than {self.shift_div} channels to shift")
        resnet = self.backbone.startswith("resnet")
        if self.non_local != "none" and self.backbone != "resnet50":
            raise ValueError(f"non_local: {self.non_local} needs backbone: resnet50, not {self.backbone}")
        if self.temporal_pool and not resnet:
            raise ValueError(f"temporal_pool needs a ResNet, not {self.backbone}")
        if self.temporal_pool and self.num_segments % 2:
            raise ValueError(f"temporal_pool halves T, so num_segments must be even, not {self.num_segments}")
        if self.temporal_pool and self.non_local != "none":
            raise ValueError("temporal_pool and non_local cannot be combined: they would disagree about T")
        if self.shift_place == "block" and not resnet:
            raise ValueError(f"shift_place: block needs a ResNet, not {self.backbone}")
        if self.init == "imagenet" and self.width != 1:
            raise ValueError(f"init: imagenet needs width: 1, not {self.width}: there are no such weights")
        return self


class AugmentConfig(Section):
    """How a training clip is drawn from a video."""

    sampling: SamplingKind = Field("uniform", description="one frame per segment, or a 64-frame window")
    keep_tail: bool = Field(
        False,
        description="uniform: false leaves the last num_frames % T frames unused, as published; "
        "true spreads the segments over all frames",
    )
    short_videos: Literal["loop", "repeat_last"] = Field(
        "loop",
        description="uniform, fewer frames than T: an index past the end wraps to frame 0 (published) "
        "or repeats the last frame",
    )
    dense_last_start: bool = Field(
        False, description="dense: false never draws the last possible window, as published"
    )
    resize_px: int | None = Field(256, ge=8, le=4096, description="short side in pixels before a crop; null: keep")
    crop: Literal["multi_scale", "random_resized"] = Field("multi_scale", description="random crop rule")
    crop_px: int = Field(224, ge=8, le=4096, description="width and height of the network's input in pixels")
    flip_prob: float = Field(0.0, ge=0, le=1, description="probability of a mirror image")
    flip_swaps_labels: bool = Field(
        False, description="a mirror image exchanges the labels that the catalog pairs (left and right)"
    )
    rand_augment: bool = Field(False, description="two of 15 image operations per clip, magnitude 9 of 10")
    rand_augment_signs: Literal["clip", "run"] = Field(
        "clip",
        description="directions of shears, shifts and rotations: drawn per clip, or once per run as published",
    )
    mix: Literal["none", "mixup", "cutmix"] = Field("none", description="blend the clips of a batch")
    mix_alpha: float = Field(0.2, gt=0, le=1000, description="both parameters of the Beta distribution of mix")


class Views(Section):
    """Which views of a video are scored, and how their scores become one: a test protocol."""

    sampling: SamplingKind = Field("uniform", description="uniform: over the whole video; dense: windows")
    clips: int = Field(1, ge=1, le=1000, description="clips of T frames: uniform 1 or 2 (twice-sample), dense any")
    crop: Literal["center", "three", "ten"] = Field("center", description="spatial crops per clip")
    crop_px: int = Field(224, ge=8, le=4096, description="width and height of a crop in pixels")
    resize_px: int | None = Field(256, ge=8, le=4096, description="short side in pixels before a crop; null: keep")
    average: Literal["prob", "score"] = Field(
        "prob", description="mean over views of softmax probabilities, or of raw scores"
    )

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value not in PROTOCOLS:
            raise ValueError(f"no protocol named {value!r}; known: {', '.join(PROTOCOLS)}")
        return PROTOCOLS[value].model_dump()

    @model_validator(mode="after")
    def _combinations(self) -> Views:
        if self.sampling == "uniform" and self.clips > 2:
            raise ValueError(f"uniform sampling has 1 or 2 clips, not {self.clips}")
        if self.crop == "three" and self.crop_px != self.resize_px:
            raise ValueError(f"crop: three needs crop_px equal to resize_px ({self.resize_px}), not {self.crop_px}")
        if self.resize_px is not None and self.crop_px > self.resize_px:
            raise ValueError(f"a crop of {self.crop_px} px does not fit a short side of {self.resize_px} px")
        return self

    @property
    def crops(self) -> int:
        """Spatial crops per clip."""
        return {"center": 1, "three": 3, "ten": 10}[self.crop]

    @property
    def views(self) -> int:
        """V = clips * crops."""
        return self.clips * self.crops

    @property
    def name(self) -> str:
        """The protocol's name, or a spelled-out form such as `uniform-1x1-256px`."""
        resize = "" if self.resize_px == 256 else f"-of-{self.resize_px}px" if self.resize_px else "-unscaled"
        average = "" if self.average == "prob" else "-score"
        spelled = f"{self.sampling}-{self.clips}x{self.crops}-{self.crop_px}px{resize}{average}"
        return next((name for name, views in PROTOCOLS.items() if views == self), spelled)


PROTOCOLS = {
    "efficient": Views(),
    "accurate": Views(clips=2, crop="three", crop_px=256),
    "dense10": Views(sampling="dense", clips=10),
    "dense10x3": Views(sampling="dense", clips=10, crop="three", crop_px=256),
    "ten-crop": Views(crop="ten"),
}
"""Test protocols that have a name. `efficient` and `accurate` are the Something-Something settings of the zoo."""


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
        0.0, ge=0, description="rise linearly to lr over so many epochs; may be a fraction"
    )
    warmup_from: float = Field(0.1, ge=0, le=1, description="the share of lr that the warm-up starts from")
    optimizer: Literal["sgd", "adamw"] = Field(
        "sgd", description="published: sgd; adamw suits small sets, at a learning rate of about 3e-4"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="of sgd; of adamw its first beta")
    weight_decay: float = Field(1e-4, ge=0, le=1e6)
    fc_lr5: bool = Field(True, description="classifier weight at 5x and bias at 10x the learning rate")
    clip_norm: float = Field(20.0, gt=0, description="largest L2 norm of all gradients together")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the label spread over all classes")
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
        if self.sync_bn and self.freeze_bn != "none":
            raise ValueError("sync_bn and freeze_bn cannot be combined: frozen batch norms have nothing to share")
        if self.sync_bn and self.accumulate > 1:
            raise ValueError(
                "sync_bn and accumulate cannot be combined: processes may differ in their last batches"
            )
        if self.compile and self.recompute != "none":
            raise ValueError("compile and recompute cannot be combined: the compiler decides what it recomputes")
        return self


class Config(Section):
    """One experiment, complete."""

    about: str = Field("", description="one line for people")
    source: str | None = Field(None, description="the MMAction2 0.x config this reproduces; accepted as an alias")
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

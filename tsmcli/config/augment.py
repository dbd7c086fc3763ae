"""Which clips of a training video."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tsmcli.config.section import Section
from tsmcli.config.views import SamplingKind


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
    pytorchvideo: Literal["none", "rand_augment", "aug_mix"] = Field(
        "none", description="pytorchvideo's augmentation of the whole clip, with its defaults"
    )
    mix: Literal["none", "mixup", "cutmix"] = Field("none", description="blend the clips of a batch")
    mix_alpha: float = Field(0.2, gt=0, le=1000, description="both parameters of the Beta distribution of mix")

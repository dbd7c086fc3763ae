"""Which videos."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from tsmcli.catalog import CATALOG
from tsmcli.config.section import Section

Store = Literal["frames", "video", "zip"]
Decoder = Literal["auto", "pyav", "decord"]


class DataConfig(Section):
    """Which videos, and in which form they lie on disk."""

    dataset: str = Field(
        "folder",
        description="a name of the catalog: k400, sthv1, sthv2, jester, diving48, ucf101, hmdb51, demo, folder",
    )
    split: int = Field(1, ge=1, description="which of several official splits: 1, 2 or 3 of ucf101 and hmdb51")
    store: Store = Field("video", description="video files, folders of JPEG frames, or a ZIP of JPEG frames each")
    multi_label: bool = Field(False, description="a video may have several labels, or none: each is yes or no")
    first_label: Literal[0, 1] | None = Field(
        None,
        description="number of the first class in list files; null: 0, and lists that may count from 1 are refused",
    )
    decoder: Decoder = Field("auto", description="video decoder; auto is PyAV")
    fps: float = Field(
        25.0, gt=0, le=1000, description="frames a second of folders and ZIPs of frames, which say none"
    )
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

    @model_validator(mode="after")
    def _has_split(self) -> DataConfig:
        if self.split > max(1, splits := CATALOG[self.dataset].splits):
            there = f"has splits 1 to {splits}" if splits else "has one split"
            raise ValueError(f"data.split={self.split}: {self.dataset} {there}")
        return self


LIMITS = DataConfig()
"""How large a video may be, where nobody says otherwise."""

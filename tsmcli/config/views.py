"""Which views of a video are scored."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from tsmcli.config.section import Section

SamplingKind = Literal["uniform", "dense"]


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
    "dense10x10": Views(sampling="dense", clips=10, crop="ten"),
    "ten-crop": Views(crop="ten"),
    "three-crop": Views(crop="three", crop_px=256),
}
"""Test protocols that have a name. `efficient` and `accurate` are the Something-Something settings of the zoo.

Each has a twin that averages raw scores, as the authors' code does: `accurate-score`.
"""
PROTOCOLS |= {f"{name}-score": views.model_copy(update={"average": "score"}) for name, views in PROTOCOLS.items()}

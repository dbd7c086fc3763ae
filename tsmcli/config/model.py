"""Which network."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from tsmcli.config.section import Section

Backbone = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "mobilenet_v2", "mobileone_s4"]
Shift = Literal["bidirectional", "unidirectional", "none"]
NonLocalMode = Literal["none", "gaussian", "embedded_gaussian", "dot_product"]


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
    shift_window: int | None = Field(
        None, ge=1, le=1024, description="frames among which channels move, for a published network; null: all T"
    )
    shift_place: Literal["blockres", "block"] = Field(
        "blockres", description="blockres: shift inside the residual branch; block: before the whole block"
    )
    non_local: NonLocalMode = Field("none", description="non-local blocks in layer2 and layer3 of a ResNet-50")
    temporal_pool: bool = Field(False, description="halve T by max pooling over time before layer2 (ResNet)")
    folded: bool = Field(False, description="one convolution in each block of a MobileOne, not several branches")
    width: float = Field(1.0, gt=0, le=4, description="channel multiplier of the trunk; published networks have 1")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout before the classifier")
    num_classes: int | None = Field(None, ge=2, le=100_000, description="K; null: as many as the dataset has")
    init: str = Field("imagenet", description="starting weights: imagenet, none, or an id of tsm zoo ls")

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
        if self.folded and self.backbone != "mobileone_s4":
            raise ValueError(f"folded needs backbone: mobileone_s4, not {self.backbone}")
        if self.shift_window and self.num_segments % self.shift_window:
            raise ValueError(
                f"shift_window: {self.num_segments} frames are not whole windows of {self.shift_window}"
            )
        if self.shift_window and (self.temporal_pool or self.shift == "unidirectional"):
            raise ValueError("shift_window cannot be combined with temporal_pool or shift: unidirectional")
        if self.init == "imagenet" and self.width != 1:
            raise ValueError(f"init: imagenet needs width: 1, not {self.width}: there are no such weights")
        return self

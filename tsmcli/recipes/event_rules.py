"""How events are to be found: what was asked for, what a checkpoint keeps, and defaults."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from tsmcli.core.sampling import DENSE_WINDOW
from tsmcli.errors import UsageError
from tsmcli.intervals.find import EventRules, default_rules
from tsmcli.recipes.network import Opened

_USUAL_SEC, _USUAL_FPS = 2.0, 25.0
"""A window where nothing says how long training clips were; and frames per second of those of dense sampling."""


@dataclass(frozen=True)
class Wanted:
    """What was asked of events; None: as the checkpoint has it, else the default.

    Attributes:
        background, threshold, gap_sec, min_sec: of all classes; the rest as in `EventRules`.
        fps: of frame folders; None: as the configuration says.
    """

    window_sec: float | None = None
    stride_sec: float | None = None
    smooth_sec: float | None = None
    background: tuple[str, ...] | None = None
    threshold: float | None = None
    gap_sec: float | None = None
    min_sec: float | None = None
    fps: float | None = None

    def rules(self, opened: Opened) -> EventRules:
        """The rules for a network; UsageError for a background that is no class of it."""
        names, config = opened.class_names, opened.config
        if odd := [name for name in self.background or () if name not in names]:
            raise UsageError(f"no class is called {odd[0]!r}", f"the classes are {', '.join(names[:10])}")
        dense = config.augment.sampling == "dense"
        window = self.window_sec or (DENSE_WINDOW / _USUAL_FPS if dense else _USUAL_SEC)
        rules = opened.own.events if opened.own else None
        if rules is None or (self.window_sec and self.window_sec != rules.window_sec):
            fitted, rules = rules, default_rules(window, names)
            rules = replace(rules, background=fitted.background) if fitted else rules
            if streamable(opened):
                rules = replace(rules, stride_sec=window / config.model.num_segments, streamed=True)
        if self.stride_sec and self.stride_sec != rules.stride_sec:
            rules = replace(rules, stride_sec=self.stride_sec, streamed=False)
        asked: dict[str, Any] = {"smooth_sec": self.smooth_sec, "background": self.background}
        for key, value in (("thresholds", self.threshold), ("gap_sec", self.gap_sec), ("min_sec", self.min_sec)):
            asked[key] = None if value is None else (value,) * len(names)
        return replace(rules, **{key: value for key, value in asked.items() if value is not None})


def streamable(opened: Opened) -> bool:
    """Whether a network can see frame by frame what it was trained to see in clips."""
    model = opened.config.model
    return model.shift == "unidirectional" and not model.temporal_pool and opened.exported is None

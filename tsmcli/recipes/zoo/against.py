"""Our accuracy of a published checkpoint beside the published one. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tsmcli import zoo
from tsmcli.config import ModelConfig
from tsmcli.metrics import interval
from tsmcli.presets import load_preset

_HALF_A_DIGIT = 0.5e-4
"""Published values are percents with two decimals."""


@dataclass(frozen=True)
class Against:
    """A metric of ours and the published one, as fractions.

    Attributes:
        low, high: the 95 % interval of ours, for so many videos drawn from all that there could be.
    """

    ours: float
    published: float
    low: float
    high: float

    @property
    def within(self) -> bool:
        """Whether the published value is in the interval: the difference may be which videos were tested."""
        return self.low - _HALF_A_DIGIT <= self.published <= self.high + _HALF_A_DIGIT


@dataclass(frozen=True)
class AgainstZoo:
    """What was published of the checkpoint that a test was made with.

    Attributes:
        id: its row of the zoo.
        protocols: under which its accuracy was published.
        values: by metric; empty where the test had another protocol.
    """

    id: str
    protocols: list[str]
    values: dict[str, Against]


def against_zoo(meta: Mapping[str, Any], values: Mapping[str, float], videos: int) -> AgainstZoo | None:
    """Compare metrics with the row that the tested file is of.

    It is known by its hash, whatever its name; one whose hash was not published by the id that it was tested by.

    Args:
        meta: of the saved scores.
        values: metrics, of which `top1` and `top5` were published.
        videos: how many were scored.

    Returns:
        None for a file that is no published checkpoint, or a test on other data or with another network.
    """
    row = zoo.with_hash(meta["sha256"]) if meta.get("sha256") else None
    row = row or next((model for model in zoo.models() if model.id == meta.get("zoo")), None)
    network = meta.get("network")
    if row is None or meta.get("dataset") != row.dataset or not isinstance(network, dict):
        return None
    # scores of an older tsm lack keys that are newer: what it tested had the defaults
    if {**ModelConfig().identity(), **network} != load_preset(row.preset, row.sets).model.identity():
        return None
    protocol, found = meta.get("protocol_name"), {}
    for metric in ("top1", "top5"):
        percent = row.values(metric).get(str(protocol))
        if metric in values and percent is not None:
            found[metric] = Against(values[metric], round(percent / 100, 6), *interval(values[metric], videos))
    return AgainstZoo(row.id, row.protocols, found)

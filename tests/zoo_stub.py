"""A zoo of files that the tests make, in the place of the published ones."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from tsmcli import zoo
from tsmcli.zoo import File, Model


def model_of(id: str, preset: str, url: str, *, network: str = "resnet50", **more: Any) -> Model:
    """A row with one file."""
    facts = {"table": "test", "dataset": "folder", "frames": 8, "protocols": ["efficient"], "config": "x",
             "config_link": "/x.py", "cells": {"top1": "50.00", "gpus": "8"}}  # fmt: skip
    file = File(url)
    return Model(
        **{**facts, "id": id, "preset": preset, "network": network, "ckpt": file, "log": file, "json": file, **more}
    )


def use_models(
    monkeypatch: pytest.MonkeyPatch,
    models: Sequence[Model],
    extras: Sequence[zoo.Extra] = (),
) -> None:
    """Make these the whole zoo."""
    monkeypatch.setattr(zoo, "_read", lambda: (list(models), list(extras), []))


def light(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same names and shapes, of zeros that take no space, in memory or in a file of torch."""
    return {key: torch.zeros((), dtype=value.dtype).expand(value.shape) for key, value in state.items()}


def result_of(events: Generator[Any, None, Any]) -> Any:
    """The return value of a generator whose events do not matter."""
    while True:
        try:
            next(events)
        except StopIteration as stop:
            return stop.value

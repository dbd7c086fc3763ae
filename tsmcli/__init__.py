"""tsm: train, test, benchmark and run Temporal Shift Module video networks.

The command line (`tsm --help`) is a thin skin over a few functions, which are exported here for notebooks
and services. They are loaded on first use, so that `import tsmcli` and `tsm --help` do not load torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from tsmcli.core.tsm import build_model
    from tsmcli.engine.checkpoint import load_weights
    from tsmcli.presets import load_preset
    from tsmcli.recipes.network import load_checkpoint
    from tsmcli.recipes.predict import predict

__all__ = ["__version__", "build_model", "load_checkpoint", "load_preset", "load_weights", "predict"]

_HOME = {
    "load_preset": "tsmcli.presets",
    "build_model": "tsmcli.core.tsm",
    "load_weights": "tsmcli.engine.checkpoint",
    "load_checkpoint": "tsmcli.recipes.network",
    "predict": "tsmcli.recipes.predict",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'tsmcli' has no attribute {name!r}")

"""Read and write files of weights: PyTorch's, of which no code is ever run, and safetensors."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import struct
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from tsmcli.errors import WeightsError

# What torch's unpickler raises on bytes that are no checkpoint, or one cut short.
_DAMAGED = (
    pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError,
    struct.error, safetensors.SafetensorError,
)  # fmt: skip
_FORBIDDEN = re.compile(r"GLOBAL ([\w.]+)")


def read_file(path: Path | str) -> dict[str, Any]:
    """A saved dictionary of tensors and plain values; code in the file is never run.

    Raises:
        WeightsError: the file is missing, damaged, or holds anything else.
    """
    if Path(path).suffix == ".pt2":
        raise WeightsError(f"{path}: a program of torch.export, not weights", hint="torch.export.load runs it")
    try:
        tree = _read_safetensors(path) if is_safetensors(path) else _read_torch(path)
    except FileNotFoundError:
        raise WeightsError(f"no checkpoint {path}") from None
    except _DAMAGED as error:
        if isinstance(error, pickle.UnpicklingError) and (named := _FORBIDDEN.search(str(error))):
            raise WeightsError(
                f"{path}: wants {named[1]}, which weights do not need and which could run code; nothing was loaded",
                hint="get the file from its publisher: tsm zoo download fetches and verifies published ones",
            ) from None
        if isinstance(error, pickle.UnpicklingError | LookupError):  # torch's words advise to run what is in it
            raise WeightsError(f"{path}: cannot be read as a checkpoint: no file of weights") from None
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(f"{path}: cannot be read as a checkpoint: {reason}") from None
    if not isinstance(tree, dict):
        raise WeightsError(f"{path}: holds a {type(tree).__name__}, not a checkpoint")
    return tree


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a file, wherever in it their dictionary is.

    Raises:
        WeightsError: it cannot be read, or there are none.
    """
    state = weights_of(read_file(path))
    if not state:
        raise WeightsError(f"{path}: no weights in this file")
    return state


def weights_of(tree: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict in a saved dictionary: below `state_dict` or `model`, or the dictionary itself."""
    state = next((tree[key] for key in ("state_dict", "model") if isinstance(tree.get(key), Mapping)), tree)
    return {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, Tensor)}


def write_torch(path: Path, tree: Mapping[str, Any]) -> None:
    """Save a dictionary: to a temporary name, flushed to disk, then renamed over what was there."""
    with _replacing(path) as part, part.open("wb") as file:
        torch.save(tree, file)
        file.flush()
        os.fsync(file.fileno())


def write_safetensors(path: Path, state: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Save tensors, and facts about them as the file's metadata, in the same way."""
    with _replacing(path) as part, part.open("wb") as file:
        file.write(safetensors.torch.save({k: v.contiguous() for k, v in state.items()}, dict(facts)))
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A name to write to, which becomes `path` if all goes well, and is gone if not."""
    part = path.with_name(path.name + ".part")
    try:
        yield part
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.replace(path)


def is_safetensors(path: Path | str) -> bool:
    """Whether a file begins as safetensors files do: 8 bytes of length, then JSON."""
    with Path(path).open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and not start.startswith((b"PK", b"\x80"))


def _read_safetensors(path: Path | str) -> dict[str, Any]:
    """The tree of a checkpoint of ours where the metadata has one, else bare weights."""
    with safetensors.safe_open(path, framework="pt") as file:
        facts = file.metadata() or {}
        names: list[str] = file.keys()
        state = {name: file.get_tensor(name) for name in names}
    if "tsm" not in facts:
        return {"state_dict": state}
    tree: dict[str, Any] = json.loads(facts["tsm"])
    return {**tree, "model": state}


def _read_torch(path: Path | str) -> Any:
    allow = getattr(torch.serialization, "safe_globals", None)  # torch 2.4 has none: numbers of numpy are refused
    with allow(_NUMPY) if allow else contextlib.nullcontext(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about forms of pickle, of which an error follows
        return torch.load(path, map_location="cpu", weights_only=True)


class _NumpyType:
    """Stands in for numpy.dtype while a checkpoint is read: plain numbers only."""

    def __init__(self, code: str, *_: object) -> None:
        if not re.fullmatch(r"[fiub]\d", code):
            raise ValueError(f"a number of type {code}")
        self.type = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.type = self.type.newbyteorder(state[1])


def _named(thing: Any, module: str, name: str) -> Any:
    thing.__module__, thing.__name__, thing.__qualname__ = module, name, name
    return thing


def _number(module: str) -> Any:
    def scalar(kind: _NumpyType, data: bytes) -> Any:
        return np.frombuffer(data, kind.type)[0].item()

    return _named(scalar, module, "scalar")


_NUMPY = [
    _named(_NumpyType, "numpy", "dtype"), _number("numpy.core.multiarray"), _number("numpy._core.multiarray")
]  # fmt: skip
"""MMAction2's files may hold the best accuracy as a number of numpy; these read it, never numpy's own code."""

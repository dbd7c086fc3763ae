"""Read and write files of weights: PyTorch's, whose code is never run (see `pickled`), and safetensors.

Damage is found by checksums: PyTorch's files hold one for each record since torch 1.6, safetensors files one in all
if `write_safetensors` wrote them. In others, a changed number is noticed only if it is infinite or NaN.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from tsmcli.engine.pickled import TOO_MANY, Inert, read_pickled
from tsmcli.errors import WeightsError
from tsmcli.files import replacing, write_bytes

_DAMAGED = "damaged, nothing was loaded"
_AGAIN = "copy or fetch the file again"
_FLOATS = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_CONSTANTS = "data_preprocessor."
"""MMAction2 1.x may keep the mean and deviation of its normalisation among the weights."""
_COUNTS = {*_FLOATS, torch.int32, torch.int64}


def read_file(path: Path | str) -> dict[str, Any]:
    """A saved dictionary of tensors and plain values; code in the file is never run.

    Raises:
        WeightsError: the file is missing, damaged, or holds anything else.
    """
    path = Path(path)
    if path.suffix == ".pt2":
        raise WeightsError(f"{path}: a program of torch.export, not weights", hint="torch.export.load runs it")
    if not path.is_file():
        raise WeightsError(f"{path}: not a file" if path.exists() else f"no checkpoint {path}")
    try:
        tree = _read_safetensors(path) if is_safetensors(path) else _read_torch(path)
    except WeightsError:
        raise
    except Exception as error:  # reading a pickle raises nearly anything on bytes that are no checkpoint
        reason = "no file of weights"
        if isinstance(error, OSError | RuntimeError | zipfile.BadZipFile | safetensors.SafetensorError):
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise WeightsError(f"{path}: cannot be read as a checkpoint: {reason}") from None
    if not isinstance(tree, dict):
        kind = tree.name if isinstance(tree, Inert) else type(tree).__name__
        raise WeightsError(f"{path}: holds a {kind}, not a checkpoint")
    return tree


def read_weights(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a file, wherever in it their dictionary is; checked."""
    state = weights_of(read_file(path))
    check_weights(state, path)
    return state


def weights_of(tree: Mapping[str, Any]) -> dict[str, Tensor]:
    """The state dict in a saved dictionary: below `state_dict` or `model`, or the dictionary itself."""
    state = next((tree[key] for key in ("state_dict", "model") if isinstance(tree.get(key), Mapping)), tree)
    return {
        key: value
        for key, value in state.items()
        if isinstance(key, str) and isinstance(value, Tensor) and not key.startswith(_CONSTANTS)
    }


def check_weights(state: Mapping[str, Any], where: Path | str) -> None:
    """WeightsError for anything but weights: complex or whole numbers, sparse, quantised or no tensors, NaN."""
    if not state:
        raise WeightsError(f"{where}: no weights in this file")
    for name, tensor in state.items():
        kind = str(tensor.dtype).removeprefix("torch.") if isinstance(tensor, Tensor) else type(tensor).__name__
        counter = name.endswith("num_batches_tracked")
        if not isinstance(tensor, Tensor) or tensor.dtype not in (_COUNTS if counter else _FLOATS):
            raise WeightsError(f"{where}: {name} is of type {kind}; weights are floating-point numbers")
        ordinary = tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_nested)
        if not ordinary or tensor.nbytes > max(1 << 31, tensor.untyped_storage().nbytes()):  # a lie
            raise WeightsError(
                f"{where}: {name} is no ordinary tensor: sparse, quantised, nested or without its numbers"
            )
        if not torch.isfinite(tensor).all():
            raise WeightsError(
                f"{where}: {name} holds NaN or infinity; scores would mean nothing",
                hint="a training that went wrong leaves such weights: take an earlier checkpoint",
            )


def write_torch(path: Path, tree: Mapping[str, Any]) -> None:
    """Save a dictionary, whole or not at all; OSError where that cannot be."""
    with replacing(path) as part, _Watched(io.FileIO(part, "w")) as file:
        try:
            torch.save(tree, file)
        except RuntimeError:  # on a full disk torch reports an unexpected position in its archive
            if file.error:
                raise file.error from None
            raise


class _Watched(io.BufferedWriter):
    """A file that remembers why it could not be written."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.error = error
            raise


def write_safetensors(path: Path, state: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Save tensors, and facts about them as the file's metadata with a checksum, whole or not at all."""
    state = {name: tensor.contiguous() for name, tensor in state.items()}
    write_bytes(path, safetensors.torch.save(state, {**facts, "crc32": _checksum(state, facts)}))


def _checksum(state: Mapping[str, Tensor], facts: Mapping[str, str]) -> str:
    """CRC-32 of the metadata, and of the bytes of the tensors in the order of their names."""
    crc = zlib.crc32(facts.get("tsm", "").encode())
    for name in sorted(state):
        crc = zlib.crc32(state[name].cpu().flatten().view(torch.uint8).numpy().data, crc)
    return f"{crc:08x}"


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors files do: 8 bytes of length, then JSON."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and start[4:8] == bytes(4) and start[:4] != b"PK\x03\x04"


def _read_safetensors(path: Path) -> dict[str, Any]:
    """The tree of a checkpoint of ours where the metadata has one, else bare weights."""
    with safetensors.safe_open(path, framework="pt") as file:
        facts = file.metadata() or {}
        names: list[str] = file.keys()
        state = {name: file.get_tensor(name) for name in names}
    if facts.get("crc32", crc := _checksum(state, facts)) != crc:
        raise WeightsError(f"{path}: {_DAMAGED}", hint=_AGAIN)
    return {**json.loads(facts["tsm"]), "model": state} if "tsm" in facts else {"state_dict": state}


def _read_torch(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        _check_records(path)
    tree = read_pickled(path)
    found = tree.values() if isinstance(tree, dict) else [tree]
    whole = next((thing for thing in found if isinstance(thing, Inert) and thing.network), None)
    if whole and not (isinstance(tree, dict) and weights_of(tree)):
        raise WeightsError(
            f"{path}: a whole network, pickled with its code ({whole.name}); code in files is never run",
            hint="where its code is installed, save its weights: torch.save(model.state_dict(), 'weights.pth')",
        )
    return tree


def _check_records(path: Path) -> None:
    """Compare the checksums in a file of torch; takes about 0.3 s for 1 GB."""
    with zipfile.ZipFile(path) as file:
        if sum(record.file_size for record in file.infolist()) > path.stat().st_size:
            raise WeightsError(f"{path}: {TOO_MANY}")  # compressed, or one inside another; torch writes neither
        summed = any(record.CRC for record in file.infolist())  # torch can write a file without them
        if summed and (record := file.testzip()):
            raise WeightsError(f"{path}: {_DAMAGED}: its record {record} is not as it was written", hint=_AGAIN)

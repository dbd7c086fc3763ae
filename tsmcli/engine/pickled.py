"""Read the files that `torch.save` writes, without running what is in them.

A pickle is a program: it names functions and calls them with values of its own. Here it gets nothing to call but
the few functions below, which make tensors, dictionaries and numbers. Every other name, such as the class of a log
or of a configuration, becomes an `Inert`: nothing is imported for it, and calls of it and what is stored in it are
dropped. So the tensors of a file can be read whatever lies beside them. The safety does not depend on a list of bad
names. The names in `_RUN_CODE` are refused all the same: a file that wants them was made to do harm.

Only the operations that torch writes (pickle protocol 2) are known. Numbers are read straight from the file, never
more than it has, and a tensor never reaches beyond them. No key may be a tuple of tuples: the hash of a very deep
one ends the process.
"""

from __future__ import annotations

import builtins
import io
import math
import pickle
import re
import struct
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import torch
from torch import Tensor

from tsmcli.errors import WeightsError

_RUN_CODE = {
    "os", "posix", "nt", "sys", "subprocess", "shutil", "io", "_io", "importlib", "runpy", "ctypes", "socket",
    "pty", "webbrowser", "commands",
}  # fmt: skip
_KINDS = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128,
}  # fmt: skip
TOO_MANY = "damaged, nothing was loaded: it claims more numbers than it holds, or others"
_MAGIC = 0x1950A86A20F9469CFC6C
"""The first value in a file of torch before 1.6, which is no ZIP."""


class Inert:
    """Stands for anything in a file that is no tensor, plain value or dictionary.

    Attributes:
        name: of the class or function, as the file has it.
        network: whether it was stored with layers, as a whole network is.
    """

    def __init__(self, name: str) -> None:
        self.name, self.network = name, False

    def append(self, _: object) -> None:
        """Drop it."""

    def extend(self, _: object) -> None:
        """Drop them."""


def read_pickled(path: Path) -> Any:
    """What was saved; a tensor of a rare kind, such as a sparse one, is there without its numbers.

    Raises:
        WeightsError: it wants to run code, claims what it does not hold, or is a program of TorchScript.
        Exception: of nearly any kind, where it is damaged or no file of torch.
    """
    with path.open("rb") as file:
        if zipfile.is_zipfile(path):
            return _from_zip(file, path)
        if file.read(4) == b"PK\x03\x04":
            raise WeightsError(f"{path}: cannot be read as a checkpoint: it is cut off, nothing was loaded")
        file.seek(0)
        return _from_old(file, path)


def _from_zip(file: BinaryIO, path: Path) -> Any:
    """Since torch 1.6: a pickle, and the numbers of each storage as a record of their own."""
    with zipfile.ZipFile(path) as archive:
        records = {record.filename: record for record in archive.infolist()}
    root = next(name for name in records if name.endswith("/data.pkl")).removesuffix("/data.pkl")
    if f"{root}/constants.pkl" in records:
        raise WeightsError(f"{path}: a program of TorchScript, not weights", hint="torch.jit.load runs it")

    def find(name: str) -> int:
        record = records[f"{root}/{name}"]
        file.seek(record.header_offset + 26)
        file.seek(record.header_offset + 30 + sum(struct.unpack("<HH", file.read(4))))
        return record.file_size

    def fill(key: str, flat: Tensor) -> None:
        if find(f"data/{key}") != flat.nbytes:
            raise WeightsError(f"{path}: {TOO_MANY}")
        _read_numbers(file, flat)
        if swapped:
            numbers = flat.view(torch.uint8).view(-1, flat.itemsize)
            numbers.copy_(numbers.flip(1))

    swapped = f"{root}/byteorder" in records and file.read(find("byteorder")).decode() != sys.byteorder
    return _Reader(io.BytesIO(file.read(find("data.pkl"))), path, fill).load()


def _from_old(file: BinaryIO, path: Path) -> Any:
    """Before torch 1.6: pickles of a mark, a version, the machine, the object and the names of the storages."""
    if _Reader(file, path).load() != _MAGIC:
        raise pickle.UnpicklingError("no file of torch")
    for _ in range(2):
        _Reader(file, path).load()
    reader = _Reader(file, path)
    tree, names = reader.load(), _Reader(file, path).load()
    if not all(isinstance(name, str) for name in names) or sorted(names) != sorted(reader.storages):
        raise WeightsError(f"{path}: {TOO_MANY}")
    for name in names:
        flat = reader.storages[name]
        if int.from_bytes(file.read(8), "little") != flat.numel():
            raise WeightsError(f"{path}: {TOO_MANY}")
        _read_numbers(file, flat)
    return tree


def _read_numbers(file: BinaryIO, flat: Tensor) -> None:
    if flat.numel() and file.readinto(flat.view(torch.uint8).numpy().data) != flat.nbytes:  # type: ignore[attr-defined]
        raise OSError("it is cut off, nothing was loaded")


class _Reader(pickle._Unpickler):
    """The machine that a pickle runs on; `fill` gets the name of a storage and puts its numbers into a tensor."""

    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    def __init__(self, file: Any, path: Path, fill: Callable[[str, Tensor], None] = lambda *_: None) -> None:
        super().__init__(file, encoding="utf-8")
        self.path, self.fill = path, fill
        self.left = path.stat().st_size
        self.storages: dict[str, Tensor] = {}
        self.known: dict[str, Any] = {
            "collections.OrderedDict": _ordered,
            "torch._utils._rebuild_tensor": self.tensor,
            "torch._utils._rebuild_tensor_v2": self.tensor,
            "torch._utils._rebuild_parameter": lambda data, *_: data,
            "_codecs.encode": lambda text, *_: text.encode("latin1"),  # how protocol 2 writes bytes
            "numpy.dtype": _NumberType.of,
            "numpy.core.multiarray.scalar": _number,
            "numpy._core.multiarray.scalar": _number,
        }

    def find_class(self, module: str, name: str) -> Any:
        """Ours for the name, or an inert one."""
        whole = f"{module}.{name}"
        if module in ("torch", "torch.cuda") and name in _KINDS:
            return _KINDS[name]
        if whole in self.known:
            return self.known[whole]
        whole = re.sub(r"[^\w.]", "?", whole)[:100]
        harmless = name == "getattr" or isinstance(getattr(builtins, name, None), type)
        if module.split(".")[0] in _RUN_CODE or (module in ("builtins", "__builtin__") and not harmless):
            raise WeightsError(
                f"{self.path}: wants {whole}, which weights do not need and which could run code; "
                "nothing was loaded",
                hint="get the file from its publisher: tsm zoo download fetches and verifies published ones",
            )
        return Inert(whole)

    def call(self) -> None:
        """REDUCE and NEWOBJ: the last value of the stack holds the arguments, the one before is what to call."""
        arguments = self.stack.pop()
        function = self.stack[-1]
        if isinstance(function, Inert):
            rare = function.name.startswith(("torch._utils._rebuild", "torch._tensor._rebuild"))
            self.stack[-1] = _rare() if rare else Inert(function.name)
        elif any(function is ours for ours in self.known.values()):
            self.stack[-1] = function(*arguments)
        else:
            raise pickle.UnpicklingError("a call of what is no function")

    def build(self) -> None:
        """BUILD: give the object at the end of the stack its attributes, which nothing needs."""
        state = self.stack.pop()
        thing = self.stack[-1]
        if isinstance(thing, Inert):
            thing.network |= isinstance(state, dict) and "_modules" in state
        elif isinstance(thing, _NumberType):
            thing.type = thing.type.newbyteorder(state[1])
        elif not isinstance(thing, OrderedDict):
            raise pickle.UnpicklingError("attributes of what has none")

    def set_item(self) -> None:
        """SETITEM."""
        value, key = self.stack.pop(), self.stack.pop()
        _put(self.stack[-1], [(key, value)])

    def set_items(self) -> None:
        """SETITEMS."""
        items = self.pop_mark()
        _put(self.stack[-1], zip(items[::2], items[1::2], strict=True))

    def storage(self) -> None:
        """BINPERSID: the numbers of a tensor, as a flat one."""
        kind, *what = self.stack.pop()
        if kind == "module":  # the class of a layer, with its source
            self.append(what[0])
        elif kind != "storage" or not isinstance(what[1], str):
            raise pickle.UnpicklingError("a reference to what is no storage")
        elif isinstance(what[0], torch.dtype):
            dtype, key, _, count, *view = what
            if key not in self.storages:
                self.left -= count * dtype.itemsize
                if count < 0 or self.left < 0:
                    raise WeightsError(f"{self.path}: {TOO_MANY}")
                self.storages[key] = torch.empty(count, dtype=dtype)
                self.fill(key, self.storages[key])
            start = view[0][1] if view and view[0] else 0  # torch before 0.4 stored parts of a storage
            self.append(self.storages[key][start:])
        else:
            self.append(what[0])

    def tensor(self, flat: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *more: Any) -> Any:
        """`_rebuild_tensor_v2`: a view into the numbers of a storage; gradients and hooks are dropped."""
        if not isinstance(flat, Tensor) or any(more[2:]):  # of a rare kind, or of a complex number conjugated
            return _rare()
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        inside = math.prod(size) == 0 or last < flat.numel()
        if min((offset, *size, *stride)) < 0 or not inside or math.prod(size) > 1 << 40 or len(size) > 8:
            raise WeightsError(f"{self.path}: {TOO_MANY}")
        return flat.as_strided(size, stride, flat.storage_offset() + offset)

    dispatch: ClassVar[dict[int, Any]] = {op[0]: pickle._Unpickler.dispatch[op[0]] for op in (
        pickle.PROTO, pickle.STOP, pickle.GLOBAL, pickle.MARK, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE,
        pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.EMPTY_TUPLE, pickle.EMPTY_LIST,
        pickle.EMPTY_DICT, pickle.APPEND, pickle.APPENDS, pickle.BININT, pickle.BININT1, pickle.BININT2,
        pickle.LONG1, pickle.BINFLOAT, pickle.BINUNICODE, pickle.SHORT_BINSTRING, pickle.BINPUT,
        pickle.LONG_BINPUT, pickle.BINGET, pickle.LONG_BINGET,
    )} | {
        pickle.REDUCE[0]: call, pickle.NEWOBJ[0]: call, pickle.BUILD[0]: build, pickle.SETITEM[0]: set_item,
        pickle.SETITEMS[0]: set_items, pickle.BINPERSID[0]: storage,
    }  # fmt: skip


def _rare() -> Tensor:
    """Stands for a tensor that is no weight, so that it is refused by its name and not missed."""
    return torch.empty(0, device="meta")


def _put(target: Any, items: Iterable[tuple[Any, Any]]) -> None:
    """Set items of a dictionary, and drop those of an inert object."""
    if not isinstance(target, dict | Inert):
        raise pickle.UnpicklingError("an item of what is no dictionary")
    for key, value in items:
        if isinstance(key, tuple) and any(isinstance(part, tuple) for part in key):
            raise pickle.UnpicklingError("a key of tuples in tuples")
        if isinstance(target, dict):
            target[key] = value


def _ordered(items: Iterable[tuple[Any, Any]] = ()) -> OrderedDict[Any, Any]:
    made: OrderedDict[Any, Any] = OrderedDict()
    _put(made, items)
    return made


class _NumberType:
    """Stands for numpy.dtype: of plain numbers only."""

    def __init__(self, code: str) -> None:
        self.type = np.dtype(code)

    @classmethod
    def of(cls, code: str, *_: object) -> _NumberType | Inert:
        return cls(code) if re.fullmatch(r"[fiub]\d", code) else Inert("numpy.dtype")


def _number(kind: Any, data: Any) -> Any:
    """MMAction2's files may hold the best accuracy as a number of numpy."""
    if isinstance(kind, _NumberType) and isinstance(data, bytes):
        return np.frombuffer(data, kind.type)[0].item()
    return Inert("numpy.generic")

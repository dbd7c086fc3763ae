"""Pickles made to do harm, in both forms of torch's files: none runs code, crashes, or takes long or much memory."""

from __future__ import annotations

import copyreg
import hashlib
import json
import pickle
import struct
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import nn

from tsmcli.engine.pickled import Inert
from tsmcli.engine.weight_file import read_file, read_weights
from tsmcli.errors import WeightsError

GOLDEN = Path(__file__).parents[1] / "golden"
NUMBERS = torch.arange(7.0)
DEEP = 300_000
MARK, CALL, BUILD = b"(", b"R", b"b"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def whole(value: int) -> bytes:
    return b"\x8a\x0c" + value.to_bytes(12, "little", signed=True)


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def group(*parts: bytes) -> bytes:
    return MARK + b"".join(parts) + b"t"


def call(module: str, name: str, *args: bytes) -> bytes:
    return named(module, name) + group(*args) + CALL


def stored(count: int = 7, key: bytes | None = None, kind: bytes | None = None) -> bytes:
    """A reference to the numbers of a tensor; the last part is only in old files."""
    kind, key = kind or named("torch", "FloatStorage"), key or text("0")
    return group(text("storage"), kind, key, text("cpu"), whole(count), b"<old>") + b"Q"


def tensor(storage: bytes, offset: int = 0, size: tuple[int, ...] = (7,), stride: tuple[int, ...] = (1,)) -> bytes:
    shape = [group(*map(whole, numbers)) for numbers in (size, stride)]
    return call("torch._utils", "_rebuild_tensor_v2", storage, whole(offset), *shape, b"\x89", b"N")


def write(path: Path, meta: bytes, *, new: bool) -> None:
    """A file of one good tensor, and the given part of a pickle beside it."""
    body = (
        b"\x80\x02}("
        + text("state_dict")
        + b"}"
        + text("w")
        + tensor(stored())
        + b"s"
        + text("meta")
        + meta
        + b"u."
    )
    body, numbers = body.replace(b"<old>", b"" if new else b"N"), NUMBERS.numpy().tobytes()
    if new:
        with zipfile.ZipFile(path, "w") as file:
            for name, data in (
                ("data.pkl", body),
                ("byteorder", b"little"),
                ("data/0", numbers),
                ("version", b"3"),
            ):
                file.writestr(f"archive/{name}", data)
    else:
        start = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
        path.write_bytes(b"".join([start, body, pickle.dumps(["0"], 2), struct.pack("<q", 7), numbers]))


TRAP = """
from pathlib import Path
trace = lambda *_: Path(__file__).with_name("trace").touch()
trace()
class Trap(dict):
    __new__ = __init__ = __setstate__ = __setitem__ = append = extend = __call__ = __hash__ = __eq__ = trace
"""
TOUCH = text("touch TRACE")
CODE = text("open('TRACE', 'w')")
TRAPPED = named("trap", "Trap")

REFUSED = {
    "os.system": call("os", "system", TOUCH),
    "posix.system": call("posix", "system", TOUCH),
    "nt.system": call("nt", "system", TOUCH),
    "os.path": call("os.path", "exists", TOUCH),
    "eval": call("builtins", "eval", CODE),
    "eval of Python 2": call("__builtin__", "eval", CODE),
    "exec": call("builtins", "exec", CODE),
    "open": call("__builtin__", "open", text("TRACE"), text("w")),
    "io.open": call("io", "open", text("TRACE"), text("w")),
    "import": call("builtins", "__import__", text("trap")),
    "import_module": call("importlib", "import_module", text("trap")),
    "Popen": call("subprocess", "Popen", text("TRACE")),
    "runpy": call("runpy", "_run_code", CODE, b"}"),
    "copy": call("shutil", "copy", text("/etc/hostname"), text("TRACE")),
    "partial": call("functools", "partial", named("os", "system"), TOUCH) + b")" + CALL,
    "getattr of os": call("__builtin__", "getattr", named("os", "path"), text("system")) + group(TOUCH) + CALL,
    "INST": MARK + TOUCH + b"ios\nsystem\n",
    "OBJ": MARK + named("trap", "Trap") + TOUCH + b"o",
    "NEWOBJ_EX": TRAPPED + b")}\x92",
    "STACK_GLOBAL": text("trap") + text("Trap") + b"\x93)R",
    "STACK_GLOBAL with dots": text("trap") + text("Trap.__init__") + b"\x93)R",
    "EXT1": b"\x82\xf0)R",
    "EXT2": b"\x83\xf0\x00)R",
    "EXT4": b"\x84\xf0\x00\x00\x00)R",
    "persistent id of text": b"Ptrap.Trap\n",
    "persistent id that is a number": b"K\x05Q",
    "persistent id that is a list": b"]Q",
    "persistent id of another kind": group(text("file"), text("TRACE"), text("w"), b"N", b"N") + b"Q",
    "key of a storage that is none": tensor(stored(key=b")")),
    "more numbers than the file has": tensor(stored(1 << 40, key=text("1")), size=(1 << 40,)),
    "less than no numbers": tensor(stored(-7, key=text("1"))),
    "storage that is not there": tensor(stored(1, key=text("../data.pkl"))),
    "huge size": tensor(stored(), size=(1 << 40,)),
    "size beyond 64 bits": tensor(stored(), size=(1 << 70,), stride=(0,)),
    "negative size": tensor(stored(), size=(-7,)),
    "offset beyond the end": tensor(stored(), offset=1),
    "negative offset": tensor(stored(), offset=-4),
    "negative stride": tensor(stored(), stride=(-1,)),
    "huge stride": tensor(stored(), stride=(1 << 62,)),
    "stride without size": tensor(stored(), stride=(1, 1)),
    "too many dimensions": tensor(stored(), size=(1,) * 99, stride=(1,) * 99),
    "call of a number": b"K\x05)R",
    "call of a tensor": tensor(stored()) + b")R",
    "state of a tensor": tensor(stored()) + group(stored(), whole(0)) + BUILD,
    "attributes of a list": b"]" + b"}" + BUILD,
    "item of a tensor": tensor(stored()) + whole(0) + whole(9) + b"s",
    "key of deep tuples": b"}" + b")" + b"\x85" * DEEP + b"Ns",
    "deep tuples in an ordered dictionary": call("collections", "OrderedDict", group(group(b")" + b"\x85" * DEEP, b"N"))),
    "key that has no hash": b"}]Ns",
    "value that is not there": b"h\xff",
    "text longer than the file": b"X\xff\xff\xff\xffabc",
    "bytes of 8 EB": b"\x8e" + struct.pack("<Q", 1 << 62),
    "array of bytes of 8 GB": b"\x96" + struct.pack("<Q", 1 << 33),
    "number of 2 GB": b"\x8b\xff\xff\xff\x7f",
}  # fmt: skip
HARMLESS = {
    "getattr": call("__builtin__", "getattr", TRAPPED, text("update")),
    "call of what getattr gave": call("__builtin__", "getattr", TRAPPED, text("trace")) + group(TOUCH) + CALL,
    "name with dots": call("pathlib", "Path.touch", text("TRACE")),
    "name of a trap": TRAPPED,
    "call of a trap": TRAPPED + b")" + CALL + b")" + CALL,
    "new trap": TRAPPED + b")\x81",
    "state of a trap": TRAPPED + b")\x81}" + text("a") + TOUCH + b"s" + BUILD,
    "slots of a trap": TRAPPED + b")\x81" + group(b"}", b"}" + text("__class__") + TRAPPED + b"s") + BUILD,
    "items of a trap": TRAPPED + b")\x81" + text("a") + TOUCH + b"s" + MARK + text("b") + TOUCH + b"u",
    "list of a trap": TRAPPED + b")\x81" + TOUCH + b"a" + MARK + TOUCH + TOUCH + b"e",
    "trap as a key": b"}" + TRAPPED + b")RNs",
    "torch.load": call("torch.serialization", "load", text("TRACE")),
    "torch.hub": call("torch.hub", "load", text("TRACE"), text("x")),
    "numpy.load": call("numpy", "load", text("TRACE"), b"N", b"\x88"),
    "runstring": call("numpy.testing._private.utils", "runstring", CODE, b"}"),
    "methodcaller": call("operator", "methodcaller", text("system"), TOUCH) + group(TRAPPED) + CALL,
    "copyreg": call("copyreg", "_reconstructor", TRAPPED, named("__builtin__", "object"), b"N"),
    "tensor of its own size": call("torch", "FloatTensor", whole(1 << 36)),
    "sparse tensor": call("torch._utils", "_rebuild_sparse_tensor", TRAPPED, group(TRAPPED, TRAPPED, TRAPPED)),
    "tensor of a later form": call("torch._utils", "_rebuild_tensor_v3", stored(), whole(0), group(whole(1 << 33)),
                                   group(whole(1)), b"\x89", b"N", named("torch", "float32")),
    "tensor of a trap": call("torch._tensor", "_rebuild_from_type_v2", TRAPPED, TRAPPED, b")", b"}"),
    "numbers of a trap": tensor(stored(kind=TRAPPED)),
    "layer with its source": group(text("module"), TRAPPED, text("/trap.py"), text("source")) + b"Q",
    "numbers of objects": call("numpy", "dtype", text("O8"), b"K\x00", b"K\x01"),
    "ordered dictionary with attributes": named("collections", "OrderedDict") + b")R}" + text("items") + TRAPPED
    + b"s" + BUILD,
    "deep lists": b"]" * DEEP + b"a" * (DEEP - 1),
    "deep tuples": b")" + b"\x85" * DEEP,
    "lists that double": b"(]q\x05" + b"](h\x05h\x05eq\x05" * 99 + b"t",
    "memo of 4 billion": b"Nr\xff\xff\xff\xff",
}  # fmt: skip


def set_trap(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a module that leaves a trace when it is imported or used, and number 240 stand for it; the trace."""
    (folder / "trap.py").write_text(TRAP)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setitem(copyreg._inverted_registry, 240, ("trap", "Trap"))  # type: ignore[attr-defined]
    return folder / "trace"


def armed(meta: bytes, trace: Path) -> bytes:
    """A part of a pickle, with the path of the trace in its texts."""
    for old in ("touch TRACE", "open('TRACE', 'w')", "TRACE"):
        meta = meta.replace(text(old), text(old.replace("TRACE", str(trace))))
    return meta


@pytest.mark.parametrize("new", [True, False], ids=["new", "old"])
@pytest.mark.parametrize("name", [*REFUSED, *HARMLESS])
def test_hostile_pickles_are_refused_or_harmless(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, new: bool
) -> None:
    trace, path = set_trap(tmp_path, monkeypatch), tmp_path / "x.pth"
    write(path, armed((REFUSED | HARMLESS)[name], trace), new=new)
    begun = time.perf_counter()
    if name in HARMLESS:
        assert torch.equal(read_weights(path)["w"], NUMBERS)
    else:
        with pytest.raises(WeightsError, match="x.pth"):
            read_weights(path)
    assert time.perf_counter() - begun < 10
    assert not trace.exists()
    assert "trap" not in sys.modules


@pytest.mark.filterwarnings("ignore")
def test_the_trap_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own unpickler falls into it, so the test above can fail."""
    for name in ("os.system", "eval", "open", "INST", "NEWOBJ_EX", "EXT1", "STACK_GLOBAL", "list of a trap"):
        trace = set_trap(tmp_path, monkeypatch)
        with suppress(Exception):
            pickle.loads(b"\x80\x02" + armed((REFUSED | HARMLESS)[name], trace) + b".")
        assert trace.exists(), name
        trace.unlink()
        sys.modules.pop("trap", None)


def test_hostile_pickles_take_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace = set_trap(tmp_path, monkeypatch)
    for number, meta in enumerate((REFUSED | HARMLESS).values()):
        for new in (True, False):
            write(tmp_path / f"{number}-{new}.pth", armed(meta, trace), new=new)
    code = """
import resource, sys
from contextlib import suppress
from pathlib import Path
from tsmcli.engine.weight_file import read_file
from tsmcli.errors import WeightsError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in Path(sys.argv[1]).glob("*.pth"):
    with suppress(WeightsError):
        read_file(path)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 500 * 1024  # KiB; {DEEP} objects take some
    assert not trace.exists()


def test_a_file_that_is_larger_unpacked_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", bytes(10_000_000))
    with pytest.raises(WeightsError, match="claims more numbers than it holds"):
        read_file(path)


def test_a_training_checkpoint_of_mmengine() -> None:
    """Its log object, schedulers and optimiser lie beside the weights; every tensor is as it was written."""
    path = GOLDEN / "mmengine_epoch_1.pth"
    facts = json.loads(path.with_suffix(".json").read_text())
    assert hashlib.sha256(path.read_bytes()).hexdigest() == facts["_meta"]["sha256"]
    state, tree = read_weights(path), read_file(path)
    shapes = [[name, list(value.shape), str(value.dtype).removeprefix("torch.")] for name, value in state.items()]
    assert shapes == facts["state_dict"]
    for name, value in state.items():
        assert hashlib.sha256(value.numpy().tobytes()).hexdigest().startswith(facts["digest"][name]), name
    for name, numbers in facts["values"].items():
        assert state[name].tolist() == numbers
    assert [*tree] == facts["top_level"]
    assert tree["meta"]["epoch"] == 1
    log = tree["message_hub"]["log_scalars"]["train/loss"]
    assert isinstance(log, Inert)
    assert log.name == "mmengine.logging.history_buffer.HistoryBuffer"


def test_constants_of_mmaction_are_no_weights(tmp_path: Path) -> None:
    mean = {"data_preprocessor.mean": torch.zeros(3, 1, 1), "data_preprocessor.std": torch.ones(3, 1, 1)}
    torch.save({"state_dict": {**mean, "w": NUMBERS}}, tmp_path / "x.pth")
    assert [*read_weights(tmp_path / "x.pth")] == ["w"]


@pytest.mark.parametrize("new", [True, False])
def test_a_whole_network_is_refused_with_what_to_do(tmp_path: Path, new: bool) -> None:
    path, network = tmp_path / "x.pth", nn.Sequential(nn.Linear(2, 3))
    for tree in (network, {"epoch": 3, "model": network}):
        torch.save(tree, path, _use_new_zipfile_serialization=new)
        with pytest.raises(
            WeightsError, match=r"a whole network, .*\(torch.nn.modules.container.Sequential\)"
        ) as caught:
            read_weights(path)
        assert "torch.save(model.state_dict()" in caught.value.hint
    torch.save({"state_dict": network.state_dict(), "ema": network}, path, _use_new_zipfile_serialization=new)
    assert torch.equal(read_weights(path)["0.weight"], network.state_dict()["0.weight"])


def test_a_program_of_torchscript_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "x.pt", b"N", new=True)
    with zipfile.ZipFile(tmp_path / "x.pt", "a") as file:
        file.writestr("archive/constants.pkl", b"\x80\x02).")
    with pytest.raises(WeightsError, match="a program of TorchScript, not weights"):
        read_file(tmp_path / "x.pt")


@pytest.mark.parametrize("new", [True, False])
def test_tensors_are_read_as_torch_reads_them(tmp_path: Path, new: bool) -> None:
    """Views of shared numbers, transposed and expanded ones, scalars, empty ones, and every kind of number."""
    base = torch.randn(4, 6)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
             torch.uint8, torch.bool, torch.complex64)  # fmt: skip
    state = {"part": base[1:3, 2:], "turned": base.t(), "wide": base[:1].expand(5, 6), "one": torch.tensor(5.0),
             "none": torch.empty(0, 3), "layer": nn.Parameter(base), **{str(k): base.to(k) for k in kinds}}  # fmt: skip
    torch.save(state, tmp_path / "x.pth", _use_new_zipfile_serialization=new)
    read, theirs = read_file(tmp_path / "x.pth"), torch.load(tmp_path / "x.pth", weights_only=True)
    for name, value in theirs.items():
        assert torch.equal(read[name], value), name
        assert (read[name].dtype, read[name].stride()) == (value.dtype, value.stride()), name
    assert read["part"].untyped_storage().data_ptr() == read["turned"].untyped_storage().data_ptr()


def test_numbers_of_a_machine_of_the_other_byte_order(tmp_path: Path) -> None:
    write(tmp_path / "x.pth", b"N", new=True)
    numbers = NUMBERS.numpy()
    with zipfile.ZipFile(tmp_path / "x.pth") as file, zipfile.ZipFile(tmp_path / "y.pth", "w") as other:
        for name in file.namelist():
            data = {"archive/byteorder": b"big", "archive/data/0": numbers.byteswap().tobytes()}.get(name)
            other.writestr(name, data or file.read(name))
    assert torch.equal(read_weights(tmp_path / "y.pth")["w"], NUMBERS)

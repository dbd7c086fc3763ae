"""A clip and a frame of a stream: in PyTorch, in our engines and number formats, and by libraries called directly.

    python benchmarks/engines.py [--network resnet50 mobilenet_v2] [--kind clip stream] [--rounds 15] [--threads 1]

With the same weights (those of `benchmarks/network.py`), in turn and in random order within one process, 224 px:

  torch fp32       the baseline: what `tsm test` and `tsm stream` did before there were engines
  ours ...         `open_engine` and `open_step`, as these commands call them: uint8 pixels in, logits out
  onnxruntime ...  a file of `tsm export --preprocess` in onnxruntime, by its own interface
  openvino ...     the same file in OpenVINO, by its own interface, for one clip, with the latency hint

A clip has 8 frames and a bidirectional shift, a stream is one frame and a unidirectional shift. 8-bit files are
written by the function of `tsm export --int8` from random pixels: good for times only.

Times are CPU time of the process on one thread, else wall-clock time; printed are medians, and the median of the
ratios to the baseline within a round. `limit` is the share of the multiply-adds per second that the quickest large
product reaches in the same number format, in the same rounds. `difference` is the largest one from the baseline's
logits, over the largest logit. The last line is JSON.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from network import networks
from torch import Tensor

from tsmcli.config import Config
from tsmcli.core.exportable import ClipNetwork, StreamNetwork, example_input
from tsmcli.core.inference import fold_batch_norms
from tsmcli.engine.device import environment, keep_freed_memory
from tsmcli.engine.exported_file import trace, write_onnx
from tsmcli.engine.inference import ABLE, Choice
from tsmcli.engine.quantiser import write_int8
from tsmcli.engine.sidecar import Exported
from tsmcli.errors import TsmError
from tsmcli.presets import load_preset, override
from tsmcli.recipes import conversion
from tsmcli.recipes.bench.cost import count_cost
from tsmcli.recipes.bench.engines import products
from tsmcli.recipes.engines import open_engine, open_step
from tsmcli.recipes.events import result_of
from tsmcli.recipes.network import Opened

SIZE, FRAMES, CLASSES = 224, 8, 400
CPU = torch.device("cpu")
FLAGS = r"avx2|avx512f|avx512_bf16|avx512_vnni|avx_vnni|amx_\w+"
Call = Callable[[], Tensor]


def configuration(backbone: str, kind: str) -> Config:
    shift = "unidirectional" if kind == "stream" else "bidirectional"
    wanted = {"backbone": backbone, "num_segments": FRAMES, "shift": shift, "init": "none", "dropout": 0}
    wanted |= {"num_classes": CLASSES}
    config = override(load_preset("r50-k400-8f"), [f"model.{key}={value}" for key, value in wanted.items()])
    return override(config, [f"test.crop_px={SIZE}"])


def write_files(model: Any, kind: str, folder: Path) -> tuple[Path, Path, dict[str, Tensor]]:
    """The ONNX file that `tsm export --preprocess` writes, its 8-bit form, and inputs: a clip, or a frame."""
    of = StreamNetwork if kind == "stream" else ClipNetwork
    network = of(fold_batch_norms(model), pixels=True)
    plain, small, signature = folder / "plain.onnx", folder / "int8.onnx", network.signature(SIZE)
    run, one = write_onnx(plain, trace(network, signature), signature), network.signature(SIZE, 1)

    def samples() -> Iterator[dict[str, Any]]:
        pixels, *cache = one.inputs.values()
        for seed in range(4):
            inputs = [example_input(list(pixels.shape[:-3]), SIZE, pixels=True, seed=seed), *cache]
            yield {name: tensor.numpy() for name, tensor in zip(one.inputs, inputs, strict=True)}
            _, *cache = run(inputs)

    write_int8(plain, small, samples(), limit=float("inf"))
    _, *cache = run(list(one.inputs.values()))  # after one frame
    names = list(one.inputs)
    return plain, small, {names[0]: one.inputs[names[0]], **dict(zip(names[1:], cache, strict=True))}


def ours(opened: Opened, choice: Choice, kind: str, pixels: Tensor) -> tuple[str, Call]:
    """What the commands run; pixels are uint8 [1, T, 3, H, W], or [1, 3, H, W] of a stream."""
    if kind == "stream":
        step, chosen = result_of(open_step(opened, choice, CPU))
        cache = step(pixels, [])[1]
        return f"ours {chosen.engine} {chosen.precision}", lambda: step(pixels, cache)[0]
    engine = result_of(open_engine(opened, choice, CPU, opened.config.test, 1))
    return f"ours {engine.choice.engine} {engine.choice.precision}", lambda: engine.run(pixels)


def in_onnxruntime(path: Path, inputs: dict[str, Any], threads: int) -> Call:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: torch.from_numpy(session.run(None, inputs)[0])


def in_openvino(path: Path, inputs: dict[str, Any], threads: int, precision: str) -> Call:
    import openvino

    core = openvino.Core()
    model = core.read_model(path)
    model.reshape({name: list(array.shape) for name, array in inputs.items()})
    hints = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(model, "CPU", hints).create_infer_request()
    arrays = list(inputs.values())

    def run() -> Tensor:
        request.infer(arrays, share_inputs=True)
        return torch.from_numpy(request.get_output_tensor(0).data.copy())

    return run


def calls_of(backbone: str, kind: str, threads: int, folder: Path) -> tuple[dict[str, Call], list[str]]:
    """A call of each kind by name, whose last word is the number format; and what cannot be had here."""
    config = configuration(backbone, kind)
    model = networks(config.model)["ours"].eval()
    plain, small, tensors = write_files(copy.deepcopy(model), kind, folder)
    names = [str(number) for number in range(CLASSES)]
    exported = Exported(small, kind == "stream", pixels=True, probabilities=False, int8=True, crop_px=SIZE)
    pixels = next(iter(tensors.values())).movedim(-1, -3)

    def opened(file: Exported | None = None) -> Opened:  # anew for each, which may change it
        return Opened(
            file.path if file else plain,
            f"{backbone}-{kind}",
            "random",
            config,
            names,
            lambda: copy.deepcopy(model),
            None,
            file,
        )

    calls = {"torch fp32": ours(opened(), Choice("torch", "fp32"), kind, pixels)[1]}
    missing = []
    for numbers, engine in ((numbers, engine) for numbers, able in ABLE.items() for engine in able):
        try:
            own = opened(exported if numbers == "int8" else None)
            name, call = ours(own, Choice(engine, numbers), kind, pixels)
            if name != "ours torch fp32":
                calls[name] = call
        except TsmError as error:
            missing.append(f"{engine} {numbers}: {error}")
    inputs = {name: tensor.numpy() for name, tensor in tensors.items()}
    calls["onnxruntime fp32"] = in_onnxruntime(plain, inputs, threads)
    calls["onnxruntime int8"] = in_onnxruntime(small, inputs, threads)
    calls["openvino fp32"] = in_openvino(plain, inputs, threads, "f32")
    try:
        calls["openvino int8"] = in_openvino(small, inputs, threads, "f32")
        calls["openvino int8"]()
    except RuntimeError as error:
        missing.append(f"openvino int8: {str(error).strip().splitlines()[-1]}")
    if any(name == "ours openvino bf16" for name in calls):
        calls["openvino bf16"] = in_openvino(plain, inputs, threads, "bf16")
    return calls, missing


def time_calls(calls: dict[str, Callable[[], object]], rounds: int, threads: int) -> dict[str, Any]:
    clock = time.process_time if threads == 1 else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(-2, rounds):  # the first two warm up
        for name in random.sample(list(calls), len(calls)):
            start = clock()
            calls[name]()
            if round_number >= 0:
                times[name].append(clock() - start)
    return {name: np.array(values) for name, values in times.items()}


def measure(backbone: str, kind: str, options: Any) -> dict[str, Any]:
    made = {
        f"{n} {what}": p for n in ("fp32", "bf16", "int8") for what, p in products(n, openvino=n != "int8").items()
    }
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder  # where converted networks are kept
        calls, missing = calls_of(backbone, kind, options.threads, Path(folder))
        with torch.inference_mode():
            said = {name: call() for name, call in calls.items()}
            timed = time_calls(
                calls | {name: call for name, (_, call) in made.items()}, options.rounds, options.threads
            )
    config = configuration(backbone, kind)
    macs = count_cost(config.model, CLASSES, SIZE).macs // (FRAMES if kind == "stream" else 1)
    limits: dict[str, tuple[float, str]] = {}
    for name, (work, _) in made.items():
        numbers, _, what = name.partition(" ")
        limits[numbers] = max(limits.get(numbers, (0.0, "")), (float(work / timed[name].min()), what))
    expected = said["torch fp32"]
    rows = {}
    for name in calls:
        low, middle, high = np.percentile(timed[name] / timed["torch fp32"], (25, 50, 75))
        median = float(np.median(timed[name]))
        rows[name] = {
            "ms": 1e3 * median, "ratio": float(middle), "quartiles": (float(low), float(high)),
            "limit_share": macs / median / limits[name.rpartition(" ")[2]][0],
            "difference": ((said[name] - expected).abs().max() / expected.abs().max()).item(),
        }  # fmt: skip
    return {"network": backbone, "kind": kind, "macs": macs, "limits": limits, "rows": rows, "missing": missing}


def flags() -> list[str]:
    """What the processor has for products in these number formats."""
    listing = Path("/proc/cpuinfo")
    return sorted(set(re.findall(rf"\b(?:{FLAGS})\b", listing.read_text()))) if listing.is_file() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="+", default=["resnet50", "mobilenet_v2"])
    parser.add_argument("--kind", nargs="+", choices=["clip", "stream"], default=["clip", "stream"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as all commands do
    conversion.TOLERANCE = 1e-4  # random weights enlarge rounding errors
    machine = environment() | {"flags": flags()} | {name: version(name) for name in ("openvino", "onnxruntime")}
    print(f"{machine['processor']}, {' '.join(machine['flags'])}", flush=True)
    found = []
    for backbone in options.network:
        for kind in options.kind:
            found.append(measure(backbone, kind, options))
            limits = (f"{n} {1e-9 * speed:.1f} ({by})" for n, (speed, by) in found[-1]["limits"].items())
            print(
                f"\n{backbone}, {kind}: {found[-1]['macs'] / 1e9:.2f} GMACs; limits, GMACs/s: {'; '.join(limits)}\n"
            )
            print("| | ms | of torch fp32 | of the limit | difference |\n|---|---|---|---|---|")
            for name, row in found[-1]["rows"].items():
                share, difference = f"{row['limit_share']:.0%}", f"{row['difference']:.0e}"
                print(f"| {name} | {row['ms']:.1f} | {row['ratio']:.3f} | {share} | {difference} |", flush=True)
            print("", *(f"not here: {what}" for what in found[-1]["missing"]), sep="\n", flush=True)
    print(json.dumps({"options": vars(options), "measured": found, "environment": machine}))


if __name__ == "__main__":
    main()

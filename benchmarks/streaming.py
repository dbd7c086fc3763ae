"""What a frame of a stream costs, in PyTorch and in onnxruntime.

    python benchmarks/streaming.py [--network resnet50 mobilenet_v2 resnet18 resnet101] [--rounds 15] [--threads 1]

With the same weights, in turn and in random order within one process:

  stream    a frame through the unidirectional network, with what is kept of the frames before
  frame     a frame through the same trunk without a shift: the 2D network
  window    the last 8 frames through the network again, as toolkits without a cache do for every frame

each in PyTorch as `tsm stream` and `tsm test` run it, and `stream` and `window` as ONNX files in onnxruntime. Times
are CPU time of the process; printed are medians, and medians of the ratios within a round. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsmcli.config import ModelConfig
from tsmcli.core.exportable import ClipNetwork, StreamNetwork
from tsmcli.core.inference import fold_batch_norms
from tsmcli.core.streaming import Stream, StreamingTSM
from tsmcli.core.tsm import TSM, build_model
from tsmcli.engine.device import environment, for_inference
from tsmcli.engine.exported_file import open_onnx, trace, write_onnx

SIZE = 224
RATIOS = (
    ("stream", "frame"), ("window", "stream"), ("onnx stream", "stream"), ("onnx window", "window"),
)  # fmt: skip


def network(backbone: Any, **changes: Any) -> TSM:
    config = ModelConfig(backbone=backbone, init="none", **{"shift": "unidirectional", **changes})
    return build_model(config, 27, seed=0).eval()


def calls_of(backbone: str, threads: int, folder: Path) -> tuple[dict[str, Callable[[], Any]], int]:
    """A call of each kind, and the bytes that a stream keeps."""
    cpu = torch.device("cpu")
    frame = torch.randn(1, 3, SIZE, SIZE).to(memory_format=torch.channels_last)
    clip = torch.randn(8, 3, SIZE, SIZE).to(memory_format=torch.channels_last)[None]
    stream = Stream(for_inference(StreamingTSM(network(backbone)), cpu))
    stream.push(frame)
    flat = for_inference(network(backbone, shift="none", num_segments=1), cpu)
    window = for_inference(network(backbone), cpu)
    calls = {
        "stream": lambda: stream.push(frame),
        "frame": lambda: flat(frame[None]),
        "window": lambda: window(clip),
    }
    for name, kind in (("onnx stream", StreamNetwork), ("onnx window", ClipNetwork)):
        module = kind(fold_batch_norms(network(backbone)))
        signature = module.signature(SIZE)
        write_onnx(folder / f"{name}.onnx", trace(module, signature), signature)
        run, inputs = (
            open_onnx(folder / f"{name}.onnx", threads),
            [t[:1].contiguous() for t in signature.inputs.values()],
        )
        calls[name] = lambda run=run, inputs=inputs: run(inputs)
    return calls, stream.cache_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="+", default=["resnet50", "mobilenet_v2", "resnet18", "resnet101"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for backbone in options.network:
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            with torch.inference_mode(mode=False):
                calls, kept = calls_of(backbone, options.threads, Path(folder))
            times: dict[str, list[float]] = {name: [] for name in calls}
            for round_number in range(-2, options.rounds):  # the first two warm up
                for name in random.sample(list(calls), len(calls)):
                    start = time.process_time()
                    calls[name]()
                    if round_number >= 0:
                        times[name].append(time.process_time() - start)
        row: dict[str, Any] = {"network": backbone, "cache_bytes": kept}
        row |= {f"{name}_ms": 1e3 * float(np.median(values)) for name, values in times.items()}
        row |= {f"{a}/{b}": float(np.median(np.array(times[a]) / np.array(times[b]))) for a, b in RATIOS}
        rows.append(row)
        print(
            f"{backbone:13} {kept / 1024:6.0f} KiB"
            + "".join(f"  {name} {row[f'{name}_ms']:.1f} ms" for name in calls)
            + "".join(f"  {a}/{b} {row[f'{a}/{b}']:.3f}" for a, b in RATIOS),
            flush=True,
        )
    print(json.dumps({"options": vars(options), "rows": rows, "environment": environment()}))


if __name__ == "__main__":
    main()

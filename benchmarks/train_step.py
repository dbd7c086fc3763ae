"""A training step: its time and the activations it keeps, against the usual way and a network without a shift.

    python benchmarks/train_step.py [--preset r50-k400-8f] [--rounds 7] [--threads 1] [--batch 1]

Forward and backward of the preset's network on random clips, in turn and in random order within one process.
`reference` is the published formulation (NCHW; shift by views, zeros and concatenation; in-place ReLU), `limit` the
same network without a shift in our memory format; `block` and `stage` recompute activations. Time is CPU time of
the process, ratios are medians of the ratios within a round. Bytes are of all storages that autograd saves and of
the inputs of recomputed blocks, without parameters. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time

import torch
from network import with_reference_shift

from tsmcli.core.tsm import TSM, build_model
from tsmcli.engine.device import environment, use_channels_last
from tsmcli.engine.memory import saved_bytes
from tsmcli.presets import load_preset

PAIRS = (("ours", "reference"), ("ours", "limit"), ("block", "reference"), ("stage", "reference"))


def networks(preset: str) -> dict[str, TSM]:
    config = load_preset(preset).model
    plain = config.model_copy(update={"shift": "none"})
    made = {name: build_model(plain if name == "limit" else config, 400, seed=0).train()
            for name in ("reference", "ours", "limit", "block", "stage")}  # fmt: skip
    with_reference_shift(made["reference"])
    for name, model in made.items():
        if name != "reference":
            use_channels_last(model)
        if name in ("block", "stage"):
            model.backbone.recompute = name
    return made


def step_time(model: TSM, clips: torch.Tensor) -> float:
    model.zero_grad(set_to_none=True)
    start = time.process_time()
    model(clips).logsumexp(1).sum().backward()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="r50-k400-8f")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    models = networks(options.preset)
    segments = models["ours"].num_segments
    nchw = torch.randn(options.batch, segments, 3, 224, 224)
    nhwc = nchw.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (options.batch, segments))
    clips = {name: nchw if name == "reference" else nhwc for name in models}
    saved = {name: saved_bytes(model, clips[name]) for name, model in models.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    for round_number in range(-1, options.rounds):  # the first one warms up
        for name in random.sample(list(models), len(models)):
            seconds = step_time(models[name], clips[name])
            if round_number >= 0:
                times[name].append(seconds)
    for name, values in times.items():
        print(f"{name:10} {statistics.median(values):7.2f} s of CPU time, {saved[name] / 2**20:7.1f} MiB kept")
    ratios = {}
    for a, b in PAIRS:
        ratio = statistics.median(x / y for x, y in zip(times[a], times[b], strict=True))
        ratios[f"{a} / {b}"] = {"time": ratio, "bytes": saved[a] / saved[b]}
        print(f"{a} / {b}: time {ratio:.3f}, bytes {saved[a] / saved[b]:.3f}")
    print(
        json.dumps(
            {"preset": options.preset, "batch": options.batch, "ratios": ratios, "environment": environment()}
        )
    )


if __name__ == "__main__":
    main()

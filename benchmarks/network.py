"""What the temporal shift costs, and what the network gains on the published way.

    python benchmarks/network.py [--network r50-8f r50-16f mbv2-8f] [--mode eager compiled step] [--rounds 9]
                                 [--device cpu] [--threads 1] [--batch 1] [--precision fp32] [--keep-memory]

Three networks with the same weights, in turn and in random order within one process:

  reference   the published way: NCHW, batch norms as they are, shift by views, zeros and concatenation
  ours        what `tsm test` runs (eager, compiled), or `tsm train` (step)
  limit       ours without a shift: the same trunk made ready in the same way

`compiled` compiles ours and the limit by torch.compile and leaves the reference eager, as it was published. Times
are CPU time of the process on a CPU, where other jobs disturb it least, else wall-clock time; printed are medians,
the median of the ratios within a round, and its quartiles. The last line is JSON.

`difference` is the largest one between ours and the reference: of logits in float32, over the largest logit; of
gradients in float64, over the largest gradient. (In float32 a network in training mode, with fresh weights,
multiplies a rounding error ten thousandfold; in the same memory format the gradients are equal to the bit.)
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tsmcli.config import ModelConfig
from tsmcli.core.shift import TemporalShift
from tsmcli.core.tsm import TSM, build_model
from tsmcli.engine.device import (
    autocast,
    dtype_of,
    environment,
    for_inference,
    keep_freed_memory,
    use_channels_last,
)
from tsmcli.recipes.bench.network import synchronise

NETWORKS = {
    "r50-8f": ModelConfig(init="none", dropout=0),
    "r50-16f": ModelConfig(num_segments=16, init="none", dropout=0),
    "mbv2-8f": ModelConfig(backbone="mobilenet_v2", init="none", dropout=0),
}


class ReferenceShift(nn.Module):
    """The shift as it is usually written: three copies and a concatenation per block."""

    def __init__(self, num_segments: int, shift_div: int) -> None:
        super().__init__()
        self.num_segments, self.shift_div = num_segments, shift_div

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.reshape(-1, self.num_segments, c, h * w)
        fold = c // self.shift_div
        left, middle, right = x[:, :, :fold], x[:, :, fold : 2 * fold], x[:, :, 2 * fold :]
        zeros = torch.zeros_like(left[:, :1])
        left = torch.cat((left[:, 1:], zeros), 1)
        middle = torch.cat((torch.zeros_like(middle[:, :1]), middle[:, :-1]), 1)
        return torch.cat((left, middle, right), 2).view(n, c, h, w)


def with_reference_shift(model: TSM) -> TSM:
    """Give every block the usual shift, and forget what our blocks do about its memory."""
    for module in model.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, TemporalShift):
                setattr(module, name, ReferenceShift(child.num_segments, child.shift_div))
    return model


def networks(config: ModelConfig) -> dict[str, TSM]:
    """The three, with the same weights, and statistics of batch norms that keep activations at their scale."""
    plain = config.model_copy(update={"shift": "none"})
    settled = build_model(config, 400, seed=0).train()
    nn.init.normal_(settled.fc.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    for module in settled.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        settled(make_clips(config, 1, torch.device("cpu"))["nchw"])
    made = {name: build_model(plain if name == "limit" else config, 400) for name in ("reference", "ours", "limit")}
    for model in made.values():
        model.load_state_dict(settled.state_dict())
    with_reference_shift(made["reference"])
    return made


def forward_calls(
    config: ModelConfig, options: Any, *, compiled: bool
) -> tuple[dict[str, Callable[[], Any]], float]:
    """A call a network, and how far our logits are from the reference's."""
    device, dtype = torch.device(options.device), dtype_of(options.precision, torch.device(options.device))
    clips = make_clips(config, options.batch, device)
    made: dict[str, Any] = networks(config)
    with torch.inference_mode():
        expected = made["reference"].eval().to(device)(clips["nchw"])
        fast: Any = for_inference(networks(config)["ours"], device)
        if compiled:
            fast = compile_network(fast, device)
        difference = ((fast(clips["nhwc"]) - expected).abs().max() / expected.abs().max()).item()
    made["reference"] = made["reference"].to(dtype)
    for name in ("ours", "limit"):
        made[name] = for_inference(made[name], device, dtype=dtype)
        if compiled:
            made[name] = compile_network(made[name], device)
    inputs = {name: clips["nchw" if name == "reference" else "nhwc"].to(dtype) for name in made}

    def call(name: str) -> Callable[[], Any]:
        def run() -> Any:
            with torch.inference_mode():
                return made[name](inputs[name])

        return run

    return {name: call(name) for name in made}, difference


def step_calls(config: ModelConfig, options: Any) -> tuple[dict[str, Callable[[], Any]], float]:
    """Forward and backward of each network, and how far our gradients are from the reference's."""
    device = torch.device(options.device)
    clips = make_clips(config, options.batch, device)
    made = {name: model.train().to(device) for name, model in networks(config).items()}
    for name in ("ours", "limit"):
        use_channels_last(made[name])

    def call(name: str) -> Callable[[], Any]:
        model, input = made[name], clips["nchw" if name == "reference" else "nhwc"]

        def run() -> Any:
            model.zero_grad(set_to_none=True)
            with autocast(options.precision, device):
                loss = model(input).logsumexp(1).sum()
            loss.backward()

        return run

    return {name: call(name) for name in made}, gradient_difference(config)


def gradient_difference(config: ModelConfig) -> float:
    made, clips = networks(config), make_clips(config, 1, torch.device("cpu"))
    use_channels_last(made["ours"])
    gradients = {}
    for name, layout in (("ours", "nhwc"), ("reference", "nchw")):
        model = made[name].train().double()
        model(clips[layout].double()[..., :64, :64]).logsumexp(1).sum().backward()
        gradients[name] = torch.cat([p.grad.flatten() for p in model.parameters()])
    ours, theirs = gradients["ours"], gradients["reference"]
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def make_clips(config: ModelConfig, batch: int, device: torch.device) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    nchw = torch.randn(batch, config.num_segments, 3, 224, 224, generator=generator).to(device)
    frames = nchw.flatten(0, 1).to(memory_format=torch.channels_last)
    return {"nchw": nchw, "nhwc": frames.unflatten(0, (batch, config.num_segments))}


def compile_network(model: nn.Module, device: torch.device) -> Any:
    return torch.compile(model, options={"freezing": True} if device.type == "cpu" else None)


def time_calls(calls: dict[str, Callable[[], Any]], rounds: int, device: torch.device) -> dict[str, list[float]]:
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(-2, rounds):  # the first two warm up
        for name in random.sample(list(calls), len(calls)):
            synchronise(device)
            start = clock()
            calls[name]()
            synchronise(device)
            if round_number >= 0:
                times[name].append(clock() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--mode", nargs="+", choices=["eager", "compiled", "step"], default=["eager", "step"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--keep-memory", action="store_true", help="keep freed memory, as all commands do on a CPU")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.keep_memory:
        keep_freed_memory()
    device, found = torch.device(options.device), []
    for network in options.network:
        for mode in options.mode:
            torch.compiler.reset()
            if mode == "step":
                calls, difference = step_calls(NETWORKS[network], options)
            else:
                calls, difference = forward_calls(NETWORKS[network], options, compiled=mode == "compiled")
            times = {name: np.array(values) for name, values in time_calls(calls, options.rounds, device).items()}
            row: dict[str, Any] = {"network": network, "mode": mode, "difference": difference}
            row |= {f"{name}_ms": 1e3 * float(np.median(values)) for name, values in times.items()}
            for other in ("reference", "limit"):
                low, middle, high = np.percentile(times["ours"] / times[other], (25, 50, 75))
                row |= {f"ours/{other}": float(middle), f"ours/{other} quartiles": (float(low), float(high))}
            found.append(row)
            print(
                f"{network:8} {mode:9}"
                + "".join(f"  {name} {row[f'{name}_ms']:7.1f} ms" for name in ("reference", "ours", "limit"))
                + "".join(f"  ours/{other} {row[f'ours/{other}']:.3f}" for other in ("reference", "limit"))
                + f"  difference {difference:.1e}",
                flush=True,
            )
    print(json.dumps({"options": vars(options), "rows": found, "environment": environment()}))


if __name__ == "__main__":
    main()

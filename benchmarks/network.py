"""What the temporal shift costs: one clip through ResNet-50, three ways in turn, in one process.

    python benchmarks/network.py [--rounds 7] [--threads 1]

`reference` is the published formulation (views, zeros, concatenation, NCHW), `ours` the shift of this package in
channels-last memory, `limit` the same network without a shift in the same memory format. Each round times all three
in random order; printed are medians and the median ratio within a round, as JSON on the last line.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time

import torch
from torch import Tensor, nn

from tsmcli.config import ModelConfig
from tsmcli.core.shift import TemporalShift
from tsmcli.core.tsm import TSM, build_model
from tsmcli.engine.runtime import environment, use_channels_last


class ReferenceShift(nn.Module):
    """The shift as it is usually written: three copies and a concatenation per block."""

    def __init__(self, num_segments: int, shift_div: int) -> None:
        super().__init__()
        self.num_segments, self.shift_div = num_segments, shift_div

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.view(-1, self.num_segments, c, h * w)
        fold = c // self.shift_div
        left, middle, right = x[:, :, :fold], x[:, :, fold : 2 * fold], x[:, :, 2 * fold :]
        zeros = torch.zeros_like(left[:, :1])
        left = torch.cat((left[:, 1:], zeros), 1)
        middle = torch.cat((torch.zeros_like(middle[:, :1]), middle[:, :-1]), 1)
        return torch.cat((left, middle, right), 2).view(n, c, h, w)


def with_reference_shift(model: TSM) -> TSM:
    for module in model.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, TemporalShift):
                setattr(module, name, ReferenceShift(child.num_segments, child.shift_div))
    return model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = ModelConfig(init="none")
    models = {
        "reference": with_reference_shift(build_model(config, 400, seed=0)),
        "ours": build_model(config, 400, seed=0),
        "limit": build_model(config.model_copy(update={"shift": "none"}), 400, seed=0),
    }
    clip = torch.randn(1, 8, 3, 224, 224)
    channels_last = clip.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, (1, 8))
    inputs = {"reference": clip, "ours": channels_last, "limit": channels_last}
    for name in ("ours", "limit"):
        use_channels_last(models[name])
    times: dict[str, list[float]] = {name: [] for name in models}
    with torch.inference_mode():
        logits = {name: model.eval()(inputs[name]) for name, model in models.items()}
        for _ in range(options.rounds):
            for name in random.sample(list(models), 3):
                start = time.process_time()
                models[name](inputs[name])
                times[name].append(time.process_time() - start)
    difference = (logits["ours"] - logits["reference"]).abs().max().item()
    ratios = {
        f"ours / {other}": statistics.median(a / b for a, b in zip(times["ours"], times[other], strict=True))
        for other in ("reference", "limit")
    }
    for name, values in times.items():
        print(f"{name:10} {1e3 * statistics.median(values):8.1f} ms of CPU time, median of {len(values)}")
    for name, ratio in ratios.items():
        print(f"{name:18} {ratio:.3f}")
    print(json.dumps({"ratios": ratios, "max_difference": difference, "environment": environment()}))


if __name__ == "__main__":
    main()

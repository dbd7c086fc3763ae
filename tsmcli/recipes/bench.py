"""How fast a preset's network is, and how much memory it takes. No data needed."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tsmcli.config import Views
from tsmcli.core.tsm import build_model, normalize
from tsmcli.engine.runtime import choose_device, environment, peak_memory, use_channels_last
from tsmcli.presets import Preset

WARM_UP = 2


@dataclass(frozen=True)
class BenchResult:
    """Inference of one network on random pixels, without reading or cropping videos.

    Attributes:
        views: V, views of a video, scored one batch.
        latency_sec, fastest_sec, slowest_sec: of one video; latency is the median.
        videos_per_sec, clips_per_sec, frames_per_sec: from the median.
        peak_memory_mb: allocated on the GPU, or the process's largest resident size on a CPU; 10^6 bytes.
        parameters: of the network.
    """

    preset: str
    protocol: str
    device: str
    views: int
    crop_px: int
    num_segments: int
    runs: int
    latency_sec: float
    fastest_sec: float
    slowest_sec: float
    videos_per_sec: float
    clips_per_sec: float
    frames_per_sec: float
    peak_memory_mb: float | None
    memory_kind: str
    parameters: int
    environment: dict[str, Any]


def bench(
    preset: Preset, *, device_name: str = "auto", views: Views | None = None, seconds: float = 15.0
) -> BenchResult:
    """Time the network of a preset: batch 1, random weights, float32, the views of its test protocol.

    What is timed is MMAction2's `inference_time`: copy to the device, all views of a video through the network,
    softmax, mean over views, copy back. Two warm-up videos, then as many as fit into `seconds`, at least three.
    """
    config, device = preset.config, choose_device(device_name)
    views = views or config.test
    model = build_model(config, 400 if config.data.dataset == "folder" else None, seed=0)
    use_channels_last(model.eval().to(device))
    shape = (views.views, config.model.num_segments, views.crop_px, views.crop_px, 3)
    video = torch.randint(0, 256, shape, dtype=torch.uint8).movedim(-1, 2)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    times: list[float] = []
    begin = time.perf_counter()
    while len(times) < WARM_UP + 3 or (time.perf_counter() - begin < seconds and len(times) < 1000):
        times.append(_time_video(model, video, device))
    latency, peak = statistics.median(times[WARM_UP:]), peak_memory(device)
    return BenchResult(
        preset=preset.name,
        protocol=views.name,
        device=str(device),
        views=views.views,
        crop_px=views.crop_px,
        num_segments=config.model.num_segments,
        runs=len(times) - WARM_UP,
        latency_sec=latency,
        fastest_sec=min(times[WARM_UP:]),
        slowest_sec=max(times[WARM_UP:]),
        videos_per_sec=1 / latency,
        clips_per_sec=views.views / latency,
        frames_per_sec=views.views * config.model.num_segments / latency,
        peak_memory_mb=peak / 1e6 if peak else None,
        memory_kind="GPU memory allocated" if device.type == "cuda" else "resident size of the process",
        parameters=sum(p.numel() for p in model.parameters()),
        environment=environment(),
    )


@torch.inference_mode()
def _time_video(model: nn.Module, video: torch.Tensor, device: torch.device) -> float:
    _synchronise(device)
    start = time.perf_counter()
    at_once = 1 if device.type == "cpu" else len(video)
    logits = torch.cat([model(normalize(views.to(device))) for views in video.split(at_once)])
    logits.softmax(-1).mean(0).cpu()
    _synchronise(device)
    return time.perf_counter() - start


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()

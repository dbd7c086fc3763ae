"""tsm bench"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from tsmcli.cli.shared import Device, Json, Set


def bench(
    preset: Annotated[
        str, typer.Argument(help="Preset name, MMAction2 config name, or a .yaml file.")
    ] = "r50-k400-8f",
    sets: Set = None,
    protocol: Annotated[str | None, typer.Option(help="Test protocol [default: the preset's].")] = None,
    seconds: Annotated[float, typer.Option(min=0, help="How long to measure.")] = 15.0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure how fast a preset's network is and how much memory it takes. No data needed.

    Batch 1, float32, random pixels; what is timed is the network with its copies and averaging, not decoding.
    """
    from tsmcli.presets import resolve

    resolved = resolve(preset, sets or ())

    from tsmcli.recipes.bench import bench as run
    from tsmcli.recipes.test import choose_protocol
    from tsmcli.report.tables import print_json, print_table

    result = run(resolved, device_name=device, views=choose_protocol(resolved.config, protocol), seconds=seconds)
    if as_json:
        print_json(asdict(result))
        return
    rows = [
        ("videos/s", f"{result.videos_per_sec:.2f}"),
        ("clips/s", f"{result.clips_per_sec:.2f}"),
        ("frames/s", f"{result.frames_per_sec:.1f}"),
        (
            "latency of a video",
            f"{ms(result.latency_sec)} (from {ms(result.fastest_sec)} to {ms(result.slowest_sec)})",
        ),
        (
            "peak memory",
            f"{result.peak_memory_mb:.0f} MB, {result.memory_kind}" if result.peak_memory_mb else "unknown",
        ),
        ("parameters", f"{result.parameters:,}"),
    ]
    title = (
        f"{result.preset}, protocol {result.protocol}: {result.views} views of {result.num_segments} frames at "
        f"{result.crop_px} px; median of {result.runs} videos on {result.device} "
        f"({result.environment['threads']} threads), torch {result.environment['torch']}"
    )
    print_table(("", "value"), rows, title)


def ms(seconds: float) -> str:
    """0.1234 -> 123.4 ms."""
    return f"{1e3 * seconds:.1f} ms"

"""Measurements for people (a table, Markdown) and for scripts (CSV, JSON), and as a picture."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from tsmcli.recipes.bench.case import Measurement
from tsmcli.recipes.bench.compare import FORMAT, Beside
from tsmcli.recipes.bench.reading import DataMeasurement
from tsmcli.report.figures import COLOURS, save_png, style
from tsmcli.report.tables import percent, print_json, print_line, print_table


def print_bench(
    measured: Sequence[Measurement], reading: Sequence[DataMeasurement], beside: Sequence[Beside], form: str
) -> None:
    """Print all of it in one of four forms. CSV has the networks alone; why something failed is in JSON and CSV."""
    match form:
        case "json":
            print_json(bench_json(measured, reading, beside))
        case "csv":
            rows = [_flat(tree) for tree in bench_json(measured, (), beside)["measurements"]]
            writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        case "markdown":
            _print_markdown(*_table(measured, beside))
            for found in reading:
                _print_markdown(("", found.preset), _reading_rows(found))
        case _:
            _print_tables(measured, reading, beside)


def bench_json(
    measured: Sequence[Measurement], reading: Sequence[DataMeasurement], beside: Sequence[Beside]
) -> dict[str, Any]:
    """The documented keys of docs/bench.md."""
    trees = [asdict(m) for m in measured]
    for tree, found in zip(trees, beside, strict=False):
        tree["baseline"] = asdict(found)
    return {"format": FORMAT, "measurements": trees, "data": [asdict(found) for found in reading]}


def _flat(tree: dict[str, Any]) -> dict[str, Any]:
    """One level: `memory.peak_bytes`, `environment.torch`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if key == "memory":
            value = value or dict.fromkeys(("kind", "peak_bytes", "reserved_bytes", "before_bytes"))
        if key == "environment":
            flat |= {f"environment.{name}": value.get(name) for name in ("torch", "processor", "threads", "gpu")}
        elif isinstance(value, dict):
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        elif key == "baseline":
            flat |= {"baseline.ratio": value["ratio"], "baseline.differs": "; ".join(value["differs"])}
        elif key == "published":
            flat[key] = "; ".join(_published_words(row) for row in value)
        elif key == "shift_cost_quartiles":
            flat |= dict(zip(("shift_cost_q1", "shift_cost_q3"), value or (None, None), strict=True))
        else:
            flat[key] = value
    return flat


def _print_tables(
    measured: Sequence[Measurement], reading: Sequence[DataMeasurement], beside: Sequence[Beside]
) -> None:
    if len(measured) == 1 and not measured[0].error:
        rows = _rows(measured[0], beside[0] if beside else None)
        print_table(("", measured[0].preset), rows, _what(measured[0]))
    else:
        print_table(*_table(measured, beside), _where(measured))
    for found in reading:
        print_table(("", found.preset), _reading_rows(found), f"Reading {found.videos} videos of {found.list}")


def _what(m: Measurement) -> str:
    """What was measured, in a sentence."""
    of = (
        f"a step of training with {m.batch} video{'s' * (m.batch != 1)}"
        if m.mode == "training"
        else f"inference, protocol {m.protocol}, {m.batch} at a time"
    )
    clips = f"{m.views} clips" if m.views > 1 else "one clip"
    return (
        f"{m.preset}: {of}; a video is {clips} of {m.num_segments} frames of {m.crop_px} px\n"
        f"{m.runs} calls with random weights and pixels, {m.precision}{', compiled' if m.compiled else ''}, "
        f"on {_machine(m)}"
    )


def _where(measured: Sequence[Measurement]) -> str:
    """The machine, which is the same for all, or nothing."""
    done = [m for m in measured if m.environment]
    return f"{done[0].precision} on {_machine(done[0])}; random weights and pixels" if done else ""


def _machine(m: Measurement) -> str:
    e = m.environment
    threads = f"{e['threads']} thread{'s' if e['threads'] > 1 else ''}"
    device = e["gpu"] if m.device.startswith("cuda") else f"{e['processor']}, {threads}"
    return f"{m.device} ({device}), torch {e['torch']}"


def _rows(m: Measurement, beside: Beside | None) -> list[tuple[str, str]]:
    """One measurement, a line a fact."""
    rows = [
        ("videos/s", _number(m.videos_per_sec)),
        ("clips/s", _number(m.clips_per_sec)),
        ("frames/s", _number(m.frames_per_sec)),
        ("time of a call, p50", _ms(m.p50_sec)),
        ("  p90, p99", f"{_ms(m.p90_sec)}, {_ms(m.p99_sec)}"),
        ("  the first", _ms(m.first_sec)),
        ("peak memory", _memory(m)),
    ]
    if m.kept_bytes is not None:
        rows.append(("activations kept", f"{m.kept_bytes / 2**20:.0f} MiB for the backward pass"))
    rows += [
        ("parameters", f"{m.parameters:,}"),
        ("a clip", f"{(m.macs or 0) / 1e9:.2f} GMACs = {(m.flops or 0) / 1e9:.2f} GFLOPs"),
        ("  as MMAction2 counts", f"{(m.mmaction_count or 0) / 1e9:.2f} G"),
    ]
    if m.shift_cost is not None:
        rows.append(("the temporal shift", _shift(m)))
    rows += [("published", _published_words(asdict(row))) for row in m.published]
    if beside:
        rows.append(("time over the baseline", _ratio(beside)))
    return rows


def _table(
    measured: Sequence[Measurement], beside: Sequence[Beside]
) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """All measurements, a row each."""
    columns = ("preset", "protocol", "batch", "p50", "p90", "p99", "videos/s", "frames/s", "peak memory", "GMACs",
               "shift costs", "published")  # fmt: skip
    rows = []
    for number, m in enumerate(measured):
        if m.error:
            rows.append((m.preset, m.protocol, str(m.batch), m.error.partition(":")[0], *[""] * 8))
        else:
            known = "; ".join(_published_words(asdict(row)) for row in m.published)
            rows.append((m.preset, m.protocol, str(m.batch), _ms(m.p50_sec), _ms(m.p90_sec), _ms(m.p99_sec),
                         _number(m.videos_per_sec), _number(m.frames_per_sec), _memory(m).partition(",")[0],
                         f"{(m.macs or 0) / 1e9:.2f}", _shift(m).partition(" of")[0], known))  # fmt: skip
        if beside:
            rows[-1] += (_ratio(beside[number]),)
    return columns + (("over baseline",) if beside else ()), rows


def _reading_rows(found: DataMeasurement) -> list[tuple[str, str]]:
    rows = [
        (
            "open, decode, crop",
            f"{_ms(found.open_sec)}, {_ms(found.decode_sec)}, {_ms(found.transform_sec)} a video",
        ),
        ("loader alone", f"{_number(found.loader_videos_per_sec)} videos/s, {found.workers} worker processes"),
    ]
    if found.network_videos_per_sec and found.together_videos_per_sec and found.waiting is not None:
        rows += [
            ("network alone", f"{_number(found.network_videos_per_sec)} videos/s on {found.device}"),
            (
                "together",
                f"{_number(found.together_videos_per_sec)} videos/s, {percent(found.waiting)} of it waiting",
            ),
        ]
    if found.worker_bytes:
        early, late = (size / 1e6 for size in found.worker_bytes)
        rows.append(("largest worker", f"{early:.0f} MB early, {late:.0f} MB at the end"))
    if found.bad:
        rows.append(("unreadable", f"{found.bad} of {found.videos}"))
    return rows


def _shift(m: Measurement) -> str:
    if m.shift_cost is None or m.shift_cost_quartiles is None:
        return ""
    low, high = m.shift_cost_quartiles
    return f"{100 * m.shift_cost:+.1f} % of the time without it (quartiles {100 * low:+.1f} to {100 * high:+.1f})"


def _memory(m: Measurement) -> str:
    if m.memory is None or m.memory.peak_bytes is None:
        return "unknown"
    words = f"{m.memory.peak_bytes / 2**20:.0f} MiB, {m.memory.kind}"
    if m.memory.reserved_bytes is not None:
        return f"{words}; {m.memory.reserved_bytes / 2**20:.0f} MiB reserved"
    return f"{words}; {(m.memory.before_bytes or 0) / 2**20:.0f} MiB before the network was built"


def _published_words(row: dict[str, Any]) -> str:
    if row["videos_per_sec"]:
        return f"{row['videos_per_sec']:g} videos/s ({row['id']}, GPU unknown)"
    return f"{row['memory_mib']:.0f} MiB ({row['id']}, GPU unknown)"


def _ratio(beside: Beside) -> str:
    if beside.ratio is None:
        return "not in the baseline"
    return f"{beside.ratio:.3f}" + (f" (other machine: {'; '.join(beside.differs)})" if beside.differs else "")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.1f} ms"


def _print_markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for row in (columns, ["---"] * len(columns), *rows):
        print_line(f"| {' | '.join(row)} |")
    print_line("")


def draw(path: Path, measured: Sequence[Measurement]) -> None:
    """Frames per second over batch size, a line a preset."""
    with style():
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        done = [m for m in measured if m.frames_per_sec]
        for number, name in enumerate(dict.fromkeys(m.preset for m in done)):
            points = sorted((m.batch, m.frames_per_sec) for m in done if m.preset == name)
            axes.plot(*zip(*points, strict=True), marker="o", label=name, color=COLOURS[number % len(COLOURS)])
        axes.set(xlabel="videos at a time", ylabel="frames per second", ylim=(0, None))
        axes.set_xscale("log", base=2)
        axes.set_xticks(sorted({m.batch for m in done}), [str(b) for b in sorted({m.batch for m in done})])
        axes.set_title(_where(measured))
        axes.legend()
        save_png(figure, path)

"""Measurements for people (a table, Markdown) and for scripts (CSV, JSON), and as a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tsmcli.recipes.bench.case import Measurement, PublishedNumber
from tsmcli.recipes.bench.compare import FORMAT, Beside
from tsmcli.recipes.bench.reading import DataMeasurement
from tsmcli.report.tables import percent, print_csv, print_json, print_line, print_markdown, print_table

_BRIEF = ("preset", "protocol", "batch", "engine", "p50", "p90", "p99", "videos/s", "frames/s", "over first",
          "of the limit", "peak memory", "GMACs", "shift costs", "published", "over baseline")  # fmt: skip
"""The facts that a table of several measurements has; in _CUT, without what stands in brackets."""
_CUT = ("over first", "of the limit", "peak memory", "GMACs", "shift costs")


def print_bench(
    measured: Sequence[Measurement], reading: Sequence[DataMeasurement], beside: Sequence[Beside], form: str
) -> None:
    """Print all of it in one of four forms. CSV has the networks alone; why something failed is in JSON and CSV."""
    if form == "json":
        print_json(bench_json(measured, reading, beside))
        return
    if form == "csv":
        flat = [dict(_flat(tree)) for tree in bench_json(measured, (), beside)["measurements"]]
        keys = list(dict.fromkeys(key for row in flat for key in row))
        print_csv(keys, [[row.get(key, "") for key in keys] for row in flat])
        return
    facts = [_facts(m, b) for m, b in zip_longest(measured, beside)]
    same = len({row["engine"] for row in facts}) == 1
    columns = [name for name in _BRIEF if any(row.get(name) for row in facts) and not (same and name == "engine")]
    rows = [[_brief(name, row.get(name, "")) for name in columns] for row in facts]
    if form == "markdown":
        print_markdown(columns, rows)
        for found in reading:
            print_line("")
            print_markdown(("", found.preset), _reading_rows(found))
        return
    if len(measured) == 1 and not measured[0].error:
        shown = [(name, words) for name, words in facts[0].items() if words and name not in _BRIEF[:4]]
        print_table(("", measured[0].preset), shown, _what(measured[0]))
    else:
        print_table(columns, rows, _where(measured))
    for found in reading:
        title = f"Reading {found.videos} videos of {found.list}"
        print_table(("", found.preset), _reading_rows(found), title)


def _brief(name: str, words: str) -> str:
    return words.partition(" (")[0] if name in _CUT else words


def bench_json(
    measured: Sequence[Measurement], reading: Sequence[DataMeasurement], beside: Sequence[Beside]
) -> dict[str, Any]:
    """The documented keys of docs/bench.md."""
    trees = [asdict(m) for m in measured]
    for tree, found in zip(trees, beside, strict=False):
        tree["baseline"] = asdict(found)
    return {"format": FORMAT, "measurements": trees, "data": [asdict(found) for found in reading]}


def _flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """One level, as `memory.peak_bytes`; lists are JSON. Memory that is not known has no keys."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, tuple | list):
            yield prefix + key, json.dumps(value)
        elif (key, value) != ("memory", None):
            yield prefix + key, value


def _what(m: Measurement) -> str:
    """What was measured, in a sentence."""
    of = f"inference, protocol {m.protocol}, {m.batch} at a time"
    if m.mode == "training":
        of = f"a step of training with {m.batch} video{'s' * (m.batch != 1)}"
    clips = f"{m.views} clips" if m.views > 1 else "one clip"
    return (
        f"{m.preset}: {of}; a video is {clips} of {m.num_segments} frames of {m.crop_px} px\n"
        f"{m.runs} calls with random weights and pixels, {m.precision}{', compiled' if m.compiled else ''}, "
        f"on {_machine([m])}"
    )


def _where(measured: Sequence[Measurement]) -> str:
    """The machine, which is the same for all, or nothing."""
    done = [m for m in measured if m.environment]
    formats = ", ".join(dict.fromkeys(m.precision for m in done))
    return f"{formats} on {_machine(done)}; random weights and pixels" if done else ""


def _machine(measured: Sequence[Measurement]) -> str:
    m = measured[0]
    e, engines = m.environment, dict.fromkeys(f"{m.engine} {m.environment[m.engine]}" for m in measured)
    threads = f"{e['threads']} thread{'s' if e['threads'] > 1 else ''}"
    device = e["gpu"] if m.device.startswith("cuda") else f"{e['processor']}, {threads}"
    return f"{m.device} ({device}), {', '.join(engines)}"


def _facts(m: Measurement, beside: Beside | None) -> dict[str, str]:
    """What is told of one measurement, by name."""
    facts = {"preset": m.preset, "protocol": m.protocol, "batch": str(m.batch)}
    facts["engine"] = f"{m.engine}, {m.precision}" + (f", {m.file}" if m.file else "")
    if m.error:
        facts["p50"] = m.error.partition(":")[0]
    else:
        facts |= {
            "p50": _ms(m.p50_sec), "p90": _ms(m.p90_sec), "p99": _ms(m.p99_sec), "first call": _ms(m.first_sec),
            "videos/s": _number(m.videos_per_sec), "clips/s": _number(m.clips_per_sec),
            "frames/s": _number(m.frames_per_sec), "over first": _over_first(m), "of the limit": _limit(m),
            "peak memory": _memory(m) if m.memory else "",
            "activations kept": f"{m.kept_bytes / 2**20:.0f} MiB for the backward pass" if m.kept_bytes else "",
            "parameters": f"{m.parameters:,}",
            "GMACs": f"{(m.macs or 0) / 1e9:.2f} ({(m.flops or 0) / 1e9:.2f} GFLOPs) a clip",
            "as MMAction2 counts": f"{(m.mmaction_count or 0) / 1e9:.2f} G",
            "shift costs": _shift(m), "published": "; ".join(map(_published, m.published)),
        }  # fmt: skip
    return facts | ({"over baseline": _ratio(beside)} if beside else {})


def _reading_rows(found: DataMeasurement) -> list[tuple[str, str]]:
    steps = ", ".join(map(_ms, (found.open_sec, found.decode_sec, found.transform_sec)))
    loader = f"{_number(found.loader_videos_per_sec)} videos/s, {found.workers} worker processes"
    rows = [("open, decode, crop", f"{steps} a video"), ("loader alone", loader)]
    if found.network_videos_per_sec and found.together_videos_per_sec and found.waiting is not None:
        together = f"{_number(found.together_videos_per_sec)} videos/s, {percent(found.waiting)} of it waiting"
        alone = f"{_number(found.network_videos_per_sec)} videos/s on {found.device}"
        rows += [("network alone", alone), ("together", together)]
    if found.worker_bytes:
        early, late = (size / 1e6 for size in found.worker_bytes)
        rows.append(("largest worker", f"{early:.0f} MB early, {late:.0f} MB at the end"))
    if found.bad:
        rows.append(("unreadable", f"{found.bad} of {found.videos}"))
    return rows


def _over_first(m: Measurement) -> str:
    low, high = m.ratio_quartiles or (0, 0)
    return "" if m.ratio is None else f"{m.ratio:.3f} (quartiles {low:.3f} to {high:.3f})"


def _limit(m: Measurement) -> str:
    if m.limit_share is None or m.limit_macs_per_sec is None:
        return ""
    return f"{percent(m.limit_share)} ({m.limit_macs_per_sec / 1e9:.1f} GMACs/s, by {m.limit_by})"


def _shift(m: Measurement) -> str:
    if m.shift_cost is None or m.shift_cost_quartiles is None:
        return ""
    low, high = m.shift_cost_quartiles
    return f"{100 * m.shift_cost:+.1f} % (quartiles {100 * low:+.1f} to {100 * high:+.1f}) of the time without it"


def _memory(m: Measurement) -> str:
    if m.memory is None or m.memory.peak_bytes is None:
        return "unknown"
    more = f"{(m.memory.before_bytes or 0) / 2**20:.0f} MiB before the network was built"
    if m.memory.reserved_bytes is not None:
        more = f"{m.memory.reserved_bytes / 2**20:.0f} MiB reserved"
    return f"{m.memory.peak_bytes / 2**20:.0f} MiB ({m.memory.kind}; {more})"


def _published(row: PublishedNumber) -> str:
    number = f"{row.videos_per_sec:g} videos/s" if row.videos_per_sec else f"{row.memory_mib:.0f} MiB"
    return f"{number} ({row.id}, GPU unknown)"


def _ratio(beside: Beside) -> str:
    if beside.ratio is None:
        return "not in the baseline"
    return f"{beside.ratio:.3f}" + (f" (other machine: {'; '.join(beside.differs)})" if beside.differs else "")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{1e3 * seconds:.1f} ms"


def draw(path: Path, measured: Sequence[Measurement]) -> None:
    """Frames per second over batch size, a line a preset."""
    from matplotlib.figure import Figure

    from tsmcli.report.figures import COLOURS, save_png, style

    done = [m for m in measured if m.frames_per_sec]
    batches = sorted({m.batch for m in done})
    with style():
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        several = len({(m.engine, m.precision, m.file) for m in done}) > 1
        names = [f"{m.preset}, {_facts(m, None)['engine']}" if several else m.preset for m in done]
        for number, name in enumerate(dict.fromkeys(names)):
            points = sorted((m.batch, m.frames_per_sec) for m, own in zip(done, names, strict=True) if own == name)
            axes.plot(*zip(*points, strict=True), marker="o", label=name, color=COLOURS[number % len(COLOURS)])
        axes.set(xlabel="videos at a time", ylabel="frames per second", ylim=(0, None), title=_where(measured))
        axes.set_xscale("log", base=2)
        axes.set_xticks(batches, map(str, batches))
        axes.minorticks_off()
        axes.legend()
        save_png(figure, path)

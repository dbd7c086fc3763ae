"""A stream as it goes: a live panel on a terminal, a line when the label changes elsewhere, or JSON lines."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from tsmcli.intervals.tiou import Interval
from tsmcli.recipes.stream import Seen, Streamed, StreamStarted
from tsmcli.report.progress import follow
from tsmcli.report.tables import percent, print_json, print_line, printable

_BAR = 24


def show_stream(told: Iterator[Any], *, as_json: bool, events: bool = False) -> None:
    """Draw a stream until it ends. Lines, or those of `events`, go to stdout, the panel and messages to stderr."""
    names = follow(_until_started(told)).class_names
    console = Console(stderr=True, highlight=False)
    panel = console.is_terminal and sys.stdout.isatty() and not as_json
    label: tuple[int, ...] | None = None
    end = None
    live = Live(console=console, refresh_per_second=12, transient=True, redirect_stdout=False) if panel else None
    with live or nullcontext():
        for event in told:
            if isinstance(event, Streamed):
                end = event
            elif isinstance(event, Interval):
                _print_event(event, as_json=as_json)
            elif not isinstance(event, Seen):
                continue
            elif live:
                live.update(draw(event, names))
            elif events:
                continue
            elif as_json:
                print_json(seen_json(event, names), one_line=True)
            elif (now := tuple(i for i, _ in _said(event))) != label:
                label = now
                words = "  ".join(f"{names[i]}  {percent(share)}" for i, share in _said(event)) or "none"
                print_line(f"{event.time_sec:9.2f} s  {words}", flush=True)
            if end:
                break
    if end:
        _print_end(end, names, as_json=as_json)
    deque(told, maxlen=0)  # where a signal ended it, the recipe says so now


def _until_started(events: Iterator[Any]) -> Generator[Any, None, StreamStarted]:
    """What happens before the first frame: downloads, and what is streamed."""
    for event in events:
        if isinstance(event, StreamStarted):
            return event
        yield event
    raise RuntimeError("the stream did not start")


def seen_json(seen: Seen, names: list[str]) -> dict[str, Any]:
    """Stable keys, one document a frame."""
    tree = asdict(seen)
    if tree.pop("labels") is not None:
        tree["labels"] = [{"class": i, "name": names[i], "probability": p} for i, p in _said(seen)]
    tree["top"] = [{"class": i, "name": names[i], "probability": p} for i, p in seen.top]
    return {**tree, "name": names[seen.label]}


def _print_event(event: Interval, *, as_json: bool) -> None:
    """An event that is certain; its keys are those of `tsm predict --events --json`."""
    start, end, name, score = event[1:]
    if as_json:
        tree = {"video": event.video, "start_sec": start, "end_sec": end, "name": name, "score": score}
        print_json(tree, one_line=True)
    else:
        print_line(f"{start:9.2f} to {end:9.2f} s  {name}  {percent(score)}", flush=True)


def _said(seen: Seen) -> list[tuple[int, float]]:
    """The first guess, or all labels where there may be several."""
    return [(seen.label, seen.probability)] if seen.labels is None else seen.labels


def draw(seen: Seen, names: list[str]) -> Group:
    """The five best classes, and how quick it is."""
    table = Table.grid(padding=(0, 2))
    for label, probability in seen.top:
        filled = round(_BAR * probability)
        table.add_row(escape(printable(names[label])), "█" * filled + "·" * (_BAR - filled), f"{probability:6.1%}")
    return Group(table, "", f"frame {seen.frame} at {seen.time_sec:.1f} s", _speed(seen))


def _speed(seen: Seen) -> str:
    return (
        f"latency p50 {1e3 * seen.p50_sec:.0f} ms, p95 {1e3 * seen.p95_sec:.0f} ms; "
        f"{seen.frames_per_sec:.1f} frames/s; {seen.dropped} dropped; {seen.cache_bytes / 1024:.0f} KiB kept"
    )


def _print_end(end: Streamed, names: list[str], *, as_json: bool) -> None:
    """What it was like; on stderr where stdout has JSON lines."""
    last = ", ".join(names[i] for i, _ in _said(end.last)) or "none" if end.last else ""
    said = f"last: {last}; {_speed(end.last)}" if end.last else "nothing seen"
    lines = f"{end.frames} frame{'s' * (end.frames != 1)}; {said}" + (f"\nvideo: {end.video}" if end.video else "")
    if as_json:
        sys.stderr.write(printable(lines) + "\n")
    else:
        print_line(lines)

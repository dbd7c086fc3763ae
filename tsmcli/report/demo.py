"""The demo's comparison."""

from __future__ import annotations

from pathlib import Path

from tsmcli.recipes.demo import DemoResult
from tsmcli.report.tables import percent, print_json, print_line, print_table


def print_demo(result: DemoResult, sheet: Path, *, as_json: bool) -> None:
    """The comparison table and what to make of it."""
    if as_json:
        top1 = {name: {"top1": round(value, 4)} for name, value in result.top1.items()}
        print_json({**top1, "seconds": round(result.seconds, 1), "run": result.run})
        return
    rows = [
        ("TSM", "bidirectional, 1/8 each way", percent(result.top1["tsm"])),
        ("its twin (TSN)", "none", percent(result.top1["tsn"])),
    ]
    print_table(("network", "temporal shift", "top-1"), rows, f"Which way does time run? {result.tsm.coverage}")
    print_line("Each class is another one played backwards, so a network that does not see the order of frames")
    print_line(f"cannot pass 50 %. Same clips, same budget, {result.seconds:.0f} s in all.")
    print_line(f"\nsome clips and what was said:  {sheet}")
    print_line(f"logs, checkpoints, scores:     {result.run}")
    print_line(f"next: tsm report {result.run}")
    print_line("      tsm presets ls            the published recipes")
    print_line("      tsm prepare-data folder   your own videos")

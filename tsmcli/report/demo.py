"""The demo's comparison: a table, and a picture of some clips with what each network said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tsmcli.data.dataset import VideoDataset
from tsmcli.data.location import Places, find_split
from tsmcli.presets import load_preset
from tsmcli.recipes.demo import DemoResult
from tsmcli.report.contact_sheet import Row, write_contact_sheet
from tsmcli.report.tables import percent, print_line, print_table

_RIGHT, _WRONG = "#0a7d2c", "#c0202b"


def demo_json(result: DemoResult) -> dict[str, Any]:
    """Stable keys for scripts."""
    return {
        **{name: {"top1": round(top1, 4)} for name, top1 in result.top1.items()},
        "seconds": round(result.seconds, 1),
        "run": str(result.run),
    }


def print_demo(result: DemoResult, sheet: Path) -> None:
    """The comparison table and what to make of it."""
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


def demo_sheet(result: DemoResult) -> Path:
    """Write the contact sheet: the first validation clip of every class."""
    config = load_preset("demo")
    split = find_split(config.data, Places(folder=result.data), "val", 8)
    dataset = VideoDataset(split, config, config.test)
    names = result.tsm.meta["class_names"]
    rows = []
    for label in range(len(names)):
        index = next(i for i, video_label in enumerate(result.tsm.labels) if video_label == label)
        record = next(r for r in split.records if r.path == result.tsm.paths[index])
        views, _ = dataset.load(record, np.random.default_rng(0))
        said = [(f"true: {names[label]}", "black")]
        for title, results in (("with shift", result.tsm), ("without", result.tsn)):
            guess = int(results.scores[results.paths.index(record.path)].argmax())
            said.append((f"{title}: {names[guess]}", _RIGHT if guess == label else _WRONG))
        rows.append(Row(views[0], tuple(said)))
    path = result.run / "clips.png"
    write_contact_sheet(path, rows, "Validation clips, time runs to the right")
    return path

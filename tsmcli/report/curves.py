"""Training curves as a picture."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from tsmcli.errors import DataError
from tsmcli.recipes.events import Result, Saved, Validated
from tsmcli.recipes.study.logs import read_log


def write_curves(run: Path) -> Path | None:
    """Draw loss, accuracy and learning rate of a run into its curves.png; None where nothing was logged yet."""
    try:
        curves = read_log(run / "log.jsonl").series
    except DataError:
        return None
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    panels = (("loss", ("train/loss",)), ("accuracy", ("train/top1", "val/top1", "val/mean_class")),
              ("learning rate", ("train/lr",)))  # fmt: skip
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    for axis, (title, keys) in zip(axes, panels, strict=True):
        for key in keys:
            if key in curves:
                marker = "o" if key.startswith("val") else ""
                axis.plot(*zip(*curves[key], strict=True), marker=marker, markersize=3, label=key)
        axis.set(title=title, xlabel="epoch")
        axis.grid(alpha=0.3)
        if axis.lines:
            axis.legend(frameon=False)
    path, part = run / "curves.png", run / "curves.png.part"
    figure.savefig(part, dpi=110, format="png")
    pyplot.close(figure)
    part.replace(path)
    return path


def drawing_curves(events: Generator[Any, None, Result]) -> Generator[Any, None, Result]:
    """Pass on the events of a training, and draw its curves after every validation and at its end."""
    run = None
    try:
        while True:
            event = next(events)
            if isinstance(event, Saved):
                run = event.path.parent
            if isinstance(event, Validated) and run:
                write_curves(run)
            yield event
    except StopIteration as end:
        result: Result = end.value
        return result
    finally:
        if run:
            write_curves(run)

"""A study as one HTML file that needs nothing else, and its figures as PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tsmcli.config import ModelConfig, Views
from tsmcli.metrics import per_class
from tsmcli.recipes.evaluate import most_confused
from tsmcli.recipes.study.shuffled import ORDERS
from tsmcli.recipes.study.study import Study
from tsmcli.report.figures import draw_classes, draw_confusion, draw_curves, draw_order, save_png, style, to_svg
from tsmcli.report.pictures import data_uri, strip
from tsmcli.report.tables import between, percent
from tsmcli.report.template import text_of, write_page

_FRAME_PX, _FRAMES = 104, 8
"""Side and number of the frames of a clip in the page; of more, every second, third, ... is shown."""
_PAIRS = 20


def write_report(study: Study, out: Path | None = None) -> tuple[Path, list[Path]]:
    """Write `report.html` and `plots/*.png` into the run, or `out` and `<its name>-plots/*.png`; the paths."""
    page = out or study.run / "report.html"
    names = [c.name for c in study.classes]
    with style():
        if study.results.multi_label:
            shares = np.array([np.nan if c.ap is None else c.ap for c in study.classes])
            figures = {"classes": draw_classes(shares, names, "average precision by class")}
        else:
            figures = {"classes": draw_classes(per_class(study.matrix), names)}
            figures["confusion"] = draw_confusion(study.matrix, names)
        if curves := [log for log in (study.curves, study.other) if log]:
            figures["curves"] = draw_curves(curves)
        if study.order:
            figures["order"] = draw_order(study.order, names)
        folder = page.parent / ("plots" if out is None else f"{page.stem}-plots")
        plots = [folder / f"{name}.png" for name in figures]
        for figure, plot in zip(figures.values(), plots, strict=True):
            save_png(figure, plot)
        svg = {str(name): to_svg(figures[name]) for name in ("curves", "order") if name in figures}
    write_page(page, "report.html.j2", {"strip": _strip, "data_uri": data_uri}, **_context(study, svg))
    return page, plots


def _context(study: Study, svg: dict[str, str]) -> dict[str, Any]:
    """Everything the template shows."""
    config_file = study.run / "config.yaml"
    several, values = study.results.multi_label, study.tests[0].values
    worth = [(c.ap if several else c.top1, c) for c in study.classes]
    return {
        "study": study,
        "several": several,
        "hero": (values["map"], "mean average precision") if several else (values["top1"], "top-1 accuracy"),
        "js": text_of("matrix.js"),
        "summary": _summary(study),
        "curves": svg.get("curves"),
        "order_chart": svg.get("order"),
        "order_classes": int(np.isfinite(study.order.classes[ORDERS[0]]).sum()) if study.order else 0,
        "classes": [c for _, c in sorted(worth, key=lambda w: (w[0] is None, w[0] or 0.0, w[1].index))],
        "matrix": _matrix(study),
        "mistakes": most_confused(study.matrix, _PAIRS),
        "details": _details(study),
        "config_text": config_file.read_text(encoding="utf-8") if config_file.is_file() else "",
    }


def _summary(study: Study) -> list[tuple[str, str, str]]:
    """Name, value and remark of the facts that stand beside the accuracy."""
    results, newest = study.results, study.tests[0]
    rows = [("protocol", newest.protocol, _protocol(results.meta))]
    if study.config:
        rows.append(("network", study.config.model.backbone, _network(study.config.model)))
    main, word = ("map", "it") if results.multi_label else ("top1", "top-1")
    rows.append(("videos", newest.coverage, f"95 % interval of {word}: {between(newest.intervals[main])}"))
    if "f1" in newest.values:
        rows.append(("F1", percent(newest.values["f1"]), "mean over classes, at the thresholds of the checkpoint"))
    if "top5" in newest.values:
        rows.append(("top-5", percent(newest.values["top5"]), ""))
    if "mean_class" in newest.values:
        of = f"of {len(study.classes)} classes; 95 % interval: {between(newest.intervals['mean_class'])}"
        rows.append(("mean class", percent(newest.values["mean_class"]), of))
    if newest.published:
        for metric, beside in newest.published.values.items():
            where = f"{newest.published.id}; {'within' if beside.within else 'outside'} the 95 % interval of ours"
            rows.append((f"published {metric}", percent(beside.published), where))
    if "checkpoint" in results.meta:
        digest = results.meta.get("sha256", "")[:12]
        rows.append(("checkpoint", Path(results.meta["checkpoint"]).name, f"sha256 {digest}"))
    return rows


def _network(model: ModelConfig) -> str:
    """Its frames and its shift."""
    ways = {"unidirectional": "from the previous frame", "bidirectional": "each way"}
    shifted = f"1/{model.shift_div} of the channels shifted {ways.get(model.shift)}"
    return f"{model.num_segments} frames, {'no temporal shift' if model.shift == 'none' else shifted}"


def _protocol(meta: dict[str, Any]) -> str:
    """What a protocol's name stands for."""
    if "protocol" not in meta:
        return ""
    views = Views.model_validate(meta["protocol"])
    resized = f" of frames scaled to {views.resize_px} px" if views.resize_px else ""
    frames = f"{meta['network']['num_segments']} frames, " if "network" in meta else ""
    clips = f"{views.clips} clip{'s' * (views.clips != 1)} × {views.crops} crop{'s' * (views.crops != 1)}"
    mean = f"mean of {'probabilities' if views.average == 'prob' else 'scores'}"
    return f"{frames}{views.sampling} sampling, {clips} of {views.crop_px} px{resized}, {mean}"


def _matrix(study: Study) -> dict[str, Any]:
    """The confusions that occur, for the script."""
    rows, columns = np.nonzero(study.matrix)
    cells = np.stack([rows, columns, study.matrix[rows, columns]], axis=1)
    return {"names": [c.name for c in study.classes], "cells": cells.tolist()}


def _strip(frames: NDArray[np.uint8]) -> Image.Image:
    return strip(frames[:: -(-len(frames) // _FRAMES)], _FRAME_PX, gap=2)


def _details(study: Study) -> list[tuple[str, str]]:
    meta = study.results.meta
    rows = [("scores", str(study.file))]
    rows += [(key, str(meta[key])) for key in ("preset", "checkpoint", "sha256", "list") if key in meta]
    return rows + [(key, str(value)) for key, value in meta.get("environment", {}).items() if value]

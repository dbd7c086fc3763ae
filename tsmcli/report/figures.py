"""The figures of a report, with matplotlib: as PNG files, and as SVG whose ink follows the page's light or dark."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from tsmcli.files import replacing
from tsmcli.recipes.predict import Predictions, VideoPrediction
from tsmcli.recipes.study.logs import Curves
from tsmcli.recipes.study.shuffled import ORDERS, OrderStudy
from tsmcli.report.tables import printable

INK, RULE, GREY = "#20242a", "#d8dce1", "#9aa5b1"
COLOURS = ("#3b76b4", "#d98032", "#45946a", "#b1544f", "#8467ab", "#8a7a5c")
"""Legible on white and on black; blue is ours, orange what it is compared with."""
_IN_A_PAGE = {INK: "ink", RULE: "rule", GREY: "grey", COLOURS[0]: "blue", COLOURS[1]: "orange"}
"""Colours that the page's style sheet has its own of, for light and for dark."""
_CLASSES = 6
"""Classes drawn of a video's timeline; the others are below them everywhere."""
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.6,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "text.color": INK,
    "text.parse_math": False,  # a class may be named a$_{$b
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "tsm",
}


@contextmanager
def style() -> Iterator[None]:
    """Our look, for the figures made and saved within. Letters that the font lacks are boxes, without a word."""
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph|Matplotlib currently does not support")
        yield


def save_png(figure: Figure, path: Path) -> None:
    """Write a picture, whole or not at all; the suffix may also be .svg or .pdf."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        figure.savefig(part, format=path.suffix[1:], dpi=130, bbox_inches="tight")


def to_svg(figure: Figure) -> str:
    """The figure as an element of an HTML page: text in the page's font, ink and rules in its colours."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", bbox_inches="tight", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--font)", svg)
    for colour, name in _IN_A_PAGE.items():
        svg = svg.replace(colour, f"var(--{name})")
    return re.sub(r'(<svg [^>]*?)width="[\d.]+pt" height="[\d.]+pt"', r"\1", svg)


def draw_curves(curves: Sequence[Curves]) -> Figure:
    """Loss, accuracy and learning rate over epochs; the first log in blue, the second in orange."""
    figure = Figure(figsize=(8.6, 2.9), layout="constrained")
    loss, accuracy, lr = figure.subplots(1, 3, width_ratios=(1, 1, 0.7))
    for colour, log in zip(COLOURS, curves, strict=False):
        _line(loss, log, "train/loss", colour, None, smooth=True)
        of = f", {printable(log.name)}" if len(curves) > 1 else ""
        _line(accuracy, log, "train/top1", colour, f"training clips{of}", smooth=True, alpha=0.6)
        _line(accuracy, log, "val/top1", colour, f"validation{of}", marker="o")
        _line(accuracy, log, "val/mean_class", colour, f"mean class{of}", linestyle=":")
        _line(accuracy, log, "val/map", colour, f"validation{of}", marker="o")
        _line(lr, log, "train/lr", colour, None)
    loss.set(title="training loss", ylim=(0, None))
    several = any("val/map" in log.series for log in curves)
    accuracy.set(title="mean average precision" if several else "top-1 accuracy", ylim=(0, 1.02))
    accuracy.yaxis.set_major_formatter(PercentFormatter(1))
    lr.set(title="learning rate", yscale="log")
    lr.yaxis.set_major_formatter("{x:g}")
    lr.yaxis.set_minor_formatter(LogFormatter())
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    for axes in (loss, accuracy, lr):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlim(0, None)
    return figure


def _line(
    axes: Axes, log: Curves, key: str, colour: str, label: str | None, *, smooth: bool = False, **how: Any
) -> None:
    """One series; `smooth` draws its mean over each epoch, above the points themselves."""
    if key not in log.series:
        return
    x, y = np.array(log.series[key]).T
    if smooth and len(x) > 2 * np.ceil(x[-1]):
        axes.plot(x, y, color=colour, alpha=0.22, linewidth=0.8)
        epochs = np.ceil(x - 1e-9).astype(int)
        means = [(epoch, y[epochs == epoch].mean()) for epoch in np.unique(epochs)]
        x, y = np.array(means).T
    how.setdefault("marker", "o" if len(x) == 1 else "")
    axes.plot(x, y, color=colour, label=label, markersize=3.5, **how)


def draw_order(study: OrderStudy, names: Sequence[str], limit: int = 16) -> Figure:
    """The classes whose accuracy changes most when their frames are shuffled or reversed."""
    table = np.stack([study.classes[order] for order in ORDERS])  # [3, K]
    known = np.flatnonzero(np.isfinite(table[0]))
    change = np.nanmax(np.abs(table[1:] - table[0]), axis=0, initial=0.0)
    shown = known[np.argsort(-change[known], kind="stable")][:limit]
    shown = shown[np.argsort(table[0][shown], kind="stable")]
    figure = Figure(figsize=(8.6, 0.7 + 0.42 * len(shown)), layout="constrained")
    axes = figure.subplots()
    y = np.arange(len(shown))
    for i, (order, colour) in enumerate(zip(ORDERS, (COLOURS[0], GREY, COLOURS[1]), strict=True)):
        axes.barh(y + 0.26 * (1 - i), table[i][shown], height=0.24, color=colour, label=order)
    _bars_of_classes(axes, [names[i] for i in shown])
    axes.set_xlabel("top-1 accuracy")
    figure.legend(loc="outside upper right", ncols=3, fontsize=8)
    return figure


def draw_classes(
    shares: NDArray[np.float64], names: Sequence[str], title: str = "top-1 accuracy by class"
) -> Figure:
    """A bar a class, best on top; classes without videos are left out."""
    known = np.flatnonzero(np.isfinite(shares))
    order = known[np.argsort(shares[known], kind="stable")]
    figure = Figure(figsize=(8, 0.8 + 0.19 * len(order)), layout="constrained")
    axes = figure.subplots()
    axes.barh(np.arange(len(order)), shares[order], height=0.7, color=COLOURS[0])
    _bars_of_classes(axes, [names[i] for i in order], fontsize=7)
    axes.set_title(title)
    return figure


def _bars_of_classes(axes: Axes, names: Sequence[str], **how: Any) -> None:
    """Axes of horizontal bars, a class a row, over shares."""
    axes.set_yticks(range(len(names)), list(map(_short, names)), **how)
    axes.set(xlim=(0, 1), ylim=(-0.6, len(names) - 0.4))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_formatter(PercentFormatter(1))


def draw_confusion(matrix: NDArray[np.int64], names: Sequence[str], most_names: int = 60) -> Figure:
    """Share of each true class (row) that was taken for each class; names where they can be read."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    named = len(names) <= most_names
    side = 3.2 + (0.16 * len(names) if named else 4.8)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.grid(visible=False)
    if named:
        short = [_short(name) for name in names]
        axes.set_xticks(range(len(names)), short, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), short, fontsize=7)
    axes.set(xlabel="taken for", ylabel="true class")
    figure.colorbar(image, ax=axes, shrink=0.6, format=PercentFormatter(1))
    return figure


def _short(name: str, length: int = 44) -> str:
    name = printable(name)
    return name if len(name) <= length else name[: length - 1] + "…"


def write_timeline(path: Path, found: Predictions) -> None:
    """Draw a row a video: a line a class over the windows' middles, and below it the first guess as a band."""
    with style():
        figure = Figure(figsize=(10, 2.6 * len(found.videos)), layout="constrained")
        rows = figure.subplots(len(found.videos), squeeze=False)[:, 0]
        for axes, video in zip(rows, found.videos, strict=True):
            _draw_probabilities(axes, video, found.class_names)
        rows[-1].set_xlabel("seconds")
        save_png(figure, path)


def _draw_probabilities(axes: Axes, video: VideoPrediction, names: list[str]) -> None:
    table = np.stack([window.probabilities for window in video.windows])  # [windows, K]
    starts = np.array([window.start_sec or 0.0 for window in video.windows])
    ends = np.array([window.end_sec or 0.0 for window in video.windows])
    middles = (starts + ends) / 2
    first = table.argmax(axis=1)
    winners = sorted(set(first.tolist()), key=lambda c: -int((first == c).sum()))
    others = [c for c in np.argsort(-table.max(axis=0)).tolist() if c not in winners]
    shown = sorted([*winners, *others][:_CLASSES])  # by index, so that videos with the same classes share colours
    for colour, label in zip(COLOURS, shown, strict=False):
        axes.plot(middles, table[:, label], color=colour, label=_short(names[label]), marker="o", markersize=2.5)
    borders = np.concatenate([[0.0], (middles[1:] + middles[:-1]) / 2, [ends[-1]]])
    for left, right, label in zip(borders[:-1], borders[1:], first.tolist(), strict=True):
        colour = COLOURS[shown.index(label)] if label in shown else GREY
        axes.axvspan(left, right, ymin=0, ymax=0.045, color=colour, linewidth=0)
    axes.set(title=_short(Path(video.path).name), ylim=(-0.05, 1.02), xlim=(0, ends[-1]), ylabel="probability")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

"""What a network sees along long videos: the probabilities of the main classes over time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tsmcli.recipes.predict import Predictions, VideoPrediction
from tsmcli.report.figures import COLOURS, GREY, save_png, style

CLASSES = 6
"""Classes drawn for a video; the others are below them everywhere."""


def write_timeline(path: Path, found: Predictions) -> None:
    """Draw a row a video: a line a class over the windows' middles, and below it the first guess as a band."""
    with style():
        figure = Figure(figsize=(10, 2.6 * len(found.videos)), layout="constrained")
        rows = figure.subplots(len(found.videos), squeeze=False)[:, 0]
        for axes, video in zip(rows, found.videos, strict=True):
            _draw(axes, video, found.class_names)
        rows[-1].set_xlabel("seconds")
        save_png(figure, path)


def _draw(axes: Axes, video: VideoPrediction, names: list[str]) -> None:
    table = np.stack([window.probabilities for window in video.windows])  # [windows, K]
    starts = np.array([window.start_sec or 0.0 for window in video.windows])
    ends = np.array([window.end_sec or 0.0 for window in video.windows])
    middles = (starts + ends) / 2
    first = table.argmax(axis=1)
    winners = sorted(set(first.tolist()), key=lambda c: -int((first == c).sum()))
    others = [c for c in np.argsort(-table.max(axis=0)).tolist() if c not in winners]
    shown = sorted([*winners, *others][:CLASSES])  # by index, so that videos with the same classes share colours
    for colour, label in zip(COLOURS, shown, strict=False):
        axes.plot(middles, table[:, label], color=colour, label=names[label], marker="o", markersize=2.5)
    borders = np.concatenate([[0.0], (middles[1:] + middles[:-1]) / 2, [ends[-1]]])
    for left, right, label in zip(borders[:-1], borders[1:], first.tolist(), strict=True):
        colour = COLOURS[shown.index(label)] if label in shown else GREY
        axes.axvspan(left, right, ymin=0, ymax=0.045, color=colour, linewidth=0)
    axes.set(title=Path(video.path).name, ylim=(-0.05, 1.02), xlim=(0, ends[-1]), ylabel="probability")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))

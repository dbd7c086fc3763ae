"""Predictions as a table, JSON or CSV."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from tsmcli.data.dataset import BadVideo
from tsmcli.recipes.predict import Predictions, Window
from tsmcli.report.tables import on_one_line, percent, print_csv, print_json, print_table


def print_predictions(found: Predictions, top: int, *, style: Literal["table", "json", "csv"]) -> None:
    """The `top` most probable classes of every video, or of every window of one."""
    if style == "json":
        print_json(predictions_json(found, top))
    elif style == "csv":
        columns = ("video", "start_sec", "end_sec", "rank", "class", "name", "probability")
        rows = [
            (video.path, *_span(window, 3), rank, index, name, f"{share:.6f}")
            for video in found.videos
            for window in video.windows
            for rank, index, name, share in guesses(found, window, top)
        ]
        print_csv(columns, rows)
    elif found.videos:
        _print_table(found, top)


def predictions_json(found: Predictions, top: int) -> dict[str, Any]:
    """Stable keys for scripts; a video has `top`, or `windows` that have it."""

    def said(window: Window) -> dict[str, Any]:
        best = guesses(found, window, top)
        return {"top": [{"class": index, "name": name, "probability": share} for _, index, name, share in best]}

    videos: list[dict[str, Any]] = []
    for video in found.videos:
        windows = [{"start_sec": w.start_sec, "end_sec": w.end_sec, **said(w)} for w in video.windows]
        whole = video.windows[0].start_sec is None
        videos.append({"video": video.path, **(said(video.windows[0]) if whole else {"windows": windows})})
    return {
        "checkpoint": str(found.checkpoint),
        "preset": found.preset,
        "protocol": found.protocol,
        "videos": videos,
        "failed": [{"video": video.path, "reason": video.reason} for video in found.bad],
    }


def guesses(found: Predictions, window: Window, top: int) -> Iterator[tuple[int, int, str, float]]:
    """The most probable classes: rank from 1, index, name, probability; of equal ones the lower index is first."""
    order = np.argsort(-window.probabilities, kind="stable")[:top].tolist()
    for rank, index in enumerate(order, 1):
        yield rank, index, found.class_names[index], float(window.probabilities[index])


def reason(video: BadVideo) -> str:
    """Why a video could not be read, with its path."""
    return on_one_line(video.reason if video.path in video.reason else f"{video.path}: {video.reason}")


def _span(window: Window, digits: int) -> list[str]:
    return ["" if sec is None else f"{sec:.{digits}f}" for sec in (window.start_sec, window.end_sec)]


def _print_table(found: Predictions, top: int) -> None:
    sliding = found.videos[0].windows[0].start_sec is not None
    columns = ("video", *(("from s", "to s") if sliding else ()), "class", "probability", *(("then",) * (top > 1)))
    rows = []
    for video in found.videos:
        for number, window in enumerate(video.windows):
            best, *others = guesses(found, window, top)
            more = ", ".join(f"{name} {percent(share)}" for _, _, name, share in others)
            span = _span(window, 2) if sliding else ()
            row = ("" if number else video.path, *span, best[2], percent(best[3]), more)
            rows.append(row[: len(columns)])
    print_table(columns, rows, f"{found.preset}, protocol {found.protocol}")

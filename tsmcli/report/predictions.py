"""Predictions as a table, JSON or CSV."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from tsmcli.data.dataset import BadVideo
from tsmcli.recipes.predict import Predictions, Window
from tsmcli.report.tables import percent, print_json, print_line, print_table

Guess = tuple[int, int, str, float]
"""Rank from 1, class index, class name, probability."""


def print_predictions(found: Predictions, top: int, *, style: Literal["table", "json", "csv"]) -> None:
    """The `top` most probable classes of every video, or of every window of one."""
    if style == "json":
        print_json(predictions_json(found, top))
    elif style == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(("video", "start_sec", "end_sec", "rank", "class", "name", "probability"))
        for video in found.videos:
            for window in video.windows:
                span = ["" if sec is None else f"{sec:.3f}" for sec in (window.start_sec, window.end_sec)]
                for rank, index, name, share in guesses(found, window, top):
                    writer.writerow((video.path, *span, rank, index, name, f"{share:.6f}"))
    elif found.videos:
        _print_table(found, top)


def predictions_json(found: Predictions, top: int) -> dict[str, Any]:
    """Stable keys for scripts; a video has `top`, or `windows` that have it."""
    videos: list[dict[str, Any]] = []
    for video in found.videos:
        windows = [
            {
                "start_sec": window.start_sec,
                "end_sec": window.end_sec,
                "top": [
                    {"class": index, "name": name, "probability": share}
                    for _, index, name, share in guesses(found, window, top)
                ],
            }
            for window in video.windows
        ]
        whole = windows[0]["start_sec"] is None
        videos.append({"video": video.path, **({"top": windows[0]["top"]} if whole else {"windows": windows})})
    return {
        "checkpoint": str(found.checkpoint),
        "preset": found.preset,
        "protocol": found.protocol,
        "videos": videos,
        "failed": [{"video": video.path, "reason": video.reason} for video in found.bad],
    }


def guesses(found: Predictions, window: Window, top: int) -> Iterator[Guess]:
    """The most probable classes; of equal ones the lower index comes first."""
    order = np.argsort(-window.probabilities, kind="stable")[:top].tolist()
    for rank, index in enumerate(order, 1):
        yield rank, index, found.class_names[index], float(window.probabilities[index])


def reason(video: BadVideo) -> str:
    """Why a video could not be read, with its path."""
    return video.reason if video.path in video.reason else f"{video.path}: {video.reason}"


def _print_table(found: Predictions, top: int) -> None:
    rows: list[tuple[str, ...]] = []
    sliding = found.videos[0].windows[0].start_sec is not None
    for video in found.videos:
        for number, window in enumerate(video.windows):
            best, *others = guesses(found, window, top)
            more = ", ".join(f"{name} {percent(share)}" for _, _, name, share in others)
            span = (f"{window.start_sec:.2f}", f"{window.end_sec:.2f}") if sliding else ()
            rows.append(("" if number else video.path, *span, best[2], percent(best[3]), more))
    columns = (
        "video",
        *(("from s", "to s") if sliding else ()),
        "class",
        "probability",
        *(("then",) if top > 1 else ()),
    )
    print_table(columns, [row[: len(columns)] for row in rows], f"{found.preset}, protocol {found.protocol}")
    if sliding:
        print_line("Seconds are frame numbers over the mean frame rate.")

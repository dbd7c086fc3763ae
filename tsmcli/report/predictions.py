"""Predictions as a table, JSON or CSV."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tsmcli.recipes.predict import Predictions, Window
from tsmcli.report.tables import percent, print_csv, print_json, print_table


def print_predictions(found: Predictions, top: int, *, style: Literal["table", "json", "csv"]) -> None:
    """The `top` most probable classes of every video, or of every window of one."""
    if style == "json":
        print_json(predictions_json(found, top))
    elif style == "csv":
        several = found.thresholds is not None
        columns = ("video", "start_sec", "end_sec", "rank", "class", "name", "probability", *["said"] * several)
        rows = [
            (video.path, *_span(window, 3), rank, index, name, f"{share:.6f}",
             *[int(said(found, window)[index])] * several)
            for video in found.videos
            for window in video.windows
            for rank, index, name, share in guesses(found, window, top)
        ]  # fmt: skip
        print_csv(columns, rows)
    elif found.videos:
        _print_table(found, top)


def predictions_json(found: Predictions, top: int) -> dict[str, Any]:
    """Stable keys for scripts; a video has `top` (and `labels` if there may be several), or `windows` with them."""

    def told(window: Window) -> dict[str, Any]:
        listed = list(guesses(found, window, top))
        best = [{"class": index, "name": name, "probability": share} for _, index, name, share in listed]
        if found.thresholds is None:
            return {"top": best}
        yes, cuts = said(found, window), found.thresholds
        labels = [{**tree, "threshold": cuts[i]} for tree, (_, i, *_) in zip(best, listed, strict=True) if yes[i]]
        return {"labels": labels, "top": best[:top]}

    videos: list[dict[str, Any]] = []
    for video in found.videos:
        windows = [{"start_sec": w.start_sec, "end_sec": w.end_sec, **told(w)} for w in video.windows]
        whole = video.windows[0].start_sec is None
        videos.append({"video": video.path, **(told(video.windows[0]) if whole else {"windows": windows})})
    return {
        "checkpoint": str(found.checkpoint),
        "preset": found.preset,
        "protocol": found.protocol,
        "videos": videos,
        "failed": [{"video": video.path, "reason": video.reason} for video in found.bad],
    }


def guesses(found: Predictions, window: Window, top: int) -> Iterator[tuple[int, int, str, float]]:
    """The most probable classes: rank from 1, index, name, probability; of equal ones the lower index is first.

    Where a video may have several labels, all that it is said to have come too, however many.
    """
    order, yes = np.argsort(-window.probabilities, kind="stable").tolist(), said(found, window)
    for rank, index in enumerate(order, 1):
        if rank <= top or yes[index]:
            yield rank, index, found.class_names[index], float(window.probabilities[index])


def said(found: Predictions, window: Window) -> NDArray[np.bool_]:
    """Which labels a video is said to have, where it may have several: bool [K]."""
    if found.thresholds is None:
        return np.zeros(len(found.class_names), np.bool_)
    return window.probabilities >= np.array(found.thresholds)


def _span(window: Window, digits: int) -> list[str]:
    return ["" if sec is None else f"{sec:.{digits}f}" for sec in (window.start_sec, window.end_sec)]


def _shares(classes: Iterable[tuple[int, int, str, float]]) -> str:
    return ", ".join(f"{name} {percent(share)}" for _, _, name, share in classes)


def _print_table(found: Predictions, top: int) -> None:
    sliding = found.videos[0].windows[0].start_sec is not None
    one = ("class", "probability", *(("then",) * (top > 1)))
    kinds = one if found.thresholds is None else ("labels", "not said")
    columns = ("video", *(("from s", "to s") if sliding else ()), *kinds)
    rows = []
    for video in found.videos:
        for number, window in enumerate(video.windows):
            span = _span(window, 2) if sliding else ()
            row = ["" if number else video.path, *span]
            best, yes = list(guesses(found, window, top)), said(found, window)
            if found.thresholds is None:
                row += [best[0][2], percent(best[0][3]), _shares(best[1:])]
            else:
                row += [_shares(guess for guess in best if yes[guess[1]]) or "none"]
                row += [_shares(guess for guess in best if not yes[guess[1]])]
            rows.append(row[: len(columns)])
    print_table(columns, rows, f"{found.preset}, protocol {found.protocol}")

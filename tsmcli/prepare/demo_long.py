"""Long recordings made from nothing, to try intervals and events on: clips of the demo, stillness between them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from tsmcli.catalog import CATALOG
from tsmcli.data.spatial import Frame
from tsmcli.data.video_writer import VideoWriter
from tsmcli.errors import UsageError
from tsmcli.files import replacing
from tsmcli.prepare.annotations import write_csv
from tsmcli.prepare.demo import FPS, MOTIONS, ClipWritten, render

PARTS = {"train": (0, 20, 48), "fit": (1, 4, 24), "test": (1, 4, 24)}
"""Recordings to train with, to fit the rules of events on, and to test on: the number of the demo's split whose
clips they show, how many recordings, and how many clips in each. No clip is in two."""


def make_recordings(out: Path, *, seed: int = 0) -> Generator[ClipWritten, None, int]:
    """Write `videos/PART/NN.mp4`, and `PART.csv` with the intervals; the number of recordings.

    Half a second to a second and a half of stillness is before and after each clip. The same seed gives the same
    bytes. The folder appears only when it is complete.

    Raises:
        UsageError: `out` is there already.
    """
    if out.exists():
        raise UsageError(f"{out} exists", hint="remove it, or choose another folder with --out")
    names, rng = CATALOG["demo"].class_names() or [], np.random.default_rng([seed, 2])
    total, done, left = sum(count * clips for _, count, clips in PARTS.values()), 0, dict[int, list[int]]()
    with replacing(out) as draft:
        for part, (split, count, clips) in PARTS.items():
            held = sum(n * each for own, n, each in PARTS.values() if own == split)
            drawn = left.setdefault(split, rng.permutation(held).tolist())
            rows = list[tuple[str, str, str, str]]()
            for number in range(count):
                path, mine = f"{part}/{number:02}.mp4", [drawn.pop() for _ in range(clips)]
                shown = [_clip(seed, split, one) for one in mine]
                spans = _record(draft / "videos" / path, shown, rng)
                labels = [names[one % len(names)] for one in mine]
                rows += [(path, f"{a:.3f}", f"{b:.3f}", name) for (a, b), name in zip(spans, labels, strict=True)]
                done += clips
                yield ClipWritten(done, total)
            write_csv(draft / f"{part}.csv", ("path", "start", "end", "label"), rows)
    return sum(count for _, count, _ in PARTS.values())


def _clip(seed: int, split: int, number: int) -> list[Frame]:
    """The frames of a clip of the demo: of class `number` modulo the number of classes."""
    clip, label = divmod(number, 2 * len(MOTIONS))
    frames = render(label // 2, np.random.default_rng([seed, split, label // 2, clip]))
    return frames[::-1] if label % 2 else frames


def _record(path: Path, clips: Sequence[list[Frame]], rng: np.random.Generator) -> list[tuple[float, float]]:
    """Write a recording; start and end of each clip in it, in seconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    spans, at = list[tuple[float, float]](), 0
    with VideoWriter(path, Fraction(FPS), qp="18", threads="1", preset="veryfast") as video:
        for frames in clips:
            before, after = rng.integers(FPS // 2, 3 * FPS // 2, 2, endpoint=True).tolist()
            for frame in (*[frames[0]] * before, *frames, *[frames[-1]] * after):
                video.write(frame)
            start, at = at + before, at + before + len(frames) + after
            spans.append((start / FPS, (start + len(frames)) / FPS))
    return spans

"""From marked intervals and the videos they were marked in to a list of intervals for training."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tsmcli.catalog import CATALOG
from tsmcli.config import LIMITS, DataConfig
from tsmcli.data.intervals import Span
from tsmcli.data.listfile import VideoRecord, unlistable
from tsmcli.data.location import path_from, write_dataset
from tsmcli.data.media import scan
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.data.workers import Begin, WorkerPool
from tsmcli.errors import DataError
from tsmcli.files import remove
from tsmcli.prepare.annotations import Item, write_csv
from tsmcli.prepare.background import Gap, draw_background, gaps_between
from tsmcli.prepare.extract import VideosCounted
from tsmcli.prepare.marks.mark import Mark, Marks
from tsmcli.prepare.marks.names import find_video
from tsmcli.prepare.own import draw_several, groups_of, natural, thin_classes
from tsmcli.prepare.verify import Problem as VideoProblem
from tsmcli.prepare.verify import VideoChecked

_ROUNDED_SEC = 0.0005
"""What a written time may differ from that of the frame that is meant."""
_SAME_RATE = 5e-4
"""Relative: rates that differ by more are not the same; 29.97 and 30 differ by twice that."""


class MarkProblem(NamedTuple):
    """What is wrong with an interval, or unusual.

    Attributes:
        where: file and row or element.
        kind: `no video`, `several videos`, `unreadable`, `no label`, `empty`, `past the end`, `before the start`,
            `twice`, `overlap` or `frame rate`.
        used: whether the interval is in the lists all the same.
    """

    where: str
    video: str
    kind: str
    detail: str
    used: bool = False


@dataclass(frozen=True)
class IntervalPlan:
    """What is wanted.

    Attributes:
        background: name of a class that is made of unmarked time; None: no such class.
        margin_sec: its least distance from what is marked.
        group: a regular expression; recordings in whose names it finds the same text stay in one split.
    """

    marks: Marks
    source: Path
    out: Path
    background: str | None = None
    margin_sec: float = 0.5
    val_share: float = 0.2
    group: str | None = None
    seed: int = 0
    limits: DataConfig = LIMITS


@dataclass(frozen=True)
class PreparedIntervals:
    """What was written.

    Attributes:
        counts: (class, split) -> intervals.
        recordings: split -> videos.
        seconds: class -> seconds in both splits.
    """

    out: Path
    classes: list[str]
    counts: Counter[tuple[str, str]]
    recordings: dict[str, int]
    seconds: dict[str, float]
    problems: list[MarkProblem]
    notes: list[str]


@dataclass
class _Kept:
    """What goes into the lists: video, interval and label; and free time and length of every video."""

    rows: list[tuple[str, Span, str]] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)
    gaps: dict[str, list[Gap]] = field(default_factory=dict)


class _Task(NamedTuple):
    path: Path
    limits: DataConfig
    problem: str = ""


class _Clock(NamedTuple):
    """Times of all frames [n] and the end in seconds, the rate; or why the video cannot be read."""

    times: NDArray[np.float64]
    length_sec: float
    rate: float
    problem: str = ""

    def seconds(self, frame: float) -> float:
        """When a frame is shown; the end of the video for one past the last."""
        return float(self.times[int(frame)]) if frame < len(self.times) else self.length_sec


Preparing = Generator[VideosCounted | VideoChecked, None, PreparedIntervals]


def prepare_intervals(plan: IntervalPlan, *, workers: int, write: bool = True) -> Preparing:
    """Match marks and videos, look at the clock of every video, check, split, and write lists and `problems.csv`.

    Intervals of one recording are never in both lists.

    Raises:
        DataError: no marked video is there, or there are fewer than two classes.
    """
    kept, problems = _Kept(), list[MarkProblem]()
    by_video = _match(plan, problems)
    yield VideosCounted(len(by_video))
    tasks = [_Task(plan.source / path, plan.limits) for path in by_video]
    pool = WorkerPool(
        _measure, workers, timeout_sec=plan.limits.timeout_sec, what="looking at videos", setting="--workers"
    )
    with contextlib.closing(pool):
        for (path, marks), clock in zip(by_video.items(), pool.run(tasks, _given_up), strict=True):
            if clock.problem:
                problems += [MarkProblem(m.where, m.video, "unreadable", clock.problem) for m in marks]
            else:
                problems += _check(plan, path, marks, clock, kept)
            trouble = VideoProblem("", path, "unreadable", clock.problem, broken=True) if clock.problem else None
            yield VideoChecked(trouble)
    notes = [*plan.marks.notes, *_add_background(plan, kept)]
    classes = sorted({label for _, _, label in kept.rows}, key=natural)
    if len(classes) < 2:
        why = Counter(p.kind for p in problems if not p.used)
        left = "; left out: " + ", ".join(f"{n} {kind}" for kind, n in why.most_common()) if why else ""
        hint = "--background NAME makes a second class of unmarked time" if classes else ""
        raise DataError(f"{plan.out}: {len(classes)} classes; at least 2 are needed{left}", hint)
    return _finish(plan, kept, classes, problems, notes, write=write)


def _match(plan: IntervalPlan, problems: list[MarkProblem]) -> dict[str, list[Mark]]:
    """The marks of every video that is there, also of those that are listed without any."""
    media, marks = scan(plan.source), defaultdict[str, list[Mark]](list)
    for mark in plan.marks.marks:
        marks[mark.video].append(mark)
    found: dict[str, list[Mark]] = {}
    for name, where in plan.marks.videos.items():
        there = find_video(name, media.videos)
        wrong = unlistable(there[0].as_posix()) if len(there) == 1 else ""
        if len(there) == 1 and not wrong:
            found.setdefault(there[0].as_posix(), []).extend(marks[name])
            continue
        kind = "several videos" if there else "no video"
        detail = wrong or ", ".join(map(str, there)) or f"nothing of this name in {plan.source}"
        problems += [MarkProblem(m, name, kind, detail) for m in [mark.where for mark in marks[name]] or [where]]
    if not found:
        names = ", ".join([*plan.marks.videos][:3])
        wrong = (
            f"{plan.source}: none of the {len(plan.marks.videos)} marked videos is there, or each is there twice"
        )
        raise DataError(f"{wrong}; looked for {names}; found {media.summary()}", "--source DIR holds the videos")
    return dict(sorted(found.items()))


def _measure(task: _Task, begin: Begin) -> _Clock:
    begin(0)
    if not task.problem:
        try:
            with PyAVReader(task.path, task.limits.timeout_sec or None, task.limits) as reader:
                times, length_sec, rate, _ = reader.timeline
                return _Clock(times, length_sec, float(rate))
        except DataError as error:
            task = task._replace(problem=str(error))
    return _Clock(np.empty(0), 0.0, 0.0, task.problem)


def _given_up(task: _Task, _part: int, reason: str) -> _Task:
    return task._replace(problem=f"{task.path}: {reason}")


def _check(
    plan: IntervalPlan, path: str, marks: Sequence[Mark], clock: _Clock, kept: _Kept
) -> Iterator[MarkProblem]:
    """Keep what can be used of the marks of a video, and say what is wrong with the rest."""
    taken, seen, last = list[tuple[float, float]](), set[tuple[str, Span]](), None
    for mark in sorted(marks, key=lambda mark: clock.seconds(mark.start) if mark.frames else mark.start):
        limit = len(clock.times) if mark.frames else clock.length_sec
        span = Span(max(mark.start, 0), min(mark.end, limit), mark.frames)
        start, end = (clock.seconds(t) for t in span[:2]) if mark.frames else span[:2]
        problem, details = "", f"{mark.start:g} to {mark.end:g}, the video has {limit:.10g}"
        if mark.start >= limit:
            problem = "past the end"
        elif span.start >= span.end or not _holds_frame(clock, start, end):
            problem, details = "empty", f"{mark.start:g} to {mark.end:g} holds no frame"
        elif not mark.label:
            problem, details = "no label", ""
        elif (mark.label, span) in seen:
            problem, details = "twice", f"{mark.label} {span}"
        taken.append((start, max(start, end)))
        if problem:
            yield MarkProblem(mark.where, mark.video, problem, details)
            continue
        if mark.end > limit:
            yield MarkProblem(mark.where, mark.video, "past the end", f"{details}; cut there", True)
        if mark.start < 0:
            yield MarkProblem(mark.where, mark.video, "before the start", f"{details}; cut there", True)
        if last and start < last[0]:
            yield MarkProblem(mark.where, mark.video, "overlap", f"with {last[1]}", True)
        last = max(last or (end, mark.where), (end, mark.where))
        seen.add((mark.label, span))
        kept.rows.append((path, span, mark.label))
        kept.lengths.append(end - start)
    kept.gaps[path] = gaps_between(taken, clock.length_sec, plan.margin_sec)
    for name, mark in {mark.video: mark for mark in reversed(marks)}.items():
        assumed = plan.marks.rates.get(name)
        if assumed and abs(assumed / clock.rate - 1) > _SAME_RATE:
            detail = f"its times were made with {assumed:.6g} frames a second, the video has {clock.rate:.6g}"
            yield MarkProblem(mark.where, name, "frame rate", detail, True)


def _holds_frame(clock: _Clock, start: float, end: float) -> bool:
    first, after = np.searchsorted(clock.times, np.subtract((start, end), _ROUNDED_SEC))
    return bool(first < after)


def _add_background(plan: IntervalPlan, kept: _Kept) -> Iterator[str]:
    """Add the class of unmarked time; what there is to say of it."""
    name = plan.background
    if not name or not kept.rows:
        return
    if any(label == name for _, _, label in kept.rows):
        raise DataError(f"a class is called {name!r} already", hint="--background takes another name")
    totals = Counter[str]()
    for (_, _, label), length in zip(kept.rows, kept.lengths, strict=True):
        totals[label] += length  # type: ignore[assignment]
    wanted = median(totals.values())
    drawn = draw_background(kept.gaps, kept.lengths, wanted, plan.seed)
    got = sum(span.end - span.start for _, span in drawn)
    kept.rows += [(path, span, name) for path, span in drawn]
    kept.lengths += [span.end - span.start for _, span in drawn]
    if got < 0.9 * wanted:
        yield f"only {got:.1f} s of {name}, not {wanted:.1f}: no more is unmarked and {plan.margin_sec:g} s away"


def _finish(
    plan: IntervalPlan,
    kept: _Kept,
    classes: list[str],
    problems: list[MarkProblem],
    notes: list[str],
    *,
    write: bool,
) -> PreparedIntervals:
    """Split by recordings and write all files."""
    index = {name: i for i, name in enumerate(classes)}
    paths = sorted({path for path, _, _ in kept.rows})
    groups = groups_of([Path(path) for path in paths], plan.group) if plan.group else paths
    group_of = dict(zip(paths, groups, strict=True))
    labels = defaultdict[str, set[str]](set)
    for path, _, label in kept.rows:
        labels[group_of[path]].add(label)
    names = sorted(labels)
    drawn = {names[i] for i in draw_several([sorted(labels[name]) for name in names], plan.val_share, plan.seed)}
    split_of = {path: "val" if group_of[path] in drawn else "train" for path in paths}
    records: dict[str, list[VideoRecord]] = {"train": [], "val": []}
    seconds = dict.fromkeys(classes, 0.0)
    for (path, span, label), length in sorted(zip(kept.rows, kept.lengths, strict=True)):
        records[split_of[path]].append(VideoRecord(path, None, index[label], span=span))
        seconds[label] += length
    items = [Item(split, (r.path,), r.label) for split, own in records.items() for r in own]
    notes += thin_classes(classes, items)
    if write:
        write_dataset(
            plan.out, CATALOG["folder"], "video", records, classes,
            dict.fromkeys(records, path_from(plan.out, plan.source)),
            annotations=plan.marks.files, seed=plan.seed, background=plan.background,
        )  # fmt: skip
        rows = [(p.where, p.video, p.kind, p.detail, "yes" if p.used else "no") for p in problems]
        if rows:
            write_csv(plan.out / "problems.csv", ("row", "video", "kind", "detail", "used"), rows)
        else:
            remove(plan.out / "problems.csv")
    counts = Counter((classes[item.label], item.split) for item in items)
    return PreparedIntervals(plan.out, classes, counts, dict(Counter(split_of.values())), seconds, problems, notes)

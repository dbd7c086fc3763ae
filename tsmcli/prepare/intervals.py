"""From marked intervals and the videos they were marked in to lists for training: of intervals, or of clips."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from tsmcli.catalog import CATALOG
from tsmcli.config import LIMITS, DataConfig, Store
from tsmcli.data.intervals import Span
from tsmcli.data.listfile import VideoRecord, unlistable
from tsmcli.data.location import path_from, write_dataset
from tsmcli.data.media import scan
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.data.workers import Begin, WorkerPool
from tsmcli.errors import DataError, UsageError
from tsmcli.files import remove
from tsmcli.prepare.annotations import Annotations, Item, write_csv
from tsmcli.prepare.background import Gap, draw_background, gaps_between
from tsmcli.prepare.extract import Extracted, Size, Target, VideosCounted
from tsmcli.prepare.marks.check import Clock, MarkProblem, check_marks
from tsmcli.prepare.marks.mark import Mark, Marks
from tsmcli.prepare.marks.names import find_video
from tsmcli.prepare.matching import KINDS, MatchedVideo, MediaPlan, made_here
from tsmcli.prepare.official import estimate_bytes, prepare
from tsmcli.prepare.own import draw_several, groups_of, natural, thin_classes
from tsmcli.prepare.verify import Problem as VideoProblem
from tsmcli.prepare.verify import VideoChecked


@dataclass(frozen=True)
class IntervalPlan:
    """What is wanted.

    Attributes:
        background: name of a class that is made of unmarked time; None: no such class.
        margin_sec: its least distance from what is marked.
        group: a regular expression; recordings in whose names it finds the same text stay in one split.
        cut: what intervals become that are cut out of their recordings; None: they stay there.
        size: of what is cut out.
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
    cut: Target | None = None
    size: Size = field(default_factory=Size)

    @property
    def store(self) -> Store:
        """How the dataset is read."""
        return KINDS[self.cut or "video"][1]


@dataclass(frozen=True)
class PreparedIntervals:
    """What was written.

    Attributes:
        counts: (class, split) -> intervals.
        recordings: split -> videos.
        seconds: class -> seconds in both splits.
        written: whether there are files now.
        disk_bytes: about what they would take, where that was asked.
    """

    out: Path
    store: Store
    classes: list[str]
    counts: Counter[tuple[str, str]]
    recordings: dict[str, int]
    seconds: dict[str, float]
    problems: list[MarkProblem]
    notes: list[str]
    written: bool
    disk_bytes: int | None = None


@dataclass
class _Kept:
    """What goes into the lists (video, interval, label, seconds), and the unmarked time of every video."""

    rows: list[tuple[str, Span, str, float]] = field(default_factory=list)
    gaps: dict[str, list[Gap]] = field(default_factory=dict)


class _Task(NamedTuple):
    path: Path
    limits: DataConfig
    problem: str = ""


Preparing = Generator[VideosCounted | VideoChecked | Extracted, None, PreparedIntervals]


def prepare_intervals(plan: IntervalPlan, *, workers: int, write: bool = True) -> Preparing:
    """Match marks and videos, look at the clock of every video, check, split, and write lists and `problems.csv`.

    Intervals of one recording are never in both lists. Those that are to be cut out are cut before the lists are
    written.

    Raises:
        DataError: no marked video is there, or there are fewer than two classes, or nothing could be cut out.
        UsageError: a size is asked of what is not cut out, `out` holds media of another size, or another process is
            at work there.
    """
    if plan.size != Size() and not plan.cut:
        raise UsageError("intervals that stay in their videos keep their size", "--store zip cuts them out of them")
    if not plan.source.is_dir():
        raise DataError(f"no folder {plan.source}")
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
                checked = check_marks(marks, clock, plan.marks.rates)
                kept.rows += [(path, *used) for used in checked.used]
                kept.gaps[path] = gaps_between(checked.taken, clock.length_sec, plan.margin_sec)
                problems += checked.problems
            trouble = VideoProblem("", path, "unreadable", clock.problem, broken=True) if clock.problem else None
            yield VideoChecked(trouble)
    split_of = _split(plan, kept)
    notes = [*plan.marks.notes, *_add_background(plan, kept, split_of)]
    classes = sorted({label for _, _, label, _ in kept.rows}, key=natural)
    if len(classes) < 2:
        why = Counter(p.kind for p in problems if not p.used)
        left = "; left out: " + ", ".join(f"{n} {kind}" for kind, n in why.most_common()) if why else ""
        hint = "--background NAME makes a second class of unmarked time" if classes else ""
        raise DataError(f"{plan.out}: {len(classes)} classes; at least 2 are needed{left}", hint)
    return (yield from _finish(plan, kept, split_of, classes, problems, notes, workers if write else 0))


def _match(plan: IntervalPlan, problems: list[MarkProblem]) -> dict[str, list[Mark]]:
    """The marks of every video that is there, also of those that are listed without any."""
    media, marks = scan(plan.source, made_here("folder", plan.out)), defaultdict[str, list[Mark]](list)
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


def _measure(task: _Task, begin: Begin) -> Clock:
    begin(0)
    if not task.problem:
        try:
            with PyAVReader(task.path, task.limits.timeout_sec or None, task.limits) as reader:
                times, length_sec, rate, _ = reader.timeline
                return Clock(times, length_sec, float(rate))
        except DataError as error:
            task = task._replace(problem=str(error))
    return Clock(np.empty(0), 0.0, 0.0, task.problem)


def _given_up(task: _Task, _part: int, reason: str) -> _Task:
    return task._replace(problem=f"{task.path}: {reason}")


def _split(plan: IntervalPlan, kept: _Kept) -> dict[str, str]:
    """The list that each recording goes to. Those without intervals are of use for the background only."""
    labels = defaultdict[str, set[str]](set)
    paths = sorted(kept.gaps if plan.background else {path for path, *_ in kept.rows})
    groups = groups_of([Path(path) for path in paths], plan.group) if plan.group else paths
    group_of = dict(zip(paths, groups, strict=True))
    for path, _, label, _ in kept.rows:
        labels[group_of[path]].add(label)
    names = sorted({*groups})
    drawn = {names[i] for i in draw_several([sorted(labels[name]) for name in names], plan.val_share, plan.seed)}
    return {path: "val" if group_of[path] in drawn else "train" for path in paths}


def _add_background(plan: IntervalPlan, kept: _Kept, split_of: Mapping[str, str]) -> Iterator[str]:
    """Add the class of unmarked time to both lists; what there is to say of it."""
    name = plan.background
    if name and any(label == name for _, _, label, _ in kept.rows):
        raise DataError(f"a class is called {name!r} already", hint="--background takes another name")
    marked = [*kept.rows] if name else []
    for split in ("train", "val"):
        totals = defaultdict[str, float](float)
        for path, _, label, seconds in marked:
            if split_of[path] == split:
                totals[label] += seconds
        gaps = {path: gaps for path, gaps in kept.gaps.items() if split_of.get(path) == split}
        wanted = median(totals.values()) if totals else 0.0
        drawn = draw_background(gaps, [seconds for *_, seconds in marked], wanted, plan.seed)
        kept.rows += [(path, span, str(name), span.end - span.start) for path, span in drawn]
        got = sum(span.end - span.start for _, span in drawn)
        if got < 0.9 * wanted:
            told = f"only {got:.1f} s of {name}, not {wanted:.1f}, in {split}"
            yield f"{told}: no other unmarked time is long enough and {plan.margin_sec:g} s away from marks"


def _finish(
    plan: IntervalPlan, kept: _Kept, split_of: dict[str, str], classes: list[str], problems: list[MarkProblem],
    notes: list[str], workers: int,
) -> Preparing:  # fmt: skip
    """Cut out what is to be cut out, and write all files; without workers, write nothing."""
    index = {name: i for i, name in enumerate(classes)}
    facts = {"annotations": plan.marks.files, "seed": plan.seed, "background": plan.background}
    seconds, records = dict.fromkeys(classes, 0.0), dict[str, list[VideoRecord]](train=[], val=[])
    failed, disk = dict[str, str](), None
    if plan.cut:
        media = _as_media(plan, kept, split_of, Annotations(classes, [], [], facts=facts))
        if workers:
            failed = dict((yield from prepare(media, workers=workers)).failures)
        elif plan.cut != "seekable":
            disk = estimate_bytes(media)
    for path, span, label, length in sorted(kept.rows):
        if why := failed.get(name := f"{plan.source / path}@{span}"):
            problems.append(MarkProblem(name, path, "unreadable", why))
            continue
        records[split_of[path]].append(VideoRecord(path, None, index[label], span=span))
        seconds[label] += length
    items = [Item(split, (r.path,), r.label) for split, own in records.items() for r in own]
    notes += thin_classes(classes, items)
    problems.sort(key=lambda problem: natural(problem.where))
    if workers and not plan.cut:
        media_of = dict.fromkeys(records, path_from(plan.out, plan.source))
        write_dataset(plan.out, CATALOG["folder"], "video", records, classes, media_of, **facts)
    if workers:
        told = [(p.where, p.video, p.kind, p.detail, "yes" if p.used else "no") for p in problems]
        if told:
            write_csv(plan.out / "problems.csv", ("row", "video", "kind", "detail", "used"), told)
        else:
            remove(plan.out / "problems.csv")
    counts = Counter((classes[item.label], item.split) for item in items)
    recordings = {split: len({record.path for record in own}) for split, own in records.items()}
    return PreparedIntervals(
        plan.out, plan.store, classes, counts, recordings, seconds, problems, notes, bool(workers), disk
    )


def _as_media(plan: IntervalPlan, kept: _Kept, split_of: dict[str, str], annotations: Annotations) -> MediaPlan:
    """The intervals as videos to convert, each named after its recording, its start and its end."""
    assert plan.cut
    found = []
    for path, span, label, _ in sorted(kept.rows):
        item = Item(split_of[path], (path,), annotations.classes.index(label), Path(path).parent.as_posix())
        found.append(MatchedVideo(item, Path(path), span=span))
    annotations = replace(annotations, items=[video.item for video in found])
    return MediaPlan(
        "folder", plan.source, plan.out, plan.store, plan.cut, plan.size, annotations, found, [], limits=plan.limits
    )

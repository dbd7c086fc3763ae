"""From official label files and downloaded media to a prepared dataset."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
from filelock import FileLock, Timeout

from tsmcli import __version__
from tsmcli.catalog import CATALOG
from tsmcli.data.listfile import VideoRecord, read_json
from tsmcli.data.location import path_from, read_manifest, write_dataset
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.errors import DataError, UsageError
from tsmcli.files import remove, write_text
from tsmcli.prepare.annotations import write_csv
from tsmcli.prepare.extract import Extracted, VideosCounted, remove_parts, run_jobs
from tsmcli.prepare.matching import MatchedVideo, MediaPlan, make_jobs, stored_path


@dataclass(frozen=True)
class PreparedDataset:
    """What was written.

    Attributes:
        counts: split -> videos in its list.
        differences: lines that say what is not as in the official release.
        failures: (path, reason) of videos that could not be converted.
    """

    plan: MediaPlan
    counts: dict[str, int]
    differences: list[str]
    failures: list[tuple[str, str]]
    complete: bool


Preparing = Generator[VideosCounted | Extracted, None, PreparedDataset]


def prepare(plan: MediaPlan, *, workers: int, shard: tuple[int, int] = (1, 1)) -> Preparing:
    """Convert what is to be converted, then write lists, class names and the manifest.

    With several shards each machine converts its part; lists are written by a last run without shards, which finds
    everything done.

    Raises:
        DataError: no video could be converted.
        UsageError: another process is at work in this folder, or it holds media of another size.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(plan.out / f".prepare-{shard[0]}-of-{shard[1]}.lock", timeout=0):
            return (yield from _prepare(plan, workers, shard))
    except Timeout:
        hint = "let it end, or choose another --out"
        raise UsageError(f"another process is preparing {plan.out}", hint) from None


def _prepare(plan: MediaPlan, workers: int, shard: tuple[int, int]) -> Preparing:
    read_manifest(plan.out)  # a damaged one is to be known before hours of work
    done: dict[Path, Extracted] = {}
    if plan.target:
        _claim(plan)
        jobs = make_jobs(plan)[shard[0] - 1 :: shard[1]]
        remove_parts(jobs)
        yield VideosCounted(len(jobs))
        try:
            for result in run_jobs(jobs, workers):
                done[result.job.target] = result
                yield result
        finally:
            remove_parts(jobs)  # of processes that were ended in their work
    failures = [(str(r.job.source), r.error) for r in done.values() if r.error] + plan.unusable
    missing = [(item.split, item.names[0]) for item in plan.missing]
    tables = {"failures.csv": [("video", "reason"), *failures], "missing.csv": [("split", "video"), *missing]}
    for name, (header, *rows) in tables.items():
        if rows:
            write_csv(plan.out / name, header, rows)
        else:
            remove(plan.out / name)
    counts = _write_lists(plan, done) if shard == (1, 1) else {}
    return PreparedDataset(plan, counts, differences(plan, counts), failures, shard == (1, 1))


def _claim(plan: MediaPlan) -> None:
    """Note what the converted media are, or refuse to mix them with others."""
    path = plan.out / f"conversion-{plan.target}.json"
    facts = {"conversion": plan.target, "size": str(plan.size)}
    there = read_json(path, dict, "remove it if the media are of the size you want") if path.exists() else facts
    if there != facts:
        wrong = f"{plan.out} already holds {plan.target} of size: {there.get('size')}, not {plan.size}"
        raise UsageError(wrong, "choose another --out")
    write_text(path, json.dumps(facts) + "\n")


def _write_lists(plan: MediaPlan, done: dict[Path, Extracted]) -> dict[str, int]:
    facts = CATALOG[plan.dataset]
    pairs = [(found.item.split, _record(plan, found, done)) for found in plan.found]
    records = {name: [record for split, record in pairs if record and split == name] for name in ("train", "val")}
    if not any(records.values()):
        raise DataError("no video could be converted", hint=f"{plan.out / 'failures.csv'} says why")
    namings = (found.frames.naming for found in plan.found if found.frames)
    naming = next(namings, (facts.frame_template, facts.start_index))
    return write_dataset(
        plan.out, facts, plan.store, records, plan.annotations.classes,
        {s: facts.media(plan.target, s) if plan.target else path_from(plan.out, plan.source) for s in records},
        frame_template=naming[0], start_index=naming[1], size=str(plan.size), conversion=plan.target,
        annotations=[path.name for path in plan.annotations.files], **plan.annotations.facts,
        versions={"tsm": __version__, "av": av.__version__, "opencv": cv2.__version__},
    )  # fmt: skip


def _record(plan: MediaPlan, found: MatchedVideo, done: dict[Path, Extracted]) -> VideoRecord | None:
    """The line of the list, or None for a video that could not be converted."""
    if plan.target:
        path = stored_path(plan, found)
        result = done[plan.out / CATALOG[plan.dataset].media(plan.target, found.item.split) / path]
        frames = None if plan.store == "video" else result.frames
        return None if result.error else VideoRecord(path.as_posix(), frames, found.item.label)
    return VideoRecord(found.path.as_posix(), found.frames.count if found.frames else None, found.item.label)


def differences(plan: MediaPlan, counts: dict[str, int]) -> list[str]:
    """What is not as in the official release: counts, missing videos, class names, frame names."""
    facts, lines = CATALOG[plan.dataset], []
    annotated = {split: sum(item.split == split for item in plan.annotations.items) for split in ("train", "val")}
    for split, official in facts.videos.items():
        if annotated[split] != official:
            lines.append(f"{split}: {annotated[split]} videos are annotated, officially {official}")
    for split, count in counts.items():
        if count != annotated[split]:
            lines.append(f"{split}: {count} of {annotated[split]} annotated videos are in the list")
    if plan.missing:
        names = ", ".join(item.names[0] for item in plan.missing[:5]) + ", ..." * (len(plan.missing) > 5)
        lines.append(f"{len(plan.missing)} annotated videos were not found: {names}")
    return [*lines, *plan.annotations.notes]


def estimate_bytes(plan: MediaPlan) -> int:
    """About how much disk a conversion will take, from converting the first frames of three videos in memory."""
    sizes = []
    videos = [found.path for found in plan.found]
    for video in videos[:: max(1, len(videos) // 3)][:3]:
        with contextlib.suppress(DataError, StopIteration, cv2.error), PyAVReader(plan.source / video) as reader:
            frame = next(reader.all_bgr())
            frame = cv2.resize(frame, plan.size.of(frame.shape[1], frame.shape[0]))
            sizes.append(len(cv2.imencode(".jpg", frame)[1]) * reader.num_frames)
    return int(sum(sizes) / len(sizes) * len(videos)) if sizes else 0

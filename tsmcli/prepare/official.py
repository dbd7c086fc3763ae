"""From official label files and downloaded media to a prepared dataset."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2

from tsmcli import __version__
from tsmcli.catalog import CATALOG
from tsmcli.data.listfile import VideoRecord, write_list
from tsmcli.data.location import write_manifest
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.errors import DataError, UsageError
from tsmcli.files import write_text
from tsmcli.prepare.extract import Extracted, remove_parts, run_jobs
from tsmcli.prepare.matching import MatchedVideo, MediaPlan, make_jobs, stored_path


@dataclass(frozen=True)
class ExtractionStarted:
    """`total` videos are to be converted or were converted before."""

    total: int


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


def _claim(plan: MediaPlan) -> None:
    """Note what the converted media are, or refuse to mix them with others.

    Raises:
        UsageError: the folder holds media of another size.
    """
    path = plan.out / f"conversion-{plan.target}.json"
    facts = {"conversion": plan.target, "size": str(plan.size)}
    if path.exists() and (there := json.loads(path.read_text(encoding="utf-8"))) != facts:
        raise UsageError(
            f"{plan.out} already holds {plan.target} of size: {there.get('size')}, not {plan.size}",
            hint="choose another --out",
        )
    write_text(path, json.dumps(facts) + "\n")


def prepare(plan: MediaPlan, *, workers: int, shard: tuple[int, int] = (1, 1)) -> Iterator[Any]:
    """Convert what is to be converted, then write lists, class names and the manifest.

    With several shards each machine converts its part; lists are written by a last run without shards, which finds
    everything done.

    Raises:
        DataError: no video could be converted.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    done: dict[Path, Extracted] = {}
    if plan.target:
        _claim(plan)
        jobs = make_jobs(plan)[shard[0] - 1 :: shard[1]]
        remove_parts(jobs)
        yield ExtractionStarted(len(jobs))
        for result in run_jobs(jobs, workers):
            done[result.job.target] = result
            yield result
    failures = [(str(r.job.source), r.error) for r in done.values() if r.error] + plan.unusable
    _write_rows(plan.out / "failures.csv", ("video", "reason"), failures)
    missing = [(item.split, item.names[0]) for item in plan.missing]
    _write_rows(plan.out / "missing.csv", ("split", "video"), missing)
    counts: dict[str, int] = {}
    if shard == (1, 1):
        counts = _write_lists(plan, done)
        _write_facts(plan, counts)
    yield PreparedDataset(plan, counts, differences(plan, counts), failures, shard == (1, 1))


def _write_lists(plan: MediaPlan, done: dict[Path, Extracted]) -> dict[str, int]:
    facts = CATALOG[plan.dataset]
    counts = {}
    for split in ("train", "val"):
        records = []
        for found in (f for f in plan.found if f.item.split == split):
            record = _record(plan, found, done)
            if record:
                records.append(record)
        counts[split] = len(records)
        path = plan.out / facts.list_name(plan.store, split)
        if records:
            write_list(path, records)
        else:
            path.unlink(missing_ok=True)  # one of an earlier run would not belong to the other list
    if not any(counts.values()):
        raise DataError("no video could be converted", hint=f"{plan.out / 'failures.csv'} says why")
    return counts


def _record(plan: MediaPlan, found: MatchedVideo, done: dict[Path, Extracted]) -> VideoRecord | None:
    if plan.target is None:
        if found.frames:
            return VideoRecord(found.frames.path.as_posix(), found.frames.count, found.item.label)
        assert found.video
        return VideoRecord(found.video.as_posix(), None, found.item.label)
    path = stored_path(plan, found)
    result = done.get(plan.out / CATALOG[plan.dataset].media(plan.target, found.item.split) / path)
    if result is None or result.error:
        return None
    return VideoRecord(path.as_posix(), None if plan.store == "video" else result.frames, found.item.label)


def _write_facts(plan: MediaPlan, counts: dict[str, int]) -> None:
    facts = CATALOG[plan.dataset]
    write_text(plan.out / "classes.txt", "\n".join(plan.annotations.classes) + "\n")
    example = next((f.frames for f in plan.found if f.frames), None)
    source = os.path.relpath(plan.source.resolve(), plan.out.resolve())
    media = {split: facts.media(plan.target, split) if plan.target else source for split in ("train", "val")}
    manifest = {
        "media": media,
        "videos": counts,
        "frame_template": example.template if example else facts.frame_template,
        "start_index": example.start_index if example else facts.start_index,
        "size": str(plan.size),
        "conversion": plan.target,
        "annotations": [path.name for path in plan.annotations.files],
        "versions": {"tsm": __version__, "av": av.__version__, "opencv": cv2.__version__},
    }
    write_manifest(plan.out, facts, plan.store, manifest)


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
        names = ", ".join(item.names[0] for item in plan.missing[:5])
        lines.append(
            f"{len(plan.missing)} annotated videos were not found: {names}{', ...' * (len(plan.missing) > 5)}"
        )
    lines += plan.annotations.notes
    return lines


def estimate_bytes(plan: MediaPlan, samples: int = 3) -> int:
    """About how much disk a conversion will take, from converting the first frames of a few videos in memory."""
    sizes = []
    videos = [f.video for f in plan.found if f.video]
    for video in videos[:: max(1, len(videos) // samples)][:samples]:
        try:
            with PyAVReader(plan.source / video) as reader:
                frame = next(reader.all_bgr())
                frame = cv2.resize(frame, plan.size.of(frame.shape[1], frame.shape[0]))
                sizes.append(len(cv2.imencode(".jpg", frame)[1]) * reader.num_frames)
        except (DataError, StopIteration, cv2.error):
            continue
    return int(sum(sizes) / len(sizes) * len(videos)) if sizes else 0


def _write_rows(path: Path, header: tuple[str, str], rows: list[tuple[str, str]]) -> None:
    """A CSV file; removed when it has no rows."""
    if not rows:
        path.unlink(missing_ok=True)
        return
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(header)
    writer.writerows(rows)
    write_text(path, buffer.getvalue())

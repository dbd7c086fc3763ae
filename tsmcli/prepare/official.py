"""From official label files and downloaded media to a prepared dataset."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import av
import cv2
from filelock import FileLock, Timeout

from tsmcli import __version__
from tsmcli.catalog import CATALOG
from tsmcli.data.archive import unpack
from tsmcli.data.listfile import VideoRecord, read_json
from tsmcli.data.location import path_from, read_manifest, write_dataset
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.errors import DataError, UsageError
from tsmcli.files import remove, write_text
from tsmcli.prepare.annotations import BY_HAND, write_csv
from tsmcli.prepare.extract import (
    Extracted,
    Job,
    VideosCounted,
    remove_parts,
    run_jobs,
    stored_frames,
    wanted_frames,
)
from tsmcli.prepare.matching import MatchedVideo, MediaPlan, make_jobs, stored_path


@dataclass(frozen=True)
class PreparedDataset:
    """What was written.

    Attributes:
        counts: split -> videos in its list.
        differences: lines that say what is not as in the official release.
        failures: (path, reason) of videos that could not be converted: of all parts if `complete`, else of this.
        waiting: numbers of parts that are not done; the last part to end writes the lists.
    """

    plan: MediaPlan
    counts: dict[str, int]
    differences: list[str]
    failures: list[tuple[str, str]]
    waiting: list[int] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether the lists were written here, and not by the process of another part."""
        return bool(self.counts)


def unpack_source(archive: Path, out: Path) -> Path:
    """Unpack a downloaded archive, and RAR archives in it, below `out`, unless that is done; returns the folder.

    Raises:
        DataError: it cannot be unpacked.
        EnvironmentProblem: libarchive is not installed, or the disk is too small.
    """
    folder = out / "unpacked" / archive.stem
    folder.parent.mkdir(parents=True, exist_ok=True)
    by_hand = BY_HAND.format("--source")
    with _locked(out / ".unpack.lock"):
        unpack(archive, folder, wrong=DataError, otherwise=by_hand)
        for inner in sorted(folder.rglob("*.rar")):
            unpack(inner, inner.with_suffix(""), wrong=DataError, otherwise=by_hand)
            remove(inner)
    return folder


Preparing = Generator[VideosCounted | Extracted, None, PreparedDataset]


def prepare(plan: MediaPlan, *, workers: int, shard: tuple[int, int] = (1, 1)) -> Preparing:
    """Convert what is to be converted, then write lists, class names and the manifest.

    Several processes, on one machine or on many that share the folder, each convert the part that `shard` says. The
    last one to end writes the lists, as does a later run without parts.

    Raises:
        DataError: no video could be converted.
        UsageError: another process is at work in this folder, or it holds media of another size.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(plan.out / f".prepare-{shard[0]}-of-{shard[1]}.lock", timeout=0):
            return (yield from _prepare(plan, workers, shard))
    except Timeout:
        hint = "let it end, or choose another --out"
        raise UsageError(f"another process is preparing {plan.out}", hint) from None


@contextlib.contextmanager
def _locked(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold a lock, and leave no file of it; Timeout where another process holds it."""
    with FileLock(path, timeout=timeout):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # Windows deletes no open file
                path.unlink()


def _prepare(plan: MediaPlan, workers: int, shard: tuple[int, int]) -> Preparing:
    read_manifest(plan.out)  # a damaged one is to be known before hours of work
    part, parts = shard
    jobs = make_jobs(plan) if plan.target else []
    mine = jobs[part - 1 :: parts]
    done: dict[Path, Extracted] = {}
    remove(_note(plan, part, parts))
    if plan.target:
        _claim(plan)
        remove_parts(mine)
        yield VideosCounted(len(mine))
        try:
            for result in run_jobs(mine, workers):
                done[result.job.target] = result
                yield result
        finally:
            remove_parts(mine)  # of processes that were ended in their work
    results = [done[job.target] for job in mine]
    return _finish(plan, results) if parts == 1 else _join(plan, jobs, results, part, parts)


def _join(plan: MediaPlan, jobs: Sequence[Job], mine: list[Extracted], part: int, parts: int) -> PreparedDataset:
    """Note that a part is done; write the lists if all are."""
    failed = {str(r.job.target): r.error for r in mine if r.error}
    write_text(_note(plan, part, parts), json.dumps({"of": _identity(plan), "failed": failed}) + "\n")
    with _locked(plan.out / ".prepare-lists.lock"):
        notes = [_failed(plan, number, parts) for number in range(1, parts + 1)]
        waiting = [number for number, note in enumerate(notes, 1) if note is None]
        if waiting:
            errors = [(str(r.job.source), r.error) for r in mine if r.error]
            written = part in waiting  # another process took the note of this part, too, when it wrote the lists
            return PreparedDataset(plan, {}, [], errors, [] if written else waiting)
        return _finish(plan, [_stored(job, notes[i % parts]) for i, job in enumerate(jobs)])


def _note(plan: MediaPlan, part: int, parts: int) -> Path:
    """The file that says that a part is done."""
    return plan.out / f".prepare-{part}-of-{parts}.json"


def _identity(plan: MediaPlan) -> str:
    """The same for all processes that prepare the same."""
    facts = [plan.target, str(plan.size), [(found.item, str(found.path)) for found in plan.found]]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _failed(plan: MediaPlan, part: int, parts: int) -> dict[str, str] | None:
    """Target -> why, of the videos of a part that could not be converted; None if it is not done."""
    path = _note(plan, part, parts)
    note = read_json(path, dict, "remove it") if path.exists() else {}
    return dict(note["failed"]) if note.get("of") == _identity(plan) else None


def _stored(job: Job, failed: dict[str, str] | None) -> Extracted:
    """The result of another process."""
    frames = stored_frames(job)
    error = (failed or {}).get(str(job.target)) or ("" if frames is not None else f"{job.target} is gone")
    return Extracted(job, frames or 0, error)


def _finish(plan: MediaPlan, results: Sequence[Extracted]) -> PreparedDataset:
    """Write the lists and what could not be used."""
    failures = [(r.job.name, r.error) for r in results if r.error] + plan.unusable
    missing = [(item.split, item.names[0]) for item in plan.missing]
    tables = {"failures.csv": [("video", "reason"), *failures], "missing.csv": [("split", "video"), *missing]}
    for name, (header, *rows) in tables.items():
        if rows:
            write_csv(plan.out / name, header, rows)
        else:
            remove(plan.out / name)
    counts = _write_lists(plan, {result.job.target: result for result in results})
    for note in plan.out.glob(".prepare-*-of-*.json"):
        remove(note)
    for left in plan.out.glob(".prepare-*-of-*.lock"):  # of processes that were killed
        with contextlib.suppress(Timeout, OSError), FileLock(left, timeout=0):
            left.unlink()
    return PreparedDataset(plan, counts, differences(plan, counts), failures)


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
    records = {name: [record for split, record in pairs if record and split == name] for name in facts.parts}
    if not any(records.values()):
        raise DataError("no video could be converted", hint=f"{plan.out / 'failures.csv'} says why")
    namings = Counter(found.frames.naming for found in plan.found if found.frames)
    ((naming, _),) = namings.most_common(1) or [((facts.frame_template, facts.start_index), 0)]
    return write_dataset(
        plan.out, facts, plan.store, records, plan.annotations.classes,
        {s: facts.media(plan.target, s) if plan.target else path_from(plan.out, plan.source) for s in records},
        frame_template=naming[0], start_index=naming[1], size=str(plan.size), conversion=plan.target,
        **{"annotations": [path.name for path in plan.annotations.files], **plan.annotations.facts},
        versions={"tsm": __version__, "av": av.__version__, "opencv": cv2.__version__},
    )  # fmt: skip


def _record(plan: MediaPlan, found: MatchedVideo, done: dict[Path, Extracted]) -> VideoRecord | None:
    """The line of the list, or None for a video that could not be converted."""
    item = found.item
    if plan.target:
        path = stored_path(plan, found)
        result = done[plan.out / CATALOG[plan.dataset].media(plan.target, found.item.split) / path]
        frames = None if plan.store == "video" else result.frames
        return None if result.error else VideoRecord(path.as_posix(), frames, item.label, labels=item.labels)
    frames = found.frames.count if found.frames else None
    return VideoRecord(found.path.as_posix(), frames, item.label, labels=item.labels)


def differences(plan: MediaPlan, counts: dict[str, int]) -> list[str]:
    """What is not as in the official release: counts, missing videos, class names, frame names."""
    facts, lines = CATALOG[plan.dataset], []
    annotated = Counter(item.split for item in plan.annotations.items)
    for split, official in facts.videos.items():
        if annotated[split] != official:
            lines.append(f"{split}: {annotated[split]} videos are annotated, officially {official}")
    for split, count in counts.items():
        if count != annotated[split]:
            lines.append(f"{split}: {count} of {annotated[split]} annotated videos are in the list")
    if plan.missing:
        missing = [*dict.fromkeys(item.names[0] for item in plan.missing)]
        names = ", ".join(missing[:5]) + ", ..." * (len(missing) > 5)
        lines.append(f"{len(missing)} annotated videos were not found: {names}")
    return [*lines, *plan.annotations.notes]


def estimate_bytes(plan: MediaPlan) -> int:
    """About how much disk a conversion will take, from converting the first frames of three videos in memory."""
    sizes, jobs = [], make_jobs(plan)
    for job in jobs[:: max(1, len(jobs) // 3)][:3]:
        with contextlib.suppress(DataError, StopIteration, cv2.error), PyAVReader(job.source) as reader:
            frame = next(reader.all_bgr())
            frame = cv2.resize(frame, plan.size.of(frame.shape[1], frame.shape[0]))
            count = len(range(reader.num_frames)[wanted_frames(job, reader)])
            sizes.append(len(cv2.imencode(".jpg", frame)[1]) * count)
    return int(sum(sizes) / len(sizes) * len(jobs)) if sizes else 0

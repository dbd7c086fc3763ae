"""From official label files and downloaded media to a prepared dataset."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import cv2

from tsmcli import __version__
from tsmcli.catalog import CATALOG
from tsmcli.config import Store
from tsmcli.data.listfile import VideoRecord, write_list
from tsmcli.data.location import write_manifest, write_text
from tsmcli.errors import DataError
from tsmcli.prepare.annotations import Annotations, Item
from tsmcli.prepare.extract import Extracted, Job, Size, Target, remove_parts, run_jobs
from tsmcli.prepare.media import FrameSet, Media, scan


@dataclass(frozen=True)
class Found:
    """An annotated video and where it lies: a video file or a folder of frames, relative to the source."""

    item: Item
    video: Path | None = None
    frames: FrameSet | None = None

    @property
    def name(self) -> str:
        """What it is called on disk, without a suffix."""
        return self.video.stem if self.video else self.frames.path.name if self.frames else self.item.names[0]


@dataclass(frozen=True)
class Plan:
    """What will be done: which annotated videos are there, which are not, what becomes of them.

    Attributes:
        store: how the dataset will be read.
        target: the conversion, or None where media stay where they are.
        missing: annotated videos that were not found.
        unusable: (path, reason) of media that were found broken at sight.
    """

    dataset: str
    source: Path
    out: Path
    store: Store
    target: Target | None
    size: Size
    annotations: Annotations
    media: Media
    found: list[Found]
    missing: list[Item]
    unusable: list[tuple[str, str]] = field(default_factory=list)


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

    plan: Plan
    counts: dict[str, int]
    differences: list[str]
    failures: list[tuple[str, str]]
    complete: bool


def make_plan(
    dataset: str, annotations: Annotations, source: Path, out: Path, store: str | None, size: Size
) -> Plan:
    """Look for every annotated video and decide what to do.

    Args:
        store: `video`, `frames`, `zip` or `seekable`; None: as found.

    Raises:
        DataError: nothing that is annotated was found.
    """
    media = scan(source)
    good: list[Found] = []
    lost: list[Item] = []
    for item in annotations.items:
        here = _find(item, source, media, want_video=store in ("video", "zip", "seekable"))
        if here:
            good.append(here)
        else:
            lost.append(item)
    unusable = [(str(path), reason) for path, reason in media.gaps.items()]
    if not good:
        wanted = ", ".join(annotations.items[0].names) if annotations.items else "nothing"
        raise DataError(
            f"{source}: none of the {len(annotations.items)} annotated videos is there; looked for names such as "
            f"{wanted}; found {media.summary()}",
            hint=f"--source DIR is the folder of the downloaded media ({CATALOG[dataset].home or 'yours'})",
        )
    as_videos = sum(f.video is not None for f in good) * 2 >= len(good)
    if store is None:
        store = "video" if as_videos else "frames"
    if store == "video" and not as_videos:
        raise DataError(f"{source}: holds folders of frames, not videos", hint="--store frames")
    target: Target | None = None
    if store in ("zip", "seekable") or size != Size() or (store == "frames" and as_videos):
        target = "seekable" if store in ("video", "seekable") else "zip" if store == "zip" else "frames"
    if target and not as_videos:
        raise DataError(f"{source}: holds folders of frames; --store {store} and sizes are for videos",
                        hint="--store frames uses the frames as they are")  # fmt: skip
    read_as: Store = "frames" if store == "frames" else "zip" if store == "zip" else "video"
    kept = [f for f in good if (f.video is not None) == as_videos]
    lost += [f.item for f in good if (f.video is not None) != as_videos]
    return Plan(dataset, source, out, read_as, target, size, annotations, media, kept, lost, unusable)


def _find(item: Item, source: Path, media: Media, *, want_video: bool) -> Found | None:
    prefer = (item.split, "validation" if item.split == "val" else item.split, item.folder)
    direct = Path(item.names[0])
    if (len(direct.parts) > 1 or direct.suffix) and (source / direct).is_file():
        return Found(item, video=direct)
    video = media.find_video(item.names, prefer)
    frames = media.find_frames(item.names, prefer)
    if video and (want_video or not frames):
        return Found(item, video=video)
    return Found(item, frames=frames) if frames else None


def make_jobs(plan: Plan) -> list[Job]:
    """One conversion per found video; a video that is annotated twice is converted once."""
    assert plan.target
    facts = CATALOG[plan.dataset]
    suffix = {"frames": "", "zip": ".zip", "seekable": ".mp4"}[plan.target]
    jobs: dict[Path, Job] = {}
    for found in plan.found:
        assert found.video
        media = plan.out / facts.media(plan.store, found.item.split)
        target = media / found.item.folder / (found.name + suffix)
        jobs[target] = Job(
            plan.source / found.video, target, plan.target, plan.size, facts.frame_template, facts.start_index
        )
    return list(jobs.values())


def prepare(plan: Plan, *, workers: int, shard: tuple[int, int] = (1, 1)) -> Iterator[Any]:
    """Convert what is to be converted, then write lists, class names and the manifest.

    With several shards each machine converts its part; lists are written by a last run without shards, which finds
    everything done.

    Raises:
        DataError: no video could be converted.
    """
    plan.out.mkdir(parents=True, exist_ok=True)
    done: dict[Path, Extracted] = {}
    if plan.target:
        jobs = make_jobs(plan)[shard[0] - 1 :: shard[1]]
        if shard == (1, 1):
            remove_parts(plan.out)
        yield ExtractionStarted(len(jobs))
        for result in run_jobs(jobs, workers):
            done[result.job.target] = result
            yield result
    failures = [(str(r.job.source), r.error) for r in done.values() if r.error] + plan.unusable
    _write_failures(plan.out / "failures.csv", failures)
    counts: dict[str, int] = {}
    if shard == (1, 1):
        counts = _write_lists(plan, done)
        _write_facts(plan, counts)
    yield PreparedDataset(plan, counts, differences(plan, counts), failures, shard == (1, 1))


def _write_lists(plan: Plan, done: dict[Path, Extracted]) -> dict[str, int]:
    facts = CATALOG[plan.dataset]
    counts = {}
    for split in ("train", "val"):
        records = []
        for found in (f for f in plan.found if f.item.split == split):
            record = _record(plan, found, done)
            if record:
                records.append(record)
        counts[split] = len(records)
        if records:
            write_list(plan.out / facts.list_name(plan.store, split), records)
    if not any(counts.values()):
        raise DataError("no video could be converted", hint=f"{plan.out / 'failures.csv'} says why")
    return counts


def _record(plan: Plan, found: Found, done: dict[Path, Extracted]) -> VideoRecord | None:
    if plan.target is None:
        if found.frames:
            return VideoRecord(found.frames.path.as_posix(), found.frames.count, found.item.label)
        assert found.video
        return VideoRecord(found.video.as_posix(), None, found.item.label)
    media = plan.out / CATALOG[plan.dataset].media(plan.store, found.item.split)
    suffix = {"frames": "", "zip": ".zip", "seekable": ".mp4"}[plan.target]
    path = Path(found.item.folder) / (found.name + suffix)
    result = done.get(media / path)
    if result is None or result.error:
        return None
    return VideoRecord(path.as_posix(), None if plan.store == "video" else result.frames, found.item.label)


def _write_facts(plan: Plan, counts: dict[str, int]) -> None:
    facts = CATALOG[plan.dataset]
    write_text(plan.out / "classes.txt", "\n".join(plan.annotations.classes) + "\n")
    example = next((f.frames for f in plan.found if f.frames), None)
    media = {
        split: facts.media(plan.store, split)
        if plan.target
        else os.path.relpath(plan.source.resolve(), plan.out.resolve())
        for split in ("train", "val")
    }
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


def differences(plan: Plan, counts: dict[str, int]) -> list[str]:
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
    used = {(f.frames.template, f.frames.start_index) for f in plan.found if f.frames}
    if len(used) > 1:
        lines.append(f"frame folders are named in {len(used)} ways: {sorted(used)[:3]}; only the first is read")
    return lines


def estimate_bytes(plan: Plan, samples: int = 3) -> int:
    """About how much disk a conversion will take, from converting the first frames of a few videos in memory."""
    from tsmcli.data.pyav_reader import PyAVReader

    sizes = []
    videos = [f.video for f in plan.found if f.video]
    for video in videos[:: max(1, len(videos) // samples)][:samples]:
        try:
            with PyAVReader(plan.source / video) as reader:
                frame = next(reader.all_bgr())
                frame = cv2.resize(frame, plan.size.of(frame.shape[1], frame.shape[0]))
                sizes.append(len(cv2.imencode(".jpg", frame)[1]) * reader.num_frames)
        except DataError:
            continue
    return int(sum(sizes) / len(sizes) * len(videos)) if sizes else 0


def _write_failures(path: Path, failures: list[tuple[str, str]]) -> None:
    """A CSV of videos and reasons; removed when there are none."""
    if not failures:
        path.unlink(missing_ok=True)
        return
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(("video", "reason"))
    writer.writerows(failures)
    write_text(path, buffer.getvalue())

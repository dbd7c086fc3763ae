"""What is to be done: which annotated videos are there, what becomes of them, and under which name."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tsmcli.catalog import CATALOG
from tsmcli.config import LIMITS, DataConfig, Store
from tsmcli.data.archive import ARCHIVES
from tsmcli.data.decode import FrameFolder, FrameReader
from tsmcli.data.intervals import Span
from tsmcli.data.listfile import unlistable
from tsmcli.data.media import PICTURE_SUFFIXES, FrameSet, Media, candidates, name_key, scan, suffix_of
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.errors import DataError
from tsmcli.prepare.annotations import Annotations, Item, label_folder
from tsmcli.prepare.datasets import read_annotations
from tsmcli.prepare.extract import Job, Size, Target
from tsmcli.prepare.findings import Listed, find_by_name, find_sides
from tsmcli.prepare.own import thin_classes

KINDS: dict[str, tuple[Target, Store]] = {
    "frames": ("frames", "frames"), "zip": ("zip", "zip"), "seekable": ("seekable", "video"),
    "video": ("seekable", "video"),
}  # fmt: skip
"""What `--store` makes of videos, and how that is read."""


@dataclass(frozen=True)
class MatchedVideo:
    """An annotated video and where it lies: a video file or a folder of frames, relative to the source.

    Attributes:
        span: the interval of a video file that is annotated; None: all of it.
    """

    item: Item
    path: Path
    frames: FrameSet | None = None
    span: Span | None = None

    @property
    def name(self) -> str:
        """What it is called on disk, without a suffix; an interval `monday.mp4@12.5-14`, once it is cut out."""
        if self.span:
            return f"{self.path.name}@{self.span}"
        return self.path.name if self.frames else self.path.stem


@dataclass(frozen=True)
class MediaPlan:
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
    found: list[MatchedVideo]
    missing: list[Item]
    unusable: list[tuple[str, str]] = field(default_factory=list)
    limits: DataConfig = LIMITS


def plan_media(
    dataset: str, source: Path, out: Path, *, annotations: Path | None = None, store: str | None = None,
    size: Size | None = None, val_share: float = 0.2, group: str | None = None, seed: int = 0,
    limits: DataConfig = LIMITS,
) -> MediaPlan:  # fmt: skip
    """Read the label files, look for every annotated video and decide what to do.

    Args:
        dataset: a name of the catalog, or `csv`.
        annotations, val_share, group, seed: as `read_annotations` takes them.
        store: `video`, `frames`, `zip` or `seekable`; None: as found.
        limits: of the videos that are converted.

    Raises:
        DataError: nothing that is annotated was found.
    """
    if not source.is_dir():
        raise DataError(f"no folder {source}")
    size = size or Size()
    name = "folder" if dataset == "csv" else dataset
    media = scan(source, made_here(name, out))
    with label_folder(annotations) as where:
        labels = read_annotations(
            dataset, media, where, val_share=val_share, group=group, seed=seed, several=limits.multi_label
        )
    want_video = store in ("video", "zip", "seekable") or size != Size()
    chosen: list[str] = []
    places = [(item, _find(item, source, media, chosen, want_video=want_video)) for item in labels.items]
    lost = [item for item, here in places if not here]
    listed = [(here, unlistable(here.path.as_posix(), several=limits.multi_label)) for _, here in places if here]
    good = [here for here, wrong in listed if not wrong]
    annotated = {name_key(Path(name).name) for item in lost for name in item.names}
    unusable = [(str(here.path), wrong) for here, wrong in listed if wrong]
    unusable += [(str(p), reason) for p, reason in media.gaps.items() if name_key(p.name) in annotated]
    if not good:
        names = ", ".join(labels.items[0].names) if labels.items else "nothing"
        wrong = f"{source}: none of the {len(labels.items)} annotated videos is there"
        hint = f"--source DIR is the folder of the downloaded media ({CATALOG[name].home or 'yours'})"
        if media.suffixes.keys() & ARCHIVES:
            hint += "; --source FILE unpacks an archive"
        raise DataError(f"{wrong}; looked for names such as {names}; found {media.summary()}", hint)
    as_videos = sum(not f.frames for f in good) * 2 >= len(good)
    store = store or ("video" if as_videos else "frames")
    if store == "video" and not as_videos:
        raise DataError(f"{source}: holds folders of frames, not videos", hint="--store frames")
    kind, read_as = KINDS[store]
    target = kind if store in ("zip", "seekable") or size != Size() or (store == "frames" and as_videos) else None
    if target and not as_videos:
        hint = "--store frames uses the frames as they are"
        raise DataError(f"{source}: holds folders of frames; --store {store} and sizes are for videos", hint)
    kept = [f for f in good if (not f.frames) == as_videos]
    if name == "folder":
        if kept and not any(found.item.split == "train" for found in kept):
            raise DataError(f"{source}: none of the {len(kept)} videos that are there is for training")
        videos = [Listed(f.item.split, f.path.as_posix(), label) for f in kept for label in f.item.every]
        found = [*find_by_name(labels.classes, videos), *find_sides(labels.classes, flips=False)]
        notes = (*labels.notes, *thin_classes(labels.classes, [f.item for f in kept]), *map(str, found))
        labels = replace(labels, notes=notes)
    lost += [f.item for f in good if (not f.frames) != as_videos]
    if chosen:
        chosen = [*dict.fromkeys(chosen)]
        twice = (
            f"{len(chosen)} videos are there more than once: {'; '.join(chosen[:5])}{'; ...' * (len(chosen) > 5)}"
        )
        labels = replace(labels, notes=(*labels.notes, twice))
    return MediaPlan(name, source, out, read_as, target, size, labels, kept, lost, unusable, limits)


def _find(item: Item, source: Path, media: Media, chosen: list[str], *, want_video: bool) -> MatchedVideo | None:
    """Where an annotated video lies. Of several of its name the one is taken that has most frames to read."""
    for name in item.names:
        direct = Path(name)
        named = len(direct.parts) > 1 or direct.suffix
        if named and suffix_of(name) not in PICTURE_SUFFIXES and os.path.isfile(source / direct):  # noqa: PTH113  a name that is too long is none
            return MatchedVideo(item, direct)
        folders = media.frames.get(name_key(direct.name), [])
        if len(direct.parts) > 1 and (found := next((f for f in folders if f.path == direct), None)):
            return MatchedVideo(item, found.path, found)
    above = [part for name in item.names for part in Path(name).parts[:-1]]
    prefer = (item.split, "validation" if item.split == "val" else item.split, item.folder, *above)
    videos = candidates(media.videos, item.names, prefer)
    here = videos if videos and want_video else candidates(media.frames, item.names, prefer) or videos
    if not here:
        return None
    best = here[0]
    if len(here) > 1:
        best = max(here, key=lambda found: _readable_frames(source, found))
        others = ", ".join(_name(found) for found in here if found is not best)
        chosen.append(f"{_name(best)} is used, not {others}")
    return MatchedVideo(item, best.path, best) if isinstance(best, FrameSet) else MatchedVideo(item, best)


def _name(found: Path | FrameSet) -> str:
    return str(found.path if isinstance(found, FrameSet) else found)


def _readable_frames(source: Path, found: Path | FrameSet) -> int:
    """How many frames a video has; 0 where the first, the middle or the last cannot be decoded."""
    path = source / _name(found)
    reader: FrameReader
    try:
        if isinstance(found, FrameSet):
            reader = FrameFolder(path, found.count, *found.naming)
        else:
            reader = PyAVReader(path, timeout_sec=30)
        with closing(reader):
            reader.read(np.array([0, reader.num_frames // 2, reader.num_frames - 1]))
            return reader.num_frames
    except DataError:
        return 0


def made_here(dataset: str, out: Path) -> frozenset[Path]:
    """Folders below `out` that an earlier conversion filled: they are no source."""
    facts = CATALOG[dataset]
    return frozenset(
        (out / facts.media(kind, split)).resolve()
        for kind in ("frames", "zip", "seekable")
        for split in ("train", "val")
        if (out / f"conversion-{kind}.json").exists()
    )


def stored_path(plan: MediaPlan, found: MatchedVideo) -> Path:
    """Where a converted video lies, below the media folder of its split."""
    suffix = {"frames": "", "zip": ".zip", "seekable": ".mp4"}[plan.target or "frames"]
    return Path(found.item.folder) / (found.name + suffix)


def make_jobs(plan: MediaPlan) -> list[Job]:
    """One conversion per video, however often it is annotated; DataError if two would get the same name."""
    assert plan.target
    facts = CATALOG[plan.dataset]
    jobs: dict[Path, Job] = {}
    for found in plan.found:
        target = plan.out / facts.media(plan.target, found.item.split) / stored_path(plan, found)
        source = plan.source / found.path
        if target in jobs and jobs[target].source != source:
            raise DataError(f"{jobs[target].source} and {source} would both become {target}", hint="rename one")
        naming = facts.frame_template, facts.start_index
        jobs[target] = Job(source, target, plan.target, plan.size, *naming, plan.limits, span=found.span)
    return list(jobs.values())

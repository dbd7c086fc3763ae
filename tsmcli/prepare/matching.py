"""What is to be done: which annotated videos are there, what becomes of them, and under which name."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tsmcli.catalog import CATALOG
from tsmcli.config import Store
from tsmcli.data.media import FrameSet, Media, preferred, scan
from tsmcli.errors import DataError
from tsmcli.prepare.annotations import Annotations, Item
from tsmcli.prepare.datasets import read_annotations
from tsmcli.prepare.extract import Job, Size, Target

_KINDS: dict[str, tuple[Target, Store]] = {
    "frames": ("frames", "frames"), "zip": ("zip", "zip"), "seekable": ("seekable", "video"),
    "video": ("seekable", "video"),
}  # fmt: skip
"""What `--store` makes of videos, and how that is read."""


@dataclass(frozen=True)
class MatchedVideo:
    """An annotated video and where it lies: a video file or a folder of frames, relative to the source."""

    item: Item
    path: Path
    frames: FrameSet | None = None

    @property
    def name(self) -> str:
        """What it is called on disk, without a suffix."""
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


def plan_media(
    dataset: str, source: Path, out: Path, *, annotations: Path | None = None, store: str | None = None,
    size: Size | None = None, val_share: float = 0.2, group: str | None = None, seed: int = 0,
) -> MediaPlan:  # fmt: skip
    """Read the label files, look for every annotated video and decide what to do.

    Args:
        dataset: a name of the catalog, or `csv`.
        annotations, val_share, group, seed: as `read_annotations` takes them.
        store: `video`, `frames`, `zip` or `seekable`; None: as found.

    Raises:
        DataError: nothing that is annotated was found.
    """
    if not source.is_dir():
        raise DataError(f"no folder {source}")
    size = size or Size()
    name = "folder" if dataset == "csv" else dataset
    media = scan(source, _made_here(name, out))
    labels = read_annotations(dataset, media, annotations, val_share=val_share, group=group, seed=seed)
    want_video = store in ("video", "zip", "seekable") or size != Size()
    places = [(item, _find(item, source, media, want_video=want_video)) for item in labels.items]
    lost = [item for item, here in places if not here]
    good, unusable = _one_naming([here for _, here in places if here])
    annotated = {name.lower() for item in lost for name in item.names}
    unusable += [(str(p), reason) for p, reason in media.gaps.items() if p.name.lower() in annotated]
    if not good:
        names = ", ".join(labels.items[0].names) if labels.items else "nothing"
        wrong = f"{source}: none of the {len(labels.items)} annotated videos is there"
        hint = f"--source DIR is the folder of the downloaded media ({CATALOG[name].home or 'yours'})"
        raise DataError(f"{wrong}; looked for names such as {names}; found {media.summary()}", hint)
    as_videos = sum(not f.frames for f in good) * 2 >= len(good)
    store = store or ("video" if as_videos else "frames")
    if store == "video" and not as_videos:
        raise DataError(f"{source}: holds folders of frames, not videos", hint="--store frames")
    kind, read_as = _KINDS[store]
    target = kind if store in ("zip", "seekable") or size != Size() or (store == "frames" and as_videos) else None
    if target and not as_videos:
        hint = "--store frames uses the frames as they are"
        raise DataError(f"{source}: holds folders of frames; --store {store} and sizes are for videos", hint)
    kept = [f for f in good if (not f.frames) == as_videos]
    lost += [f.item for f in good if (not f.frames) != as_videos]
    return MediaPlan(name, source, out, read_as, target, size, labels, kept, lost, unusable)


def _find(item: Item, source: Path, media: Media, *, want_video: bool) -> MatchedVideo | None:
    prefer = (item.split, "validation" if item.split == "val" else item.split, item.folder)
    direct = Path(item.names[0])
    if (len(direct.parts) > 1 or direct.suffix) and (source / direct).is_file():
        return MatchedVideo(item, direct)
    video = preferred(media.videos, item.names, prefer)
    frames = preferred(media.frames, item.names, prefer)
    if video and (want_video or not frames):
        return MatchedVideo(item, video)
    return MatchedVideo(item, frames.path, frames) if frames else None


def _made_here(dataset: str, out: Path) -> frozenset[Path]:
    """Folders below `out` that an earlier conversion filled: they are no source."""
    facts = CATALOG[dataset]
    return frozenset(
        (out / facts.media(kind, split)).resolve()
        for kind in ("frames", "zip", "seekable")
        for split in ("train", "val")
        if (out / f"conversion-{kind}.json").exists()
    )


def _one_naming(good: list[MatchedVideo]) -> tuple[list[MatchedVideo], list[tuple[str, str]]]:
    """Keep the frame folders that are named as most are; a dataset has one way to name frames."""
    ways = Counter(f.frames.naming for f in good if f.frames).most_common(1)
    odd = [f for f in good if f.frames and f.frames.naming != ways[0][0]]
    kept = [f for f in good if not f.frames or f.frames.naming == ways[0][0]]
    reason = "its frames are not named as those of most: {} from {}"
    return kept, [(str(f.path), reason.format(*ways[0][0])) for f in odd]


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
        jobs[target] = Job(source, target, plan.target, plan.size, facts.frame_template, facts.start_index)
    return list(jobs.values())

"""The videos that words on the command line name: files, folders, frame folders, patterns."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tsmcli.config import Store
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.media import FrameSet, number_frames, scan, walk


class FoundVideo(NamedTuple):
    """A video, or something that was named and is none.

    Attributes:
        name: its path.
        record: how to open it; label 0 means nothing.
        problem: why it cannot be used, or empty.
    """

    name: str
    record: VideoRecord
    store: Store = "video"
    frame_template: str = ""
    start_index: int = 0
    problem: str = ""


def find_videos(sources: Sequence[str]) -> list[FoundVideo]:
    """Every video that the words name, once, in their order; a word that names none becomes a problem.

    A folder with numbered JPEG files is one video; any other folder stands for the videos and the frame folders
    in it and below. A word with `*`, `?` or `[` that is no file itself is a pattern; `**` goes through folders.
    """
    videos: dict[str, FoundVideo] = {}
    for source in sources:
        for path in _matches(source):
            for video in _in_folder(path) if path.is_dir() else [_found(path)]:
                videos.setdefault(video.name, video)
    return list(videos.values())


def _matches(source: str) -> list[Path]:
    if Path(source).exists() or not glob.has_magic(source):
        return [Path(source)]
    return [Path(name) for name in sorted(set(_expand(source)))] or [Path(source)]


def _expand(pattern: str) -> Iterator[str]:
    """What a pattern names. `glob` would follow links that lead back for ever; `walk` does not."""
    parts = Path(pattern).parts
    if "**" not in parts[:-1]:
        yield from glob.glob(pattern)  # noqa: PTH207
        return
    at = parts.index("**")
    for base in glob.glob(str(Path(*parts[:at]))):  # noqa: PTH207
        for folder, _ in walk(Path(base)):
            yield from _expand(str(Path(glob.escape(folder), *parts[at + 1 :])))


def _in_folder(folder: Path) -> Iterator[FoundVideo]:
    pictures = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    frames = number_frames(folder, pictures)
    if frames:
        yield _found(folder, frames)
        return
    media = scan(folder)
    found = [_found(folder / path) for paths in media.videos.values() for path in paths]
    found += [_found(folder / s.path, s) for sets in media.frames.values() for s in sets]
    found += [_found(folder / path, problem) for path, problem in media.gaps.items()]
    yield from sorted(found, key=lambda video: video.name)
    if not found:
        yield _found(folder, "no videos or numbered JPEG frames in this folder")


def _found(path: Path, frames: FrameSet | str = "") -> FoundVideo:
    """A video file, or a folder with its frames or what is wrong with them."""
    if isinstance(frames, FrameSet):
        return FoundVideo(str(path), VideoRecord(str(path), frames.count, 0), "frames", *frames.naming)
    store: Store = "zip" if path.suffix.lower() == ".zip" else "video"
    problem = frames or ("" if path.exists() else "no such video")
    return FoundVideo(str(path), VideoRecord(str(path), None, 0), store, problem=problem and f"{path}: {problem}")

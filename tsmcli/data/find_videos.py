"""Find the videos that the command line names: files, folders, frame folders, patterns."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path

from tsmcli.config import Store
from tsmcli.data.frame_zip import holds_frames
from tsmcli.data.listfile import VideoRecord, read_list
from tsmcli.data.location import Split
from tsmcli.data.media import FrameSet, is_there, left_out, scan, walk
from tsmcli.errors import DataError

_Found = tuple[VideoRecord, str]
"""A video, and why it cannot be used, or nothing."""


def find_videos(sources: Sequence[str | Path]) -> Split:
    """Every video that the sources name, once, in their order; the labels of the list have no meaning.

    A source that is no video is in the list, too, and the quarantine says why. A folder with numbered pictures is
    one video; any other folder stands for the videos and the frame folders in it and below; its other files are
    noted. A list (`.csv`) stands for its intervals; their paths are relative to it. A source with `*`, `?` or `[`
    that is no file itself is a pattern; `**` goes through folders.
    """
    records: dict[str, VideoRecord] = {}
    problems: dict[str, str] = {}
    notes: list[str] = []
    for source in sources:
        for path in _matches(str(source)):
            for record, problem in _in_folder(path, notes) if path.is_dir() else _in_file(path):
                if record.name not in records and problem:
                    problems[record.name] = problem
                records.setdefault(record.name, record)
    return Split(list(records.values()), Path(), Path(), quarantine=problems, notes=tuple(notes))


def _matches(source: str) -> list[Path]:
    if is_there(Path(source)) or not glob.has_magic(source):
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
        for folder in walk(Path(base)):
            yield from _expand(str(Path(glob.escape(folder.where), *parts[at + 1 :])))


def _in_folder(folder: Path, notes: list[str]) -> Iterator[_Found]:
    media = scan(folder)
    found = [_found(folder / path) for paths in media.videos.values() for path in paths]
    found += [_found(folder / s.path, s) for sets in media.frames.values() for s in sets]
    found += [_found(folder / path, problem) for path, problem in media.gaps.items()]
    zips = [path for path in media.left_out if path.suffix.lower() == ".zip" and holds_frames(folder / path)]
    found += [_found(folder / path) for path in zips]
    notes += left_out([path for path in media.left_out if path not in zips], folder)
    yield from sorted(found, key=lambda found: found[0].path)
    if not found:
        yield _found(folder, "no videos or numbered pictures in this folder")


def _in_file(path: Path) -> Iterator[_Found]:
    """The videos of a list, or the file itself."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        yield _found(path)
        return
    try:
        lines = read_list(path, "video", classes=None)
    except DataError as error:
        yield VideoRecord(str(path), None, 0, "video"), str(error).splitlines()[0]
        return
    for line in lines:
        record, problem = _found(path.parent / line.path)
        store = "frames" if Path(record.path).is_dir() else record.store
        yield record._replace(store=store, span=line.span), problem


def _found(path: Path, frames: FrameSet | str = "") -> _Found:
    """A video file, or a folder with its frames or what is wrong with them."""
    if isinstance(frames, FrameSet):
        return VideoRecord(str(path), frames.count, 0, "frames", frames.naming), ""
    store: Store = "zip" if path.suffix.lower() == ".zip" else "video"
    return VideoRecord(str(path), None, 0, store), frames or ("" if is_there(path) else "no such video")

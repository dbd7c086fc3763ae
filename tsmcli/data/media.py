"""What lies in a folder: video files, and folders of numbered pictures, found by looking at all of it."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

VIDEO_SUFFIXES = frozenset(
    [".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp", ".ogv"]
)
_FRAME = re.compile(r"(.*?)([0-9]+)(\.jpe?g)", re.IGNORECASE)


@dataclass(frozen=True)
class FrameSet:
    """A folder of frames, numbered without gaps.

    Attributes:
        path: relative to the folder that was searched.
        template: of the file names, such as `img_{:05}.jpg`.
    """

    path: Path
    count: int
    start_index: int
    template: str

    @property
    def naming(self) -> tuple[str, int]:
        """Template and first number."""
        return self.template, self.start_index


T = TypeVar("T", Path, FrameSet)


@dataclass
class Media:
    """Everything found below a folder; keys are file stems and folder names in lower case.

    Attributes:
        videos: name -> paths relative to `root`, several where names repeat in different folders.
        frames: the same for folders of frames.
        gaps: frame folders whose numbering has holes -> what is wrong.
        suffixes: how many files of each suffix there are.
    """

    root: Path
    videos: dict[str, list[Path]] = field(default_factory=dict)
    frames: dict[str, list[FrameSet]] = field(default_factory=dict)
    gaps: dict[Path, str] = field(default_factory=dict)
    suffixes: Counter[str] = field(default_factory=Counter)

    def summary(self) -> str:
        """What was found, in words."""
        files = ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in self.suffixes.most_common(6))
        videos, frames = (sum(map(len, found.values())) for found in (self.videos, self.frames))
        return f"{videos} videos and {frames} folders of frames ({files or 'no files at all'})"


def preferred(found: Mapping[str, Sequence[T]], names: Iterable[str], folders: Iterable[str]) -> T | None:
    """The item with the first of these names that was found; of several, one below a folder of `folders`."""
    wanted = {folder.lower() for folder in folders}

    def elsewhere(item: Path | FrameSet) -> bool:
        path = item if isinstance(item, Path) else item.path
        return not wanted & {part.lower() for part in path.parts[:-1]}

    items = next((found[n.lower()] for n in names if n.lower() in found), [])
    return min(items, key=elsewhere, default=None)


def scan(root: Path, skip: frozenset[Path] = frozenset()) -> Media:
    """Look through a folder in a fixed order, without hidden names and the (resolved) folders in `skip`."""
    media = Media(root)
    for where, files in walk(root, skip):
        folder = Path(where).relative_to(root)
        pictures = []
        for name in files:
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122  a Path per file of a million is slow
            media.suffixes[suffix] += 1
            if suffix in VIDEO_SUFFIXES:
                media.videos.setdefault(name[: -len(suffix)].lower(), []).append(folder / name)
            elif suffix in (".jpg", ".jpeg"):
                pictures.append(name)
        found = number_frames(folder, pictures) if folder.name else None
        if isinstance(found, str):
            media.gaps[folder] = found
        elif found:
            media.frames.setdefault(folder.name.lower(), []).append(found)
    return media


def walk(root: Path, skip: frozenset[Path] = frozenset()) -> Iterator[tuple[str, list[str]]]:
    """Every folder and its files, none of them hidden. Links are followed, but no folder is entered twice.

    Links come last, so that a folder below `root` is found under its own name.
    """
    seen, starts = set(map(str, skip)), [str(root)]
    for start in starts:
        for where, folders, files in os.walk(start):
            real = os.path.realpath(where)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:], files = (sorted(n for n in names if not n.startswith(".")) for names in (folders, files))
            links = [name for name in folders if (Path(where) / name).is_symlink()]
            starts += [str(Path(where) / name) for name in links]
            folders[:] = [name for name in folders if name not in links]
            yield where, files


def number_frames(folder: Path, pictures: Sequence[str]) -> FrameSet | str | None:
    """The frames among the JPEG files of a folder; what is wrong with their numbers; None without numbers."""
    matches = [match for name in pictures if (match := _FRAME.fullmatch(name)) and not name.startswith(".")]
    by_prefix = Counter(match[1] for match in matches)
    if not by_prefix:
        return None
    # flow_x_00001.jpg and img_00001.jpg may share a folder: RGB frames are img_, image_ or plain numbers
    prefix = min(by_prefix, key=lambda p: (p.startswith("flow"), -by_prefix[p], p))
    frames: dict[int, re.Match[str]] = {}
    for match in (match for match in matches if match[1] == prefix):
        other = frames.setdefault(int(match[2]), match)
        if other is not match:
            return f"two files are frame {int(match[2])}: {other[0]} and {match[0]}"
    first, last = min(frames), max(frames)
    if len(frames) != last - first + 1:
        missing = next(number for number in range(first, last) if number not in frames)
        return f"frame {missing} of {first} to {last} is missing"
    template = f"{prefix}{{:0{len(frames[first][2])}}}{frames[first][3]}"
    for number, match in frames.items():
        if "{" in prefix or "}" in prefix or template.format(number) != match[0]:
            return f"{match[0]} is not named as {frames[first][0]} is"
    return FrameSet(folder, len(frames), first, template)


def count_frames(folder: Path, template: str) -> int:
    """How many files of a folder are named as its frames are; others, such as `Thumbs.db`, do not count."""
    naming = re.compile("[0-9]+".join(map(re.escape, re.split(r"\{.*\}", template))))
    return sum(naming.fullmatch(name) is not None for name in os.listdir(folder))  # noqa: PTH208

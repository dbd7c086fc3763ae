"""What is a video and what is a frame: files by their names, and folders by looking at all that lies in them."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

VIDEO_SUFFIXES = frozenset((
    ".264", ".265", ".360", ".3g2", ".3gp", ".3gp2", ".3gpp", ".amv", ".apng", ".asf", ".av1", ".avc", ".avi",
    ".dav", ".dif", ".divx", ".dv", ".f4v", ".flv", ".gif", ".h263", ".h264", ".h265", ".hevc", ".insv", ".ismv",
    ".ivf", ".lrv", ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2", ".mjpeg", ".mjpg", ".mk3d", ".mkv",
    ".mod", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mpv", ".mts", ".mxf", ".nut", ".obu", ".ogg", ".ogm",
    ".ogv", ".qt", ".rm", ".rmvb", ".tod", ".tp", ".trp", ".ts", ".vc1", ".vob", ".webm", ".wmv", ".wtv", ".xvid",
    ".y4m",
))  # fmt: skip
"""Of the video files that FFmpeg reads and `data/container.py` allows."""
PICTURE_SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".webp", ".bmp"))
_LABELS = frozenset((".csv", ".json", ".tsv", ".txt"))
_SYSTEM = frozenset((
    "__macosx", "@eadir", "@recycle", "#recycle", "$recycle.bin", "system volume information", "thumbs.db",
    "desktop.ini", "lost+found",
))  # fmt: skip
"""What systems and network drives put beside the files of people."""
FRAME = re.compile(rf"(.*?)([0-9]+)({'|'.join(map(re.escape, sorted(PICTURE_SUFFIXES)))})", re.IGNORECASE)
"""What comes before its number, the number, and the suffix of a frame's file name."""
_FLOW = re.compile(r"flow.*|[xy]_?", re.IGNORECASE)
"""Optical flow, which some extractors put beside the frames."""


def suffix_of(name: str) -> str:
    """`.mp4` of `a/b.MP4`."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122  a Path per file of a million is slow


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of people's own: `._a.mp4`, `.DS_Store`, `__MACOSX`."""
    return name.startswith(".") or name.lower() in _SYSTEM


def name_key(name: str) -> str:
    """The same for names that differ in case, or in how their accents are stored."""
    return unicodedata.normalize("NFC", name).lower()


def is_there(path: Path) -> bool:
    """Whether there is a file or folder. `Path.exists` raises an error for a name that is too long."""
    return os.path.exists(path)  # noqa: PTH110


def spellings(path: str) -> list[str]:
    """A path as it is written, and as it may be stored: with `/` for Windows' `\\`, accents joined or apart."""
    if path.isascii() and "\\" not in path:
        return [path]
    ways = (path, path.replace("\\", "/"))
    return list(dict.fromkeys(w for p in ways for w in (p, *(unicodedata.normalize(f, p) for f in ("NFC", "NFD")))))


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


@dataclass
class Media:
    """Everything found below a folder; keys are file stems and folder names, as `name_key` makes them.

    Attributes:
        videos: name -> paths relative to `root`, several where names repeat in different folders.
        frames: the same for folders of frames.
        gaps: frame folders whose numbering has holes -> what is wrong.
        left_out: files that are neither videos nor frames, nor texts, which may hold labels.
        suffixes: how many files of each suffix there are.
    """

    root: Path
    videos: dict[str, list[Path]] = field(default_factory=dict)
    frames: dict[str, list[FrameSet]] = field(default_factory=dict)
    gaps: dict[Path, str] = field(default_factory=dict)
    left_out: list[Path] = field(default_factory=list)
    suffixes: Counter[str] = field(default_factory=Counter)

    def has(self, name: str) -> bool:
        """Whether a video or a folder of frames of this path or name is there."""
        keys = {name_key(Path(name).name), name_key(Path(name).stem)}
        found = keys & self.videos.keys() or keys & self.frames.keys()
        return bool(found) or any(is_there(self.root / path) for path in spellings(name))

    def summary(self) -> str:
        """What was found, in words."""
        videos, frames = (sum(map(len, found.values())) for found in (self.videos, self.frames))
        files = _by_suffix(self.suffixes) or "no files at all"
        return f"{videos} videos and {frames} folders of frames ({files})"


def candidates(
    found: dict[str, list[Path]] | dict[str, list[FrameSet]], names: Iterable[str], folders: Iterable[str]
) -> list[Path | FrameSet]:
    """The items with the first of these names that was found.

    First come those below a folder of `folders`, and of these those that are spelled so, capitals included.
    """
    wanted = {name_key(folder) for folder in folders}
    exact = {Path(name).name for name in names}

    def rank(item: Path | FrameSet) -> tuple[bool, bool]:
        path, name = (item, item.stem) if isinstance(item, Path) else (item.path, item.path.name)
        return not wanted & {name_key(part) for part in path.parts[:-1]}, name not in exact

    items = next((found[key] for name in names if (key := name_key(Path(name).name)) in found), [])
    return sorted(items, key=rank)


def left_out(paths: Sequence[Path], root: Path) -> list[str]:
    """A line that counts and names files that are not used, if there are any."""
    if not paths:
        return []
    kinds = _by_suffix(Counter(path.suffix.lower() for path in paths))
    names = ", ".join(map(str, paths[:3])) + ", ..." * (len(paths) > 3)
    return [f"left out in {root}: {len(paths)} files that are not used ({kinds}): {names}"]


def _by_suffix(suffixes: Counter[str]) -> str:
    return ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in suffixes.most_common(6))


def scan(root: Path, skip: frozenset[Path] = frozenset()) -> Media:
    """Look through a folder in a fixed order, without hidden names and the (resolved) folders in `skip`."""
    media = Media(root)
    for where, names, others in walk(root, skip):
        folder = Path(where).relative_to(root)
        videos, found, rest = look_into(folder, names)
        media.suffixes.update(map(suffix_of, names))
        for name in videos:
            stem = name[: -len(suffix_of(name))]
            media.videos.setdefault(name_key(stem), []).append(folder / name)
        if isinstance(found, str):
            media.gaps[folder] = found
        elif found:
            media.frames.setdefault(name_key(folder.name), []).append(found)
        media.left_out += [folder / name for name in (*rest, *others)]
    return media


def look_into(folder: Path, names: Sequence[str]) -> tuple[list[str], FrameSet | str | None, list[str]]:
    """The videos in a folder; its frames, or what is wrong with them; other files that hold no text.

    A folder with videos in it is no folder of frames: its pictures are covers or thumbnails.
    """
    videos = [name for name in names if suffix_of(name) in VIDEO_SUFFIXES]
    found = None if videos else number_frames(folder, names)
    rest = [n for n in names if (suffix := suffix_of(n)) not in VIDEO_SUFFIXES and suffix not in _LABELS]
    if found:
        rest = [name for name in rest if not FRAME.fullmatch(name)]
    return videos, found, rest


class Folder(NamedTuple):
    """A folder, the files in it, and what is neither a file nor a folder that can be read: pipes, dead links."""

    where: str
    files: list[str]
    others: list[str]


def walk(root: Path, skip: frozenset[Path] = frozenset()) -> Iterator[Folder]:
    """Every folder below `root`, in a fixed order, without hidden names. No folder is entered twice.

    Links are followed last, so that a folder below `root` is found under its own name.
    """
    seen, links = set(map(str, skip)), [str(root)]
    for start in links:
        todo = [start]
        while todo:
            where = todo.pop()
            real = os.path.realpath(where)
            if real in seen:
                continue
            seen.add(real)
            files, folders, others = _entries(where)
            linked = [name for name in folders if os.path.islink(os.path.join(where, name))]  # noqa: PTH114, PTH118
            links += [os.path.join(where, name) for name in linked]  # noqa: PTH118
            todo += [os.path.join(where, name) for name in reversed(folders) if name not in linked]  # noqa: PTH118
            yield Folder(where, files, others)


def _entries(where: str) -> tuple[list[str], list[str], list[str]]:
    """Names of the files, the folders and all other things in a folder."""
    files, folders, others = list[str](), list[str](), list[str]()
    try:
        with os.scandir(where) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if not is_hidden(entry.name):
                    {"folder": folders, "file": files}.get(_kind(entry), others).append(entry.name)
    except OSError:  # it may not be read
        return [], [], [""]
    return files, folders, others


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        return "folder" if entry.is_dir() else "file" if entry.is_file() else ""
    except OSError:  # links in a circle
        return ""


def number_frames(folder: Path, names: Sequence[str]) -> FrameSet | str | None:
    """The frames among the files of a folder or a ZIP; what is wrong with their numbers; None without numbers."""
    matches = [match for name in names if not is_hidden(name) and (match := FRAME.fullmatch(name))]
    by_prefix = Counter(match[1] for match in matches)
    if not by_prefix:
        return None
    own = [prefix for prefix in by_prefix if not _FLOW.fullmatch(prefix)] or [*by_prefix]
    if len(own) > 1:
        some = ", ".join(f"{by_prefix[prefix]} {prefix}*" for prefix in sorted(own)[:3]) + ", ..." * (len(own) > 3)
        return f"frames of {len(own)} videos in one folder ({some}): each needs a folder of its own"
    prefix = own[0]
    frames: dict[int, re.Match[str]] = {}
    for match in (match for match in matches if match[1] == prefix):
        other = frames.setdefault(int(match[2]), match)
        if other is not match:
            return f"two files are frame {int(match[2])}: {other[0]} and {match[0]}"
    first, last = min(frames), max(frames)
    if len(frames) != last - first + 1:
        missing = next(number for number in range(first, last) if number not in frames)
        return f"frame {missing} of {first} to {last} is missing"
    braces = prefix.replace("{", "{{").replace("}", "}}")
    template = f"{braces}{{:0{len(frames[first][2])}}}{frames[first][3]}"
    for number, match in frames.items():
        if template.format(number) != match[0]:
            return f"{match[0]} is not named as {frames[first][0]} is"
    return FrameSet(folder, len(frames), first, template)


def count_frames(folder: Path, template: str) -> int:
    """How many files of a folder are named as its frames are; others, such as `Thumbs.db`, do not count."""
    parts = [part.replace("{{", "{").replace("}}", "}") for part in re.split(r"\{:[^{}]*\}", template)]
    naming = re.compile("[0-9]+".join(map(re.escape, parts)))
    return sum(naming.fullmatch(name) is not None for name in os.listdir(folder))  # noqa: PTH208

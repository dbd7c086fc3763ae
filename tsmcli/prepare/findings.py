"""What will hurt a training, told from names and counts alone: no video is opened."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tsmcli.data.intervals import CUT
from tsmcli.data.media import VIDEO_SUFFIXES, suffix_of

Severity = Literal["will fail", "will mislead", "may hurt"]
SEVERITIES: tuple[Severity, ...] = ("will fail", "will mislead", "may hurt")

_FEW = {"train": 10, "val": 3}
"""A class with fewer videos than this is named."""
_UNEVEN = 10
"""A largest class of more than so many times the smallest is named."""
_SHOWN = 3
_COUNTER = re.compile(r"(?:[\W_]+[a-z]{0,5})?(?<!\d)\d{1,4}[\W_]*$", re.IGNORECASE)
"""The number that tells clips of one recording apart: `_02` of `IMG_0012_02`, `_w07` of `anna_w07`, ` (1)`."""
_SIDES = re.compile(r"(?<![a-z])(?:left|right|(?:(?:anti|counter)[ _-]?)?clockwise)(?![a-z])")
GROUP = "prepare-data folder --group REGEX keeps what belongs together in one split"
ONE_RECORDING = "the network may learn the recording and not the action; record more, in other places"


class Listed(NamedTuple):
    """A video as a list names it: `train` or `val`, its path, its class index, whether it is only an interval."""

    split: str
    path: str
    label: int
    is_part: bool = False


@dataclass(frozen=True)
class Finding:
    """Something that hurts a training.

    Attributes:
        kind: of finding, in a word or two.
        severity: `will fail`: videos that cannot be used; `will mislead`: accuracy would not mean what it says.
        split: `train`, `val`, or nothing where it is of both.
        where: names of classes or videos, all of them.
        detail: what it is, with numbers.
        advice: what to do.
    """

    kind: str
    severity: Severity
    split: str
    where: tuple[str, ...]
    detail: str
    advice: str

    def __str__(self) -> str:
        names = ", ".join(self.where[:_SHOWN]) + ", ..." * (len(self.where) > _SHOWN)
        return f"{self.detail}{': ' * bool(names)}{names}; {self.advice}"


def find_by_name(classes: Sequence[str], videos: Sequence[Listed]) -> list[Finding]:
    """Classes with few videos, uneven classes, and recordings that names show: cut into clips, in both splits."""
    return [*_few(classes, videos), *_uneven(classes, videos), *_recordings(classes, videos)]


def find_sides(classes: Sequence[str], *, flips: bool) -> Iterator[Finding]:
    """Classes that differ in left and right, which a mirror image exchanges.

    Args:
        flips: training mirrors clips and keeps their labels. Else this is advice for whoever would choose to.
    """
    words = (re.sub("(?<=[a-z])(?=[A-Z])", " ", name).lower() for name in classes)  # TurnLeft
    sides = {name: _SIDES.findall(word) for name, word in zip(classes, words, strict=True)}
    found = tuple(name for name, said in sides.items() if said)
    if len({*map(tuple, sides.values())} - {()}) > 1:
        advice = "--set augment.flip_prob=0" if flips else "keep augment.flip_prob=0, as in mbv2-folder"
        detail = f"{len(found)} class names tell left from right, which a mirror image exchanges"
        yield Finding("left and right", "will mislead" if flips else "may hurt", "train", found, detail, advice)


def _few(classes: Sequence[str], videos: Sequence[Listed]) -> Iterator[Finding]:
    counts = Counter((video.split, video.label) for video in videos)
    advice = {
        "train": "collect more or merge classes; accuracy will have wide intervals",
        "val": "one video more or less changes the accuracy of such a class a lot; collect more",
    }
    for split, few in _FEW.items():
        thin = {name: n for i, name in enumerate(classes) if 0 < (n := counts[split, i]) < few}
        named = tuple(f"{name} ({count})" for name, count in sorted(thin.items(), key=lambda pair: pair[1]))
        if named:
            detail = f"{len(named)} of {len(classes)} classes have fewer than {few} {split} videos"
            yield Finding("few videos", "may hurt", split, named, detail, advice[split])


def _uneven(classes: Sequence[str], videos: Sequence[Listed]) -> Iterator[Finding]:
    counts = Counter(video.label for video in videos if video.split == "train").most_common()
    if counts and counts[0][1] > _UNEVEN * counts[-1][1]:
        named = tuple(f"{classes[label]} ({count})" for label, count in (counts[0], counts[-1]))
        detail = (
            f"the largest class has {counts[0][1] / counts[-1][1]:.0f} times the training videos of the smallest"
        )
        advice = "--set train.balance=power helps where a video has one label; judge by mean_class, not by top1"
        yield Finding("uneven classes", "may hurt", "train", named, detail, advice)


def _recordings(classes: Sequence[str], videos: Sequence[Listed]) -> Iterator[Finding]:
    sizes, groups = Counter(video.label for video in videos), defaultdict[tuple[int, str], list[Listed]](list)
    for video in videos:
        stem = video.path if video.is_part else recording_of(video.path)
        groups[video.label, stem].append(video)
    shared, single, affected = list[str](), list[str](), 0
    for (label, stem), clips in groups.items():
        share = len(clips) / sizes[label]
        if not (clips[0].is_part or _names_a_recording(stem, classes[label], share)):
            continue
        known = {clip.path for clip in clips if clip.split == "train"}
        in_val = {clip.path for clip in clips if clip.split == "val"} - known
        if known and in_val:
            shared.append(f"{classes[label]}/{stem}*")
            affected += len(in_val)
        if len(clips) == sizes[label] > 2:
            single.append(f"{classes[label]} ({stem}*)")
    if shared:
        detail = f"{affected} validation videos differ from training videos only in a last number, as clips of one "
        yield Finding("recording in both", "will mislead", "val", tuple(shared), f"{detail}recording do", GROUP)
    if single:
        detail = f"all videos of {len(single)} classes are named as clips of one recording"
        yield Finding("one recording", "will mislead", "", tuple(single), detail, ONE_RECORDING)


def recording_of(path: str) -> str:
    """The name of a video or a folder of frames without what numbers clips: `anna` of `wave/anna_w07.mp4`."""
    name = path.rpartition("/")[2]
    if CUT.search(name):
        return CUT.sub("", name)
    suffix = suffix_of(name)
    stem = name[: -len(suffix)] if suffix in VIDEO_SUFFIXES or suffix == ".zip" else name
    return _COUNTER.sub("", stem)


def _names_a_recording(stem: str, name: str, share: float) -> bool:
    """Whether videos that share a stem seem to be of one recording, and not just named by one scheme.

    `wave_001` to `wave_200` are a scheme; `IMG_0012_01` and `IMG_0012_02`, or `anna_1` beside `ben_1`, are not.

    Args:
        name: of their class.
        share: of the videos of the class that have this stem.
    """
    numbered = re.search("[0-9]{3}", stem.lower().replace(name.lower(), ""))
    return bool(stem) and (numbered is not None or share <= 0.5)

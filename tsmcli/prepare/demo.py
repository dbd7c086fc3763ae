"""A dataset made from nothing: short videos in pairs of classes that differ only in temporal order.

A textured object moves, grows or turns on a textured background. Every clip of a pair's second class is a clip
of its first class played backwards, frame for frame (all frames are coded alone, with a fixed quantiser, so that
the decoded pictures are the same too). No single frame, and no bag of frames, can tell the two apart: a network
must see in which order they come.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tsmcli import __version__
from tsmcli.catalog import CATALOG
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import read_manifest, write_dataset
from tsmcli.data.spatial import Frame
from tsmcli.data.video_writer import VideoWriter
from tsmcli.errors import DataError, UsageError
from tsmcli.files import remove, replacing

SIZE_PX = 64
FPS = 12
FRAMES = 24
"""Three per segment of 8: the middle frames of the segments are the same set forwards and backwards."""
MOTIONS = ("right", "down", "grow", "clockwise")
"""Motion p makes class 2p; backwards, it makes class 2p + 1."""


@dataclass(frozen=True)
class ClipWritten:
    """Progress: clips written so far, of how many."""

    done: int
    total: int


def make_demo(
    out: Path, *, seed: int = 0, train_clips: int = 60, val_clips: int = 24
) -> Generator[ClipWritten, None, int]:
    """Write the demo dataset into a folder, which appears only when it is complete; returns the number of clips.

    Args:
        train_clips, val_clips: clips per class; the same seed gives the same bytes.

    Raises:
        UsageError: `out` holds something else, which would be lost.
    """
    facts = CATALOG["demo"]
    out = out.resolve()
    names = {"videos", "classes.txt", "manifest.json", *(facts.list_name("video", s) for s in ("train", "val"))}
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not _is_demo(out))):
        raise UsageError(f"{out} exists and is no demo dataset", hint="choose another folder")
    if out.exists() and (others := sorted({path.name for path in out.iterdir()} - names)):
        raise UsageError(f"{out} holds other things, too: {', '.join(others[:3])}", hint="choose another folder")
    total, done = 2 * len(MOTIONS) * (train_clips + val_clips), 0
    records: dict[str, list[VideoRecord]] = {"train": [], "val": []}
    with replacing(out) as part:
        for number, (split, clips) in enumerate((("train", train_clips), ("val", val_clips))):
            for motion in range(len(MOTIONS)):
                for clip in range(clips):
                    frames = render(motion, np.random.default_rng([seed, number, motion, clip]))
                    for label, ordered in ((2 * motion, frames), (2 * motion + 1, frames[::-1])):
                        name = f"{split}/{MOTIONS[motion]}{'_reversed' if label % 2 else ''}_{clip:03}.mp4"
                        write_video(part / "videos" / name, ordered)
                        records[split].append(VideoRecord(name, None, label))
                    done += 2
                    yield ClipWritten(done, total)
        classes, media = facts.class_names() or [], dict.fromkeys(records, "videos")
        write_dataset(part, facts, "video", records, classes, media, seed=seed, versions={"tsm": __version__})
        remove(out)
    return total


def _is_demo(folder: Path) -> bool:
    try:
        return read_manifest(folder).get("dataset") == "demo"
    except DataError:
        return False


def render(motion: int, rng: np.random.Generator) -> list[Frame]:
    """The frames of one clip: an object that moves right, moves down, grows or turns clockwise."""
    background = _texture(SIZE_PX, rng, brightness=(40, 100), contrast=12)
    thing, mask = _object(rng)
    centre = rng.uniform(SIZE_PX / 2 - 8, SIZE_PX / 2 + 8, 2)
    angle, scale = rng.uniform(0, 360), rng.uniform(0.8, 1.0)
    speed = rng.uniform(0.8, 1.2)
    frames = []
    for t in np.linspace(-0.5, 0.5, FRAMES):
        position, turn, size = centre.copy(), angle, scale
        if motion == 0:
            position[0] += 36 * speed * t
        elif motion == 1:
            position[1] += 36 * speed * t
        elif motion == 2:
            size *= 2 ** (1.6 * speed * t)
        else:
            turn -= 200 * speed * t  # OpenCV's angles are counter-clockwise
        frames.append(_paste(background, thing, mask, position, turn, size))
    return frames


def _texture(size: int, rng: np.random.Generator, brightness: tuple[int, int], contrast: float) -> Frame:
    """Smooth coloured noise around a random colour."""
    coarse = rng.normal(0, contrast, (size // 8, size // 8, 3)).astype(np.float32)
    fine = rng.normal(0, contrast / 3, (size, size, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    noise = rng.uniform(*brightness, 3) + smooth + cv2.GaussianBlur(fine, (3, 3), 0)
    texture: Frame = np.clip(noise, 0, 255).astype(np.uint8)
    return texture


def _object(rng: np.random.Generator) -> tuple[Frame, Frame]:
    """A bright textured disc with a dark half and a hand that sticks out, 32 x 32, and its mask."""
    size, middle = 32, (16, 16)
    thing = _texture(size, rng, brightness=(170, 240), contrast=20)
    dark = _texture(size, rng, brightness=(0, 40), contrast=8)
    radius = int(rng.integers(9, 12))
    thing[middle[1] :] = dark[middle[1] :]
    mask = np.zeros((size, size), np.uint8)
    cv2.circle(mask, middle, radius, 255, -1)
    hand = rng.uniform(180, 255, 3).tolist()
    for picture, colour in ((thing, hand), (mask, 255)):
        cv2.line(picture, middle, (size - 2, middle[1]), colour, 4)
    return thing, mask


def _paste(
    background: Frame, thing: Frame, mask: Frame, position: NDArray[np.float64], angle: float, scale: float
) -> Frame:
    centre = (thing.shape[1] / 2, thing.shape[0] / 2)
    matrix = cv2.getRotationMatrix2D(centre, angle, scale)
    matrix[:, 2] += position - np.array(centre)
    size = (background.shape[1], background.shape[0])
    moved = cv2.warpAffine(thing, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = cv2.warpAffine(mask, matrix, size, flags=cv2.INTER_LINEAR)[..., None] / 255.0
    picture: Frame = (moved * alpha + background * (1 - alpha)).astype(np.uint8)
    return picture


def write_video(path: Path, frames: Sequence[Frame], fps: int = FPS) -> None:
    """Encode frames as H.264: each alone, one quantiser, one thread, so that the bytes are always the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"qp": "18", "g": "1", "bf": "0", "threads": "1", "preset": "veryfast"}
    with VideoWriter(path, Fraction(fps), **options) as video:
        for frame in frames:
            video.write(frame)

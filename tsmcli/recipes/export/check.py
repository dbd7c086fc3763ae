"""Does a written file compute what the network computes? On random pixels and on real videos."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tsmcli.config import Config, Views
from tsmcli.core.exportable import ClipNetwork, Signature, StreamNetwork, example_input
from tsmcli.data.dataset import VideoDataset
from tsmcli.data.location import Places, Split, find_split
from tsmcli.engine.exported_file import Runner
from tsmcli.engine.inference import as_input
from tsmcli.errors import DataError

BATCHES = (1, 2, 5)
STEPS = 10
"""Random frames of a stream, one after the other."""
VIDEOS = 3


@torch.no_grad()
def compare_clips(
    plain: ClipNetwork, run: Runner, size_px: int, real: Sequence[Tensor] = (), batches: Sequence[int] = BATCHES
) -> float:
    """Largest difference of scores: of random clips, so many at a time, and of real ones.

    Args:
        real: the views of videos, uint8 [V, T, 3, h, w].
    """
    lead = plain.model.num_segments
    tries = [example_input([batch, lead], size_px, pixels=plain.pixels, seed=batch) for batch in batches]
    tries += [as_input(views, pixels=plain.pixels) for views in real]
    return max(relative(plain(clips), run([clips.contiguous()])[0]) for clips in tries)


@torch.no_grad()
def compare_streams(
    plain: StreamNetwork, run: Runner, signature: Signature, size_px: int, real: Sequence[Tensor] = (),
    batches: Sequence[int] = BATCHES, *, cache: bool = True,
) -> float:  # fmt: skip
    """Largest difference of scores, frame after frame; each side goes on from its own cache.

    Args:
        cache: compare what is kept, too.
    """
    sources = [
        [example_input([batch], size_px, pixels=plain.pixels, seed=step) for step in range(STEPS)]
        for batch in batches
    ]
    for views in real:
        clip = as_input(views[:1], pixels=plain.pixels)
        sources.append([frame.contiguous() for frame in clip.unbind(1)])
    examples = list(signature.inputs.values())[1:]
    worst = 0.0
    for frames in sources:
        ours = theirs = [example.new_zeros(len(frames[0]), *example.shape[1:]) for example in examples]
        for frame in frames:
            expected, found = list(plain(frame, *ours)), run([frame, *(kept.contiguous() for kept in theirs)])
            pairs = list(zip(expected, found, strict=True))
            worst = max(worst, *(relative(a, b) for a, b in (pairs if cache else pairs[:1])))
            ours, theirs = expected[1:], found[1:]
    return worst


def relative(expected: Tensor, found: Tensor) -> float:
    """The largest difference, over the largest number but at least 1; infinite where shapes or numbers are none."""
    if expected.shape != found.shape:
        return float("inf")
    if expected.numel() == 0:  # the past of a network that looks back over no frame
        return 0.0
    difference = ((expected - found).abs().max() / expected.abs().max().clamp(min=1)).item()
    return difference if difference == difference else float("inf")


def find_videos_to_try(config: Config, places: Places) -> Split | None:
    """The validation videos; None where none are there or named, as an export needs no data."""
    try:
        return find_split(config.data, places, "val", None)
    except DataError:
        if places.val_list or places.folder:
            raise
        return None


def real_clips(split: Split, config: Config) -> list[Tensor]:
    """The central view, uint8 [1, T, 3, px, px], of the first videos that can be read."""
    dataset = VideoDataset(split, config, Views(crop_px=config.test.crop_px, resize_px=config.test.resize_px))
    clips: list[Tensor] = []
    for record in split.records:
        if len(clips) < VIDEOS:
            with contextlib.suppress(DataError):
                views, _ = dataset.load(record, np.random.default_rng(0))
                clips.append(torch.from_numpy(views).movedim(-1, 2))
    return clips

"""Class probabilities of single videos: whole, or window by window."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tsmcli.config import Config, Views
from tsmcli.core.tsm import TSM
from tsmcli.data.dataset import Loader, VideoDataset
from tsmcli.data.decode import check_decoder
from tsmcli.data.find_videos import find_videos
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import Split
from tsmcli.data.messages import BadVideo
from tsmcli.data.shards import eval_shard
from tsmcli.data.sliding import Sliding, WindowViews, read_windows
from tsmcli.engine.device import choose_device
from tsmcli.engine.events import VideoScored
from tsmcli.engine.inference import Choice, Engine, score_in_order, torch_engine
from tsmcli.engine.processes import ALONE, World
from tsmcli.engine.scores import average_views, averaging, score_videos
from tsmcli.errors import DataError
from tsmcli.presets import Preset
from tsmcli.recipes.engines import open_engine
from tsmcli.recipes.events import Scoring, Stage
from tsmcli.recipes.network import choose_protocol, open_network
from tsmcli.recipes.score import Kept, PartialScores


@dataclass(frozen=True)
class Window:
    """Probabilities [K] of a part of a video, in seconds from its start; None: of the whole."""

    probabilities: NDArray[np.float32]
    start_sec: float | None = None
    end_sec: float | None = None


@dataclass(frozen=True)
class VideoPrediction:
    """What the network says of one video; its length, where that is not the end of the last window."""

    path: str
    windows: list[Window]
    duration_sec: float | None = None


@dataclass(frozen=True)
class Predictions:
    """What the network says of all videos, and which could not be read, and why.

    Attributes:
        thresholds: the probability of each class from which on a video has it; None where it has one label.
    """

    checkpoint: Path
    preset: str
    protocol: str
    class_names: list[str]
    videos: list[VideoPrediction] = field(default_factory=list)
    bad: list[BadVideo] = field(default_factory=list)
    thresholds: list[float] | None = None


def predict(model: TSM, config: Config, videos: Sequence[Path | str] | Path | str) -> NDArray[np.float32]:
    """Scores [N, K] of videos under the configuration's test protocol, on the network's own device.

    Args:
        videos: as `find_videos` takes them: video files, folders of them, folders and ZIPs of frames, patterns.

    Raises:
        DataError: a video cannot be read; it is named.
    """
    split = find_videos([videos] if isinstance(videos, str | Path) else videos)
    dataset = VideoDataset(split, config, config.test)
    views = (dataset.load(record, np.random.default_rng(0))[0] for record in split.records)
    engine = torch_engine(model.eval(), next(model.parameters()).device)
    how = averaging(config, config.test)
    scores = [average_views(engine.run(_as_views(pixels)), how).numpy() for pixels in views]
    return np.stack(scores) if scores else np.empty((0, model.fc.out_features), np.float32)


def predict_videos(
    checkpoint: Path, preset: Preset | None, sources: Sequence[str],
    *, overrides: Sequence[str] = (), protocol: str | None = None, sliding: Sliding | None = None,
    device_name: str = "auto", engine: Choice | None = None, classes: Path | None = None, world: World = ALONE,
) -> Generator[Stage | Scoring | VideoScored | BadVideo, None, Predictions]:  # fmt: skip
    """Probabilities of every video that the sources name; what cannot be read is counted and named.

    Args:
        checkpoint, preset, overrides, classes: as in `open_network`.
        sources: as `find_videos` takes them.
        protocol: as in `choose_protocol`.
        sliding: predict windows instead of whole videos.
        engine: what scores; default `auto` in fp32.
        world: this process among those that share the videos; each returns all predictions.
    """
    opened = yield from open_network(checkpoint, preset, overrides, classes)
    config = opened.config
    views, device = choose_protocol(config, protocol), choose_device(device_name)
    check_decoder(config.data)
    split = find_videos(sources)
    network = yield from open_engine(
        opened, engine or Choice(), device, views, len(split.records), windows=sliding is not None
    )
    facts = (f"protocol {views.name}, device {device}, {network.choice}", *split.notes)
    yield Stage(f"predicting with {opened.path}, videos: {len(split.records)}", facts)
    mine = eval_shard(len(split.records), rank=world.rank, world_size=world.size)
    if sliding:
        found = yield from windows_of_all(network, config, views, split, mine, sliding)
    else:
        found = yield from _whole_videos(network, config, views, split, mine)
    found = {number: video for part in world.gather(found) for number, video in part.items()}
    everything = [video for _, video in sorted(found.items(), key=lambda pair: pair[0])]
    return Predictions(
        opened.path, opened.name, views.name, opened.class_names,
        [video for video in everything if isinstance(video, VideoPrediction)],
        [video for video in everything if isinstance(video, BadVideo)], opened.thresholds,
    )  # fmt: skip


Found = dict[int, VideoPrediction | BadVideo]
"""What there is to say of videos, by their number."""


def _whole_videos(
    engine: Engine, config: Config, views: Views, split: Split, mine: Sequence[int]
) -> Generator[Scoring | VideoScored | BadVideo, None, Found]:
    """One prediction a video; yields an event a video."""
    found: Found = {}
    yield Scoring("predicting", len(mine))
    with Loader(VideoDataset(split, config, views), pin=engine.pin) as loader:
        for event in score_videos(engine, loader.videos(mine), averaging(config, views)):
            if isinstance(event, BadVideo):
                found[event.number] = event
            else:
                whole = [Window(_to_probabilities(event.scores.numpy(), config, views))]
                found[event.number] = VideoPrediction(split.records[event.number].name, whole)
            yield event
    return found


def windows_of_all(
    engine: Engine, config: Config, views: Views, split: Split, mine: Sequence[int], sliding: Sliding,
    partial: PartialScores | None = None,
) -> Generator[Scoring | VideoScored | BadVideo, None, Found]:  # fmt: skip
    """One prediction a window of every video; yields an event a window.

    Args:
        partial: where the windows are kept on the way; those that it has already are not scored again.
    """
    found: Found = {}
    for number in mine:
        record, windows, told = split.records[number], list[Window](), False
        known = [] if partial is None else kept_windows(partial, number)

        def parts(
            record: VideoRecord = record, windows: list[Window] = windows, known: list[Kept] = known
        ) -> Iterator[tuple[WindowViews, Tensor]]:
            for place, part in enumerate(read_windows(split, record, config, views, sliding, len(known))):
                if partial and place < len(known):
                    windows.append(Window(partial.read(known[place]), part.start_sec, part.end_sec))
                else:
                    yield part, _as_views(part.views)

        try:
            for part, logits in score_in_order(engine, parts()):
                if not told:
                    yield Scoring(Path(record.name).name, part.total - len(known))
                told, scores = True, average_views(logits, averaging(config, views)).numpy()
                probabilities = _to_probabilities(scores, config, views)
                if partial:
                    keep_window(partial, number, len(windows), probabilities)
                windows.append(Window(probabilities, part.start_sec, part.end_sec))
                yield VideoScored(len(windows) - 1, torch.from_numpy(probabilities))
        except DataError as error:
            found[number] = bad = BadVideo(number, record.name, str(error))
            yield bad
        else:
            found[number] = VideoPrediction(record.name, windows)
    return found


def keep_window(partial: PartialScores, video: int, window: int, probabilities: NDArray[np.float32]) -> None:
    """Keep what is said of a window of a video, by its number."""
    partial.add(VideoScored(video << 32 | window, torch.from_numpy(probabilities)))


def kept_windows(partial: PartialScores, video: int) -> list[Kept]:
    """Where the first windows of a video are kept."""
    keys = (video << 32 | window for window in count())
    return [partial.kept[key] for key in takewhile(partial.kept.__contains__, keys)]


def _as_views(pixels: NDArray[np.uint8]) -> Tensor:
    """[V, T, h, w, 3] -> [V, T, 3, h, w]."""
    return torch.from_numpy(pixels).movedim(-1, 2)


def _to_probabilities(scores: NDArray[np.float32], config: Config, views: Views) -> NDArray[np.float32]:
    """Raw scores, where the protocol averages those, as probabilities."""
    if views.average == "prob":
        return scores
    logits = torch.from_numpy(scores)
    probabilities: NDArray[np.float32] = (
        logits.sigmoid() if config.data.multi_label else logits.softmax(0)
    ).numpy()
    return probabilities

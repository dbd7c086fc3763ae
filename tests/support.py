"""Media and datasets that the tests make for themselves, and commands run in this process."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from tsmcli.cli import app
from tsmcli.data.listfile import VideoRecord, write_list
from tsmcli.presets import preset_names

Frame = NDArray[np.uint8]
_BITS = 10
_CELL_PX = 16


def real_data() -> Path:
    """The folder of real clips: $TSM_TEST_DATA. Tests that need it are skipped where it is not set."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("TSM_TEST_DATA", beside))
    if not folder.is_dir():
        pytest.skip("no real clips here: set TSM_TEST_DATA to a folder of them")
    return folder


def presets_in_turn() -> list[Any]:
    """Cases, a preset each. Most of the recipes after June 2021 are slow ones: they differ in numbers alone."""
    later = json.loads((Path(__file__).parent / "golden" / "recipes_later.json").read_text())
    rest = {*later} - {"r50-sthv2-8f-v1", "r50-sthv1-ptv-augmix"}
    return [pytest.param(name, marks=pytest.mark.slow if name in rest else ()) for name in preset_names()]


def numbered_frames(count: int, height: int = 96, width: int = 176) -> list[Frame]:
    """Frames that carry their number as ten black or white squares, over moving noise."""
    rng = np.random.default_rng(0)
    noise = rng.integers(60, 190, (height, width + count, 3), np.uint8)
    noise = cv2.GaussianBlur(noise, (7, 7), 0)
    frames = []
    for number in range(count):
        frame = noise[:, number : number + width].copy()
        for bit in range(_BITS):
            x = bit * _CELL_PX
            frame[:_CELL_PX, x : x + _CELL_PX] = 255 if number >> bit & 1 else 0
        frames.append(frame)
    return frames


def number_of(frame: Frame) -> int:
    """The number that a decoded frame carries."""
    row = frame[_CELL_PX // 4 : 3 * _CELL_PX // 4].mean(axis=(0, 2))
    cells = [row[b * _CELL_PX + 4 : (b + 1) * _CELL_PX - 4].mean() > 127 for b in range(_BITS)]
    return sum(int(on) << bit for bit, on in enumerate(cells))


def write_video(
    path: Path, frames: Sequence[Frame], codec: str = "libx264", fps: Fraction | int = 25, **options: str
) -> Path:
    """Encode frames; options are the encoder's (g, bf, qp, x264-params ...)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps), options={"threads": "1", **options})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_frames(folder: Path, frames: Sequence[Frame], template: str = "img_{:05}.jpg", start: int = 1) -> Path:
    """Write frames as JPEG files."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(frames, start):
        cv2.imwrite(str(folder / template.format(number)), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return folder


def make_folder_dataset(root: Path, videos: int = 3, classes: Sequence[str] = ("jump", "wave")) -> Path:
    """A folder of class folders of short videos."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(videos):
            shade = np.full((64, 80, 3), 60 + 120 * label + i, np.uint8)
            write_video(root / name / f"{'abcdef'[i]}_clip {i}.mp4", [shade] * 12, qp="20")
    return root


def write_lists(folder: Path, name: str, records: Sequence[VideoRecord], store: str = "videos") -> None:
    """The train and val list of a prepared dataset, with the same videos."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        write_list(folder / f"{name}_{split}_list_{store}.txt", records)


class Outcome:
    """Exit code, stdout and stderr of a command."""

    def __init__(self, args: Sequence[str]) -> None:
        result = CliRunner().invoke(app, [str(arg) for arg in args])
        self.code, self.out, self.err = result.exit_code, result.stdout, result.stderr
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception

    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


def tsm(*args: object) -> Outcome:
    return Outcome([str(arg) for arg in args])

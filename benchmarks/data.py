"""Clips per second of one core: our pipeline against MMAction2's way, and frames per second of extraction.

    python benchmarks/data.py [--video FILE] [--rounds 7] [--json FILE]

The baseline is written here the way MMAction2 0.x does it: decord `get_batch` with one thread, an OpenCV resize per
frame, crop, resize, float32 normalisation per frame, stack, transpose. Both make the same random clips of 8 frames
(or the same 10 test clips) of 340x256 material at several GOP lengths, and a batch of one. CPU time of this
process, the two in turn; printed are medians and the median ratio within a round.

Without --video the material is a moving texture with noise; a real clip of a few hundred frames tells more.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import decord
import numpy as np
import torch

from tsmcli.config import AugmentConfig, Config, Views
from tsmcli.core.sampling import sample_test, sample_train
from tsmcli.data.dataset import Sample, VideoDataset, collate
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import Split
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.data.spatial import center_crop, multi_scale_crop, short_side_size
from tsmcli.engine.device import environment
from tsmcli.prepare.extract import Job, Size, do_job

MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
DENSE = Views(sampling="dense", clips=10)


def encode(path: Path, frames: list[np.ndarray], codec: str = "libx264", **options: str) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(30), options={"threads": "1", **options})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def texture() -> list[np.ndarray]:
    """300 frames of 340x256: a texture that wanders, with light noise."""
    rng = np.random.default_rng(0)
    big = cv2.resize(rng.integers(0, 256, (60, 80, 3), np.uint8), (900, 700), interpolation=cv2.INTER_CUBIC)
    frames = []
    for t in range(300):
        x, y = int(250 + 240 * np.sin(t / 40)), int(200 + 190 * np.sin(t / 55))
        noise = rng.normal(0, 3, (256, 340, 3))
        frames.append(np.clip(big[y : y + 256, x : x + 340] + noise, 0, 255).astype(np.uint8))
    return frames


def normalise(image: np.ndarray) -> np.ndarray:
    image = image.astype(np.float32)
    cv2.subtract(image, MEAN[None], image)
    return cv2.multiply(image, 1 / STD[None], image)


def mmaction_way(path: Path, config: Config, views: Views | None, rng: np.random.Generator) -> torch.Tensor:
    reader = decord.VideoReader(str(path), num_threads=1)
    n, T = len(reader), config.model.num_segments
    indices = sample_train(n, T, config.augment, rng) if views is None else sample_test(n, T, views)
    frames = list(reader.get_batch(indices.ravel().tolist()).asnumpy())
    size = short_side_size(frames[0].shape[1], frames[0].shape[0], 256)
    frames = [cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR) for frame in frames]
    h, w = frames[0].shape[:2]
    box = multi_scale_crop(w, h, 224, rng) if views is None else center_crop(w, h, 224)[0]
    frames = [frame[box.y : box.y + box.h, box.x : box.x + box.w] for frame in frames]
    if views is None:
        frames = [cv2.resize(frame, (224, 224), interpolation=cv2.INTER_LINEAR) for frame in frames]
    stacked = np.stack([normalise(frame) for frame in frames]).transpose(0, 3, 1, 2)
    return torch.stack([torch.from_numpy(np.ascontiguousarray(stacked))])


def ours(path: Path, store: str, frames: int, views: Views | None) -> Callable[[int], torch.Tensor]:
    config = Config.model_validate({"data": {"dataset": "folder", "store": store}})
    split = Split([VideoRecord(path.name, None if store == "video" else frames, 0)], path.parent, path)
    dataset = VideoDataset(split, config, views)

    def clip(number: int) -> torch.Tensor:
        sample = dataset[(number, 0)]
        assert isinstance(sample, Sample), sample
        return collate([sample]).views

    return clip


def compare(baseline: Callable[[int], Any], candidate: Callable[[int], Any], rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {"baseline": [], "ours": []}
    for number in range(-1, rounds):
        for name, function in (("baseline", baseline), ("ours", candidate)):
            start = time.process_time()
            function(max(number, 0))
            if number >= 0:
                times[name].append(time.process_time() - start)
    ratios = [a / b for a, b in zip(times["baseline"], times["ours"], strict=True)]
    medians = {f"{name}_ms": round(1e3 * statistics.median(values), 2) for name, values in times.items()}
    return {
        **medians,
        "ratio": round(statistics.median(ratios), 2),
        "slowest": round(min(ratios), 2),
        "fastest": round(max(ratios), 2),
    }


def opencv_extract(source: Path, target: Path) -> None:
    """MMAction2's OpenCV way: every frame read, scaled, written as JPEG of default quality."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    capture = cv2.VideoCapture(str(source))
    number = 0
    while True:
        ok, frame = capture.read()
        if not ok:
            break
        number += 1
        frame = cv2.resize(frame, Size(short_side=240).of(frame.shape[1], frame.shape[0]))
        cv2.imwrite(str(target / f"img_{number:05}.jpg"), frame)
    capture.release()


def needed_only(path: Path) -> float:
    """CPU milliseconds to decode every frame that others refer to: nothing exact can read a whole file faster."""
    start = time.process_time()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        stream.codec_context.skip_frame = "NONREF"
        for _ in container.decode(stream):
            pass
    return 1e3 * (time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--video", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    if options.video:
        with PyAVReader(options.video) as reader:
            frames = [cv2.resize(f, (340, 256)) for f in reader.read(np.arange(min(300, reader.num_frames)))]
    else:
        frames = texture()
    with tempfile.TemporaryDirectory() as name:
        rows = measure(Path(name), frames, options.rounds)
    for title, row in rows.items():
        print(f"{title:34} " + "  ".join(f"{key} {value}" for key, value in row.items()))
    result = {"rows": rows, "frames": len(frames), "video": str(options.video), "environment": environment()}
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n")


def measure(folder: Path, frames: list[np.ndarray], rounds: int) -> dict[str, dict[str, float]]:
    config = Config(augment=AugmentConfig())
    long = encode(folder / "gop250.mp4", frames, g="250", crf="23")
    short = encode(folder / "gop12.mp4", frames, g="12", crf="23")
    small = [cv2.resize(frame, (320, 240)) for frame in frames[:120]]
    vp9 = encode(
        folder / "vp9.webm", small, "libvpx-vp9", g="120", deadline="good", **{"cpu-used": "4", "b:v": "600k"}
    )
    stores = {}
    for kind, suffix in (("frames", ""), ("zip", ".zip"), ("seekable", ".mp4")):
        stores[kind] = folder / f"stored_{kind}{suffix}"
        done = do_job(Job(long, stores[kind], kind, Size(), "img_{:05}.jpg", 1))  # type: ignore[arg-type]
        assert not done.error, done.error

    def way(path: Path, views: Views | None = None) -> Callable[[int], torch.Tensor]:
        return lambda number: mmaction_way(path, config, views, np.random.default_rng([0, number, 0, 1]))

    n = len(frames)
    rows = {
        "train, GOP 250": compare(way(long), ours(long, "video", n, None), rounds),
        "train, GOP 12": compare(way(short), ours(short, "video", n, None), rounds),
        "train, VP9 240 px": compare(way(vp9), ours(vp9, "video", n, None), rounds),
        "10 test clips, GOP 250": compare(way(long, DENSE), ours(long, "video", n, DENSE), rounds),
        "10 test clips, GOP 12": compare(way(short, DENSE), ours(short, "video", n, DENSE), rounds),
        "train, seekable against GOP 250": compare(way(long), ours(stores["seekable"], "video", n, None), rounds),
        "train, JPEG folder against GOP 250": compare(way(long), ours(stores["frames"], "frames", n, None), rounds),
        "train, ZIP against GOP 250": compare(way(long), ours(stores["zip"], "zip", n, None), rounds),
    }
    job = Job(long, folder / "extracted", "frames", Size(short_side=240), "img_{:05}.jpg", 1)

    def extract(_: int) -> None:
        shutil.rmtree(job.target, ignore_errors=True)
        assert not do_job(job).error

    rows["extraction of one video"] = compare(lambda _: opencv_extract(long, folder / "opencv"), extract, rounds)
    rows["limit"] = {
        f"whole {path.stem}, needed frames only, ms": round(needed_only(path), 1) for path in (long, short, vp9)
    }
    return rows


if __name__ == "__main__":
    main()

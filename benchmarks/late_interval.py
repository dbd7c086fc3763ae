"""What a clip from the end of an hour costs, against the same clip cut out.

    python benchmarks/late_interval.py [--rounds 15]

An hour of 320x240 at 25 frames/s is made first (H.264, key frames 250 apart, two minutes of work). Read are 8
frames of 4 s, which begin at a key frame, or 6 s behind one. They are read as an interval of the hour, and from a
copy of the packets from that key frame on. Times are CPU time of the process; printed are medians, and the median
of the ratios within a round.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tsmcli.config import DataConfig
from tsmcli.data.decode import open_reader
from tsmcli.data.intervals import Span
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import Split

FPS, KEY_SEC = 25, 3500


def make_hour(path: Path) -> None:
    """Moving noise."""
    noise = np.repeat(np.repeat(np.random.default_rng(0).integers(60, 190, (30, 105, 3), np.uint8), 8, 0), 8, 1)
    with av.open(str(path), "w") as container:
        options = {"preset": "ultrafast", "g": "250", "bf": "2", "sc_threshold": "0"}
        stream = container.add_stream("libx264", rate=Fraction(FPS), options=options)
        stream.height, stream.width, stream.pix_fmt = 240, 320, "yuv420p"
        for number in range(3600 * FPS):
            picture = noise[:, number % 500 : number % 500 + 320]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        container.mux(stream.encode())


def cut(source: Path, target: Path) -> None:
    """Copy 10 s from a key frame on."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        video, stream = old.streams.video[0], new.add_stream_from_template(old.streams.video[0])
        old.seek(int(KEY_SEC / video.time_base), stream=video)
        first = None
        for packet in old.demux(video):
            if packet.dts is None or packet.pts * packet.time_base >= KEY_SEC + 10:
                return
            first = packet.dts if first is None else first
            packet.pts, packet.dts, packet.stream = packet.pts - first, packet.dts - first, stream
            new.mux(packet)


def cost(path: Path, start: float) -> float:
    """Seconds to open the file and read a clip of 8 frames."""
    record, begin = VideoRecord(path.name, None, 0, span=Span(start, start + 4)), time.process_time()
    with open_reader(Split([], path.parent, path), record, DataConfig()) as reader:
        reader.read(np.linspace(0, reader.num_frames - 1, 8).astype(np.int64))
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    with tempfile.TemporaryDirectory() as folder:
        hour, copy = Path(folder, "hour.mp4"), Path(folder, "copy.mp4")
        make_hour(hour)
        cut(hour, copy)
        print(f"the first time: {1000 * cost(hour, KEY_SEC):.0f} ms")
        for behind in (0, 6):
            pairs = np.array([
                (cost(hour, KEY_SEC + behind), cost(copy, behind)) for _ in range(parser.parse_args().rounds)
            ])  # fmt: skip
            late, own = 1000 * np.median(pairs, axis=0)
            ratio = np.median(pairs[:, 0] / pairs[:, 1])
            print(
                f"{behind} s behind a key frame: of the hour {late:.1f} ms, cut out {own:.1f} ms, ratio {ratio:.2f}"
            )


if __name__ == "__main__":
    main()

"""Sources of frames, and the queue that keeps only the newest."""

from __future__ import annotations

import threading
import zipfile
from collections.abc import Generator, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from support import number_of, numbered_frames, real_data, write_frames, write_video
from web_server import Server

from tsmcli.data.decode import FrameFolder, FrameZip
from tsmcli.data.live import InOrder, Newest, Shot, at_their_time, from_reader, is_live, open_source
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.data.video_writer import AnnotatedVideo
from tsmcli.errors import DataError, EnvironmentProblem

BLACK = np.zeros((2, 2, 3), np.uint8)


def shots(count: int) -> Generator[Shot, None, None]:
    for number in range(count):
        yield Shot(number, number / 10, 0.0, BLACK)


@pytest.mark.parametrize(
    ("source", "live"),
    [
        ("0", True),
        ("²", False),
        ("99999999999", False),
        ("12", True),
        ("rtsp://a/b", True),
        ("http://a", True),
        ("a.mp4", False),
        ("C:/a.mp4", False),
    ],
)
def test_what_goes_on_without_us(source: str, live: bool) -> None:
    assert is_live(source) is live


def test_every_frame_of_a_file_with_its_time(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(20), fps=10, bf="2", g="5", qp="1")
    found = list(open_source(str(path)))
    assert [shot.number for shot in found] == list(range(20))
    assert [number_of(shot.frame) for shot in found] == list(range(20))
    assert [shot.time_sec for shot in found] == pytest.approx([i / 10 for i in range(20)])
    with PyAVReader(path) as reader:
        assert np.array_equal(found[7].frame, reader.read(np.array([7]))[0])


def test_a_rotated_file_is_upright() -> None:
    path = next((real_data() / "clips/odd").glob("*.mov"))
    first = next(iter(open_source(str(path))))
    with PyAVReader(path) as reader:
        assert np.array_equal(first.frame, reader.read(np.array([0]))[0])


def test_folders_and_zips_of_pictures(tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "f", numbered_frames(5))
    with zipfile.ZipFile(tmp_path / "f.zip", "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    for reader in (FrameFolder(folder, 5, "img_{:05}.jpg", 1), FrameZip(tmp_path / "f.zip")):
        found = list(from_reader(reader, 4))
        assert [number_of(shot.frame) for shot in found] == list(range(5))
        assert [shot.time_sec for shot in found] == [0, 0.25, 0.5, 0.75, 1]
        reader.close()


def test_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    path = write_video(tmp_path / "a.mkv", numbered_frames(8), qp="1")
    server = Server()
    try:
        server.files["/a.mkv"] = path.read_bytes()
        assert [number_of(shot.frame) for shot in open_source(f"{server.url}/a.mkv")] == list(range(8))
        with pytest.raises(DataError, match="http://127.0.0.1"):
            list(open_source(f"{server.url}/none.mkv"))
    finally:
        server.close()


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"no video")
    for name in ("a.mp4", "none.mp4"):
        with pytest.raises(DataError, match=name):
            list(open_source(str(tmp_path / name)))
    with pytest.raises(EnvironmentProblem, match="no camera 97"):
        list(open_source("97"))


class Gate:
    """A source that delivers when it is told to."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.taken = threading.Semaphore(0)
        self.closed = False

    def frames(self, count: int) -> Generator[Shot, None, None]:
        try:
            for shot in shots(count):
                self.go.acquire()
                yield shot
                self.taken.release()  # the frame before was taken in
        finally:
            self.closed = True
            self.taken.release()

    def deliver(self, count: int) -> None:
        """Let so many frames through, and wait until they are in the queue."""
        for _ in range(count):
            self.go.release()
            self.taken.acquire()


@pytest.mark.parametrize("size", [1, 3])
def test_older_frames_make_room_for_newer_ones(size: int) -> None:
    gate = Gate()
    newest = Newest(gate.frames(20), size)
    frames = iter(newest)
    gate.deliver(1)
    assert next(frames).number == 0
    gate.deliver(10)  # while the network works on frame 0
    assert newest.dropped == 10 - size
    assert [next(frames).number for _ in range(size)] == list(range(11 - size, 11))
    gate.deliver(9)
    assert [shot.number for shot in frames][-1] == 19
    assert newest.dropped == (10 - size) + max(0, 9 - size)
    newest.close()
    assert gate.closed


def test_a_source_that_delivers_nothing_can_be_left() -> None:
    gate, asked = Gate(), []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 3

    newest = Newest(gate.frames(5), stop=stop)
    assert list(newest) == []
    assert len(asked) > 3
    gate.go.release(5)
    newest.close()


def test_a_file_that_is_broken_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error, as when it is tested, also behind an address; a broken end is the end."""
    whole = write_video(tmp_path / "a.mp4", numbered_frames(60), g="1", bf="0", qp="10")
    sizes, offsets = [], []
    with av.open(str(whole)) as container:
        for packet in container.demux(video=0):
            if packet.size:
                sizes.append(packet.size)
                offsets.append(packet.pos)
    content = bytearray(whole.read_bytes())
    for i in (30, 31):
        content[offsets[i] + 4 : offsets[i] + sizes[i]] = bytes(255 for _ in range(sizes[i] - 4))
    (tmp_path / "middle.mp4").write_bytes(content)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    server.files["/middle.mp4"] = bytes(content)
    try:
        for source in (str(tmp_path / "middle.mp4"), f"{server.url}/middle.mp4"):
            with pytest.raises(DataError, match="middle.mp4: cannot be decoded"):
                list(open_source(source))
    finally:
        server.close()
    content = bytearray(whole.read_bytes())
    content[offsets[59] + 4 : offsets[59] + sizes[59]] = bytes(255 for _ in range(sizes[59] - 4))
    (tmp_path / "end.mp4").write_bytes(content)
    assert len(list(open_source(str(tmp_path / "end.mp4")))) == 59


def test_an_annotated_video_is_kept_where_the_source_fails(tmp_path: Path) -> None:
    frames = numbered_frames(5, 64, 64)
    kept = frames[0].copy()

    def record() -> None:
        with AnnotatedVideo(tmp_path / "v.mp4") as video:
            for number, frame in enumerate(frames):
                video.write(frame, number / 10, "words")
            raise DataError("the camera is gone")

    with pytest.raises(DataError, match="gone"):
        record()
    assert np.array_equal(frames[0], kept), "the caller's picture is not drawn into"
    with PyAVReader(tmp_path / "v.mp4") as reader:
        assert reader.num_frames == 5
    with AnnotatedVideo(tmp_path / "none.mp4"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_an_error_of_the_source_is_raised_where_frames_are_taken() -> None:
    def broken() -> Generator[Shot, None, None]:
        yield from shots(1)
        raise DataError("the camera is gone")

    with pytest.raises(DataError, match="the camera is gone"):
        list(Newest(broken()))


def test_in_order_nothing_is_dropped_and_the_source_is_closed() -> None:
    gate = Gate()
    frames = InOrder(gate.frames(3))
    gate.go.release(3)
    assert next(iter(frames)).number == 0
    frames.close()
    assert gate.closed
    assert frames.dropped == 0


def test_frames_wait_for_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [100.0], []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr("tsmcli.data.live.time.perf_counter", lambda: now[0])
    monkeypatch.setattr("tsmcli.data.live.time.sleep", sleep)
    found: Iterator[Shot] = at_their_time(shots(4))
    assert next(found).arrived == 100.0
    assert next(found).arrived == pytest.approx(100.1)
    now[0] += 0.5  # a slow consumer: what is late is not held back
    assert [shot.arrived for shot in found] == pytest.approx([100.6, 100.6])
    assert slept == pytest.approx([0, 0.1, 0, 0])

"""Sources of frames, and the queue that keeps only the newest."""

from __future__ import annotations

import socket
import threading
import zipfile
from collections.abc import Generator, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from support import number_of, numbered_frames, real_data, write_frames, write_video
from web_server import Server

from tsmcli.config import DataConfig
from tsmcli.data.decode import FrameFolder
from tsmcli.data.frame_zip import FrameZip
from tsmcli.data.live import InOrder, Newest, Shot, at_their_time, from_reader, is_live, open_source
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.data.video_writer import VideoWriter, annotated_video
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


def hls(segment: object) -> bytes:
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:1,\n{segment}\n#EXT-X-ENDLIST\n".encode()


def test_a_playlist_behind_an_address_stays_on_the_web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its segments are played; files of this machine, lists of files and other protocols are not."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    secret = write_video(tmp_path / "secret.ts", numbered_frames(4), fps=50)
    server, other = Server(), Server()
    port = other.http.server_address[1]
    refused = {
        "/path.m3u8": hls(secret),
        "/file.m3u8": hls(f"file:{secret}"),
        "/tcp.m3u8": hls(f"tcp://127.0.0.1:{port}/a.ts"),
        "/rtsp.m3u8": hls(f"rtsp://127.0.0.1:{port}/a.ts"),
        "/concat.mp4": b"ffconcat version 1.0\nfile good.ts\n",
        "/web.mp4": f"ffconcat version 1.0\nfile {other.url}/a.ts\n".encode(),
    }
    try:
        server.files |= {"/good.m3u8": hls("good.ts"), "/good.ts": secret.read_bytes(), **refused}
        assert [number_of(shot.frame) for shot in open_source(f"{server.url}/good.m3u8")] == [0, 1, 2, 3]
        for name in refused:
            with pytest.raises(DataError, match=name):
                list(open_source(server.url + name))
    finally:
        server.close()
        other.close()
    assert not other.requests


@pytest.mark.parametrize(
    "address", ["file://{}", "concat://{}", "crypto+file://{}", "subfile,,start,0,end,0,,://{}"]
)
def test_no_address_opens_a_file(tmp_path: Path, address: str) -> None:
    path = write_video(tmp_path / "a.mp4", numbered_frames(2))
    with pytest.raises(DataError):
        list(open_source(address.format(path)))


def test_streams_that_are_no_web_pages(tmp_path: Path) -> None:
    """MPEG-TS over UDP is decoded, and RTSP is asked for."""
    packets = write_video(tmp_path / "a.ts", numbered_frames(20), g="5").read_bytes()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = threading.Event()

    def send() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not done.is_set():
                for start in range(0, len(packets), 1316):
                    sender.sendto(packets[start : start + 1316], ("127.0.0.1", port))
                    done.wait(0.002)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        shots = open_source(f"udp://127.0.0.1:{port}")
        assert 0 <= number_of(next(shots).frame) < 20
        shots.close()
    finally:
        done.set()
        thread.join()
    with socket.create_server(("127.0.0.1", 0)) as camera:
        asked: list[bytes] = []

        def hang_up() -> None:
            connection, _ = camera.accept()
            with connection:
                asked.append(connection.recv(1000))

        answer = threading.Thread(target=hang_up)
        answer.start()
        with pytest.raises(DataError):
            list(open_source(f"rtsp://127.0.0.1:{camera.getsockname()[1]}/x"))
        answer.join()
    assert asked[0].startswith(b"OPTIONS rtsp://")


def test_a_path_is_a_file_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mp4", numbered_frames(3)).rename("0")
    assert len(list(open_source(Path("0")))) == 3
    with pytest.raises(DataError, match="frames of 176x96 pixels; data.max_pixels allows 100"):
        list(open_source(Path("0"), DataConfig(max_pixels=100)))


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
        with annotated_video(tmp_path / "v.mp4") as video:
            for number, frame in enumerate(frames):
                video.write(frame, number / 10, "words")
            raise DataError("the camera is gone")

    with pytest.raises(DataError, match="gone"):
        record()
    assert np.array_equal(frames[0], kept), "the caller's picture is not drawn into"
    with PyAVReader(tmp_path / "v.mp4") as reader:
        assert reader.num_frames == 5
    with annotated_video(tmp_path / "none.mp4"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_one_writer_for_a_rate_and_for_times(tmp_path: Path) -> None:
    """Odd sides lose a pixel; what comes in another size is scaled; nothing else is left in the folder."""
    with VideoWriter(tmp_path / "rate.mp4", Fraction(10), threads="1", qp="1") as video:
        for frame in (*numbered_frames(3, 97, 177), *numbered_frames(1, 192, 352)):
            video.write(frame)
    with VideoWriter(tmp_path / "times.mp4", threads="1") as video:
        for time_sec in (0.0, 0.5, 0.5, 2.0):
            video.write(numbered_frames(1)[0], time_sec)
    found = {name: list(open_source(tmp_path / name)) for name in ("rate.mp4", "times.mp4")}
    assert [shot.frame.shape for shot in found["rate.mp4"]] == [(96, 176, 3)] * 4
    assert [number_of(shot.frame) for shot in found["rate.mp4"][:3]] == [0, 1, 2]
    assert [shot.time_sec for shot in found["rate.mp4"]] == pytest.approx([0, 0.1, 0.2, 0.3])
    assert [shot.time_sec for shot in found["times.mp4"]] == pytest.approx([0, 0.5, 0.501, 2.0])
    with (
        pytest.raises(DataError, match=r"thin\.mp4: frames of 1x64 pixels"),
        VideoWriter(tmp_path / "thin.mp4") as video,
    ):
        video.write(np.zeros((64, 1, 3), np.uint8))
    with (
        pytest.raises(DataError, match=r"bad\.mp4: cannot be encoded"),
        VideoWriter(tmp_path / "bad.mp4", preset="none") as video,
    ):
        video.write(np.zeros((64, 64, 3), np.uint8))
    assert {path.name for path in tmp_path.iterdir()} == {"rate.mp4", "times.mp4"}


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

"""What is kept of long files: found again, never trusted when it is damaged or old, and never in the way."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest
from support import number_of, numbered_frames, real_data, write_video

from tsmcli.data import packets
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.files import cache_home

COUNT = 60


@pytest.fixture
def video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that counts as a long one, and a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(packets, "_LONG", COUNT)
    return write_video(tmp_path / "v.mp4", numbered_frames(COUNT), g="20", bf="2")


def demuxed(path: Path, monkeypatch: pytest.MonkeyPatch, wanted: tuple[int, ...] = (3, 21, 59)) -> int:
    """Packets that opening a file reads; the wanted frames must be right."""
    seen, real = [0], PyAVReader._demux

    def count(self: PyAVReader):  # type: ignore[no-untyped-def]
        for packet in real(self):
            seen[0] += 1
            yield packet

    with monkeypatch.context() as patch:
        patch.setattr(PyAVReader, "_demux", count)
        with PyAVReader(path) as reader:
            opened = seen[0]
            assert [number_of(frame) for frame in reader.read(np.array(wanted))] == [*wanted]
            assert reader.num_frames == COUNT
            assert np.allclose(reader.times, np.arange(COUNT) / 25)
    return opened


def test_a_long_file_is_read_through_once(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert demuxed(video, monkeypatch) > COUNT
    assert demuxed(video, monkeypatch) == 0
    os.utime(video, ns=(0, 0))
    assert demuxed(video, monkeypatch) > COUNT
    monkeypatch.setattr(packets, "_LONG", COUNT + 1)
    short = write_video(video.with_name("short.mp4"), numbered_frames(COUNT), g="20")
    assert [demuxed(short, monkeypatch) > COUNT for _ in range(2)] == [True, True]


@pytest.mark.parametrize("container", ["f.mp4", "m.mkv"])
def test_containers_without_an_index(video: Path, monkeypatch: pytest.MonkeyPatch, container: str) -> None:
    """Fragments, and a file that was streamed: without the scan, FFmpeg knows no place in them."""
    options = {"movflags": "frag_keyframe+empty_moov"} if container == "f.mp4" else {"live": "1"}
    path = video.with_name(container)
    with av.open(str(video)) as old, av.open(str(path), "w", options=options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    assert demuxed(path, monkeypatch) > COUNT
    assert demuxed(path, monkeypatch) == 0
    assert demuxed(path, monkeypatch, (45,)) == 0


def test_what_is_damaged_or_cannot_be_written_does_not_matter(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demuxed(video, monkeypatch)
    (kept,) = (cache_home() / "packets").iterdir()
    whole = kept.read_bytes()
    for damaged in (
        b"",
        whole[:3],
        whole[:100],
        whole[:50] + bytes([whole[50] ^ 1]) + whole[51:],
        whole + b"\0" * 17,
    ):
        kept.write_bytes(damaged)
        assert demuxed(video, monkeypatch) > COUNT
        assert kept.read_bytes() == whole
    kept.unlink()
    kept.parent.rmdir()
    kept.parent.write_text("no folder")
    assert [demuxed(video, monkeypatch) > COUNT for _ in range(2)] == [True, True]


@pytest.mark.parametrize("name", ["unordered.mov", "video_0.mov", "video_90.mov", "flipping_a_pancake.mkv"])
def test_odd_files_are_the_same_when_they_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = real_data() / "clips" / "odd" / name
    found = []
    for least in (10**6, 1, 1):
        monkeypatch.setattr(packets, "_LONG", least)
        with PyAVReader(path) as reader:
            indices = np.linspace(0, reader.num_frames - 1, 5).astype(np.int64)
            found.append((reader.times, reader.timeline.duration_sec, reader.read(indices)))
    for times, length_sec, frames in found[1:]:
        assert np.array_equal(times, found[0][0])
        assert length_sec == found[0][1]
        assert all(np.array_equal(a, b) for a, b in zip(frames, found[0][2], strict=True))


def test_an_edit_list_that_leaves_out_frames_is_obeyed(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg must work through it each time; through one that only shifts the clock it need not."""
    with PyAVReader(video):
        kept = packets.kept_packets(video)
        assert kept is not None
        assert kept.plain
    path = video.with_name("edited.mp4")
    options = {"avoid_negative_ts": "disabled", "use_editlist": "1"}
    with av.open(str(video)) as old, av.open(str(path), "w", options=options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                early = int(20 / 25 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - early, packet.dts - early, stream
                new.mux(packet)
    monkeypatch.setattr(packets, "_LONG", 1)
    for _ in range(2):
        with PyAVReader(path) as reader:
            assert [number_of(frame) for frame in reader.read(np.array([0, 5, reader.num_frames - 1]))] == [
                20,
                25,
                59,
            ]
        kept = packets.kept_packets(path)
        assert kept is not None
        assert not kept.plain


def test_the_oldest_goes_first(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cache_home() / "packets"
    folder.mkdir(parents=True)
    for age in range(3):
        (folder / f"{age}").write_bytes(bytes(1000))
        os.utime(folder / f"{age}", ns=(10**9 * (9 - age), 10**9 * (9 - age)))
    monkeypatch.setattr(packets, "_MOST_BYTES", 2000 + 5 + COUNT * packets.PACKET.itemsize)
    monkeypatch.setattr(packets, "_LOOK", 1)
    demuxed(video, monkeypatch)
    assert {"0", "1"} < {path.name for path in folder.iterdir()}
    assert not (folder / "2").exists()

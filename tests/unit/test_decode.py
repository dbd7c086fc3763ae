"""Frames by number: every file carries its frame numbers in the picture."""

from __future__ import annotations

import os
import socket
import sys
import tracemalloc
import zipfile
from collections.abc import Iterator
from contextlib import closing
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from support import number_of, numbered_frames, real_data, write_frames, write_video

from tsmcli.config import Config, DataConfig, Views
from tsmcli.data.dataset import VideoDataset
from tsmcli.data.decode import DecordReader, FrameFolder, open_reader
from tsmcli.data.frame_zip import FrameZip
from tsmcli.data.intervals import Span
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import Split
from tsmcli.data.messages import BadVideo
from tsmcli.data.packets import Packets
from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.errors import DataError

FILES = {
    "long GOP with B-frames": ("a.mp4", "libx264", {"g": "250", "bf": "3"}),
    "short GOP": ("b.mp4", "libx264", {"g": "12", "bf": "2"}),
    "B-pyramid": ("c.mkv", "libx264", {"g": "60", "bf": "8", "x264-params": "b-pyramid=normal"}),
    "open GOP": ("d.mp4", "libx264", {"g": "12", "bf": "3", "x264-params": "open-gop=1"}),
    "no B-frames": ("e.mp4", "libx264", {"g": "50", "bf": "0"}),
    "intra refresh": ("f.mp4", "libx264", {"g": "30", "x264-params": "intra-refresh=1"}),
    "all intra": ("g.mp4", "libx264", {"g": "1"}),
    "avi": ("h.avi", "libx264", {"g": "30", "bf": "2"}),
    "transport stream": ("i.ts", "libx264", {"g": "30", "bf": "2"}),
    "MPEG-4": ("j.avi", "mpeg4", {"g": "12", "bf": "2"}),
    "motion JPEG": ("k.avi", "mjpeg", {}),
    "VP9": ("l.webm", "libvpx-vp9", {"g": "30", "cpu-used": "8", "deadline": "realtime"}),
    "AV1": ("n.mp4", "libsvtav1", {"g": "30", "preset": "12", "svtav1-params": "lp=1"}),
    "AV1 in Matroska": ("o.mkv", "libsvtav1", {"g": "30", "preset": "12", "svtav1-params": "lp=1"}),
    "HEVC": ("m.mp4", "libx265", {"g": "30", "x265-params": "log-level=none:pools=1"}),
}
COUNT = 75


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    frames = numbered_frames(COUNT)
    for name, codec, options in FILES.values():
        if codec in av.codecs_available:
            write_video(folder / name, frames, codec, **options)
    return folder


@pytest.mark.parametrize("kind", sorted(FILES))
def test_every_access_gives_the_right_frame(videos: Path, kind: str) -> None:
    path = videos / FILES[kind][0]
    if not path.exists():
        pytest.skip(f"this PyAV has no {FILES[kind][1]}")
    rng = np.random.default_rng(len(kind))
    with PyAVReader(path) as reader:
        assert reader.num_frames == COUNT
        for size in (1, 8, 16):
            indices = rng.integers(0, COUNT, size)
            assert [number_of(frame) for frame in reader.read(indices)] == indices.tolist()
        ends = np.array([0, COUNT - 1])
        assert [number_of(frame) for frame in reader.read(ends)] == ends.tolist()


@pytest.mark.parametrize("kind", ["long GOP with B-frames", "B-pyramid", "open GOP", "HEVC", "VP9"])
def test_seeking_gives_the_pixels_of_reading_from_the_start(videos: Path, kind: str) -> None:
    path = videos / FILES[kind][0]
    if not path.exists():
        pytest.skip(f"this PyAV has no {FILES[kind][1]}")
    with av.open(str(path)) as container:
        truth = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    indices = np.array([3, 17, 18, 40, 40, 71])
    with PyAVReader(path) as reader:
        assert reader._indexed
        for index, frame in zip(indices, reader.read(indices), strict=True):
            assert np.array_equal(frame, truth[index])


def test_decord_reads_the_same_frames(videos: Path) -> None:
    pytest.importorskip("decord")
    indices = np.array([60, 3, 3, 41])
    path = videos / FILES["long GOP with B-frames"][0]
    reader = DecordReader(path)
    with PyAVReader(path) as ours:
        assert reader.num_frames == COUNT
        for a, b in zip(reader.read(indices), ours.read(indices), strict=True):
            assert np.array_equal(a, b)
    reader.close()


def test_variable_frame_rate(tmp_path: Path) -> None:
    path = tmp_path / "vfr.mp4"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"g": "20", "bf": "2"})
        stream.height, stream.width, stream.pix_fmt = 96, 176, "yuv420p"
        time = 0
        for picture in numbered_frames(40):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = time
            time += int(rng.integers(1, 5))
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with PyAVReader(path) as reader:
        indices = np.arange(40)
        assert [number_of(frame) for frame in reader.read(indices)] == indices.tolist()


def remux_from_third_key(source: Path, target: Path) -> Path:
    """A stream copy that starts at a key frame of open GOPs: its first packets cannot be decoded."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        keys = 0
        for packet in old.demux(video=0):
            if packet.dts is None:
                continue
            keys += packet.is_keyframe
            if keys >= 3:
                packet.stream = stream
                new.mux(packet)
    return target


def test_a_cut_copy_of_open_gops_counts_what_can_be_decoded(videos: Path, tmp_path: Path) -> None:
    path = remux_from_third_key(videos / FILES["open GOP"][0], tmp_path / "cut.mkv")
    with av.open(str(path)) as container:
        truth = [number_of(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert truth[0] > 10
    with PyAVReader(path) as reader:
        assert reader.num_frames == len(truth)
        indices = np.array([0, 1, 5, len(truth) - 1])
        assert [number_of(frame) for frame in reader.read(indices)] == [truth[i] for i in indices]


def remux_with_edit_list(source: Path, target: Path, dropped: int) -> Path:
    """A stream copy whose first frames lie before time 0: an edit list hides them."""
    with (
        av.open(str(source)) as old,
        av.open(str(target), "w", container_options={"avoid_negative_ts": "disabled"}) as new,
    ):
        stream = new.add_stream_from_template(old.streams.video[0])
        packets = [packet for packet in old.demux(video=0) if packet.dts is not None]
        shift = sorted(packet.pts for packet in packets)[dropped]
        for packet in packets:
            packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            packet.stream = stream
            new.mux(packet)
    return target


@pytest.mark.parametrize("kind", ["long GOP with B-frames", "short GOP"])
def test_edit_lists_are_obeyed(videos: Path, tmp_path: Path, kind: str) -> None:
    path = remux_with_edit_list(videos / FILES[kind][0], tmp_path / "edited.mp4", dropped=20)
    with av.open(str(path)) as container:
        truth = [number_of(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert truth[0] > 0
    assert truth[-1] == COUNT - 1
    with PyAVReader(path) as reader:
        assert reader.num_frames == len(truth)
        for indices in (np.array([0]), np.array([3, 30, len(truth) - 1]), np.arange(len(truth))):
            assert [number_of(frame) for frame in reader.read(indices)] == [truth[i] for i in indices]


def test_a_length_that_is_too_long_ends_at_the_last_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container that promises more than it holds: the last frame stands in, and the length is remembered."""
    path = write_video(tmp_path / "v.mp4", numbered_frames(20), g="5", bf="0")
    scan = PyAVReader._scan

    def too_long(self: PyAVReader) -> Packets:
        packets = scan(self)
        more = packets[:5].copy()
        more["pts"] = packets["pts"][-1] + (packets["pts"][1] - packets["pts"][0]) * np.arange(1, 6)
        more["key"] = False
        return np.append(packets, more)

    monkeypatch.setattr(PyAVReader, "_scan", too_long)
    with PyAVReader(path) as reader:
        assert reader.num_frames == 25
        assert [number_of(f) for f in reader.read(np.array([3, 19, 23]))] == [3, 19, 19]
        assert reader.num_frames == 20
    with PyAVReader(path) as reader:
        assert reader.num_frames == 20


@pytest.mark.parametrize("timeout_sec", [1e-6, 1e-3])
def test_time_is_limited(tmp_path: Path, timeout_sec: float) -> None:
    """Whether opening or decoding takes too long: an error that says so."""
    path = write_video(tmp_path / "long.mp4", numbered_frames(300, 192, 352), g="300")
    with (
        pytest.raises(DataError, match=f"long.mp4: took longer than {timeout_sec:g} s"),
        PyAVReader(path, timeout_sec=timeout_sec) as reader,
    ):
        reader.read(np.array([299]))


def test_a_frame_beyond_the_end_is_an_error(videos: Path) -> None:
    with PyAVReader(videos / "a.mp4") as reader, pytest.raises(DataError, match="no frame 75: there are 75"):
        reader.read(np.array([0, 75]))


def test_broken_files(tmp_path: Path) -> None:
    good = write_video(tmp_path / "good.mp4", numbered_frames(30)).read_bytes()
    broken = {
        "missing.mp4": (None, "no such video"),
        "empty.mp4": (b"", "the file is empty"),
        "text.mp4": (b"this is not a video", "cannot be decoded"),
        "truncated.mp4": (good[: len(good) // 2], "cannot be decoded"),
    }
    for name, (content, reason) in broken.items():
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        for data in (DataConfig(decoder="pyav"), DataConfig(decoder="decord")):
            if data.decoder == "decord":
                pytest.importorskip("decord")
            with (
                pytest.raises(DataError, match=reason) as caught,
                open_reader(Split([], tmp_path, tmp_path), VideoRecord(name, None, 0), data) as reader,
            ):
                reader.read(np.array([0]))
            assert str(path) in str(caught.value)
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(DataError, match="a folder, not a video file"):
        PyAVReader(tmp_path / "folder.mp4")


def test_audio_alone_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "audio.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(DataError, match="no video stream"):
        PyAVReader(path)


def test_a_cut_file_gives_right_frames_or_an_error(tmp_path: Path) -> None:
    """A Matroska file cut anywhere still reads; no frame may be another one's."""
    whole = write_video(tmp_path / "whole.mkv", numbered_frames(60), g="12").read_bytes()
    for share in (0.3, 0.6, 0.95):
        path = tmp_path / "cut.mkv"
        path.write_bytes(whole[: int(share * len(whole))])
        with PyAVReader(path) as reader:
            assert 0 < reader.num_frames < 60
            for index in (0, reader.num_frames // 2, reader.num_frames - 2):
                assert number_of(reader.read(np.array([index]))[0]) == index


def broken_files(folder: Path) -> dict[str, Path]:
    """25 kinds of file that are no whole video."""
    frames = numbered_frames(40)
    mp4 = write_video(folder / "good.mp4", frames, g="10").read_bytes()
    mkv = write_video(folder / "good.mkv", frames, g="10").read_bytes()
    webm = write_video(
        folder / "good.webm", frames[:20], "libvpx-vp9", **{"cpu-used": "8", "deadline": "realtime"}
    ).read_bytes()
    avi = write_video(folder / "good.avi", frames, "mpeg4").read_bytes()
    rng = np.random.default_rng(0)

    def flipped(data: bytes, share: float) -> bytes:
        array = np.frombuffer(data, np.uint8).copy()
        where = rng.integers(1000, len(array), max(1, int(share * len(array))))
        array[where] ^= rng.integers(1, 256, len(where)).astype(np.uint8)
        return array.tobytes()

    def zeroed(data: bytes) -> bytes:
        return data[: len(data) // 3] + bytes(len(data) // 3) + data[2 * len(data) // 3 :]

    jpeg = cv2.imencode(".jpg", frames[0])[1].tobytes()
    contents = {
        "empty.mp4": b"", "one_byte.mp4": b"x", "text.mp4": b"hello\n" * 99, "html.mp4": b"<html>404</html>" * 50,
        "random.mp4": rng.bytes(20_000), "zeros.mp4": bytes(20_000), "header.mp4": mp4[:200],
        "cut_early.mp4": mp4[:2000], "cut_half.mp4": mp4[: len(mp4) // 2], "cut_late.mp4": mp4[:-100],
        "flip_few.mp4": flipped(mp4, 0.0005), "flip_many.mp4": flipped(mp4, 0.05), "zeroed.mp4": zeroed(mp4),
        "cut_half.mkv": mkv[: len(mkv) // 2], "cut_late.mkv": mkv[:-500], "flip_few.mkv": flipped(mkv, 0.0005),
        "zeroed.mkv": zeroed(mkv), "cut_half.webm": webm[: len(webm) // 2], "flip_few.webm": flipped(webm, 0.0005),
        "cut_half.avi": avi[: len(avi) // 2], "flip_few.avi": flipped(avi, 0.0005), "jpeg.mp4": jpeg,
        "mkv_named.mp4": mkv, "tail.mp4": mp4[-5000:],
    }  # fmt: skip
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / "folder.mp4").mkdir()
    return {name: folder / name for name in [*contents, "folder.mp4"]}


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_no_kind_of_broken_file_does_harm(tmp_path: Path, decoder: str) -> None:
    """A clear error or frames of this very video; never a hang or another exception.

    decord does not notice all damage: only its kind of failure is checked.
    """
    if decoder == "decord":
        pytest.importorskip("decord")
    files = broken_files(tmp_path)
    assert len(files) == 25
    errors = 0
    for name, path in files.items():
        data = VideoDataset(
            Split([VideoRecord(name, None, 0)], tmp_path, path),
            small_config(decoder),
            Views(crop_px=96, resize_px=None),
        )
        item = data[0]
        if isinstance(item, BadVideo):
            errors += 1
            assert str(path) in item.reason
            assert len(item.reason.splitlines()) == 1
        elif decoder == "pyav" and not name.startswith(("flip", "zeroed")):
            with PyAVReader(path) as reader:
                index = reader.num_frames // 2
                assert number_of(reader.read(np.array([index]))[0]) == index, name
    assert errors >= 13


def small_config(decoder: str) -> Config:
    return Config.model_validate({"data": {"dataset": "folder", "decoder": decoder}})


@pytest.mark.slow
def test_a_thousand_opens_leave_no_memory_behind(videos: Path) -> None:
    def resident() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

    if not Path("/proc/self/statm").exists():
        pytest.skip("no /proc here")

    def rounds(count: int) -> None:
        for i in range(count):
            with PyAVReader(videos / "b.mp4") as reader:
                reader.read(np.array([i % COUNT]))

    rounds(200)
    before = resident()
    rounds(1000)
    assert resident() - before < 5


@pytest.mark.slow
def test_a_thousand_random_accesses(tmp_path: Path) -> None:
    """More than 20 files of different codec, GOP and container; not one wrong frame."""
    frames = numbered_frames(COUNT)
    kinds = dict(FILES)
    for gop in ("5", "17", "40"):
        for suffix in ("mp4", "mkv", "mov"):
            kinds[f"{suffix} {gop}"] = (f"x{gop}.{suffix}", "libx264", {"g": gop, "bf": "2"})
    rng = np.random.default_rng(1)
    files = [
        write_video(tmp_path / name, frames, codec, **o)
        for name, codec, o in kinds.values()
        if codec in av.codecs_available
    ]
    assert len(files) >= 20
    wrong = 0
    for path in files:
        for _ in range(50):
            with PyAVReader(path) as reader:
                index = int(rng.integers(COUNT))
                wrong += number_of(reader.read(np.array([index]))[0]) != index
    assert wrong == 0


def read_all(path: Path) -> None:
    with closing(FrameZip(path)) as reader:
        reader.read(np.arange(12))


def test_frame_zip(tmp_path: Path) -> None:
    """Our own ZIP files by their directory's stride, anybody's by the standard library; the same frames."""
    frames = numbered_frames(12)
    pictures = {f"img_{i:05}.jpg": cv2.imencode(".jpg", f[..., ::-1])[1].tobytes() for i, f in enumerate(frames, 1)}
    for name, compression, order in (
        ("ours", zipfile.ZIP_STORED, 1),
        ("packed", zipfile.ZIP_DEFLATED, 1),
        ("shuffled", zipfile.ZIP_STORED, -1),
    ):
        path = tmp_path / f"{name}.zip"
        with zipfile.ZipFile(path, "w", compression) as file:
            for key in list(pictures)[::order]:
                file.writestr(key, pictures[key])
        reader = FrameZip(path)
        assert (reader._zip is None) == (name == "ours")
        assert reader.num_frames == 12
        assert [number_of(f) for f in reader.read(np.array([11, 0, 4, 4]))] == [11, 0, 4, 4]
        reader.close()
    broken = (tmp_path / "ours.zip").read_bytes()
    for name, content in (
        ("cut", broken[:-50]),
        ("text", b"hello"),
        ("holes", broken[:200] + bytes(5000) + broken[5200:]),
    ):
        path = tmp_path / f"{name}.zip"
        path.write_bytes(content)
        with pytest.raises(DataError, match=f"{name}.zip"):
            read_all(path)
    with zipfile.ZipFile(tmp_path / "none.zip", "w"):
        pass
    with pytest.raises(DataError, match="holds no numbered pictures"):
        FrameZip(tmp_path / "none.zip")


def test_a_zipped_folder(tmp_path: Path) -> None:
    """The entry of the folder itself is no frame."""
    pictures = [cv2.imencode(".jpg", frame)[1].tobytes() for frame in numbered_frames(3)]
    with zipfile.ZipFile(tmp_path / "v.zip", "w") as file:
        file.writestr("v/", b"")
        for number, picture in enumerate(pictures):
            file.writestr(f"v/{number}.jpg", picture)
    with closing(FrameZip(tmp_path / "v.zip")) as reader:
        assert reader.num_frames == 3
        assert [number_of(frame) for frame in reader.read(np.array([0, 2]))] == [0, 2]


def damaged_zips(folder: Path) -> Iterator[str]:
    """ZIPs for which the standard library has an error of every kind."""
    pictures = [cv2.imencode(".jpg", frame)[1].tobytes() for frame in numbered_frames(4)]
    packings = {"deflated": zipfile.ZIP_DEFLATED, "bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA,
                "stored": zipfile.ZIP_STORED}  # fmt: skip
    for packing, method in packings.items():
        with zipfile.ZipFile(folder / "good.zip", "w", method) as file:
            for number, picture in enumerate(pictures):
                file.writestr(f"{number}.jpg", picture)
        good = (folder / "good.zip").read_bytes()
        central, local = good.find(b"PK\x01\x02"), good.find(b"PK\x03\x04", 4)
        edits = {
            "noise": {central // 8 + i: 0xFF for i in range(40)},
            "zeros": dict.fromkeys(range(60, local), 0),
            "encrypted": {6: 1, central + 8: 1},
            "unknown packing": {8: 99, central + 10: 99},
            "newer version": {central + 6: 99},
            "no length": {22 + i: 0 for i in range(4)} | {central + 24 + i: 0 for i in range(4)},
            "endless": {central + 20 + i: 0xFF for i in range(8)},
            "elsewhere": {central + 42 + i: 0x7F for i in range(4)},
            "name": {30: 0xFF, 7: 8, central + 9: 8, central + 46: 0xFF},
        }
        for edit, changes in edits.items():
            content = bytearray(good)
            for at, value in changes.items():
                content[at] = value
            name = f"{packing} {edit}.zip"
            (folder / name).write_bytes(content)
            yield name


def test_a_damaged_zip_is_a_bad_video(tmp_path: Path) -> None:
    config = Config.model_validate({"data": {"dataset": "folder", "store": "zip"}})
    reasons = {}
    for name in damaged_zips(tmp_path):
        data = VideoDataset(
            Split([VideoRecord(name, None, 0)], tmp_path, tmp_path), config, Views(resize_px=None, crop_px=96)
        )
        item = data[0]
        if isinstance(item, BadVideo):
            assert str(tmp_path / name) in item.reason
            reasons[name] = item.reason
    assert len(reasons) > 25
    assert {
        f"{packing} {edit}.zip"
        for packing in ("deflated", "stored")
        for edit in ("zeros", "encrypted", "unknown packing")
    } <= {*reasons}
    assert "password" in reasons["stored encrypted.zip"]


def test_a_frame_of_a_zip_takes_no_more_memory_than_a_picture(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("1.jpg", bytes(50_000_000))
    tracemalloc.start()
    with (
        closing(FrameZip(tmp_path / "bomb.zip", DataConfig(max_pixels=10_000))) as reader,
        pytest.raises(DataError, match="not a readable"),
    ):
        reader.read(np.array([0]))
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


def huge_jpeg(side: int = 30_000) -> bytes:
    """A small picture whose header says that it is enormous."""
    data = bytearray(cv2.imencode(".jpg", numbered_frames(1)[0])[1])
    start = data.find(b"\xff\xc0\x00\x11")
    data[start + 5 : start + 9] = side.to_bytes(2, "big") * 2
    return bytes(data)


@pytest.mark.parametrize("side", [9_000, 30_000])
def test_pictures_that_claim_to_be_huge(tmp_path: Path, side: int) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v/img_00001.jpg").write_bytes(huge_jpeg(side))
    with zipfile.ZipFile(tmp_path / "v.zip", "w") as file:
        file.writestr("1.jpg", huge_jpeg(side))
    words = f"frames of {side}x{side} pixels; data.max_pixels allows 64000000"
    for store, name in (("frames", "v"), ("zip", "v.zip")):
        with (
            open_reader(
                Split([], tmp_path, tmp_path, "img_{:05}.jpg"), VideoRecord(name, 1, 0), DataConfig(store=store)
            ) as reader,
            pytest.raises(DataError, match=words),
        ):
            reader.read(np.array([0]))


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_videos_with_frames_that_are_too_large(tmp_path: Path, decoder: str) -> None:
    if decoder == "decord":
        pytest.importorskip("decord")
    write_video(tmp_path / "a.mp4", numbered_frames(5))
    split, record = Split([], tmp_path, tmp_path), VideoRecord("a.mp4", None, 0)
    with open_reader(split, record, DataConfig(decoder=decoder, max_pixels=176 * 96)) as reader:
        assert reader.num_frames == 5
    with (
        pytest.raises(DataError, match=r"a\.mp4: frames of 176x96 pixels; data.max_pixels allows 16895"),
        open_reader(split, record, DataConfig(decoder=decoder, max_pixels=176 * 96 - 1)),
    ):
        pass


def test_a_video_whose_frames_become_too_large(tmp_path: Path) -> None:
    """The decoder refuses them before it takes memory; they are not taken for a broken end."""
    small = write_video(tmp_path / "small.h264", numbered_frames(5)).read_bytes()
    large = write_video(tmp_path / "large.h264", numbered_frames(5, 192, 352)).read_bytes()
    (tmp_path / "both.h264").write_bytes(small + large)
    with PyAVReader(tmp_path / "both.h264") as reader:
        assert reader.num_frames == 10
    with pytest.raises(DataError, match="frames of 352x192 pixels; data.max_pixels allows 20000"):
        PyAVReader(tmp_path / "both.h264", limits=DataConfig(max_pixels=20_000))


STRANGE_NAMES = (
    "2024-01-01T12:30:00.mp4",
    "cam1:front.mp4",
    "http:front.mp4",
    "a%05d.mp4",
    "a%20b.mp4",
    "-i.mp4",
    "a?b#c.mp4",
    "ü.mp4",
)


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_a_file_is_a_file_whatever_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: str) -> None:
    if decoder == "decord":
        pytest.importorskip("decord")
    if sys.platform == "win32":
        pytest.skip("names that Windows has not")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "http:").mkdir()
    for name in (*STRANGE_NAMES, "http:/a.mp4"):
        write_video(tmp_path / "a.mp4", numbered_frames(3)).replace(tmp_path / name)
        with open_reader(
            Split([], Path(), Path()), VideoRecord(name, None, 0), DataConfig(decoder=decoder)
        ) as reader:
            assert [number_of(frame) for frame in reader.read(np.array([2, 0]))] == [2, 0], name


def playlists(folder: Path) -> list[Path]:
    """Files that name another file, which FFmpeg would open instead."""
    video = write_video(folder / "secret.mp4", numbered_frames(3))
    write_video(folder / "secret.ts", numbered_frames(3))
    hls = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"
    texts = {
        "concat.mp4": "ffconcat version 1.0\nfile secret.mp4\n",
        "concat.ffconcat": "ffconcat version 1.0\nfile secret.mp4\n",
        "relative.m3u8": hls.format("secret.ts"),
        "absolute.m3u8": hls.format(video.with_suffix(".ts")),
        "address.m3u8": hls.format("http://127.0.0.1:9/a.ts"),
        "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 26\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [folder / name for name in texts]


@pytest.mark.parametrize("decoder", ["pyav", "decord"])
def test_a_list_of_other_files_is_no_video(tmp_path: Path, decoder: str) -> None:
    if decoder == "decord":
        pytest.importorskip("decord")
    for path in playlists(tmp_path):
        with (
            pytest.raises(DataError, match=f"{path.name}: not a known kind of video, or a list of other files"),
            open_reader(
                Split([], tmp_path, tmp_path), VideoRecord(path.name, None, 0), DataConfig(decoder=decoder)
            ),
        ):
            pass


def test_a_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    """Whose name is no pattern of names."""
    write_frames(tmp_path / "v", numbered_frames(3), "{}.jpg", start=0)
    (tmp_path / "v/2.jpg").rename(tmp_path / "v/%d.jpg")
    with PyAVReader(tmp_path / "v/%d.jpg") as reader:
        assert reader.num_frames == 1
        assert number_of(reader.read(np.array([0]))[0]) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "device.mp4").symlink_to("/dev/zero")
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(tmp_path / "socket.mp4"))
        for name in ("pipe.mp4", "device.mp4", "socket.mp4"):
            with pytest.raises(DataError, match=f"{name}: not a regular file"):
                PyAVReader(tmp_path / name)
            with pytest.raises(DataError, match=f"{name}: not a regular file"):
                FrameZip(tmp_path / name)
    (tmp_path / "v").mkdir()
    (tmp_path / "v/1.jpg").symlink_to("/dev/null")
    with pytest.raises(DataError, match=r"1\.jpg: no such frame"):
        FrameFolder(tmp_path / "v", 1, "{}.jpg", 1).read(np.array([0]))


def test_frame_folder(tmp_path: Path) -> None:
    frames = numbered_frames(6)
    write_frames(tmp_path / "v1", frames, "{:05}.jpg")
    reader = FrameFolder(tmp_path / "v1", 6, "{:05}.jpg", 1)
    assert [number_of(frame) for frame in reader.read(np.array([5, 0, 0, 2]))] == [5, 0, 0, 2]
    (tmp_path / "v1" / "00003.jpg").unlink()
    with pytest.raises(DataError, match=r"v1/00003\.jpg: no such frame"):
        reader.read(np.array([2]))
    (tmp_path / "v1" / "00003.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"v1/00003\.jpg: not a readable image"):
        reader.read(np.array([2]))
    with pytest.raises(DataError, match="no such folder of frames"):
        FrameFolder(tmp_path / "v2", 6, "{:05}.jpg", 1)


def test_colours_are_red_green_blue(tmp_path: Path) -> None:
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 0] = 220
    write_frames(tmp_path / "v", [red])
    write_video(tmp_path / "v.mp4", [red] * 3)
    folder = FrameFolder(tmp_path / "v", 1, "img_{:05}.jpg", 1).read(np.array([0]))[0]
    with PyAVReader(tmp_path / "v.mp4") as reader:
        for frame in (folder, reader.read(np.array([1]))[0]):
            assert frame[..., 0].mean() > 180
            assert frame[..., 1:].mean() < 40


def test_real_clips() -> None:
    """First frames equal OpenCV's, upright where the file asks for a turn."""
    clips = sorted(p for p in (real_data() / "clips").glob("*/*") if p.suffix in {".mp4", ".mov", ".mkv", ".webm"})
    assert clips
    for path in clips:
        if path.name == "corrupted.mp4":
            with PyAVReader(path) as reader, pytest.raises(DataError, match="cannot be decoded"):
                reader.read(np.arange(reader.num_frames))
            continue
        capture = cv2.VideoCapture(str(path))
        _, expected = capture.read()
        capture.release()
        with PyAVReader(path) as reader:
            assert np.array_equal(reader.read(np.array([0]))[0], expected[..., ::-1]), path.name


ODD = ("flipping_a_pancake.mkv", "unordered.mov", "video_0.mov", "video_90.mov", "video_180.mov", "video_270.mov")


def odd_file(kind: str, videos: Path, folder: Path) -> Path:
    """A file with something unusual about it; skips where this machine cannot have it."""
    if kind in ODD:
        return real_data() / "clips" / "odd" / kind
    if kind == "cut copy":
        return remux_from_third_key(videos / FILES["open GOP"][0], folder / "cut.mkv")
    if kind == "fragments":
        return remux(videos / FILES["B-pyramid"][0], folder / "f.mp4", movflags="frag_keyframe+empty_moov")
    if kind == "29.97":
        return write_video(folder / "ntsc.mp4", numbered_frames(COUNT), fps=Fraction(30000, 1001), g="30", bf="2")
    if kind == "late start":
        return remux(videos / FILES["open GOP"][0], folder / "late.mp4", shift_sec=7)
    return videos / FILES[kind][0]


def remux(source: Path, target: Path, shift_sec: int = 0, **options: str) -> Path:
    """A stream copy; the clock starts at `shift_sec`."""
    with av.open(str(source)) as old, av.open(str(target), "w", options=options) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in old.demux(video=0):
            if packet.dts is not None:
                shift = int(shift_sec / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                new.mux(packet)
    return target


def decode_all(path: Path) -> tuple[list[np.ndarray], list[float]]:
    """Every frame, upright, and its time; by number where the times do not go up, as in AVI."""
    with PyAVReader(path) as reader:
        frames = [frame[..., ::-1] for frame in reader.all_bgr()]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        pts = [frame.pts for frame in container.decode(stream)]
        times = [float((tick - pts[0]) * stream.time_base) for tick in pts]
        if any(a >= b for a, b in pairwise(times)):
            times = [float(number / stream.average_rate) for number in range(len(pts))]
    return frames, times


@pytest.mark.parametrize("kind", [*sorted(FILES), "cut copy", "fragments", "29.97", "late start", *ODD])
def test_intervals_hold_their_own_frames_and_no_others(videos: Path, tmp_path: Path, kind: str) -> None:
    """Random intervals against a full decode; half of their ends are times of frames, rounded as files have them."""
    path = odd_file(kind, videos, tmp_path)
    if not path.exists():
        pytest.skip("this PyAV cannot make it")
    truth, times = decode_all(path)
    split, rng = Split([], path.parent, path), np.random.default_rng(len(kind))
    for number in range(9):
        edges = rng.uniform(0, times[-1] * 1.1, 2) if number % 2 else rng.choice(times, 2, replace=False)
        start, end = np.round(np.sort(edges), 3).tolist()
        span = Span(start, end if number else np.inf)
        record = VideoRecord(path.name, None, 0, span=span)
        right = [n for n, sec in enumerate(times) if start - 0.0005 <= sec < span.end - 0.0005]
        right = right or [max(n for n, sec in enumerate(times) if sec <= start)]
        if start >= times[-1] and number % 2:
            continue
        with open_reader(split, record, DataConfig()) as reader:
            assert reader.num_frames == len(right), (span, right[:1])
            few = right if len(right) < 9 else [right[i] for i in (0, 1, len(right) // 2, -2, -1)]
            frames = reader.read(np.array(few) - right[0])
        for n, frame in zip(few, frames, strict=True):
            assert np.array_equal(frame, truth[n]), (span, n)
        with PyAVReader(path) as whole:
            for n, frame in zip(right, whole.all_bgr(right[0], right[-1] + 1), strict=True):
                assert np.array_equal(frame[..., ::-1], truth[n]), (span, n)


@pytest.mark.parametrize("kind", ["pyav", "decord", "frames", "zip"])
def test_intervals_of_every_kind_of_video(tmp_path: Path, kind: str) -> None:
    """30 frames at 10 a second, from one before 1.0 s to one before 2.0 s, and so on."""
    frames, name = numbered_frames(30), {"zip": "v.zip", "frames": "v"}.get(kind, "v.mp4")
    store = {"zip": "zip", "frames": "frames"}.get(kind, "video")
    data = DataConfig(store=store, fps=10, decoder=kind if store == "video" else "auto")
    if kind == "decord":
        pytest.importorskip("decord")
    if store == "video":
        write_video(tmp_path / name, frames, fps=10, g="12")
    else:
        write_frames(tmp_path / "v", frames)
        with zipfile.ZipFile(tmp_path / "v.zip", "w") as file:
            for picture in sorted((tmp_path / "v").iterdir()):
                file.write(picture, picture.name)
    split, record = Split([], tmp_path, tmp_path), VideoRecord(name, None, 0)
    for span, first, last in (
        (Span(1, 2), 10, 19), (Span(1.0004, 2.0006), 10, 20), (Span(1.01, 1.05), 10, 10), (Span(0, 0.01), 0, 0),
        (Span(2.95, 2.96), 29, 29), (Span(2.5, 99), 25, 29), (Span(0, np.inf), 0, 29),
        (Span(7, 9, frames=True), 7, 8), (Span(7, 99, frames=True), 7, 29),
    ):  # fmt: skip
        with open_reader(split, record._replace(span=span), data) as reader:
            shown = [number_of(frame) for frame in reader.read(np.arange(reader.num_frames)[::-1])]
            assert shown == [*range(last, first - 1, -1)], span
            with pytest.raises(DataError, match="no frame"):
                reader.read(np.array([reader.num_frames]))
    for span in (Span(3, 4), Span(3.2, np.inf), Span(30, 31, frames=True)):
        with (
            pytest.raises(DataError, match=r"begins after the end of the video \(30 frames, 3\.000 s\)"),
            open_reader(split, record._replace(span=span), data),
        ):
            pass
    bad = Split([], tmp_path, tmp_path, quarantine={f"{name}@1-2": "broken"})
    with pytest.raises(DataError, match="@1-2: broken"), open_reader(bad, record._replace(span=Span(1, 2)), data):
        pass
    with open_reader(bad, record, data) as reader:
        assert reader.num_frames == 30


def test_an_interval_of_a_file_that_is_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in for frames that are promised and not there is in the interval, or there is an error."""
    path, scan = write_video(tmp_path / "v.mp4", numbered_frames(20), g="5", bf="0"), PyAVReader._scan

    def too_long(self: PyAVReader) -> Packets:
        packets = scan(self)
        more = packets[:10].copy()
        more["pts"] = packets["pts"][-1] + (packets["pts"][1] - packets["pts"][0]) * np.arange(1, 11)
        more["key"] = False
        return np.append(packets, more)

    monkeypatch.setattr(PyAVReader, "_scan", too_long)
    split, record = Split([], tmp_path, tmp_path), VideoRecord(path.name, None, 0)
    with open_reader(split, record._replace(span=Span(18, 25, frames=True)), DataConfig()) as reader:
        assert [number_of(frame) for frame in reader.read(np.array([0, 3, 6]))] == [18, 19, 19]
        assert reader.num_frames == 2
    monkeypatch.setattr("tsmcli.data.pyav_reader._TRUE_LENGTHS", {})
    with (
        open_reader(split, record._replace(span=Span(22, 25, frames=True)), DataConfig()) as reader,
        pytest.raises(DataError, match=r"f22-f25 begins after the end of the video \(20 frames\)"),
    ):
        reader.read(np.array([0]))

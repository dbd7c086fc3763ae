"""Frames by number: every file carries its frame numbers in the picture."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from support import make_folder_dataset, number_of, numbered_frames, real_data, write_frames, write_video

from tsmcli.config import DataConfig
from tsmcli.data.decode import DecordReader, FrameFolder, open_reader
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import Split
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


def test_support_makes_class_folders(tmp_path: Path) -> None:
    root = make_folder_dataset(tmp_path / "mine", videos=2)
    assert len(list(root.glob("*/*.mp4"))) == 4

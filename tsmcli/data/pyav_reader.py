"""Frames of a video file through PyAV, exact to the frame and without decoding what nobody needs."""

from __future__ import annotations

import bisect
import time
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from tsmcli.core.sampling import Indices
from tsmcli.data.spatial import Frame
from tsmcli.errors import DataError

INDEXED_FORMATS = ("mp4", "matroska")
"""Containers whose packet times can be trusted for seeking."""
INDEXED_CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg")
"""Codecs in which every packet is one shown frame."""
SKIPPABLE_CODECS = ("h264", "hevc")
"""Codecs whose decoder can leave out frames that no other frame refers to, without changing any other pixel."""

_TRUE_LENGTHS: dict[Path, int] = {}
"""Frames that files really hold which promise more."""


class _Packet(NamedTuple):
    """What the container says of one shown frame: its presentation time, and whether it is a key frame."""

    pts: int
    key: bool


class PyAVReader:
    """PyAV, exact to the frame.

    Where the container's index can be trusted, a read seeks to the key frame before a wanted frame, decodes what
    that frame depends on, and lets the decoder drop frames that nobody wants and nothing refers to. Everywhere
    else, and whenever a wanted frame does not turn up, the file is decoded from its start and frames are counted.
    Some files promise more frames than they hold: a frame past the last one is that last one, and the right number
    is remembered for the next time this process opens the file.

    Args:
        timeout_sec: give up on the file after this long; None: never. It ends slow reads and decodes, not a decoder
            that hangs within a single frame.
    """

    def __init__(self, path: Path, timeout_sec: float | None = None) -> None:
        check_file(path)
        self.path = path
        self._timeout_sec = timeout_sec
        self._deadline = time.monotonic() + timeout_sec if timeout_sec else None
        try:
            self._container = self._open()
        except (av.FFmpegError, ValueError) as error:
            raise self._failed(error) from error
        try:
            if not self._container.streams.video:
                raise DataError(f"{path}: no video stream in this file")
            self._stream = self._container.streams.video[0]
            self._codec = self._stream.codec_context
            if self._codec is None:
                raise DataError(f"{path}: its codec is not known to this FFmpeg")
            self._codec.thread_count = 1
            self.frame_rate = self._stream.average_rate or Fraction(25)
            self._colours = VideoReformatter()  # kept, so that its tables are built once
            self._packets = self._scan()
            self._display = sorted(packet.pts for packet in self._packets)
            self._indexed = self._can_index()
            self.num_frames = _TRUE_LENGTHS.get(path) or (len(self._display) if self._indexed else self._count())
        except (av.FFmpegError, ValueError) as error:
            self.close()
            raise self._failed(error) from error
        except DataError:
            self.close()
            raise
        if self.num_frames < 1:
            self.close()
            raise DataError(f"{path}: no frame can be decoded")

    def __enter__(self) -> PyAVReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file; PyAV leaks memory otherwise."""
        self._container.close()

    def read(self, indices: Indices) -> list[Frame]:
        """Frames uint8 [H, W, 3] in the order of the indices; each is decoded once.

        Raises:
            DataError: there is no such frame, or it cannot be decoded, or it takes too long.
        """
        wanted = sorted({int(i) for i in indices})
        if wanted[0] < 0 or wanted[-1] >= self.num_frames:
            raise DataError(f"{self.path}: no frame {wanted[-1]}: there are {self.num_frames}")
        try:
            found = self._read_indexed(wanted) if self._indexed else {}
            if len(found) < len(wanted):
                found = self._read_counting(wanted)
        except (av.FFmpegError, ValueError) as error:
            raise self._failed(error) from error
        return [found[int(i)] for i in indices]

    def all_bgr(self) -> Iterator[Frame]:
        """Every frame in order, upright, blue first as OpenCV writes pictures.

        Raises:
            DataError: a frame in the middle cannot be decoded.
        """
        try:
            for frame in self._decode_all():
                yield self._to_array(frame, "bgr24")
        except (av.FFmpegError, ValueError) as error:
            raise self._failed(error) from error

    def _scan(self) -> list[_Packet]:
        """The packets of all shown frames, in decoding order; nothing is decoded."""
        packets = []
        for packet in self._demux():
            if packet.size and not packet.is_discard:
                if packet.pts is None:
                    return []
                packets.append(_Packet(packet.pts, packet.is_keyframe))
        return packets

    def _can_index(self) -> bool:
        formats = self._container.format.name
        return (
            any(name in formats for name in INDEXED_FORMATS)
            and self._codec.name.removeprefix("lib").startswith((*INDEXED_CODECS, "dav1d"))
            and len(set(self._display)) == len(self._display) > 0
            and self._packets[0].key
            and self._packets[0].pts == self._display[0]  # else undecodable frames lead
        )

    def _read_indexed(self, wanted: Sequence[int]) -> dict[int, Frame]:
        """Wanted frames by seeking, or fewer where the index turned out wrong."""
        index_of = {self._display[i]: i for i in wanted}
        keys = sorted((p for p in self._packets if p.key), key=lambda packet: packet.pts)
        key_times = [packet.pts for packet in keys]
        groups: dict[int, set[int]] = {}
        for pts in index_of:
            groups.setdefault(max(bisect.bisect_right(key_times, pts) - 1, 0), set()).add(pts)
        found: dict[int, Frame] = {}
        for key, times in sorted(groups.items()):
            for frame in self._decode_from(keys[key], times):
                found[index_of[frame.pts]] = self._to_rgb(frame)
        return found

    def _decode_from(self, key: _Packet, times: set[int]) -> Iterator[Any]:
        """The frames with these presentation times, decoding from a key frame on.

        Once the last wanted packet is in, the decoder is drained: what it holds back comes out without decoding
        the packets that would push it out.
        """
        self._container.seek(key.pts, stream=self._stream, backward=True)
        skippable = self._codec.name in SKIPPABLE_CODECS
        to_send, left, last = set(times), set(times), max(times)
        skipping = False
        for packet in self._demux():
            wanted = packet.pts in to_send
            if skippable and skipping == wanted:
                skipping = not wanted
                self._codec.skip_frame = "NONREF" if skipping else "DEFAULT"
            frames = packet.decode()
            to_send.discard(packet.pts)
            if not to_send:
                frames += self._codec.decode(None)
            for frame in frames:
                if frame.pts in left:
                    left.remove(frame.pts)
                    yield frame
            if not to_send or (packet.is_keyframe and packet.pts > last):
                break
        self._codec.skip_frame = "DEFAULT"
        self._codec.flush_buffers()

    def _read_counting(self, wanted: Sequence[int]) -> dict[int, Frame]:
        """Wanted frames by decoding from the start; one past the last decodable frame is that last frame."""
        left = set(wanted)
        found = {}
        last, count = None, 0
        for last in self._decode_all():
            if count in left:
                left.remove(count)
                found[count] = self._to_rgb(last)
                if not left:
                    return found
            count += 1
        if last is None:
            raise DataError(f"{self.path}: no frame can be decoded")
        self.num_frames = _TRUE_LENGTHS[self.path] = count
        return found | dict.fromkeys(left, self._to_rgb(last))

    def _count(self) -> int:
        return sum(1 for _ in self._decode_all())

    def _decode_all(self) -> Iterator[Any]:
        """All frames in display order. A broken end is the end; a broken middle is an error."""
        self._reopen()
        broken: av.FFmpegError | None = None
        for packet in self._demux():
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                broken = error
                continue
            if broken and packet.size:
                raise broken
            yield from frames

    def _reopen(self) -> None:
        """A fresh decoder at the start of the file; seeking to time 0 is not exact in every container."""
        self._container.close()
        self._container = self._open()
        self._stream = self._container.streams.video[0]
        self._codec = self._stream.codec_context
        self._codec.thread_count = 1

    def _too_long(self) -> DataError:
        return DataError(f"{self.path}: took longer than {self._timeout_sec:g} s to decode")

    def _failed(self, error: Exception) -> DataError:
        """What an error of FFmpeg means; its own clock ends it with an ExitError."""
        return self._too_long() if isinstance(error, av.error.ExitError) else unreadable(self.path, error)

    def _open(self) -> av.container.InputContainer:
        return av.open(str(self.path), metadata_errors="ignore", timeout=self._timeout_sec)

    def _demux(self) -> Iterator[Any]:
        """The stream's packets, until the time is up."""
        for packet in self._container.demux(self._stream):
            if self._deadline and time.monotonic() > self._deadline:
                raise self._too_long()
            yield packet

    def _to_rgb(self, frame: Any) -> Frame:
        return self._to_array(frame, "rgb24")

    def _to_array(self, frame: Any, colours: str) -> Frame:
        """uint8 [H, W, 3], upright."""
        return upright(frame, self._colours.reformat(frame, format=colours).to_ndarray())


def upright(frame: Any, image: Any) -> Frame:
    """The pixels [H, W, 3] of a decoded frame, turned as its display matrix asks."""
    quarter_turns = round(frame.rotation / 90) % 4
    turned: Frame = np.ascontiguousarray(np.rot90(image, quarter_turns)) if quarter_turns else image
    return turned


def check_file(path: Path) -> None:
    """Raise DataError for a path that is no file with content."""
    try:
        there = path.exists()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    if not there:
        raise DataError(f"{path}: no such video")
    if path.is_dir():
        raise DataError(f"{path}: a folder, not a video file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty (0 bytes)")


def unreadable(path: Path | str, error: BaseException) -> DataError:
    """One line of the decoder's own words, without its stack."""
    words = getattr(error, "strerror", None) or str(error)
    reason = next((line.strip() for line in words.splitlines() if line.strip()), type(error).__name__)
    return DataError(f"{path}: cannot be decoded: {reason}")

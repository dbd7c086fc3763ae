"""Frames of a video file through PyAV, exact to the frame; frames that are not needed are not decoded."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from tsmcli.config import LIMITS, DataConfig
from tsmcli.core.sampling import Indices
from tsmcli.data.container import Upright, check_limit, decoded, open_video, unreadable
from tsmcli.data.packets import PACKET, Kept, Packets, is_long, keep_packets, kept_packets
from tsmcli.data.spatial import Frame
from tsmcli.data.timeline import Ticks, Timeline, make_timeline, rising
from tsmcli.errors import DataError

INDEXED_FORMATS = ("mp4", "matroska")
"""Containers whose packet times can be trusted for seeking."""
INDEXED_CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg")
"""Codecs in which every packet is one shown frame."""
SKIPPABLE_CODECS = ("h264", "hevc")
"""Codecs whose decoder can leave out frames that no other frame refers to, without changing any other pixel."""

_TRUE_LENGTHS: dict[Path, int] = {}
"""The real number of frames of files that promise more."""


class PyAVReader:
    """PyAV, exact to the frame.

    Where the container's index can be trusted, a read seeks to the key frame before a wanted frame, decodes what
    that frame depends on, and lets the decoder drop frames that are not wanted and that nothing refers to. In all
    other files, and if a wanted frame does not come, the file is decoded from its start and frames are counted.
    Some files promise more frames than they hold: a frame past the last one is that last one, and the right number
    is remembered for the next time this process opens the file.

    Args:
        timeout_sec: give up on the file after this long; None: never. It ends slow reads and decodes, not a decoder
            that hangs within a single frame.
        limits: how large the file may be.
    """

    def __init__(self, path: Path, timeout_sec: float | None = None, limits: DataConfig = LIMITS) -> None:
        self.path, self._limits, self._timeout_sec = path, limits, timeout_sec
        self._deadline = time.monotonic() + timeout_sec if timeout_sec else None
        self._container: Any = None
        try:
            with self._naming_errors():
                kept = kept_packets(path)
                self._open(plain=kept is not None and kept.plain)
                self._stated_rate: Fraction = self._stream.average_rate or Fraction(25)
                self._clock: Fraction = self._stream.time_base or 1 / self._stated_rate
                self._colours = VideoReformatter()  # kept, so that its tables are built once
                packets = self._scan() if kept is None else kept.packets
                check_limit(path, "frames", len(packets), limits.max_frames)
                self._display = np.ascontiguousarray(packets["pts"])
                self._keys = self._display[packets["key"]]
                self._indexed = self._can_index()
                self._ticks: Ticks | NDArray[np.int64]
                if self._indexed:
                    self._ticks, self._last_ticks = self._display, int(packets["duration"][-1])
                else:
                    self._ticks, self._last_ticks = self._count()
                self.num_frames = _TRUE_LENGTHS.get(path) or len(self._ticks)
                if self.num_frames < 1:
                    raise DataError(f"{path}: no frame can be decoded")
                ends = self._display[[0, -1]].tolist() if self._indexed else self._ticks
                known = [tick for tick in ends if tick is not None] or [0]
                span = (known[-1] - known[0] + self._last_ticks) * self._clock
                check_limit(path, "sec", float(span), limits.max_sec)
        except DataError:
            self.close()
            raise

    def __enter__(self) -> PyAVReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the file; PyAV leaks memory otherwise."""
        if self._container:
            self._container.close()

    @property
    def timeline(self) -> Timeline:
        """When the frames are shown."""
        return make_timeline(self._ticks[: self.num_frames], self._last_ticks, self._clock, self._stated_rate)

    @property
    def times(self) -> NDArray[np.float64]:
        """Seconds from the first frame, [num_frames]."""
        return self.timeline.times

    def read(self, indices: Indices) -> list[Frame]:
        """Frames uint8 [H, W, 3] in the order of the indices; each is decoded once.

        Raises:
            DataError: there is no such frame, or it cannot be decoded, or it takes too long.
        """
        return next(self.read_each([indices]))

    def read_each(self, batches: Sequence[Indices]) -> Iterator[list[Frame]]:
        """`read` of one batch after the other, which decodes the file once where frames must be counted.

        Batches come in the order of their last frames. Frames are held as long as a batch to come needs them.
        """
        low, high = min(batch.min() for batch in batches), max(batch.max() for batch in batches)
        if low < 0 or high >= self.num_frames:
            raise DataError(f"{self.path}: no frame {high}: there are {self.num_frames}")
        with self._naming_errors():
            for done, batch in enumerate(batches):
                wanted = np.unique(batch).tolist()
                found = self._read_indexed(wanted) if self._indexed else {}
                if len(found) < len(wanted):
                    yield from self._read_counting(batches[done:])
                    return
                yield [found[i] for i in batch.tolist()]

    def all_bgr(self, first: int = 0, end: int | None = None) -> Iterator[Frame]:
        """Frames [first, end) in order, upright, blue first as OpenCV writes pictures; None: to the last.

        Only one is held at a time. A broken middle is a DataError.
        """
        with self._naming_errors():
            for frame in self._decode_between(first, end):
                yield self._to_array(frame, "bgr24")

    def _decode_between(self, first: int, end: int | None) -> Iterator[Any]:
        """From the key frame before the first, or, and where a frame does not come, from the start of the file."""
        if first and self._indexed:
            for frame in self._decode_from({*self._display[first:end].tolist()}):
                if frame.pts != self._display[first]:
                    break
                yield frame
                first += 1
        for number, frame in enumerate(islice(self._decode_all(), end)) if first != end else ():
            self._upright.see(frame)
            if number >= first:
                yield frame

    def _count(self) -> tuple[Ticks, int]:
        """The time of every frame that a decoder delivers, and how long the last one is shown, in ticks."""
        found, last = list[tuple[int | None, int | None]](), None
        for last in self._decode_all():
            found.append((last.pts, last.dts))
            check_limit(self.path, "frames", len(found), self._limits.max_frames)
        pts, dts = zip(*found, strict=True) if found else ((), ())
        return rising(pts, dts, self._clock), last.duration or 0 if last else 0

    def _scan(self) -> Packets:
        """The packets of all shown frames, by reading the file; nothing is decoded.

        None where they cannot be told, and where frames lead that cannot be decoded.
        """
        found = self._shown()
        packets = np.array(sorted(found), PACKET)
        if not found or not found[0][2] or found[0] != min(found):
            return packets[:0]
        if is_long(found):
            self._open(plain=True)
            plain = self._shown() == found
            keep_packets(self.path, Kept(packets, plain))
            self._open(plain=plain)
        return packets

    def _shown(self) -> list[tuple[int, int, bool]]:
        """Time, duration and kind of the packets of all shown frames, in decoding order; none if a time lacks."""
        found = list[tuple[int, int, bool]]()
        for packet in self._demux():
            if packet.size and not packet.is_discard:
                if packet.pts is None:
                    return []
                found.append((packet.pts, packet.duration or 0, packet.is_keyframe))
                check_limit(self.path, "frames", len(found), self._limits.max_frames)
        return found

    def _can_index(self) -> bool:
        formats = self._container.format.name
        return bool(
            any(name in formats for name in INDEXED_FORMATS)
            and self._codec.name.removeprefix("lib").startswith((*INDEXED_CODECS, "dav1d"))
            and len(self._display)
            and (np.diff(self._display) > 0).all()
        )

    def _read_indexed(self, wanted: Sequence[int]) -> dict[int, Frame]:
        """Wanted frames by seeking, or fewer where the index turned out wrong."""
        index_of = dict(zip(self._display[wanted].tolist(), wanted, strict=True))
        groups: dict[int, set[int]] = {}
        for pts in index_of:
            groups.setdefault(int(np.searchsorted(self._keys, pts, "right")), set()).add(pts)
        found: dict[int, Frame] = {}
        for times in groups.values():
            for frame in self._decode_from(times):
                found[index_of[frame.pts]] = self._to_array(frame, "rgb24")
        return found

    def _decode_from(self, times: set[int]) -> Iterator[Any]:
        """The frames with these presentation times, decoding from the key frame before the first on.

        Once the last wanted packet is in, the decoder is drained: what it holds back comes out without decoding
        the packets that would push it out.
        """
        key = self._keys[max(int(np.searchsorted(self._keys, min(times), "right")) - 1, 0)]
        self._container.seek(int(key), stream=self._stream, backward=True)
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
                if frame.key_frame:
                    self._upright.see(frame)
                if frame.pts in left:
                    left.remove(frame.pts)
                    yield frame
            if not to_send or (packet.is_keyframe and packet.pts > last):
                break
        self._codec.skip_frame = "DEFAULT"
        self._codec.flush_buffers()

    def _read_counting(self, batches: Sequence[Indices]) -> Iterator[list[Frame]]:
        """Batches by decoding once from the start; a frame past the last decodable one is that last one."""
        needed = Counter(i for batch in batches for i in batch.tolist())
        held: dict[int, Frame] = {}
        todo = deque(batches)
        last, count = None, 0
        for last in self._decode_all():
            if last.key_frame:
                self._upright.see(last)
            if needed[count]:
                held[count] = self._to_array(last, "rgb24")
            while todo and todo[0].max() <= count:
                batch = todo.popleft().tolist()
                yield [held[i] for i in batch]
                needed.subtract(batch)
                held = {i: frame for i, frame in held.items() if needed[i]}
            if not todo:
                return
            count += 1
        if last is None:
            raise DataError(f"{self.path}: no frame can be decoded")
        self.num_frames = _TRUE_LENGTHS[self.path] = count
        stand_in = self._to_array(last, "rgb24")
        yield from ([held.get(i, stand_in) for i in batch.tolist()] for batch in todo)

    def _decode_all(self) -> Iterator[Any]:
        """All frames in display order, of a fresh decoder: seeking to time 0 is not exact in every container."""
        self._open()
        return decoded(self._demux(), self.path, self._limits.max_pixels)

    def _open(self, *, plain: bool = False) -> None:
        self.close()
        self._container, self._stream = open_video(self.path, self._limits, self._timeout_sec, plain=plain)
        self._codec = self._stream.codec_context
        self._codec.thread_count = 1
        self._upright = Upright()

    def _too_long(self) -> DataError:
        return DataError(f"{self.path}: took longer than {self._timeout_sec:g} s to decode")

    @contextmanager
    def _naming_errors(self) -> Iterator[None]:
        """Turn what FFmpeg says into a DataError; its own clock ends it with an ExitError."""
        try:
            yield
        except av.error.ExitError as error:
            raise self._too_long() from error
        except (av.FFmpegError, ValueError) as error:
            raise unreadable(self.path, error) from error

    def _demux(self) -> Iterator[Any]:
        """The stream's packets, until the time is up."""
        for packet in self._container.demux(self._stream):
            if self._deadline and time.monotonic() > self._deadline:
                raise self._too_long()
            yield packet

    def _to_array(self, frame: Any, colours: str) -> Frame:
        """uint8 [H, W, 3], upright."""
        return self._upright.turn(frame, self._colours.reformat(frame, format=colours).to_ndarray())

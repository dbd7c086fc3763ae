"""Open video files and addresses with FFmpeg, and decode them packet by packet."""

from __future__ import annotations

import math
import stat
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.stream import Disposition

from tsmcli.config import DataConfig
from tsmcli.data.spatial import Frame
from tsmcli.errors import DataError

_FORMATS = (
    "apng,asf,avi,dhav,dv,flv,gif,h263,h264,hevc,image2,ivf,jpeg_pipe,m4v,matroska,mjpeg,mov,mpeg,mpegts,mpegvideo,"
    "mpjpeg,mxf,nut,obu,ogg,png_pipe,rm,vc1,webp_pipe,wtv,yuv4mpegpipe"
)
"""Formats that hold their own pictures. A playlist or a list would make FFmpeg open other files and addresses."""
_OF_FILES = {"format_whitelist": _FORMATS, "protocol_whitelist": "file", "pattern_type": "none"}
_WEB = "http,https,httpproxy,tcp,tls,crypto"
_OF_ADDRESSES = {
    "format_whitelist": f"{_FORMATS},hls,dash,rtsp,rtp,aac,ac3,eac3,mp3,webvtt",
    "rtsp_transport": "tcp",  # over UDP, RTSP loses packets on most networks
}
_STREAMS = "rtp,srtp,udp,srt,rtmp,rtmps,rtmpt,rtmpts,rtmpe,rtmpte,ffrtmphttp,ffrtmpcrypt,mmsh,mmst"


def open_video(
    source: Path | str, limits: DataConfig, timeout_sec: float | None = None, *, plain: bool = False
) -> tuple[Any, Any]:
    """Open a file (a path) or an address (a string): an input container of PyAV, and its video stream.

    A file is opened as this file, whatever its name looks like, and opens no other. An address opens no file.

    Args:
        plain: do not work through an edit list packet by packet, which takes most of the time for a long file.

    Raises:
        DataError: there is no such file, it holds no video, or it is larger than the limits allow.
        av.FFmpegError: it cannot be opened.
    """
    limit = {"max_pixels": str(2 * limits.max_pixels)}  # the decoder takes no memory for more; it counts padding
    exact = {"flags": "+unaligned"}  # else it cuts off less than a cropped video says, to be quicker
    if isinstance(source, Path):
        check_file(source)
        check_limit(source, "bytes", source.stat().st_size, limits.max_bytes)
        name, options = f"file:{source.absolute()}", _OF_FILES | ({"advanced_editlist": "0"} if plain else {})
    else:
        protocols = _WEB if source.startswith("http") else f"{_WEB},{_STREAMS}"
        name, options = source, _OF_ADDRESSES | {"protocol_whitelist": protocols}
    try:
        container = av.open(name, options=options | limit, metadata_errors="ignore", timeout=timeout_sec)
    except av.error.ArgumentError as error:
        raise DataError(f"{source}: not a known kind of video, or a list of other files or addresses") from error
    try:
        moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        if not moving:
            cover = ", only a cover picture" if container.streams.video else ""
            raise DataError(f"{source}: no video stream{cover}")
        stream = max(moving, key=_rank)
        codec = stream.codec_context
        if codec is None:
            raise DataError(f"{source}: its codec is not known to this FFmpeg")
        check_size(source, codec.width, codec.height, limits.max_pixels)
        codec.options = limit | exact
    except DataError:
        container.close()
        raise
    return container, stream


def _rank(stream: Any) -> int:
    """Of several video streams FFmpeg's program takes the largest, and rather one that is marked as the default."""
    codec = stream.codec_context
    area = codec.width * codec.height if codec else 0
    return area + 5_000_000 * bool(stream.disposition & Disposition.default)


def decoded(packets: Iterable[Any], source: Path | str, max_pixels: int, *, live: bool = False) -> Iterator[Any]:
    """The frames of all packets of a stream, in display order.

    Broken packets end a file if no whole one follows; before the first whole one they are skipped, and in a live
    source anywhere; else they are an error.

    Raises:
        DataError: frames become too large.
        av.FFmpegError: the middle of the file is broken, or all of it.
    """
    broken: av.FFmpegError | None = None
    count = 0
    for packet in packets:
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            codec = packet.stream.codec_context
            check_size(source, codec.width, codec.height, max_pixels)
            broken = None if live else error
            continue
        if broken and packet.size:
            if count:
                raise broken
            broken = None
        for frame in frames:
            check_size(source, frame.width, frame.height, max_pixels)
        count += len(frames)
        yield from frames
    if broken and not count:
        raise broken


def check_size(source: Path | str, width: int, height: int, max_pixels: int) -> None:
    """Raise DataError for frames with more pixels than `max_pixels`."""
    if width * height > max_pixels:
        raise DataError(
            f"{source}: frames of {width}x{height} pixels; data.max_pixels allows {max_pixels}",
            hint=f"--set data.max_pixels={width * height} if they really are that large",
        )


def check_limit(source: Path | str, what: str, value: float, limit: float) -> None:
    """Raise DataError for a file with more `bytes`, `frames` or `sec` than `data.max_<what>`."""
    if value > limit:
        words = {"sec": "seconds"}.get(what, what)
        hint = f"--set data.max_{what}={math.ceil(value)} if it really is that large"
        raise DataError(f"{source}: {value:.15g} {words}; data.max_{what} allows {limit:.15g}", hint)


UPRIGHT = (1.0, 0.0, 0.0, 1.0)
"""The display matrix of a frame that is shown as it is stored."""


class Upright:
    """Turns and mirrors frames as FFmpeg's own program shows them.

    Attributes:
        matrix: (a, b, c, d) takes (x, y) to (ax + cy, bx + dy). A frame that says none is shown as the one before.
    """

    def __init__(self) -> None:
        self.matrix = UPRIGHT

    def see(self, frame: Any) -> None:
        """Take note of what a decoded frame says."""
        try:
            found = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:  # it says other things, too, which this PyAV does not know
            if frame.rotation:
                angle = math.radians(frame.rotation)
                self.matrix = (math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle))
            return
        if found is not None:
            a, b, _, c, d, *_ = struct.unpack("=9i", bytes(found))
            if math.hypot(a, c) and math.hypot(b, d):
                self.matrix = (a / 65536, b / 65536, c / 65536, d / 65536)

    def turn(self, frame: Any, image: Any) -> Frame:
        """The pixels [H, W, 3] of a decoded frame, upright."""
        self.see(frame)
        a, b, c, d = self.matrix
        angle = math.degrees(math.atan2(b / math.hypot(b, d), a / math.hypot(a, c)))
        quarter = round(angle / 90)
        if abs(angle - 90 * quarter) > 1:
            height, width = image.shape[:2]
            turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -angle, 1)
            tilted: Frame = cv2.warpAffine(image, turn, (width, height))
            return tilted
        if quarter % 2:
            image, a, d = image.transpose(1, 0, 2), c, b
        return np.ascontiguousarray(image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def check_file(path: Path) -> None:
    """Raise DataError for a path that is no file with content."""
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: no such video") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(facts.st_mode):
        raise DataError(f"{path}: a folder, not a video file")
    if not stat.S_ISREG(facts.st_mode):
        raise DataError(f"{path}: not a regular file but a pipe, a socket or a device")
    if not facts.st_size:
        raise DataError(f"{path}: the file is empty (0 bytes)")


def unreadable(source: Path | str, error: BaseException) -> DataError:
    """A DataError with one line of the decoder's message."""
    words = (getattr(error, "strerror", None) or str(error)).strip() or type(error).__name__
    return DataError(f"{source}: cannot be decoded: {words.splitlines()[0].strip()}")

"""H.264 videos, written frame by frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from tsmcli.data.spatial import Frame
from tsmcli.errors import DataError
from tsmcli.files import part_of, remove, remove_stale_parts


class VideoWriter:
    """An H.264 video in an MP4 file, as large as its first frame, except that odd sides lose a pixel.

    The file gets its name when it is complete. If the source of the frames fails, the frames so far are kept.
    Without frames there is no file. The same frames and options, with `threads="1"`, always give the same bytes.

    Args:
        rate: frames per second; None: every frame comes with its time.
        clock: with a rate, which then is the mean rate, every frame comes with its time all the same; times are
            multiples of the clock, in seconds.
        options: of the encoder x264.

    Raises:
        DataError: the frames cannot be encoded.
        OSError: the file cannot be written.
    """

    def __init__(
        self, path: Path, rate: Fraction | None = None, clock: Fraction | None = None, /, **options: str
    ) -> None:
        self.path, self._rate, self._options = path, rate, options
        self._clock = clock or (None if rate else Fraction(1, 1000))
        self._part = part_of(path)
        remove_stale_parts(path)
        self._container = av.open(f"file:{self._part.absolute()}", "w", format="mp4")
        self._stream: Any = None
        self._last = -1
        self._failed = False

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            try:
                if self._stream and not self._failed:
                    self._encode(None)
            finally:
                self._container.close()
            if self._stream and not self._failed:
                self._part.replace(self.path)
        finally:
            remove(self._part)

    def write(
        self,
        frame: Frame,
        time_sec: float = 0.0,
        words: str = "",
        *,
        shown_sec: float = 0.0,
        colours: str = "rgb24",
    ) -> None:
        """Add a frame [H, W, 3], with words in its corner.

        With a clock it is shown from `time_sec` on; how long, only the last one needs to say.
        """
        if not self._stream:
            self._start(*frame.shape[:2])
        height, width = self._stream.height, self._stream.width
        if (frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2) != (height, width):
            frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
        picture = np.ascontiguousarray(frame[:height, :width])
        if words:
            picture = picture.copy()
            draw_words(picture, words)
        shown = av.VideoFrame.from_ndarray(picture, format=colours)
        if self._clock:
            before, self._last = self._last, max(self._last + 1, round(time_sec / self._clock))
            shown.pts, shown.time_base = self._last, self._clock
            shown.duration = round(shown_sec / self._clock) or self._last - max(before, 0) or 1
        self._encode(shown)

    def _start(self, height: int, width: int) -> None:
        if min(height, width) < 2:
            raise DataError(f"{self.path}: frames of {width}x{height} pixels make no video")
        options = {**self._options, **({"flags": "+frame_duration"} if self._clock else {})}
        self._stream = self._container.add_stream("libx264", rate=self._rate, options=options)
        self._stream.pix_fmt = "yuv420p"
        self._stream.height, self._stream.width = height // 2 * 2, width // 2 * 2  # H.264 needs even sides
        if self._clock:
            self._stream.time_base = self._stream.codec_context.time_base = self._clock

    def _encode(self, frame: av.VideoFrame | None) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except av.FFmpegError as error:
            self._failed = True  # FFmpeg crashes where it is given more after a header that it could not write
            if isinstance(error, OSError):  # a full disk, say: not the fault of these frames
                raise
            raise DataError(f"{self.path}: cannot be encoded: {error}") from error


def annotated_video(path: Path) -> VideoWriter:
    """A video for frames that come with their times and words; DataError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return VideoWriter(path, crf="20", preset="veryfast")
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from error


def draw_words(picture: Frame, words: str) -> None:
    """Write into the lower left corner of a picture, white on black, as large as fits; what is not ASCII as `?`."""
    text = words.encode("ascii", "replace").decode()
    font, height, width = cv2.FONT_HERSHEY_SIMPLEX, *picture.shape[:2]
    (w, h), below = cv2.getTextSize(text, font, 1.0, 2)
    scale = min(height / 12 / h, 0.96 * width / w)
    thickness = max(1, round(2 * scale))
    (w, h), below = cv2.getTextSize(text, font, scale, thickness)
    cv2.rectangle(picture, (0, height - h - 2 * below), (w + below, height), (0, 0, 0), -1)
    cv2.putText(picture, text, (below // 2, height - below), font, scale, (255, 255, 255), thickness, cv2.LINE_AA)

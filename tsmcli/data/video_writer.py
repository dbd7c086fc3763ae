"""A video with words on every frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2

from tsmcli.data.spatial import Frame
from tsmcli.errors import DataError

_CLOCK = Fraction(1, 1000)
"""Frames have times, not a rate: a camera's come when they come."""


class AnnotatedVideo:
    """An H.264 file that frames are written to one by one; it has its name once it is whole.

    Raises:
        DataError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._part = path.with_name(f"{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._container = av.open(str(self._part), "w", format="mp4")
        except (OSError, av.FFmpegError) as error:
            raise DataError(f"{path}: cannot be written: {error}") from None
        self._stream: Any = None
        self._last = -1

    def __enter__(self) -> AnnotatedVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        try:
            if self._stream is not None:
                self._container.mux(self._stream.encode())
            self._container.close()
        except (av.FFmpegError, OSError):
            self._part.unlink(missing_ok=True)
            raise
        if self._stream is None:
            self._part.unlink(missing_ok=True)
        else:  # also where the source failed: what came until then is whole
            self._part.replace(self.path)

    def write(self, frame: Frame, time_sec: float, words: str) -> None:
        """Add a frame [H, W, 3], RGB, that is shown from `time_sec` on, with words in its corner.

        Raises:
            DataError: the frame is too small.
        """
        height, width = frame.shape[0] // 2 * 2, frame.shape[1] // 2 * 2  # H.264 needs even sides
        if not height * width:
            raise DataError(f"{self.path}: frames of {frame.shape[1]}x{frame.shape[0]} pixels make no video")
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", options={"crf": "20", "preset": "veryfast"})
            self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
            self._stream.time_base = self._stream.codec_context.time_base = _CLOCK
        if (height, width) != (self._stream.height, self._stream.width):
            frame = cv2.resize(frame, (self._stream.width, self._stream.height), interpolation=cv2.INTER_AREA)
        picture = frame[: self._stream.height, : self._stream.width].copy()
        draw_words(picture, words)
        shown = av.VideoFrame.from_ndarray(picture, format="rgb24")
        self._last = max(self._last + 1, round(time_sec / _CLOCK))
        shown.pts, shown.time_base = self._last, _CLOCK
        self._container.mux(self._stream.encode(shown))


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

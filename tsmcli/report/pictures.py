"""Clips as rows of frames: with words beside them in one PNG, or as an image for a page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from tsmcli.files import replacing
from tsmcli.recipes.study.clips import ClipRow
from tsmcli.report.tables import printable

_FRAME_PX, _GAP_PX = 96, 4
_TOP_PX, _TEXT_PX = 36, 300
_COLOURS = {"plain": "black", "quiet": "#555555", "right": "#0a7d2c", "wrong": "#c0202b"}


def write_contact_sheet(path: Path, rows: Sequence[ClipRow], title: str) -> None:
    """Draw the rows below each other; time runs to the right."""
    step = _FRAME_PX + _GAP_PX
    width = max(len(row.frames) for row in rows) * step + _TEXT_PX
    sheet = Image.new("RGB", (width, _TOP_PX + len(rows) * step), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((8, 8), printable(title), fill="black", font=ImageFont.load_default(18))
    for i, row in enumerate(rows):
        top = _TOP_PX + i * step
        sheet.paste(strip(row.frames, _FRAME_PX, _GAP_PX), (0, top))
        for k, (line, tone) in enumerate(row.lines):
            position = (len(row.frames) * step + 10, top + 8 + 27 * k)
            draw.text(position, printable(line), fill=_COLOURS[tone], font=ImageFont.load_default(16))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        sheet.save(part, format="PNG")


def strip(frames: NDArray[np.uint8], side: int, gap: int) -> Image.Image:
    """Frames [T, h, w, 3] beside each other, each scaled to a square."""
    picture = Image.new("RGB", (len(frames) * (side + gap) - gap, side), "white")
    for t, frame in enumerate(frames):
        picture.paste(Image.fromarray(frame).resize((side, side)), (t * (side + gap), 0))
    return picture


def data_uri(picture: Image.Image) -> str:
    """A picture as an address that holds it, for a page."""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=72)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()

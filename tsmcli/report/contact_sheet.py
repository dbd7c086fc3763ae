"""Clips as rows of frames with words beside them, in one PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_FRAME_PX = 96
_TEXT_PX = 300
_GAP_PX = 4


@dataclass(frozen=True)
class Row:
    """A clip [T, h, w, 3], and lines of text with their colours."""

    frames: NDArray[np.uint8]
    lines: tuple[tuple[str, str], ...]


def write_contact_sheet(path: Path, rows: Sequence[Row], title: str) -> None:
    """Draw the rows below each other; time runs to the right."""
    step = _FRAME_PX + _GAP_PX
    width = max(len(row.frames) for row in rows) * step + _TEXT_PX
    sheet = Image.new("RGB", (width, 36 + len(rows) * step), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((8, 8), title, fill="black", font=ImageFont.load_default(18))
    for i, row in enumerate(rows):
        top = 36 + i * step
        for t, frame in enumerate(row.frames):
            sheet.paste(Image.fromarray(frame).resize((_FRAME_PX, _FRAME_PX)), (t * step, top))
        for k, (line, colour) in enumerate(row.lines):
            position = (len(row.frames) * step + 10, top + 8 + 27 * k)
            draw.text(position, line, fill=colour, font=ImageFont.load_default(16))
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    sheet.save(part, format="PNG")
    part.replace(path)

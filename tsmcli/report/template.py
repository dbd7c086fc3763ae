"""The pages that stand alone: one frame, one style sheet, and a template of `report/page/` for each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jinja2

from tsmcli import __version__
from tsmcli.files import write_bytes
from tsmcli.report.tables import percent

_HERE = Path(__file__).parent / "page"


def write_page(path: Path, template: str, filters: Mapping[str, Callable[..., Any]], **context: Any) -> None:
    """Fill a template, in which all that is not marked as safe is escaped, and write the page."""
    engine = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    engine.filters |= {"percent": percent, "width": "{:.2%}".format, **filters}
    common = {"css": text_of("report.css"), "version": __version__}
    text = engine.get_template(template).render(**common, **context)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, text.encode("utf-8", "backslashreplace"))  # a path may have bytes that are no text


def text_of(name: str) -> str:
    """A file of the folder of templates."""
    return (_HERE / name).read_text(encoding="utf-8")

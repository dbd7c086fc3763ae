"""Annotation files of any tool, told apart by what they hold."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tsmcli.data.listfile import read_json, read_lines
from tsmcli.data.media import walk
from tsmcli.errors import DataError, UsageError
from tsmcli.prepare.annotations import read_csv
from tsmcli.prepare.marks import texts
from tsmcli.prepare.marks.cvat import read_cvat
from tsmcli.prepare.marks.elan import read_elan
from tsmcli.prepare.marks.labelstudio import read_label_studio
from tsmcli.prepare.marks.mark import Ask, Marks, Reader, read_xml
from tsmcli.prepare.marks.tables import columns_of, read_boris, read_hacs_clips, read_plain
from tsmcli.prepare.marks.via import read_via, read_via_csv

_SUFFIXES = (".xml", ".json", ".csv", ".tsv", ".txt", ".eaf")
_LARGEST = 1 << 28
"""Bytes: no tool writes more for what one person can mark."""
_UNKNOWN = "no annotations that are known"
_HINT = (
    "known are CVAT, Label Studio, VIA 3, ELAN, Audacity, ActivityNet, HACS, THUMOS14, EPIC-KITCHENS, BORIS, and "
    "tables with the columns video,start,end,label"
)
_TASK = ("id", "annotation_id")
"""A key of each record of Label Studio's JSON-MIN."""
_TABLES: tuple[tuple[str, tuple[str, ...], Reader | None], ...] = (
    ("EPIC-KITCHENS", ("narration_id", "video_id", "start_timestamp", "stop_timestamp"), read_plain),
    ("", ("video_id", "duration", "fps", "resolution"), None),  # rates of EPIC-KITCHENS, which times do not need
    ("HACS clips", ("classname", "youtube_id", "subset", "start", "end", "label"), read_hacs_clips),
    ("BORIS", ("behavior", "behavior type", "start (s)", "stop (s)"), read_boris),
    ("BORIS", ("behavior", "behavior type", "time"), read_boris),
)
"""Name, columns that tell it, reader; None: nothing in it is needed."""


class _Known(NamedTuple):
    """A file that was recognised: of what, what it holds, and what reads that."""

    kind: str
    content: Any
    reader: Reader | None


def read_marks(path: Path, ask: Ask | None = None, skip: Path | None = None) -> Marks:
    """The intervals in a file, or in all files of a folder and below, of one kind or of many.

    Args:
        skip: a folder below that does not count: lists that were made of the annotations are no annotations.

    Raises:
        UsageError: there is no such file or folder.
        DataError: a file is damaged, or nothing is recognised. In a folder, other files are noted and left out.
    """
    if not path.exists():
        raise UsageError(f"no file or folder {path}", hint="--annotations says where the annotations are")
    ask, marks, strange = ask or Ask(), Marks(), list[str]()
    for file in _files(path, skip):
        known = _recognise(file, ask)
        if known is None:
            strange.append(str(file))
        elif known.reader:
            marks.join(_read(known, file, ask))
    if not marks.files:
        raise DataError(f"{path}: {_UNKNOWN}", _HINT)
    if strange:
        more = ", ..." * (len(strange) > 3)
        marks.notes.append(f"left out: {len(strange)} files that hold {_UNKNOWN}: {', '.join(strange[:3])}{more}")
    return marks


def _files(path: Path, skip: Path | None) -> list[Path]:
    if not path.is_dir():
        return [path]
    folders = walk(path, frozenset((skip.resolve(),)) if skip else frozenset())
    return [Path(f.where) / name for f in folders for name in f.files if name.lower().endswith(_SUFFIXES)]


def _read(known: _Known, file: Path, ask: Ask) -> Marks:
    assert known.reader
    try:
        marks = known.reader(known.content, str(file), ask)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError, csv.Error) as error:
        raise DataError(f"{file}: damaged as a file of {known.kind}: {type(error).__name__} {error}") from None
    marks.files[known.kind] = 1
    return marks


def _recognise(file: Path, ask: Ask) -> _Known | None:
    """What a file is: by the root of its XML, the keys of its JSON, the header of its table, or its lines."""
    if file.stat().st_size > _LARGEST:
        raise DataError(f"{file}: larger than {_LARGEST >> 20} MiB, which no annotation tool writes")
    data = file.read_bytes()
    plain = data[:200].replace(b"\0", b"").removeprefix(codecs.BOM_UTF8)
    start = plain.removeprefix(codecs.BOM_UTF16_LE).removeprefix(codecs.BOM_UTF16_BE).lstrip()
    if start.startswith(b"<"):
        return _known_xml(data, file)
    if start.startswith((b"{", b"[")):
        return _known_json(read_json(file, dict) if start.startswith(b"{") else read_json(file, list))
    return _known_text(file, ask)


def _known_xml(data: bytes, file: Path) -> _Known | None:
    root = read_xml(data, str(file))
    if root.tag == "ANNOTATION_DOCUMENT":
        return _Known("ELAN", root, read_elan)
    if root.tag == "annotations" and (root.findtext("version") or "").strip() == "1.1":
        return _Known("CVAT", root, read_cvat)
    return None


def _known_json(tree: Mapping[str, Any] | list[Any]) -> _Known | None:
    if isinstance(tree, list):
        return _Known("Label Studio", tree, read_label_studio) if tree and all(map(_is_task, tree)) else None
    if {"project", "attribute", "file", "metadata", "view"} <= tree.keys():
        return _Known("VIA", tree, read_via)
    if isinstance(tree.get("database", tree.get("results")), dict):
        return _Known("ActivityNet", tree, texts.read_activitynet)
    return None


def _is_task(tree: Any) -> bool:
    return isinstance(tree, dict) and (isinstance(tree.get("data"), dict) or not tree.keys().isdisjoint(_TASK))


def _known_text(file: Path, ask: Ask) -> _Known | None:
    lines = read_lines(file, "annotations")
    if any(line.startswith("# CSV_HEADER = metadata_id,") for _, line in lines):
        return _Known("VIA", lines, read_via_csv)
    heading = next((line for _, line in lines if not re.fullmatch(r"sep=.", line.strip())), "")
    for mark in "\t;,":
        header = [field.strip().strip('"').lower() for field in heading.split(mark)]
        for kind, columns, reader in _TABLES:
            if {*columns} <= {*header}:
                return _Known(kind, read_csv(file, columns) if reader else None, reader)
        if plain := columns_of(header, ask.label) or columns_of(header):
            return _Known("tables", read_csv(file, plain), read_plain)
    if texts.THUMOS_NAME.fullmatch(file.name) and (found := texts.matches(texts.THUMOS, lines, str(file))):
        return _Known("THUMOS14", found, texts.read_thumos)
    labels = [(number, line) for number, line in lines if not line.startswith("\\")]  # those are of frequencies
    if found := texts.matches(texts.AUDACITY, labels, str(file)):
        return _Known("Audacity", found, texts.read_audacity)
    return None

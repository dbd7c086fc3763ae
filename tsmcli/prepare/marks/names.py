"""Which video file is meant by the name that an annotation file has: a name, a path, or an address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, unquote

from tsmcli.data.media import name_key, suffix_of

_UPLOAD = re.compile("^[0-9a-f]{8}-")
"""What Label Studio puts before the names of files that were uploaded."""


def find_video(name: str, videos: Mapping[str, list[Path]]) -> list[Path]:
    """The files that a name may mean: none, one, or several, of which none is the likeliest.

    Args:
        videos: stem (as `name_key` makes it) -> files, as `scan` finds them.
    """
    for way in _ways(name):
        parts = [name_key(part) for part in re.split(r"[/\\]", way) if part not in ("", ".", "..")]
        if not parts:
            continue
        stem = parts[-1][: -len(suffix)] if (suffix := suffix_of(parts[-1])) else parts[-1]
        for key in dict.fromkeys((parts[-1], stem)):
            found = videos.get(key, [])
            same = [path for path in found if name_key(path.name) == parts[-1]] or found
            if same:
                shared = {path: _shared([name_key(part) for part in path.parts], parts) for path in same}
                return [path for path in same if shared[path] == max(shared.values())]
    return []


def _ways(name: str) -> list[str]:
    """What the name may be on disk, the plainest first."""
    path, _, query = name.partition("?")
    inside = parse_qs(query).get("d", [])  # local storage of Label Studio: /data/local-files/?d=folder/cam1.mp4
    plain = [name, unquote(name), *inside, *((path, unquote(path)) if query else ())]
    folders = [re.match(r"(.*[/\\])?(.*)", way, re.DOTALL) for way in plain]
    split = [(match[1] or "", match[2]) for match in folders if match]
    uploads = [folder + _UPLOAD.sub("", last) for folder, last in split if _UPLOAD.match(last)]
    return list(dict.fromkeys([*plain, *uploads, *(f"{folder}v_{last}" for folder, last in split)]))


def _shared(path: list[str], named: list[str]) -> int:
    """How many folders above the file are the same."""
    folders = zip(reversed(path[:-1]), reversed(named[:-1]), strict=False)
    return next((i for i, (a, b) in enumerate(folders) if a != b), min(len(path), len(named)) - 1)

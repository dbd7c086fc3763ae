"""Which video file is meant by the name that an annotation file has: a name, a path, or an address."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import takewhile
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
        parts = [name_key(part) for part in way if part not in ("", ".", "..")]
        if not parts:
            continue
        for key in (parts[-1], parts[-1].removesuffix(suffix_of(parts[-1]))):
            found = videos.get(key, [])
            same = [path for path in found if name_key(path.name) == parts[-1]] or found
            if same:
                shared = {path: _shared([name_key(part) for part in path.parts], parts) for path in same}
                return [path for path in same if shared[path] == max(shared.values())]
    return []


def _ways(name: str) -> Iterator[list[str]]:
    """What the name may be on disk, in parts, the plainest first."""
    path, _, query = name.partition("?")
    inside = parse_qs(query).get("d", [])  # local storage of Label Studio: /data/local-files/?d=folder/cam1.mp4
    words = dict.fromkeys([name, unquote(name), *inside, path, unquote(path)])
    plain = [re.split(r"[/\\]", word) for word in words]
    yield from plain
    yield from ([*folders, _UPLOAD.sub("", last)] for *folders, last in plain)
    yield from ([*folders, f"v_{last}"] for *folders, last in plain)


def _shared(path: list[str], named: list[str]) -> int:
    """How many folders above the file are the same."""
    folders = zip(path[-2::-1], named[-2::-1], strict=False)
    return len([*takewhile(lambda pair: pair[0] == pair[1], folders)])

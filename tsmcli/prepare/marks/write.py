"""Events written for other programs: tables, subtitles, and files of annotation tools for correction there."""

from __future__ import annotations

import json
import math
import mimetypes
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement
from xml.sax.saxutils import escape

from tsmcli.data.intervals import ROUNDED_SEC
from tsmcli.files import write_text
from tsmcli.intervals.tiou import Interval
from tsmcli.prepare.annotations import write_csv


class Film(NamedTuple):
    """What is known of a video.

    Attributes:
        rate: frames per second; of Label Studio the ticks per second of its timeline.
        frames: how many there are; 0: not known.
    """

    rate: float = 25.0
    frames: int = 0
    width: int = 1
    height: int = 1

    def frames_of(self, start: float, end: float) -> tuple[int, int]:
        """First frame and end of an interval, at least one frame long: the frames that begin in it, as in lists."""
        first, last = (math.ceil((sec - ROUNDED_SEC) * self.rate) for sec in (start, end))
        return max(first, 0), max(last, first + 1, 1)


def write(kind: str, events: Iterable[Interval], path: Path, films: Mapping[str, Film] | None = None) -> list[Path]:
    """Write events, sorted, and return the files.

    Subtitles, CVAT and ELAN have a file for each video. For several videos, `out.srt` becomes `out.cam1.srt` and so
    on, by the names of the videos.

    Args:
        kind: activitynet, csv, srt, vtt, labelstudio, cvat or elan.
        films: of the videos; CVAT and Label Studio count frames. Those without events get a file or an entry, too.
    """
    films = films or {}
    by_video: dict[str, list[Interval]] = {video: [] for video in films}
    for event in sorted(events):
        by_video.setdefault(event[0], []).append(event)
    if kind == "csv":
        rows = [
            (v, f"{s:.3f}", f"{e:.3f}", label, f"{p:.4f}") for own in by_video.values() for v, s, e, label, p in own
        ]
        write_csv(path, ("path", "start", "end", "label", "score"), rows)
        return [path]
    if kind in ("activitynet", "labelstudio"):
        tree = _results(by_video) if kind == "activitynet" else _tasks(by_video, films)
        write_text(path, json.dumps(tree, indent=1, ensure_ascii=False) + "\n")
        return [path]
    make = {"srt": _srt, "vtt": _vtt, "cvat": _cvat, "elan": _elan}[kind]
    files = _files(path, [*by_video])
    for file, (video, own) in zip(files, by_video.items(), strict=True):
        write_text(file, make(video, own, films.get(video, Film())))
    return files


def _files(path: Path, videos: Sequence[str]) -> list[Path]:
    """The file of each video."""
    if len(videos) < 2:
        return [path] * len(videos)
    found: dict[Path, None] = {}
    for video in videos:
        stem = f"{path.stem}.{Path(video).stem}"
        ways = (path.with_name(stem + (f"-{n}" if n > 1 else "") + path.suffix) for n in count(1))
        found[next(way for way in ways if way not in found)] = None
    return [*found]


def _results(by_video: Mapping[str, Sequence[Interval]]) -> dict[str, object]:
    """Predictions as ActivityNet's evaluation reads them."""
    results = {
        video: [{"segment": [round(s, 3), round(e, 3)], "label": label, "score": p} for _, s, e, label, p in own]
        for video, own in by_video.items()
    }
    return {"version": "VERSION 1.3", "external_data": {}, "results": results}


def _tasks(by_video: Mapping[str, Sequence[Interval]], films: Mapping[str, Film]) -> list[dict[str, object]]:
    """Tasks of Label Studio with predictions; `fps` is for `<Video frameRate="$fps">`."""
    tasks = list[dict[str, object]]()
    for video, own in by_video.items():
        film, regions = films.get(video, Film()), list[dict[str, object]]()
        for number, (_, start, end, label, score) in enumerate(own):
            first, last = film.frames_of(start, end)
            value = {"ranges": [{"start": first + 1, "end": last}], "timelinelabels": [label]}
            regions.append({"id": f"tsm{number}", "from_name": "videoLabels", "to_name": "video",
                            "type": "timelinelabels", "value": value, "score": score})  # fmt: skip
        prediction = {"model_version": "tsm", "result": regions}
        tasks.append({"data": {"video": video, "fps": film.rate}, "predictions": [prediction]})
    return tasks


def _srt(_video: str, events: Sequence[Interval], _film: Film) -> str:
    cues = (
        f"{n}\n{_cue(start, end, ',')}\n{_plain(label)}\n" for n, (_, start, end, label, _) in enumerate(events, 1)
    )
    return "\n".join(cues)


def _vtt(_video: str, events: Sequence[Interval], _film: Film) -> str:
    cues = (f"\n{_cue(start, end, '.')}\n{escape(_plain(label))}\n" for _, start, end, label, _ in events)
    return "WEBVTT\n" + "".join(cues)


def _cue(start: float, end: float, mark: str) -> str:
    """`00:00:01.000 --> 00:00:03.400`."""
    return " --> ".join(
        f"{ms // 3600000:02}:{ms // 60000 % 60:02}:{ms // 1000 % 60:02}{mark}{ms % 1000:03}"
        for ms in _ms(start, end)
    )


def _ms(start: float, end: float) -> tuple[int, int]:
    """Whole milliseconds, at least one of them."""
    first = round(start * 1000)
    return first, max(round(end * 1000), first + 1)


def _plain(text: str) -> str:
    """A label on one line, without characters that XML cannot hold."""
    return " ".join(re.sub("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", " ", text).split())


def _xml(root: Element) -> str:
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _add(parent: Element, tag: str, text: object) -> None:
    SubElement(parent, tag).text = str(text)


def _cvat(video: str, events: Sequence[Interval], film: Film) -> str:
    """`CVAT for video 1.1`: for each event a track, a box over the whole picture, gone at the end."""
    root = Element("annotations")
    _add(root, "version", "1.1")
    task = SubElement(SubElement(root, "meta"), "task")
    shown = [(film.frames_of(start, end), _plain(label)) for _, start, end, label, _ in events]
    size = film.frames or max((after for (_, after), _ in shown), default=1) + 1
    for tag, text in (("name", Path(video).stem), ("size", size), ("mode", "interpolation"), ("start_frame", 0),
                      ("stop_frame", size - 1), ("frame_filter", "")):  # fmt: skip
        _add(task, tag, text)
    labels = SubElement(task, "labels")
    for name in sorted({name for _, name in shown}):
        _add(SubElement(labels, "label"), "name", name)
    picture = SubElement(task, "original_size")
    _add(picture, "width", film.width)
    _add(picture, "height", film.height)
    _add(task, "source", Path(video).name)
    for number, (frames, name) in enumerate(shown):
        track = SubElement(root, "track", id=str(number), label=name, source="auto")
        for frame, outside in zip(frames, "01", strict=True):
            if frame < size:  # what lasts to the end of the video is not closed
                SubElement(track, "box", frame=str(frame), keyframe="1", outside=outside, occluded="0", xtl="0.00",
                           ytl="0.00", xbr=f"{film.width:.2f}", ybr=f"{film.height:.2f}", z_order="0")  # fmt: skip
    return _xml(root)


def _elan(video: str, events: Sequence[Interval], _film: Film) -> str:
    """A tier for each label, and more where events of one label overlap: within a tier nothing may."""
    schema = "{http://www.w3.org/2001/XMLSchema-instance}noNamespaceSchemaLocation"
    root = Element("ANNOTATION_DOCUMENT", {
        "AUTHOR": "tsm", "DATE": "2000-01-01T00:00:00+00:00", "FORMAT": "3.0", "VERSION": "3.0",
        schema: "http://www.mpi.nl/tools/elan/EAFv3.0.xsd",
    })  # fmt: skip
    header = SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    SubElement(header, "MEDIA_DESCRIPTOR", MEDIA_URL=Path(video).absolute().as_uri(),
               MIME_TYPE=mimetypes.guess_type(video)[0] or "video/unknown",
               RELATIVE_MEDIA_URL=f"./{quote(Path(video).name)}")  # fmt: skip
    order = SubElement(root, "TIME_ORDER")
    spans = [_ms(start, end) for _, start, end, _, _ in events]
    slots = {ms: f"ts{i}" for i, ms in enumerate(sorted({ms for span in spans for ms in span}), 1)}
    for ms, slot in slots.items():
        SubElement(order, "TIME_SLOT", TIME_SLOT_ID=slot, TIME_VALUE=str(ms))
    tiers: dict[str, tuple[Element, int]] = {}
    for number, ((start, end), (_, _, _, text, _)) in enumerate(zip(spans, events, strict=True), 1):
        label = _plain(text)
        lanes = (label if n == 1 else f"{label}-{n}" for n in count(1))
        lane = next(name for name in lanes if name not in tiers or tiers[name][1] <= start)
        if lane not in tiers:
            tiers[lane] = SubElement(root, "TIER", LINGUISTIC_TYPE_REF="event", TIER_ID=lane), 0
        tiers[lane] = tiers[lane][0], end
        annotation = SubElement(SubElement(tiers[lane][0], "ANNOTATION"), "ALIGNABLE_ANNOTATION", {
            "ANNOTATION_ID": f"a{number}", "TIME_SLOT_REF1": slots[start], "TIME_SLOT_REF2": slots[end],
        })  # fmt: skip
        _add(annotation, "ANNOTATION_VALUE", label)
    SubElement(root, "LINGUISTIC_TYPE", {"LINGUISTIC_TYPE_ID": "event", "TIME_ALIGNABLE": "true",
                                         "GRAPHIC_REFERENCES": "false"})  # fmt: skip
    return _xml(root)

"""ELAN (`.eaf`): tiers of annotations between time slots. Milliseconds."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element

import numpy as np

from tsmcli.errors import DataError
from tsmcli.prepare.marks.mark import Ask, Marks, is_video, number, whole

_UNITS = "milliseconds"


def read_elan(root: Element, source: str, ask: Ask) -> Marks:
    """The annotations of all tiers that depend on no other: those repeat the times of their parents.

    With `--label TIER` only those of this tier count, and its own values are the labels: where it depends on
    another, its annotations have the times of their parents. With `--label tier` the names of tiers are labels.

    Raises:
        DataError: times are not in milliseconds, or there is no such tier.
    """
    header = next(root.iter("HEADER"), Element("HEADER"))
    units = header.get("TIME_UNITS", _UNITS)
    if units != _UNITS:
        raise DataError(f"{source}: its times are in {units}", hint="save it with times in milliseconds")
    video, origin = _video(header, source)
    marks, slots = Marks(videos={video: source}), _slots(root, source)
    every = {str(a.get("ANNOTATION_ID")): a for pair in root.iter("ANNOTATION") for a in pair}
    tiers = list(root.iter("TIER"))
    named = [tier for tier in tiers if tier.get("TIER_ID", "") == ask.label]
    if ask.label and ask.label != "tier" and not named:
        names = ", ".join(tier.get("TIER_ID", "") for tier in tiers)
        raise DataError(f"{source}: no tier {ask.label!r}; there are {names}")
    for tier in named or [tier for tier in tiers if not tier.get("PARENT_REF")]:
        for annotation in (a for pair in tier.iter("ANNOTATION") for a in pair):
            where = f"{source}: annotation {annotation.get('ANNOTATION_ID')}"
            timed, steps = annotation, 0
            while timed.tag == "REF_ANNOTATION" and steps < len(every):  # its parent has the times
                timed, steps = every[str(timed.get("ANNOTATION_REF"))], steps + 1
            start, end = (slots[str(timed.get(f"TIME_SLOT_REF{i}"))] + origin for i in (1, 2))
            label = tier.get("TIER_ID") if ask.label == "tier" else annotation.findtext("ANNOTATION_VALUE")
            marks.add(video, round(start / 1000, 6), round(end / 1000, 6), label, where)
    return marks


def _slots(root: Element, source: str) -> dict[str, float]:
    """Time slot -> ms. Those without a value lie, evenly, between their neighbours."""
    slots = list(root.iter("TIME_SLOT"))
    known = [(i, whole(s.get("TIME_VALUE"), source)) for i, s in enumerate(slots) if s.get("TIME_VALUE")]
    if not known:
        return {}
    places, values = zip(*known, strict=True)
    times = np.interp(range(len(slots)), places, values).tolist()
    return {str(slot.get("TIME_SLOT_ID")): ms for slot, ms in zip(slots, times, strict=True)}


def _video(header: Element, source: str) -> tuple[str, float]:
    """The video, or the name of the file itself, and what is to be added to its times, in ms."""
    for media in header.iter("MEDIA_DESCRIPTOR"):
        urls = [media.get(key) or "" for key in ("RELATIVE_MEDIA_URL", "MEDIA_URL", "EXTRACTED_FROM")]
        is_film = media.get("MIME_TYPE", "").startswith("video")
        if url := next((u for u in urls if is_video(u) or (is_film and u)), ""):
            return url, number(media.get("TIME_ORIGIN") or 0, source)
    return Path(source).stem, 0

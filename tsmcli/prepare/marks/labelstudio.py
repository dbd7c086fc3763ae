"""Label Studio: JSON and JSON-MIN, of timelines (in ticks) and of audio regions (in seconds)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tsmcli.prepare.marks.mark import Ask, Marks, exact_rate, is_video, number, whole

_RATES = ("fps", "frame_rate", "framerate", "frameRate")
_DEFAULT_TICKS = 24.0
"""What a timeline counts in a second if nobody set it."""
Region = tuple[object, Mapping[str, Any]]
"""Its name, for messages, and its `value`."""


def read_label_studio(tasks: list[Any], source: str, ask: Ask) -> Marks:
    """The newest annotation of each task; predictions, drafts and what was cancelled do not count.

    Ticks count from 1 and an end is inside. They become seconds by the rate of the timeline, which is not that of
    the video unless somebody set it so.
    """
    marks, assumed = Marks(), 0
    seen, several = set[Any](), set[Any]()
    for at, task in enumerate(tasks):
        key, minimal = task.get("id", str(at)), not isinstance(task.get("data"), dict)
        done = [a for a in task.get("annotations") or [] if not a.get("was_cancelled")]
        again = minimal and key in seen  # the newest came first
        seen.add(key)
        if again or len(done) > 1:
            several.add(key)
        if again:
            continue
        data = task if minimal else task["data"]
        where, video = f"{source}: task {key}", _video(data)
        marks.videos.setdefault(video, where)
        stated = next((data[name] for name in _RATES if data.get(name)), ask.tick_rate)
        ticks = number(stated or _DEFAULT_TICKS, where)
        rate = float(exact_rate(ticks if ticks >= 1 else 1 / max(ticks, 1e-6)))
        for name, value in _minimal(task) if minimal else _newest(done):
            if "ranges" in value:
                marks.rates[video] = rate
                assumed += not stated
            for start, end in _spans(value, rate, f"{where}, {name}"):
                for label in value.get("timelinelabels") or value.get("labels") or [""]:
                    marks.add(video, start, end, label, f"{where}, {name}")
    if assumed:
        marks.notes.append(
            f"{source}: {assumed} intervals are in ticks, without a rate in the file: {_DEFAULT_TICKS:g} a second "
            "are taken, as Label Studio does if nobody sets frameRate; --tick-rate says another"
        )
    if several:
        marks.notes.append(f"{source}: {len(several)} tasks were annotated more than once; the newest counts")
    return marks


def _newest(done: Iterable[Mapping[str, Any]]) -> Iterator[Region]:
    """The regions of the annotation that counts: the ground truth, if one is, else the newest."""
    newest = max(done, key=lambda a: (bool(a.get("ground_truth")), str(a.get("updated_at") or "")), default={})
    for region in newest.get("result", []):
        if "value" in region:
            yield region.get("id"), region["value"]


def _minimal(task: Mapping[str, Any]) -> Iterator[Region]:
    """The regions of a JSON-MIN record; they stand under the names of their controls."""
    for control, values in task.items():
        for at, value in enumerate(values if isinstance(values, list) else ()):
            if isinstance(value, dict):
                yield f"{control} {at}", value


def _spans(value: Mapping[str, Any], rate: float, where: str) -> list[tuple[float, float]]:
    """Start and end, in seconds, of a region; nothing of a box, or of a choice for the whole video."""
    if "ranges" in value:
        ticked = [(whole(one["start"], where), whole(one["end"], where)) for one in value["ranges"]]
        return [(round(max(start - 1, 0) / rate, 9), round(end / rate, 9)) for start, end in ticked]
    if "start" in value and "end" in value:
        return [(round(number(value["start"], where), 9), round(number(value["end"], where), 9))]
    return []


def _video(data: Mapping[str, Any]) -> str:
    """The video of a task, whatever its key: `video`, else what is named as a video, else any text."""
    texts = {key: value for key, value in data.items() if isinstance(value, str) and value.strip()}
    named = [texts[key] for key in ("video", "audio") if key in texts and is_video(texts[key])]
    return next(iter([*named, *filter(is_video, texts.values()), *texts.values()]), "")

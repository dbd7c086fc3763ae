"""Label Studio: JSON and JSON-MIN, of timelines (in ticks) and of audio regions (in seconds)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tsmcli.prepare.marks.mark import Ask, Marks, exact_rate, is_video, number, whole

_RATES = ("fps", "frame_rate", "framerate", "frameRate")
DEFAULT_TICKS = 24.0
"""What a timeline counts in a second if nobody set it."""


def read_label_studio(tasks: list[Any], source: str, ask: Ask) -> Marks:
    """The newest annotation of each task; predictions, drafts and what was cancelled do not count.

    Ticks count from 1 and an end is inside. They become seconds by the rate of the timeline, which is not that of
    the video unless somebody set it so.
    """
    marks, assumed, several = Marks(), 0, 0
    seen = set[Any]()
    for at, task in enumerate(tasks):
        minimal = not isinstance(task.get("data"), dict)
        data: Mapping[str, Any] = task if minimal else task["data"]
        where = f"{source}: task {task.get('id', at)}"
        if minimal and task.get("id") is not None and task["id"] in seen:  # the newest comes first
            several += 1
            continue
        seen.add(task.get("id"))
        video = _video(data)
        marks.videos.setdefault(video, where)
        done = [a for a in task.get("annotations") or [] if not a.get("was_cancelled")]
        several += len(done) > 1
        newest: dict[str, Any] = max(done, key=_age, default={})
        regions = newest.get("result", [])
        values = _minimal(task) if minimal else ((r.get("id"), r["value"]) for r in regions if "value" in r)
        stated = next((data[key] for key in _RATES if data.get(key)), None)
        ticks = number(stated or ask.tick_rate or DEFAULT_TICKS, where)
        rate = float(exact_rate(ticks if ticks >= 1 else 1 / max(ticks, 1e-6)))
        for name, value in values:
            where = f"{source}: task {task.get('id', at)}, {name}"
            if "ranges" in value:
                marks.rates[video] = rate
                assumed += not (stated or ask.tick_rate)
                ticked = [(whole(r["start"], where), whole(r["end"], where)) for r in value["ranges"]]
                spans = [(max(start - 1, 0) / rate, end / rate) for start, end in ticked]
            elif "start" in value and "end" in value:
                spans = [(number(value["start"], where), number(value["end"], where))]
            else:
                continue  # a box, a choice for the whole video
            for start, end in spans:
                for label in value.get("timelinelabels") or value.get("labels") or [""]:
                    marks.add(video, round(start, 9), round(end, 9), label, where)
    if assumed:
        marks.notes.append(
            f"{source}: {assumed} intervals are in ticks, without a rate in the file: {DEFAULT_TICKS:g} a second "
            "are taken, as Label Studio does if nobody sets frameRate; --tick-rate says another"
        )
    if several:
        marks.notes.append(f"{source}: {several} tasks were annotated more than once; the newest counts")
    return marks


def _age(annotation: Mapping[str, Any]) -> tuple[bool, str]:
    return bool(annotation.get("ground_truth")), str(annotation.get("updated_at"))


def _minimal(task: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and value of each region of a JSON-MIN record; they stand under the names of their controls."""
    for control, values in task.items():
        for at, value in enumerate(values if isinstance(values, list) else ()):
            if isinstance(value, dict):
                yield f"{control} {at}", value


def _video(data: Mapping[str, Any]) -> str:
    """The video of a task, whatever its key: `video`, else what is named as a video, else any text."""
    texts = {key: value for key, value in data.items() if isinstance(value, str) and value.strip()}
    named = [texts[key] for key in ("video", "audio") if key in texts and is_video(texts[key])]
    return next(iter([*named, *filter(is_video, texts.values()), *texts.values()]), "")

"""Events of long videos as a table, JSON and CSV, and as files."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from tsmcli.errors import UsageError
from tsmcli.files import write_text
from tsmcli.prepare.marks.write import Film, write
from tsmcli.recipes.find_events import FoundEvents
from tsmcli.recipes.fit_events import FittedEvents
from tsmcli.report.event_scores import event_scores_json, print_event_scores
from tsmcli.report.progress import reason
from tsmcli.report.tables import percent, print_csv, print_json, print_line, print_table


def print_events(found: FoundEvents, *, style: Literal["table", "json", "csv"]) -> None:
    """The events of all videos."""
    if style == "json":
        print_json(events_json(found))
    elif style == "csv":
        values = [
            (e.video, f"{e.start_sec:.3f}", f"{e.end_sec:.3f}", e.label, f"{e.score:.6f}") for e in found.events
        ]
        print_csv(("path", "start", "end", "label", "score"), values)  # with the first four a list of intervals
    else:
        rows = [
            (e.video, f"{e.start_sec:.2f}", f"{e.end_sec:.2f}", e.label, percent(e.score)) for e in found.events
        ]
        seconds = sum(found.durations.values())
        title = f"{found.preset}, protocol {found.protocol}: {len(rows)} events in {seconds:.0f} s of video"
        print_table(("video", "from s", "to s", "class", "mean probability"), rows, title)


Form = Literal["json", "csv", "srt", "vtt", "cvat", "elan", "labelstudio", "activitynet"]
_SUFFIXES: dict[str, Form] = {
    ".json": "json", ".csv": "csv", ".srt": "srt", ".vtt": "vtt", ".xml": "cvat", ".eaf": "elan",
}  # fmt: skip
COUNT_FRAMES = ("cvat", "labelstudio")
"""Forms that count frames, not seconds."""


def form_of(path: Path, form: Form | None) -> Form:
    """The form in which events are written under a name; UsageError where the suffix does not say it."""
    if form is None and path.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"{path}: which form?", hint=f"{', '.join(_SUFFIXES)}, or --format")
    return form or _SUFFIXES[path.suffix.lower()]


def write_events(path: Path, form: Form, found: FoundEvents) -> list[Path]:
    """Write events in a form; returns the files, of which subtitles, CVAT and ELAN have one for each video."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "json":
        write_text(path, json.dumps(events_json(found), indent=2, default=os.fspath) + "\n")
        return [path]
    films = {video: found.films.get(video, Film()) for video in found.durations}
    return write(form, found.events, path, films)


def events_json(found: FoundEvents) -> dict[str, Any]:
    """Stable keys for scripts, and what `tsm eval --metrics tiou_map` reads."""
    numbers = {name: number for number, name in enumerate(found.class_names)}
    events: dict[str, list[dict[str, Any]]] = {video: [] for video in found.durations}
    for e in found.events:
        events[e.video].append({
            "start_sec": e.start_sec, "end_sec": e.end_sec, "class": numbers[e.label], "name": e.label,
            "score": e.score,
        })  # fmt: skip
    return {
        "checkpoint": str(found.checkpoint), "preset": found.preset, "protocol": found.protocol,
        "class_names": found.class_names, "background": list(found.rules.background), "rules": asdict(found.rules),
        "videos": [
            {"video": video, "duration_sec": sec, "events": events[video]} for video, sec in found.durations.items()
        ],
        "failed": [{"video": video.path, "reason": reason(video)} for video in found.bad],
    }  # fmt: skip


def print_fitted(found: FittedEvents, *, as_json: bool) -> None:
    """The rules that were chosen, and what they reach."""
    rules, names = found.rules, found.class_names
    if as_json:
        before, after = found.nll or (None, None)
        temperature = {"value": rules.temperature, "nll_before": before, "nll_after": after}
        usual, scores = event_scores_json(found.usual), event_scores_json(found.scores)
        tree = {"checkpoint": found.path, "rules": asdict(rules), "class_names": names, "temperature": temperature}
        print_json({**tree, "usual": usual, "scores": scores, "failed": [reason(video) for video in found.bad]})
        return
    print_line(
        f"windows of {rules.window_sec:.3g} s every {rules.stride_sec:.3g} s, smoothed {rules.smooth_sec:.3g} s"
    )
    change = f", NLL of windows {found.nll[0]:.4f} -> {found.nll[1]:.4f}" if found.nll else ""
    print_line(f"temperature {rules.temperature:.3f}{change}")
    each = zip(names, rules.thresholds, rules.gap_sec, rules.min_sec, strict=True)
    rows = [(name, *values) for name, *values in each if name not in rules.background]
    print_table(("class", "threshold", "gap s", "shortest s"), rows, "Chosen for the best F1 at tIoU 0.5")
    if rules.background:
        print_line(f"never an event: {', '.join(rules.background)}")
    print_event_scores(found.scores, as_json=False)
    print_line(
        f"before the fit: mAP {percent(found.usual.scores['activitynet'].average)}, F1 {percent(found.usual.f1)}"
    )
    print_line("These recordings chose the rules: other ones say how good they are.")

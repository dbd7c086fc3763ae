"""How well events of long videos fit, as tables and JSON. No torch."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tsmcli.recipes.eval_events import EventScores
from tsmcli.report.tables import percent, print_json, print_line, print_table

RULES = {"activitynet": "ActivityNet's rules", "thumos14": "THUMOS14's rules"}


def print_event_scores(found: EventScores, *, as_json: bool) -> None:
    """Mean average precision at each tIoU, false alarms and delays."""
    if as_json:
        print_json(event_scores_json(found))
        return
    hours = "" if found.hours is None else f", {found.hours:.3g} h"
    print_line(f"{found.source}: {found.num_videos} videos{hours}, {found.true} true intervals")
    for rule, scores in found.scores.items():
        columns = ("tIoU", *(f"{limit:.2f}" for limit in scores.thresholds), "mean")
        print_table(columns, [("mAP", *map(percent, scores.mean), percent(scores.average))], RULES[rule])
    rows = [
        (c.name, c.true, c.events, percent(c.ap), percent(c.f1), c.false_alarms, c.found, seconds(c.delay_sec))
        for c in found.classes
    ]
    print_table(("class", "true", "events", "mean AP", "F1 at 0.5", "false alarms", "found", "delay"), rows)
    rate = "" if found.alarms_per_hour is None else f", {found.alarms_per_hour:.3g} an hour"
    print_line(f"F1 at tIoU 0.5, mean over classes: {percent(found.f1)}")
    print_line(f"false alarms (events that overlap nothing of their class): {found.false_alarms}{rate}")
    print_line(f"found: {found.found} of {found.true}; median delay of the first event: {seconds(found.delay_sec)}")
    if found.unknown:
        print_line(f"{found.unknown} events of classes without a true interval count as false alarms only")


def event_scores_json(found: EventScores) -> dict[str, Any]:
    """Stable keys for scripts; `tiou_map` is the mean over tIoU, `map` has it at each."""
    maps = {
        "tiou_map" if rule == "activitynet" else f"tiou_map={rule}": {
            "mean": scores.average, "tiou": scores.thresholds, "map": scores.mean, "ap": scores.ap,
        }
        for rule, scores in found.scores.items()
    }  # fmt: skip
    return {
        **maps, "f1": found.f1, "false_alarms": found.false_alarms, "false_alarms_per_hour": found.alarms_per_hour,
        "found": found.found, "true": found.true, "delay_sec": found.delay_sec, "hours": found.hours,
        "videos": found.num_videos, "missing": found.missing, "unknown": found.unknown,
        "classes": [asdict(one) for one in found.classes], "events": found.source,
    }  # fmt: skip


def seconds(value: float | None) -> str:
    """A delay."""
    return "never" if value is None else f"{value:.2f} s"

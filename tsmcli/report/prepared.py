"""What `tsm prepare-data` says of what it did, or would do."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tsmcli.catalog import CATALOG
from tsmcli.report.tables import print_json, print_line, print_table

if TYPE_CHECKING:
    from tsmcli.prepare.intervals import PreparedIntervals
    from tsmcli.prepare.matching import MediaPlan
    from tsmcli.prepare.official import PreparedDataset


def print_plan(plan: MediaPlan, as_json: bool) -> None:
    """What a dry run found."""
    from tsmcli.prepare.official import differences, estimate_bytes

    disk = estimate_bytes(plan) if plan.target in ("frames", "zip") else None
    annotated, found = {item.names for item in plan.annotations.items}, {found.path for found in plan.found}
    facts = {"annotated": len(annotated), "found": len(found), "store": plan.store, "conversion": plan.target}
    if as_json:
        print_json({**facts, "estimated_bytes": disk, "differences": differences(plan, {})})
        return
    rows = [*facts.items(), ("disk, estimated", f"{disk / 1e9:.3f} GB" if disk else "no new media of known size")]
    print_table(("", "dry run: nothing was written"), rows)
    for line in differences(plan, {}):
        print_line(line)


def print_prepared(done: PreparedDataset, dataset: str, part: tuple[int, int], as_json: bool) -> None:
    """What was written, what is odd about it, and what to type next."""
    out, store = done.plan.out, done.plan.store
    counts = Counter((item.label, item.split) for item in done.plan.annotations.items)
    rows = [(name, counts[i, "train"], counts[i, "val"]) for i, name in enumerate(done.plan.annotations.classes)]
    if as_json:
        facts = {"dataset": done.plan.dataset, "folder": str(out), "store": store, "videos": done.counts,
                 "differences": done.differences, "failures": len(done.failures),
                 "complete": done.complete}  # fmt: skip
        classes = {name: {"train": train, "val": val} for name, train, val in rows}
        print_json({**facts, "classes": classes} if dataset == "folder" else facts)
        return
    if not done.complete:
        rest = (
            "are written by the last of parts " + ", ".join(map(str, done.waiting)) if done.waiting else "are there"
        )
        failed = f"; {len(done.failures)} videos could not be used" if done.failures else ""
        print_line(f"part {part[0]}/{part[1]} is done{failed}; the lists {rest}")
        return
    own = "" if out == Path("data/folder") else f" --data {out}"
    several = " data.multi_label=true" * done.plan.limits.multi_label
    sets = f"data.store={store}" * (store != "video") + several
    own += f" --set {sets.strip()}" * bool(sets)
    own += "" if done.counts.get("val", 1) else " --set train.validation=false"
    look = f"tsm data check{own} looks at the videos themselves"
    if dataset == "folder":
        print_table(("class", "train", "val"), rows,
                    f"{sum(done.counts.values())} videos of {done.plan.source}, lists in {out}")  # fmt: skip
        for line in done.differences:
            print_line(f"note: {line}")
        print_line(look)
        print_line(f"next:  tsm train --preset mbv2-folder{own}")
    else:
        split = " data.split=N" * (CATALOG[done.plan.dataset].splits > 0)
        for name, count in done.counts.items():
            print_line(f"{name}: {count} videos")
        print_line(
            f"{out}: lists, classes.txt, manifest.json; read them with --set data.store={store}{several}{split}"
        )
        for line in done.differences:
            print_line(f"difference: {line}")
        if dataset == "csv":
            print_line(look)


def print_intervals(done: PreparedIntervals, as_json: bool) -> None:
    """Intervals and seconds of each class, problems by their kinds, and what to type next."""
    kinds = Counter((p.used, p.kind) for p in done.problems)
    first = {(p.used, p.kind): p.where for p in reversed(done.problems)}
    rows = [
        (name, done.counts[name, "train"], done.counts[name, "val"], round(done.seconds[name], 1))
        for name in done.classes
    ]
    if as_json:
        classes = {name: {"train": train, "val": val, "seconds": sec} for name, train, val, sec in rows}
        found = [{"kind": kind, "used": used, "count": count} for (used, kind), count in kinds.items()]
        facts = {"dataset": "folder", "folder": done.out, "store": done.store, "recordings": done.recordings}
        facts |= {"estimated_bytes": done.disk_bytes} if done.disk_bytes is not None else {}
        print_json({**facts, "classes": classes, "problems": found, "notes": done.notes})
        return
    train, val = done.recordings["train"], done.recordings["val"]
    place = f"lists in {done.out}" if done.written else "dry run: nothing was written"
    place += f"; {done.disk_bytes / 1e9:.3f} GB of disk, estimated" if done.disk_bytes else ""
    print_table(("class", "train", "val", "seconds"), rows, f"intervals of {train} + {val} recordings, {place}")
    for (used, kind), count in sorted(kinds.items()):
        way = "used all the same" if used else "left out"
        print_line(f"{way}: {kind}: {count} intervals, the first: {first[used, kind]}")
    for line in [*done.notes, *([f"{done.out / 'problems.csv'} has all rows"] if kinds and done.written else ())]:
        print_line(f"note: {line}")
    if done.written:
        own = "" if done.out == Path("data/folder") else f" --data {done.out}"
        own += f" --set data.store={done.store}" * (done.store != "video")
        own += "" if val else " --set train.validation=false"
        print_line(f"next:  tsm train --preset mbv2-folder{own}")

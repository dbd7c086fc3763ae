"""tsm prepare-data --check"""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path

_SHOWN = 20


def check_data(
    dataset: str,
    folder: Path,
    full: bool,
    quarantine: bool,
    report: Path | None,
    workers: int,
    store: Enum | None,
    as_json: bool,
) -> None:
    """Verify a prepared dataset; exit 3 if something is wrong."""
    from tsmcli.catalog import CATALOG
    from tsmcli.config import DataConfig
    from tsmcli.errors import DataError
    from tsmcli.prepare.verify import check, write_csv, write_quarantine
    from tsmcli.report.progress import follow
    from tsmcli.report.tables import print_json, print_line, print_table

    name = "folder" if dataset == "csv" else dataset
    stores = (
        ("frames", "video", "zip") if store is None else ("video" if store.value == "seekable" else store.value,)
    )
    prepared = [s for s in stores if (folder / CATALOG[name].list_name(s, "train")).exists()]
    data = DataConfig.model_validate({"dataset": name, "store": (prepared or stores)[0]})
    result = follow(check(data, folder, num_segments=8, full=full, workers=workers))
    if report:
        report.parent.mkdir(parents=True, exist_ok=True)
        write_csv(result, report)
    if as_json:
        print_json(
            {"folder": str(folder), "videos": result.videos, "problems": [asdict(p) for p in result.problems]}
        )
    elif result.problems:
        rows = [(p.split, p.path, p.kind, p.detail) for p in result.problems[:_SHOWN]]
        print_table(("list", "video", "kind", "what"), rows, f"{result.videos} videos of {folder} ({data.store})")
        if len(result.problems) > _SHOWN:
            print_line(f"and {len(result.problems) - _SHOWN} more; --report FILE has them all")
    else:
        print_line(f"{result.videos} videos of {folder}: nothing wrong")
    broken = sum(p.broken for p in result.problems)
    if quarantine:
        path = write_quarantine(result)
        if broken and not as_json:
            print_line(f"{broken} videos in {path}")
    if result.problems:
        hint = (
            ""
            if quarantine or not broken
            else "--quarantine makes training and testing count them without opening them"
        )
        raise DataError(f"{len(result.problems)} problems, {broken} of them broken videos", hint=hint)

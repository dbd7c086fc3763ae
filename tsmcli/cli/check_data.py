"""tsm prepare-data --check"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from tsmcli.errors import DataError
from tsmcli.report.tables import print_json, print_line, print_table

_SHOWN = 20


def check_data(
    dataset: str, folder: Path, full: bool, quarantine: bool, report: Path | None, workers: int,
    store: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Verify a prepared dataset; exit 3 if something is wrong."""
    from tsmcli.config import DataConfig
    from tsmcli.data.location import prepared_stores
    from tsmcli.prepare.annotations import write_csv
    from tsmcli.prepare.verify import check, write_quarantine
    from tsmcli.report.progress import follow

    name = "folder" if dataset == "csv" else dataset
    read_as = "video" if store == "seekable" else store or (prepared_stores(name, folder) or ["frames"])[0]
    data = DataConfig.model_validate({"dataset": name, "store": read_as})
    result = follow(check(data, folder, num_segments=8, full=full, workers=workers))
    rows = [(p.split, p.path, p.kind, p.detail) for p in result.problems]
    if report:
        report.parent.mkdir(parents=True, exist_ok=True)
        write_csv(report, ("split", "video", "kind", "detail"), rows)
    if as_json:
        print_json({"folder": folder, "videos": result.videos, "problems": [asdict(p) for p in result.problems]})
    elif rows:
        title = f"{result.videos} videos of {folder} ({data.store})"
        print_table(("list", "video", "kind", "what"), rows[:_SHOWN], title)
        if len(rows) > _SHOWN:
            print_line(f"and {len(rows) - _SHOWN} more; --report FILE has them all")
    else:
        print_line(f"{result.videos} videos of {folder}: nothing wrong")
    broken = sum(p.broken for p in result.problems)
    if quarantine:
        path = write_quarantine(result)
        if broken and not as_json:
            print_line(f"{broken} videos in {path}")
    if rows:
        way = "--quarantine makes training and testing count them without opening them"
        hint = way if broken and not quarantine else ""
        raise DataError(f"{len(rows)} problems, {broken} of them broken videos", hint)

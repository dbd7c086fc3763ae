"""Draw downloads: a bar for every file under way on a terminal, a line for every file that ended otherwise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from rich.progress import Progress, TaskID

from tsmcli.data.archive import free_bytes
from tsmcli.engine.fetch import Fetched, FetchEvent, Receiving, Waiting
from tsmcli.recipes.zoo.download import Failed, Standing, missing_bytes
from tsmcli.report.tables import print_json, print_line, print_table


class Transfers:
    """The bars of the files under way; `line` prints a line above them."""

    def __init__(self, bar: Progress, line: Callable[[str], None]) -> None:
        self.bar, self.line = bar, line
        self.tasks: dict[str, TaskID] = {}
        self.reasons: dict[str, str] = {}

    def draw(self, event: FetchEvent | Failed) -> None:
        """Show one event of a download."""
        match event:
            case Receiving(name, done, total):
                if name not in self.tasks:
                    self.tasks[name] = self.bar.add_task(name, total=total, facts="")
                facts = f"{megabytes(done)} of {megabytes(total)}"
                self.bar.update(self.tasks[name], completed=done, total=total, facts=facts)
            case Waiting(name, seconds, reason):
                if self.reasons.get(name) != reason:  # told once, not at every turn
                    self.line(f"  {name}: {reason}; trying again in {seconds:.1f} s")
                self.reasons[name] = reason
            case Fetched(remote, cached):
                hash = "verified" if remote.sha256_prefix else "no published hash, so nothing was compared"
                self._end(remote.name, f"{hash}, was there" if cached else hash)
            case Failed(name, _):
                self._end(name, "failed")

    def _end(self, name: str, how: str) -> None:
        self.line(f"  {name}: {how}")
        if name in self.tasks:
            self.bar.remove_task(self.tasks.pop(name))


def print_plan(files: Sequence[Standing], cache: Path, *, as_json: bool) -> None:
    """What a download would do."""
    missing, free = missing_bytes(files), free_bytes(cache)
    if as_json:
        facts = [{"name": f.remote.name, "size": f.size, "have": f.remote.have, "url": f.remote.urls[0],
                  "path": f.remote.path, "cached": f.whole} for f in files]  # fmt: skip
        print_json({"files": facts, "missing_bytes": missing, "free_bytes": free})
        return
    rows = [(f.remote.name, megabytes(f.size), "whole" if f.whole else megabytes(f.remote.have), f.remote.urls[0])
            for f in files]  # fmt: skip
    print_table(("file", "size", "there", "from"), rows)
    unknown = sum(file.size is None for file in files)
    more = f", sizes of {unknown} unknown" if unknown else ""
    print_line(f"{megabytes(missing)} to fetch{more}; {megabytes(free)} free")


def megabytes(size: int | None) -> str:
    """98765432 -> 98.8 MB; kB and GB where those read better."""
    if size is None:
        return "unknown"
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"

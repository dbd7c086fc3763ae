"""Draw downloads: a bar for every file under way on a terminal, a line for every file that ended otherwise."""

from __future__ import annotations

from collections.abc import Callable

from rich.progress import Progress, TaskID

from tsmcli.engine.fetch import Fetched, FetchEvent, Receiving, Waiting
from tsmcli.recipes.zoo.download import Failed


class Transfers:
    """The bars of the files under way; `line` prints a line above them."""

    def __init__(self, bar: Progress, line: Callable[[str], None]) -> None:
        self.bar = bar
        self.line = line
        self.tasks: dict[str, TaskID] = {}
        self.reasons: dict[str, str] = {}

    def draw(self, event: FetchEvent | Failed) -> None:
        """Show one event of a download."""
        match event:
            case Receiving(name, done, total):
                if name not in self.tasks:
                    self.tasks[name] = self.bar.add_task(name, total=total, facts="")
                facts = f"{megabytes(done)} of {megabytes(total) if total else 'unknown'}"
                self.bar.update(self.tasks[name], completed=done, total=total, facts=facts)
            case Waiting(name, seconds, reason):
                if self.reasons.get(name) != reason:  # told once, not at every turn
                    self.line(f"  {name}: {reason}; trying again in {seconds:.1f} s")
                self.reasons[name] = reason
            case Fetched(name, _, verified, cached):
                hash = "verified" if verified else "no published hash"
                self.line(f"  {name}: {hash}{', was there' if cached else ''}")
                self._close(name)
            case Failed(name, _):
                self.line(f"  {name}: failed")
                self._close(name)

    def _close(self, name: str) -> None:
        if name in self.tasks:
            self.bar.remove_task(self.tasks.pop(name))


def megabytes(size: int) -> str:
    """98765432 -> 98.8 MB; kB and GB where those read better."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"

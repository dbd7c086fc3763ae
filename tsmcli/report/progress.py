"""Draw the events of a recipe on stderr: a progress bar with ETA on a terminal, plain lines otherwise."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn

from tsmcli.data.messages import BadVideo
from tsmcli.engine.events import StepDone, VideoScored, VideosSkipped
from tsmcli.engine.fetch import Fetched, Receiving, Waiting
from tsmcli.prepare.demo import ClipWritten
from tsmcli.prepare.extract import Extracted, VideosCounted
from tsmcli.prepare.verify import VideoChecked
from tsmcli.recipes.events import (
    Event,
    Probed,
    Result,
    Saved,
    Scoring,
    Stage,
    Training,
    Validated,
    Warned,
    result_of,
)
from tsmcli.recipes.zoo.download import Failed
from tsmcli.report.tables import on_one_line, printable
from tsmcli.report.transfers import Transfers


def reason(video: BadVideo) -> str:
    """Why a video could not be read, with its path."""
    return on_one_line(video.reason if video.path in video.reason else f"{video.path}: {video.reason}")


def follow(events: Generator[Event, None, Result], *, quiet: bool = False) -> Result:
    """Run a recipe, draw its events unless `quiet`, and return its result."""
    if quiet:
        return result_of(events)
    console = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=14),
        TaskProgressColumn(),
        TimeRemainingColumn(compact=True),
        TextColumn("{task.fields[facts]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        return result_of(events, _Drawing(console, bar).draw)


class _Drawing:
    """The bars that are open, and what they say."""

    def __init__(self, console: Console, bar: Progress) -> None:
        self.console, self.bar = console, bar
        self.tasks: dict[str, TaskID] = {}
        self.epochs = self.count = 0
        self.log_every = 1
        self.transfers = Transfers(bar, self.line)

    def line(self, text: str) -> None:
        self.bar.console.print(printable(text), markup=False, soft_wrap=True)

    def draw(self, event: Any) -> None:
        """Show one event; unknown ones are left alone."""
        match event:
            case Stage(title, details):
                for kind in list(self.tasks):
                    self._close(kind)
                for line in (title, *(f"  {detail}" for detail in details)):
                    self.line(line)
            case VideosCounted(total):
                self._open("files", "videos", total)
            case Extracted():
                self._file_done(event.error)
            case VideoChecked(problem):
                self._file_done(f"{problem.path}: {problem.detail}" if problem else "")
            case ClipWritten(done, total):
                if "files" not in self.tasks:
                    self._open("files", "clips", total)
                self.bar.update(self.tasks["files"], completed=done)
            case Receiving() | Waiting() | Fetched() | Failed():
                self.transfers.draw(event)
            case Training(title, steps, epochs, log_every):
                self._close("scoring")
                self.epochs, self.log_every = epochs, log_every
                self._open("training", title, steps)
            case StepDone():
                self._step(event)
            case Scoring(title, total):
                self._open("scoring", title, total)
            case VideoScored() | BadVideo():
                self._advance("scoring")
                if isinstance(event, BadVideo):
                    self.line(f"  cannot be read: {reason(event)}")
            case VideosSkipped(videos):
                for video in videos:
                    self.line(f"  skipped: {video.reason}")
            case Validated(epoch, float(top1), _, mean_class, coverage, _, float(low), float(high)):
                accuracy = f"val/top1 {top1:.2%} (95 % interval {100 * low:.1f} to {100 * high:.1f} %), "
                accuracy += f"val/mean_class {mean_class:.2%} on {coverage}"
                self.line(f"  epoch {epoch + 1}: {accuracy}")
            case Validated():
                self.line(f"  epoch {event.epoch + 1}: val/map {event.value:.2%} on {event.coverage}")
            case Probed(features, top1, coverage, low, high):
                reached = f"{100 * top1:.1f} % ({100 * low:.1f} to {100 * high:.1f}) on {coverage}"
                how = "averaged over frames, logistic regression"
                self.line(f"  probe: {features} {how}: {reached}; a training should beat it")
            case Warned(text):
                self.line(f"  warning: {text}")
            case Saved(path, best):
                if best:
                    self.line(f"  best so far: {path}")
                else:
                    self._draw_curves(path.parent)

    def _step(self, event: StepDone) -> None:
        facts = (
            f"epoch {event.epoch + 1}/{self.epochs} loss {event.loss:.3f} "
            + (f"top1 {event.top1:.0%} " if event.top1 is not None else "")
            + f"lr {event.lr:.2g} "
            + f"{event.videos / event.step_sec:.1f} clips/s wait {event.data_sec / event.step_sec:.0%}"
        )
        self._advance("training", facts)
        if not self.console.is_terminal and (event.step % self.log_every == 0 or event.step == event.steps):
            self.line(f"  step {event.step}/{event.steps} of {facts}")

    def _draw_curves(self, run: Path) -> None:
        from tsmcli.report.training import write_curves  # a training has loaded what this needs

        if trouble := write_curves(run):
            self.line(f"  {trouble}")

    def _file_done(self, trouble: str) -> None:
        self._advance("files")
        if trouble:
            self.line(f"  {trouble}")
        self.count += 1
        if not self.console.is_terminal and self.count % 1000 == 0:
            self.line(f"  {self.count} videos")

    def _open(self, kind: str, title: str, total: int) -> None:
        self._close(kind)
        self.tasks[kind] = self.bar.add_task(printable(title), total=total, facts="")

    def _advance(self, kind: str, facts: str = "") -> None:
        if kind in self.tasks:
            self.bar.update(self.tasks[kind], advance=1, facts=facts)

    def _close(self, kind: str) -> None:
        if kind in self.tasks:
            self.bar.remove_task(self.tasks.pop(kind))

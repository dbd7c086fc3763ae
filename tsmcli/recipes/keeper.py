"""Where a training stands, and what of it is on disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

from tsmcli.engine.checkpoint import Checkpoint, Progress, copy_checkpoint, save_checkpoint
from tsmcli.engine.events import StepDone, VideosSkipped
from tsmcli.engine.learner import Learner
from tsmcli.engine.run_log import RunLog
from tsmcli.recipes.events import Saved, Validated
from tsmcli.recipes.train_plan import TrainPlan


class Keeper:
    """Counts steps and validations, and writes log and checkpoints; only process 0 writes."""

    def __init__(
        self, plan: TrainPlan, learner: Learner, run: Path, progress: Progress, thresholds: tuple[float, ...] | None
    ) -> None:
        self.plan, self.learner, self.run, self.progress = plan, learner, run, progress
        self.thresholds = thresholds
        self.log: RunLog | None = None
        self.started = time.monotonic() - progress.seconds
        self.saved = time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or as many validations as `train.patience` were no better than the best."""
        t, p = self.plan.config.train, self.progress
        return p.epoch >= t.epochs or 0 < t.patience <= p.stale

    def note(self, event: StepDone | VideosSkipped) -> None:
        """Count a step, or skipped videos, and log them."""
        p, t = self.progress, self.plan.config.train
        if isinstance(event, StepDone):
            self.progress = replace(p, step=event.step)
            if self.log:
                self.log.step(event, t.log_every, self.plan.device)
            return
        more = len(event.videos)
        self.progress = replace(p, skipped=p.skipped + more, bad=p.bad + more)
        if self.log:
            names = {"epoch": p.epoch, "videos": [video.path for video in event.videos]}
            self.log.write("skipped", names, 0)

    def validated(self, result: Validated, step: int) -> bool:
        """Log a validation; whether it is the best so far."""
        p, best, value = self.progress, self.progress.best_top1, result.value
        improved = best is None or value > best
        best, stale = (value, 0) if improved else (best, p.stale + 1)
        self.progress = replace(p, top1=value, best_top1=best, stale=stale, scored=result.videos)
        self.thresholds = result.thresholds
        if self.log:
            self.log.write("val", asdict(replace(result, thresholds=None)), step)
        return improved

    def save_in_time(self) -> Iterator[Saved]:
        """Write a checkpoint where `train.save_every_minutes` have passed since the last one."""
        minutes = self.plan.config.train.save_every_minutes
        if minutes and time.monotonic() - self.saved >= 60 * minutes:
            yield from self.save(best=False)

    def save(self, *, best: bool) -> Iterator[Saved]:
        """Write `last.pt`, and give it the name `best.pt` too when validation improved."""
        seconds = time.monotonic() - self.started
        if self.log:
            window = tuple(self.log.window)
            self.progress = replace(self.progress, seconds=seconds, log_bytes=self.log.bytes, window=window)
            plan, learner = self.plan, self.learner
            weights = learner.trained.state_dict()
            checkpoint = Checkpoint(
                plan.preset.name, plan.config, plan.classes, self.progress, weights, learner.state(),
                thresholds=self.thresholds,
            )  # fmt: skip
            # The best one first, so that a kill in between leaves it beside an older last one.
            names = ("best.pt", "last.pt") if best else ("last.pt",)
            save_checkpoint(self.run / names[0], checkpoint)
            yield Saved(self.run / names[0], best=best)
            if best:
                copy_checkpoint(self.run / "best.pt", self.run / "last.pt")
                yield Saved(self.run / "last.pt", best=False)
        self.saved = time.monotonic()

"""Train a preset: data, network, epochs, validation, checkpoints; stopped at any time, and resumed exactly."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from tsmcli.core.tsm import TSM, build_model
from tsmcli.core.weights import load_state
from tsmcli.data.dataset import Loader, VideoDataset
from tsmcli.engine.checkpoint import Checkpoint, Progress, copy_checkpoint, load_weights
from tsmcli.engine.device import seed_everything, set_determinism, use_channels_last
from tsmcli.engine.events import StepDone, VideosSkipped
from tsmcli.engine.inference import torch_engine
from tsmcli.engine.learner import Learner, make_learner, take_step
from tsmcli.engine.loop import train_epoch
from tsmcli.engine.processes import ALONE, StopSignals
from tsmcli.engine.run_log import RunLog
from tsmcli.errors import Interrupted, WeightsError
from tsmcli.files import write_text
from tsmcli.metrics import best_thresholds, interval, mean_average_precision, mean_class, top_k
from tsmcli.presets import to_yaml
from tsmcli.recipes.divergence import Divergence
from tsmcli.recipes.ensemble import to_probabilities
from tsmcli.recipes.events import Probed, Saved, Stage, Training, Validated, Warned
from tsmcli.recipes.keeper import Keeper
from tsmcli.recipes.probe_start import probe_start
from tsmcli.recipes.run_folder import (
    check_resumable,
    check_same,
    lock_run,
    make_run_folder,
    newest_checkpoint,
    saved_init,
)
from tsmcli.recipes.score import ScoreEvent, score_split
from tsmcli.recipes.train_plan import TrainPlan, check_disk, describe
from tsmcli.recipes.zoo.published import find_init


@dataclass(frozen=True)
class Trained:
    """The end of a training run.

    Attributes:
        best: the best checkpoint, or the last one where nothing was validated.
        top1, best_top1: of the last and the best validation; None without validation.
        map, best_map: the same where a video may have several labels, in place of the accuracies.
        scored: videos of the last validation.
        skipped: how often a video could not be read.
        seconds: of training, all sittings together.
    """

    run: Path
    last: Path
    best: Path
    top1: float | None
    best_top1: float | None
    scored: int
    skipped: int
    seconds: float
    map: float | None = None
    best_map: float | None = None

    @property
    def value(self) -> float | None:
        """What the last validation measured."""
        return self.top1 if self.map is None else self.map

    @property
    def best_value(self) -> float | None:
        """What the best checkpoint was chosen by."""
        return self.best_top1 if self.best_map is None else self.best_map


TrainEvent = ScoreEvent | Stage | Training | StepDone | VideosSkipped | Probed | Validated | Saved | Warned


def train(
    plan: TrainPlan, *, run: Path | None = None, resume: bool = False, init: str | None = None
) -> Generator[TrainEvent, None, Trained]:
    """Train from starting weights, or from where a run stopped, to the last epoch, validating on the way.

    Args:
        run: folder for the results; default `runs/<preset>/<time>`.
        resume: go on in `run` from its newest whole checkpoint.
        init: `imagenet`, `none`, a file of weights, or a name of the zoo; default what the preset says.

    Raises:
        Interrupted: a signal came; a checkpoint was written before.
        ConfigError, DataError, WeightsError, EnvironmentProblem: see the functions called.
    """
    config, world, order = plan.config, plan.world, plan.order()
    lock = lock_run(run) if resume and run and world.is_main else None
    before, newest, damaged = (resume and run and newest_checkpoint(run)) or (None, None, [])
    init = init or (saved_init(run) if resume and run else None)
    check_same(world, before.progress if before else None, order.num_videos)
    source = "none" if before else (yield from find_init(init or config.model.init, config))
    model, started_from = build_network(plan, source, before)
    learner = make_learner(
        model, config.train, plan.device, world, plan.class_weights, multi_label=config.data.multi_label
    )
    if before and run:
        check_resumable(run, before, plan.preset, plan.classes, order.num_videos, order.total_batch)
        if world.is_main:
            write_text(run / "config.yaml", to_yaml(plan.preset))
            if newest and newest != run / "last.pt":  # a kill came between the two, or the last one is damaged
                copy_checkpoint(newest, run / "last.pt")
        _take_up(learner, before, run)
    elif not resume:
        if world.is_main:
            check_disk(run or Path("runs"), config, len(plan.classes))
            run = make_run_folder(run, plan.preset, plan.device, init)
            lock = lock_run(run)
        run = world.gather(run)[0]
    assert run is not None
    progress = before.progress if before else Progress(total_batch=order.total_batch, videos=order.num_videos)
    keeper = Keeper(plan, learner, run, progress, before.thresholds if before else None)
    if world.is_main:
        done = progress.epoch * order.steps + progress.step
        keeper.log = RunLog(run, at=progress.log_bytes, step=done, window=progress.window)
    facts = (*describe(plan), f"starting from {started_from}", *(f"damaged, not used: {name}" for name in damaged))
    facts += before.notes if before else ()
    yield Stage(f"training {plan.preset.name} in {run}", facts)
    with StopSignals() as signals:
        try:
            if not resume and (probed := (yield from probe_start(plan, source, signals))) and keeper.log:
                keeper.log.write("probe", asdict(probed), 0)
            yield from _epochs(plan, learner, keeper, signals)
        except Interrupted as stop:
            yield from keeper.save(best=False)
            p, hint = keeper.progress, f"tsm train --resume --work-dir {run}   goes on from there"
            said = f"{stop} after {p.epoch} epochs and {p.step} steps; nothing is lost: {run}/last.pt"
            raise Interrupted(said, hint, exit_code=stop.exit_code) from None
        finally:
            if keeper.log:
                keeper.log.close()
            if lock:
                lock.release()
    return _trained(run, keeper.progress, multi_label=config.data.multi_label)


def _trained(run: Path, p: Progress, *, multi_label: bool) -> Trained:
    last, best, ends = run / "last.pt", run / "best.pt", (p.top1, p.best_top1)
    best = best if p.best_top1 is not None else last
    if multi_label:
        return Trained(run, last, best, None, None, p.scored, p.skipped, p.seconds, *ends)
    return Trained(run, last, best, *ends, p.scored, p.skipped, p.seconds)


def _epochs(plan: TrainPlan, learner: Learner, keeper: Keeper, signals: StopSignals) -> Iterator[TrainEvent]:
    config, t, order = plan.config, plan.config.train, plan.order()
    first, cuda = keeper.progress, plan.device.type == "cuda"
    left = (t.epochs - first.epoch) * order.steps - first.step
    divergence = Divergence(t, 2 if config.data.multi_label else len(plan.classes))
    yield Training(plan.preset.name, left, t.epochs, t.log_every)
    with Loader(VideoDataset(plan.train, config, None), stop=lambda: signals.number > 0, pin=cuda) as loader:
        for epoch in range(first.epoch, t.epochs):
            if keeper.is_over:
                yield Stage(f"the last {t.patience} validations were not better than the best one: it ends here")
                break
            order.start(epoch, keeper.progress.step)
            if order.first_step < order.steps:
                for event in train_epoch(
                    learner, loader.batches(order), order, config, signals, bad=keeper.progress.bad
                ):
                    keeper.note(event)
                    yield event
                    if isinstance(event, StepDone):
                        if warning := divergence.warning(event):
                            yield Warned(warning)
                        yield from keeper.save_in_time()
            done, improved = epoch + 1, False
            if t.validation and (done % t.val_every == 0 or done == t.epochs):
                validated = yield from _validate(plan, learner, epoch, signals)
                improved = keeper.validated(validated, done * order.steps)
                yield validated
            keeper.progress = replace(keeper.progress, epoch=done, step=0, bad=0)
            if improved or done % t.save_every == 0 or keeper.is_over:
                yield from keeper.save(best=improved)


def build_network(plan: TrainPlan, init: str, before: Checkpoint | None) -> tuple[TSM, str]:
    """The network on its device, at its starting weights or those of a checkpoint, and in words which."""
    config, seed = plan.config, plan.config.train.seed
    seed_everything(seed)
    set_determinism(config.train.deterministic)
    model = build_model(config, len(plan.classes), seed=seed)
    if before:
        load_state(model, before.model)
        started_from = f"the checkpoint after {before.progress.epoch} epochs and {before.progress.step} steps"
    else:
        started_from = initialise(model, init)
    use_channels_last(model.to(plan.device))
    return model, started_from


def _take_up(learner: Learner, before: Checkpoint, run: Path) -> None:
    try:
        learner.load_state(dict(before.training or {}))
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        hint = f"a new run from its weights: --init {run}/last.pt"
        raise WeightsError(f"{run}: the checkpoint's state of the optimiser is damaged: {error}", hint) from None


def initialise(model: TSM, init: str) -> str:
    """Load starting weights and say in words where they came from."""
    if init == "none":
        return "random weights"
    report = load_weights(model, init, new_classifier=True)
    return f"{init} ({report.summary().splitlines()[0]}, new classifier)"


def _validate(
    plan: TrainPlan, learner: Learner, epoch: int, signals: StopSignals
) -> Generator[ScoreEvent, None, Validated]:
    """Score the validation list; yields an event a video and returns the accuracies."""
    assert plan.val is not None
    config, world, model = plan.config, plan.world, learner.trained
    world.share(list(model.buffers()))
    engine = torch_engine(model.eval(), plan.device, many=True)
    results = yield from score_split(engine, plan.val, config, config.val, {}, world=world, signals=signals)
    scores, labels = results.scores, results.labels
    if results.multi_label:
        cuts = tuple(best_thresholds(to_probabilities(results).scores, labels))
        value = mean_average_precision(scores, labels) if labels.any() else 0.0
        return Validated(epoch, None, None, None, results.coverage, len(labels), None, None, value, cuts)
    top5 = top_k(scores, labels, 5) if scores.shape[1] > 5 else None
    top1 = top_k(scores, labels)
    ends = interval(top1, len(labels))
    return Validated(epoch, top1, top5, mean_class(scores, labels), results.coverage, len(labels), *ends)


def fits(plan: TrainPlan, batch: int) -> None:
    """Take one real step with a batch, to see whether it fits into the memory of the device.

    Raises:
        torch.OutOfMemoryError: it does not.
    """
    config, device = plan.config, plan.device
    torch.cuda.empty_cache()  # what an attempt before this one left
    model = build_model(config, len(plan.classes), seed=0)
    use_channels_last(model.to(device))
    learner = make_learner(model.train(), config.train, device, ALONE)  # another process may fit more
    size = config.augment.crop_px
    clips = torch.zeros(batch, config.model.num_segments, 3, size, size, device=device)
    take_step(learner, [(clips, torch.zeros(batch, dtype=torch.int64, device=device))], batch)

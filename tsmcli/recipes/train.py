"""Train a preset: data, network, epochs, validation, checkpoints."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tsmcli.config import Config
from tsmcli.core.tsm import TSM, build_model
from tsmcli.data.dataset import BadVideo, VideoDataset, train_loader
from tsmcli.data.decode import check_decoder
from tsmcli.data.location import Places, Split, find_classes, find_split, write_text
from tsmcli.data.shards import TrainOrder
from tsmcli.engine.checkpoint import Checkpoint, imagenet_weights, load_weights, save_checkpoint
from tsmcli.engine.loop import StepDone, VideosSkipped, train_epoch
from tsmcli.engine.optim import lr_factor, make_optimizer, scaled_lr, set_lr
from tsmcli.engine.runtime import choose_device, environment, seed_everything, use_channels_last
from tsmcli.engine.scores import VideoScored
from tsmcli.errors import ConfigError
from tsmcli.metrics import mean_class, top_k
from tsmcli.presets import Preset, to_yaml
from tsmcli.recipes.events import Saved, Scoring, Stage, Training, Validated
from tsmcli.recipes.score import ScoreEvent, score_split


@dataclass(frozen=True)
class Trained:
    """The end of a training run; `top1` is of the last validation, `skipped` counts unreadable videos."""

    run: Path
    last: Path
    best: Path
    top1: float
    best_top1: float
    skipped: int
    seconds: float


TrainEvent = (
    Stage | Training | StepDone | VideosSkipped | Scoring | VideoScored | BadVideo | Validated | Saved | Trained
)


def train(
    preset: Preset,
    places: Places,
    *,
    device_name: str = "auto",
    run: Path | None = None,
    init: str | None = None,
) -> Iterator[TrainEvent]:
    """Train a preset from its starting weights to its last epoch, validating on the way.

    Everything that can fail early (lists, labels, class names, device) is checked before anything is built.

    Args:
        run: folder for the results; default `runs/<preset>/<time>`.
        init: `imagenet`, `none`, or a file of weights; default what the preset says.

    Raises:
        ConfigError, DataError, WeightsError, EnvironmentProblem: see the functions called.
    """
    config, started = preset.config, time.perf_counter()
    device = choose_device(device_name)
    check_decoder(config.data)
    classes = find_classes(config.data, places)
    check_classes(config, classes)
    train_split = find_split(config.data, places, "train", len(classes))
    val_split = find_split(config.data, places, "val", len(classes))

    model, started_from = build_network(config, len(classes), init or config.model.init, device)
    lr = scaled_lr(config.train)
    optimizer = make_optimizer(model, config.train, lr)
    order = TrainOrder(len(train_split.records), seed=config.train.seed)
    loader = train_loader(VideoDataset(train_split, config, None), order)

    run = make_run_folder(run, preset)
    log = run / "log.jsonl"
    facts = describe_run(config, train_split, val_split, device, lr, started_from)
    yield Stage(f"training {preset.name} in {run}", facts)
    yield Training(preset.name, len(loader) * config.train.epochs, config.train.epochs, config.train.log_every)
    best, top1, skipped = -1.0, 0.0, 0
    for epoch in range(config.train.epochs):
        order.set_epoch(epoch)
        set_lr(optimizer, lr_factor(config.train, epoch))
        for event in train_epoch(model, optimizer, loader, config, device, epoch):
            if isinstance(event, VideosSkipped):
                skipped += len(event.videos)
            log_training(log, event, epoch, config.train.log_every)
            yield event
        done, improved = epoch + 1, False
        if done % config.train.val_every == 0 or done == config.train.epochs:
            validated = yield from validate(model, val_split, config, device, epoch)
            write_log(log, "val", asdict(validated))
            yield validated
            top1 = validated.top1
            best, improved = max(best, top1), top1 > best
        if improved or done % config.train.save_every == 0 or done == config.train.epochs:
            state, momentum = model.state_dict(), optimizer.state_dict()
            checkpoint = Checkpoint(
                preset.name, config, classes, done, best if best >= 0 else None, state, momentum
            )
            yield from save(run, checkpoint, improved=improved)
    yield Trained(run, run / "last.pt", run / "best.pt", top1, best, skipped, time.perf_counter() - started)


def build_network(config: Config, num_classes: int, init: str, device: torch.device) -> tuple[TSM, str]:
    """The network at its starting weights, on its device, and in words where they came from."""
    seed_everything(config.train.seed)
    model = build_model(config, num_classes, seed=config.train.seed)
    started_from = initialise(model, config, init)
    use_channels_last(model.to(device))
    return model, started_from


def validate(
    model: TSM, split: Split, config: Config, device: torch.device, epoch: int
) -> Generator[ScoreEvent, None, Validated]:
    """Score the validation list; yields an event a video and returns the accuracies."""
    results = yield from score_split(model, split, config, config.val, device, {})
    scores, labels = results.scores, results.labels
    top5 = top_k(scores, labels, 5) if scores.shape[1] > 5 else None
    return Validated(epoch, top_k(scores, labels), top5, mean_class(scores, labels), results.coverage)


def log_training(log: Path, event: StepDone | VideosSkipped, epoch: int, log_every: int) -> None:
    """Log every n-th step, the last step of an epoch, and every video that was skipped."""
    if isinstance(event, VideosSkipped):
        write_log(log, "skipped", {"epoch": epoch, "videos": [video.path for video in event.videos]})
    elif event.step % log_every == 0 or event.step == event.steps:
        write_log(log, "train", asdict(event))


def save(run: Path, checkpoint: Checkpoint, *, improved: bool) -> Iterator[Saved]:
    """Write `last.pt`, and `best.pt` when validation improved."""
    for name in ("last.pt", "best.pt") if improved else ("last.pt",):
        save_checkpoint(run / name, checkpoint)
        yield Saved(run / name, best=name == "best.pt")


def check_classes(config: Config, classes: list[str]) -> None:
    """Raise ConfigError where the preset and the class names disagree about K."""
    if config.model.num_classes not in (None, len(classes)):
        raise ConfigError(
            f"model.num_classes is {config.model.num_classes}, but there are {len(classes)} class names"
        )


def initialise(model: TSM, config: Config, init: str) -> str:
    """Load starting weights and say in words where they came from."""
    if init == "none":
        return "random weights"
    source = imagenet_weights(config) if init == "imagenet" else init
    report = load_weights(model, source, new_classifier=True)
    return f"{init} ({report.summary().splitlines()[0]}, new classifier)"


def describe_run(
    config: Config, train_split: Split, val_split: Split, device: torch.device, lr: float, started_from: str
) -> tuple[str, ...]:
    """The facts to know before the first step."""
    t = config.train
    scaling = (
        f"{t.lr:g} for a batch of {t.lr_batch}, scaled to {lr:g} for {t.batch}"
        if t.batch != t.lr_batch
        else f"{lr:g}"
    )
    return (
        f"{len(train_split.records)} training videos ({train_split.list_file}), "
        f"{len(val_split.records)} validation videos ({val_split.list_file})",
        f"starting from {started_from}",
        f"device {device}, {t.epochs} epochs, batch {t.batch}, learning rate {scaling}",
    )


def make_run_folder(run: Path | None, preset: Preset) -> Path:
    """Create the folder of a run, with its configuration and environment."""
    if run is None:
        base = Path("runs") / preset.name / time.strftime("%Y%m%d-%H%M%S")
        base.parent.mkdir(parents=True, exist_ok=True)
        run = _new_folder(base)
    if (run / "config.yaml").exists():
        raise ConfigError(f"{run} already holds a run", hint="choose another --work-dir")
    run.mkdir(parents=True, exist_ok=True)
    write_text(run / "config.yaml", to_yaml(preset))
    write_text(run / "environment.json", json.dumps(environment(), indent=2) + "\n")
    return run


def _new_folder(base: Path) -> Path:
    """`base`, or `base-1`, ... : the first that this process could make."""
    for i in range(1000):
        folder = base.with_name(base.name + (f"-{i}" if i else ""))
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise ConfigError(f"{base} and a thousand more exist already", hint="choose --work-dir")


def write_log(path: Path, kind: str, values: dict[str, Any]) -> None:
    """Append one JSON object, its keys prefixed with `train/` or `val/`."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({f"{kind}/{key}": value for key, value in values.items()}) + "\n")

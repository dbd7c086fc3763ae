"""tsm train"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option

from tsmcli.cli.shared import Classes, Data, Device, Gpus, Json, Media, Root, Set, TrainList, ValList
from tsmcli.errors import ConfigError, EnvironmentProblem, UsageError
from tsmcli.report.tables import percent, print_json, print_line

if TYPE_CHECKING:
    from tsmcli.data.location import Places
    from tsmcli.presets import Preset
    from tsmcli.recipes.several import Several
    from tsmcli.recipes.train import Trained
    from tsmcli.recipes.train_plan import TrainPlan

Flag = bool | None
OPTIONS = {
    "batch": "train.batch", "precision": "train.precision", "compile": "train.compile", "sync_bn": "train.sync_bn",
    "scale_lr": "train.scale_lr", "seed": "train.seed", "deterministic": "train.deterministic",
    "validate": "train.validation", "save_every_minutes": "train.save_every_minutes",
}  # fmt: skip
"""Options that are a short way to write `--set KEY=VALUE`."""


def train(
    preset: Annotated[str | None, Option(help="Preset name, MMAction2 config name, or a .yaml file.")] = None,
    sets: Set = None,
    data_root: Root = Path("data"),
    data: Data = None,
    train_list: TrainList = None,
    val_list: ValList = None,
    media: Media = None,
    classes: Classes = None,
    init: Annotated[
        str | None,
        Option("--init", "--checkpoint", help="Starting weights: imagenet, none, a file or an id of tsm zoo ls."),
    ] = None,
    work_dir: Annotated[Path | None, Option(help="Folder of the run.", show_default="runs/PRESET/TIME")] = None,
    resume: Annotated[
        bool, Option("--resume", help="Go on with the run in --work-dir, or the preset's newest run.")
    ] = False,
    device: Device = "auto",
    gpus: Gpus = 1,
    batch: Annotated[str | None, Option(help="Videos per process, or auto: as many as fit.")] = None,
    precision: Annotated[str | None, Option(help="auto, fp32, tf32, bf16 or fp16.")] = None,
    compile: Annotated[Flag, Option("--compile", help="torch.compile the network.")] = None,
    sync_bn: Annotated[Flag, Option("--sync-bn", help="Batch norm over all GPUs.")] = None,
    scale_lr: Annotated[
        Flag, Option("--scale-lr/--no-scale-lr", help="Scale the learning rate to the total batch.")
    ] = None,
    seed: Annotated[int | None, Option(help="Of everything random.")] = None,
    deterministic: Annotated[Flag, Option("--deterministic", help="Deterministic GPU operations.")] = None,
    validate: Annotated[Flag, Option("--validate/--no-validate", help="Validate.", show_default="yes")] = None,
    save_every_minutes: Annotated[float | None, Option(help="Minutes between checkpoints.")] = None,
    test_last: Annotated[bool, Option("--test-last", help="Test the last checkpoint afterwards.")] = False,
    test_best: Annotated[bool, Option("--test-best", help="Test the best checkpoint afterwards.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Say all that would happen; do nothing.")] = False,
    fast_dev_run: Annotated[
        bool, Option("--fast-dev-run", help="Two steps and four validation videos, to see that it works.")
    ] = False,
    overfit: Annotated[int, Option(min=0, help="Train and validate on the first N videos only.")] = 0,
    folds: Annotated[int, Option(min=0, help="Cross-validation: each N-th of all videos validates once.")] = 0,
    group: Annotated[
        str | None, Option(help="Videos whose names this regular expression finds the same text in share a fold.")
    ] = None,
    splits: Annotated[
        list[str] | None,
        Option(help="Train once for each word, which takes the place of {} in the lists' names, or is data.split."),
    ] = None,
    seeds: Annotated[int, Option(min=1, help="Train with so many seeds, from train.seed on.")] = 1,
    as_json: Json = False,
) -> None:
    """Train a preset, validating on the way. Ctrl-C writes a checkpoint; --resume goes on from it.

    Example: tsm train --preset r50-sthv1-flip --set train.batch=16
    """
    from tsmcli.data.location import Places
    from tsmcli.engine.processes import ALONE, joined, launched
    from tsmcli.presets import override

    given = {name: value for name, value in locals().items() if name in OPTIONS and value is not None}
    restarted = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
    if batch == "auto":
        del given["batch"]
    overrides = [*(sets or ()), *(f"{OPTIONS[name]}={_text(value)}" for name, value in given.items())]
    resolved, run = choose_run(preset, overrides, work_dir, resume=resume, restarted=restarted)
    where = Places(data_root, data, train_list=train_list, val_list=val_list, media=media, classes=classes)

    from tsmcli.recipes.several import a_training, train_several
    from tsmcli.recipes.train import train as run_training
    from tsmcli.recipes.train_plan import make_train_plan
    from tsmcli.report.progress import follow
    from tsmcli.report.training import print_several

    begun = run is not None and (run / "config.yaml").is_file()
    again = resume or (restarted and begun)
    several = choose_several(run if again else None, folds, group, splits, seeds)
    if several.asked and (test_last or test_best or overfit or fast_dev_run or (dry_run and several.folds)):
        raise UsageError("--folds, --splits and --seeds train several times; leave out what is for one training")
    first, places = a_training(several, resolved, where)
    if gpus > 1 and not launched() and not dry_run:
        from tsmcli.engine.device import choose_device
        from tsmcli.engine.launch import launch

        # mistakes are found before processes are started, so that each is told once
        make_train_plan(first, places, choose_device(device), ALONE, overfit=overfit, quick=fast_dev_run)
        raise typer.Exit(launch(gpus, device, sys.argv[1:]))
    with joined(device) as (world, at):
        plan = make_train_plan(first, places, at, world, overfit=overfit, quick=fast_dev_run)
        if batch == "auto" and not begun:  # a resumed run keeps what was found
            plan = with_largest_batch(plan)
        if dry_run:
            say_plan(plan, gpus, as_json)
            return
        if several.asked:
            batch_found = override(resolved.config, [f"train.batch={plan.config.train.batch}"])
            resolved = replace(resolved, config=batch_found)
            all_runs = train_several(several, resolved, where, at, world, run=run, resume=again, init=init)
            ended = follow(all_runs, quiet=not world.is_main)
            if world.is_main:
                print_several(ended, as_json=as_json)
            return
        done = follow(run_training(plan, run=run, resume=again, init=init), quiet=not world.is_main)
    if world.is_main:
        wanted = [name for name, asked in (("last", test_last), ("best", test_best)) if asked]
        finish(done, where, {name: test_checkpoint(getattr(done, name), where, device) for name in wanted}, as_json)


def choose_run(
    preset: str | None, overrides: Sequence[str], work_dir: Path | None, *, resume: bool, restarted: bool
) -> tuple[Preset, Path | None]:
    """The configuration and the run folder: new ones, or those of the run to go on with.

    A process that torchrun started again after a failure goes on with the run that it had, if that got so far.
    """
    from tsmcli.presets import resolve
    from tsmcli.recipes.run_folder import find_run, saved_config, saved_preset_name

    if not resume and not restarted:
        if preset is None:
            raise UsageError("which preset?", hint="--preset NAME; tsm presets ls lists them")
        return resolve(preset, overrides), work_dir
    if work_dir is None and preset is None:
        raise UsageError("which run?", hint="--resume --work-dir RUN, or --resume --preset NAME for its newest run")
    try:
        launch = os.environ.get("TORCHELASTIC_RUN_ID") if restarted else None
        run = work_dir or find_run(resolve(str(preset)).name, launch=launch)
        found = resolve(str(saved_config(run)), overrides, of_run=True)
    except ConfigError:
        if resume or preset is None:
            raise
        return resolve(preset, overrides), work_dir  # the failure came before the run had a folder
    return replace(found, name=saved_preset_name(run)), run


def say_plan(plan: TrainPlan, gpus: int, as_json: bool) -> None:
    """Print all that a training would do, for the first of `gpus` processes, which are not started."""
    from tsmcli.engine.optim import scaled_lr
    from tsmcli.engine.processes import World
    from tsmcli.presets import leaves
    from tsmcli.recipes.train_plan import dry_run
    from tsmcli.report.training import print_dry_run

    if gpus > 1:
        plan = replace(plan, world=World(0, gpus), lr=scaled_lr(plan.config.train, gpus))
    result = dry_run(plan, tuple((key, value, plan.preset.origins[key]) for key, value in leaves(plan.config)))
    if as_json:
        print_json(asdict(result))
    else:
        print_dry_run(result)


def choose_several(
    run: Path | None, folds: int, group: str | None, splits: Sequence[str] | None, seeds: int
) -> Several:
    """The trainings that are asked for, or those of the run to go on with."""
    from tsmcli.recipes.several import Several, saved_several

    asked = Several(folds=folds, group=group, splits=tuple(splits or ()), seeds=seeds)
    saved = saved_several(run) if run else None
    if run and (above := saved_several(run.parent)) and above.folds:  # its lists are not those of the dataset
        raise ConfigError(f"{run} is one of several folds", f"tsm train --resume --work-dir {run.parent}")
    if run and asked.asked and asked != saved:
        hint = f"tsm train --resume --work-dir {run}   goes on with what it has"
        raise ConfigError(f"{run} has other folds, splits or seeds", hint)
    return saved or asked


def with_largest_batch(plan: TrainPlan) -> TrainPlan:
    """The plan with the largest batch that fits, found by estimate, and on a GPU by real steps."""
    from functools import partial

    from tsmcli.engine.memory import free_memory, largest_batch
    from tsmcli.engine.optim import scaled_lr
    from tsmcli.presets import override
    from tsmcli.recipes.train import fits

    free = free_memory(plan.device)
    if free is None:
        raise EnvironmentProblem("this system does not say how much memory is free", hint="--batch N")
    trial = partial(fits, plan) if plan.device.type == "cuda" else None
    found = min(plan.world.gather(largest_batch(plan.config, len(plan.classes), free, trial)))
    found = min(found, max(1, len(plan.train.records) // plan.world.size))
    config = override(plan.config, [f"train.batch={found}"])
    origins = {**plan.preset.origins, "train.batch": "--batch auto"}
    preset = replace(plan.preset, config=config, origins=origins)
    return replace(plan, preset=preset, lr=scaled_lr(config.train, plan.world.size))


def test_checkpoint(checkpoint: Path, where: Places, device: str) -> dict[str, Any]:
    """Metrics of a checkpoint under its preset's test protocol; the scores are saved beside it."""
    from tsmcli.recipes.evaluate import summarise
    from tsmcli.recipes.test import test
    from tsmcli.report.progress import follow

    tested = follow(test(checkpoint, None, where, device_name=device))
    metrics = ["map"] if tested.results.multi_label else ["top_k", "mean_class"]
    result = summarise(tested.results, metrics, None, str(tested.files[0]))
    return {**result.values, "protocol": result.protocol, "videos": result.coverage, "scores": result.source}


def finish(done: Trained, where: Places, tests: dict[str, dict[str, Any]], as_json: bool) -> None:
    """Print what came out, and what to do next."""
    if as_json:
        print_json({**asdict(done), "seconds": round(done.seconds, 1), "tests": tests})
        return
    if done.top1 is not None and done.best_top1 is not None:
        print_line(f"val/top1 {percent(done.top1)} after the last epoch, {percent(done.best_top1)} at best")
    if done.map is not None and done.best_map is not None:
        print_line(f"val/map {percent(done.map)} after the last epoch, {percent(done.best_map)} at best")
    if done.skipped:
        print_line(f"{done.skipped} times a video could not be read and was skipped; log.jsonl names them")
    best = ", best.pt" if done.best != done.last else ""
    files = f"config.yaml, log.jsonl, curves.png, TensorBoard events, last.pt{best}"
    print_line(f"{done.run}: {files} ({done.seconds:.0f} s)")
    for name, result in tests.items():
        words = {"top1": "top-1", "mean_class": "mean class", "map": "mAP", "f1": "F1"}
        accuracy = ", ".join(f"{word} {percent(result[key])}" for key, word in words.items() if key in result)
        print_line(f"{name}.pt tested with {result['protocol']}: {accuracy} on {result['videos']}")
    print_line(f"next:  tsm test --checkpoint {done.best}{_data_options(where)}")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _data_options(where: Places) -> str:
    """The options that `tsm test` needs to find the same data."""
    root = where.data_root if where.data_root != Path("data") else None
    given = {"--data-root": root, "--data": where.folder, "--list": where.val_list, "--media": where.media}
    return "".join(f" {option} {shlex.quote(str(value))}" for option, value in given.items() if value)

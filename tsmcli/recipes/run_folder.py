"""The folder of a training run: made anew, or found again to go on in."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from tsmcli.engine.checkpoint import Checkpoint, Progress, open_checkpoint
from tsmcli.engine.device import environment
from tsmcli.engine.processes import World
from tsmcli.errors import ConfigError, EnvironmentProblem, WeightsError
from tsmcli.files import write_text
from tsmcli.presets import Preset, diff, to_yaml

CHANGEABLE = {
    "about", "source", "data.store", "data.decoder", "data.timeout_sec", "data.max_pixels", "data.max_frames",
    "data.max_sec", "data.max_bytes", "train.epochs", "train.schedule", "train.lr_steps", "train.batch",
    "train.accumulate", "train.max_bad_videos", "train.workers", "train.compile", "train.recompute",
    "train.validation", "train.patience", "train.val_every", "train.save_every", "train.save_every_minutes",
    "train.log_every", "train.probe",
}  # fmt: skip
"""Keys that a resumed run may have other values of: they change neither the network nor what was trained so far."""

RUNS = Path("runs")


def lock_run(run: Path) -> FileLock | None:
    """Keep other processes from training in a folder; see `take_lock`."""
    return take_lock(run / ".lock", f"{run} is being trained by another process")


def take_lock(path: Path, busy: str) -> FileLock | None:
    """Keep other processes from the same work until the lock is released; None where there are no locks.

    Args:
        busy: what to say if another process has it.

    Raises:
        ConfigError: another process has it.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigError(busy, hint="wait for it, or stop it") from None
    except (OSError, NotImplementedError):  # some network file systems
        return None
    return lock


def make_run_folder(
    run: Path | None, preset: Preset, device: torch.device, init: str | None, notes: Mapping[str, str] | None = None
) -> Path:
    """Create the folder of a run, with its configuration, its environment, and where its weights start.

    Args:
        notes: names and texts of other files, which are there when the configuration is.

    Raises:
        ConfigError: it holds a run already.
    """
    if run is None:
        base = RUNS / preset.name / time.strftime("%Y%m%d-%H%M%S")
        base.parent.mkdir(parents=True, exist_ok=True)
        run = _new_folder(base)
    if (run / "config.yaml").exists():
        raise ConfigError(f"{run} already holds a run", hint="choose another --work-dir, or go on in it: --resume")
    run.mkdir(parents=True, exist_ok=True)
    for name, text in (notes or {}).items():
        write_text(run / name, text)
    write_text(run / "config.yaml", to_yaml(preset))
    facts = environment(device) | {"launch": os.environ.get("TORCHELASTIC_RUN_ID"), "init": init}
    write_text(run / "environment.json", json.dumps(facts, indent=2) + "\n")
    return run


def find_run(preset_name: str, *, launch: str | None = None) -> Path:
    """The newest run of a preset below `runs/`, or of a launcher with this id; ConfigError without one."""
    configs = sorted((RUNS / preset_name).glob("*/config.yaml"), key=lambda path: path.stat().st_mtime)
    runs = [path.parent for path in configs if not launch or _facts(path.parent).get("launch") == launch]
    if not runs:
        wanted = f"no run of {preset_name} in {RUNS / preset_name} to resume"
        raise ConfigError(wanted, "--work-dir RUN says which")
    return runs[-1]


def saved_init(run: Path) -> str | None:
    """What a run was told to start from, if it was."""
    init = _facts(run).get("init")
    return init if isinstance(init, str) else None


def newest_checkpoint(run: Path) -> tuple[Checkpoint, Path, list[str]] | None:
    """The checkpoint of a run that is furthest on, its file, and what is wrong with damaged ones; None: none yet.

    Raises:
        WeightsError: there are checkpoints and none is whole.
    """
    whole: list[tuple[Checkpoint, Path]] = []
    damaged: list[str] = []
    for path in filter(Path.exists, (run / "last.pt", run / "best.pt")):
        try:
            checkpoint = open_checkpoint(path)
            if checkpoint and checkpoint.training:
                whole.append((checkpoint, path))
        except WeightsError as error:
            damaged.append(str(error))
    if damaged and not whole:
        raise WeightsError("; ".join(damaged), hint="no checkpoint of this run is whole: start a new one")
    if not whole:
        return None
    newest = max(whole, key=lambda one: (one[0].progress.epoch, one[0].progress.step))
    return *newest, damaged


def check_resumable(
    run: Path, before: Checkpoint, preset: Preset, classes: list[str], videos: int, total_batch: int
) -> None:
    """Raise ConfigError for another network, another list, or another total batch than the run had."""
    if others := [d for d in diff(before.config, preset.config) if d[0] not in CHANGEABLE]:
        lines = "\n".join(f"  {key}: {was} in the run, {now} now" for key, was, now in others)
        hint = f"leave them out, or start a new run from its weights: --init {run}/last.pt"
        raise ConfigError(f"{run} cannot be resumed with other values of\n{lines}", hint)
    if before.class_names != classes:
        raise ConfigError(f"{run} was trained on other classes than the data have now")
    if before.progress.videos != videos:
        wrong = f"{run} was trained on a list of {before.progress.videos} videos; now there are {videos}"
        hint = "give the same --data-root, --data, --train-list, --overfit and --fast-dev-run as before"
        raise ConfigError(wrong, hint)
    if before.progress.total_batch != total_batch:
        wrong = f"{run} has {before.progress.total_batch} videos per step; now it would have {total_batch}"
        hint = "choose --gpus, train.batch and train.accumulate so that their product is the same"
        raise ConfigError(wrong, hint)


def check_same(world: World, progress: Progress | None, videos: int) -> None:
    """Refuse to mix trainings: EnvironmentProblem unless all processes see one checkpoint and one list."""
    seen = world.gather((progress, videos))
    if other := next((rank for rank, one in enumerate(seen) if one != seen[0]), None):
        told = [
            f"process {rank} has {count} training videos and "
            + (f"a checkpoint after {p.epoch} epochs and {p.step} steps" if p else "no checkpoint")
            for rank, (p, count) in ((0, seen[0]), (other, seen[other]))
        ]
        hint = "lists and the folder of the run must be the same for all machines, on a disk that they share"
        raise EnvironmentProblem(f"the processes of this run see different things: {'; '.join(told)}", hint)


def saved_config(run: Path) -> Path:
    """The configuration file of a run; ConfigError where there is none."""
    path = run / "config.yaml"
    if not path.is_file():
        raise ConfigError(f"{run} holds no run: there is no config.yaml")
    return path


def saved_preset_name(run: Path) -> str:
    """The preset that a run was started with."""
    first = saved_config(run).read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("# ").partition(",")[0] or "config"


def _facts(run: Path) -> dict[str, Any]:
    try:
        facts = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


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

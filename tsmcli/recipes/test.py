"""Test a checkpoint on the validation list of its dataset, under a named protocol."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tsmcli.config import PROTOCOLS, Config, Views
from tsmcli.core.tsm import TSM, build_model
from tsmcli.data.location import Places, find_classes, find_split
from tsmcli.engine.checkpoint import is_checkpoint, load_checkpoint, load_weights, read_checkpoint
from tsmcli.engine.runtime import choose_device, environment, use_channels_last
from tsmcli.errors import UsageError, WeightsError
from tsmcli.presets import Preset
from tsmcli.recipes.events import Stage
from tsmcli.recipes.score import ScoreEvent, score_split
from tsmcli.recipes.train import check_classes
from tsmcli.results import Results, check_suffix, save_results


@dataclass(frozen=True)
class Tested:
    """The scores of a list, and the files they were written to."""

    results: Results
    files: tuple[Path, ...]


def test(
    checkpoint: Path,
    preset: Preset | None,
    places: Places,
    *,
    protocol: str | None = None,
    device_name: str = "auto",
    out: Path | None = None,
) -> Iterator[Stage | ScoreEvent | Tested]:
    """Score every video of the validation list and save the scores.

    Args:
        checkpoint: one of our checkpoints, or a weight file in any known layout (then `preset` is needed).
        preset: what to test with; default the checkpoint's own configuration.
        protocol: a name of `config.PROTOCOLS`, `val` or `test` (the preset's own); default `test`.
        out: an extra copy of the scores, `.npz` or `.json`.

    Raises:
        ConfigError, DataError, WeightsError, EnvironmentProblem, UsageError: see the functions called.
    """
    if out:
        check_suffix(out)
    config, name, own_classes = describe_checkpoint(checkpoint, preset)
    views = choose_protocol(config, protocol)
    device = choose_device(device_name)
    classes = own_classes or find_classes(config.data, places)
    check_classes(config, classes)
    split = find_split(config.data, places, "val", len(classes))
    model = load_network(checkpoint, config, len(classes))
    use_channels_last(model.to(device))
    started = time.perf_counter()
    yield Stage(
        f"testing {checkpoint} on {split.list_file}",
        (f"{len(split.records)} videos, protocol {views.name}: {views.clips} clips x {views.crops} crops of "
         f"{views.crop_px} px, {config.model.num_segments} frames, {views.sampling} sampling, device {device}",),
    )  # fmt: skip
    meta = {
        "preset": name,
        "checkpoint": str(checkpoint),
        "sha256": sha256(checkpoint),
        "list": str(split.list_file),
        "num_segments": config.model.num_segments,
        "class_names": classes,
        "environment": environment(),
    }
    results = yield from score_split(model, split, config, views, device, meta)
    results.meta["seconds"] = round(time.perf_counter() - started, 3)
    files = (results_file(checkpoint, name, views), *([out] if out else []))
    for file in files:
        save_results(file, results)
    yield Tested(results, files)


def describe_checkpoint(path: Path, preset: Preset | None) -> tuple[Config, str, list[str]]:
    """The configuration to test with, its name, and the class names if the checkpoint has them.

    Raises:
        WeightsError: bare weights without a preset, or a preset with another network than the checkpoint's.
    """
    if not is_checkpoint(path):
        if preset is None:
            raise WeightsError(f"{path} does not say which network it is of", hint="add --preset NAME")
        return preset.config, preset.name, []
    checkpoint = read_checkpoint(path)
    if preset is None:
        return checkpoint.config, checkpoint.preset, checkpoint.class_names
    ours, theirs = (
        c.model.model_dump(exclude={"dropout", "init", "num_classes"}) for c in (checkpoint.config, preset.config)
    )
    wrong = [f"{key} {ours[key]}, not {theirs[key]}" for key in ours if ours[key] != theirs[key]]
    if wrong:
        raise WeightsError(
            f"{path} is of another network than preset {preset.name}: it has {', '.join(wrong)}",
            hint="leave --preset out: the checkpoint knows its own configuration",
        )
    return preset.config, preset.name, checkpoint.class_names


def choose_protocol(config: Config, name: str | None) -> Views:
    """The views of a protocol name; `val`, `test` and None are the preset's own.

    Raises:
        UsageError: no such protocol.
    """
    own = {None: config.test, "test": config.test, "val": config.val}
    if name in own:
        return own[name]
    if name not in PROTOCOLS:
        raise UsageError(
            f"no protocol named {name!r}", hint=f"choose from {', '.join([*PROTOCOLS, 'val', 'test'])}"
        )
    return PROTOCOLS[name]


def load_network(path: Path, config: Config, num_classes: int) -> TSM:
    """The network with the weights of a file, in evaluation mode."""
    if is_checkpoint(path):
        return load_checkpoint(path)[0]
    model = build_model(config, num_classes)
    load_weights(model, path)
    return model.eval()


def results_file(checkpoint: Path, name: str, views: Views) -> Path:
    """Beside a checkpoint of one of our runs, else in a run folder of its own."""
    if (checkpoint.parent / "config.yaml").exists():
        folder = checkpoint.parent
    else:
        folder = Path("runs") / name / f"{time.strftime('%Y%m%d-%H%M%S')}-test"
    return folder / f"scores-{checkpoint.stem}-{views.name}.npz"


def sha256(path: Path) -> str:
    """Hash of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

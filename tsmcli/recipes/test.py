"""Test a checkpoint on the validation list of its dataset, under a named protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from tsmcli.config import PROTOCOLS, Config, Views
from tsmcli.core.tsm import TSM, build_model
from tsmcli.core.weights import load_state
from tsmcli.data.decode import check_decoder
from tsmcli.data.location import Places, Split, dataset_folder, find_classes, find_split
from tsmcli.engine.checkpoint import Checkpoint, load_weights, open_checkpoint
from tsmcli.engine.device import choose_device, environment, for_inference
from tsmcli.engine.processes import ALONE, StopSignals, World
from tsmcli.errors import DataError, Interrupted, UsageError, WeightsError
from tsmcli.files import sha256, write_text
from tsmcli.presets import Preset, override
from tsmcli.recipes.evaluate import LATEST, check_topk
from tsmcli.recipes.events import Stage
from tsmcli.recipes.score import PartialScores, ScoreEvent, score_split
from tsmcli.recipes.train_plan import check_classes
from tsmcli.recipes.zoo.published import find_checkpoint
from tsmcli.results import Results, check_writable, save_results


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
    overrides: Sequence[str] = (),
    protocol: str | None = None,
    device_name: str = "auto",
    out: Path | None = None,
    average: Literal["prob", "score"] | None = None,
    topk: Sequence[int] = (),
    world: World = ALONE,
) -> Iterator[Stage | ScoreEvent | Tested]:
    """Score every video of the validation list and save the scores.

    Scores are kept video by video on the way; the same test, started again after it was stopped, goes on from them.

    Args:
        checkpoint: one of our checkpoints, a name of the zoo, or a weight file in any known layout (which needs
            `preset`).
        preset: what to test with; default the checkpoint's own configuration.
        overrides: `key=value` strings that change the checkpoint's configuration, such as data.store=zip.
        protocol: a name of `config.PROTOCOLS`, `val` or `test` (the preset's own); default `test`.
        out: an extra copy of the scores, `.npz`, `.json` or `.csv`.
        average: of views, instead of the protocol's own.
        topk: will be asked of the scores; checked before there are any.
        world: this process among those that share the test.

    Raises:
        Interrupted: a signal came.
        ConfigError, DataError, WeightsError, EnvironmentProblem, UsageError: see the functions called.
    """
    if out and world.is_main:
        check_writable(out)
    checkpoint, preset = yield from find_checkpoint(checkpoint, preset, overrides)
    own = open_checkpoint(checkpoint)
    config, name = choose_config(checkpoint, own, preset, overrides)
    views = choose_protocol(config, protocol)
    if average:
        views = views.model_copy(update={"average": average})
    device = choose_device(device_name)
    check_decoder(config.data)
    classes = choose_classes(config, places, own)
    check_topk(topk, len(classes))
    split = find_split(config.data, places, "val", len(classes))
    model = load_network(checkpoint, own, config, classes)
    model = for_inference(model, device)
    facts = (describe(config, views, split, device), *(own.notes if own else ()))
    yield Stage(f"testing {checkpoint} on {split.list_file}", facts)
    meta = {**describe_network(checkpoint, config, name), "list": str(split.list_file), "class_names": classes}
    first = results_file(checkpoint, name, str(meta["sha256"]), views, places.val_list)
    files = (first, *([out] if out else []))
    of = {**meta, "config": config.model_dump(), "views": views.model_dump(), "videos": split.records,
          "media": split.media.resolve()}  # fmt: skip
    partial = PartialScores(files[0], of, world)
    if partial.scored:
        yield Stage(f"{len(partial.scored)} of {len(split.records)} videos were scored before; going on from there")
    with StopSignals() as signals:
        try:
            results = yield from score_split(
                model, split, config, views, device, meta, world=world, signals=signals, partial=partial
            )
        except Interrupted as stop:
            hint = "the scores so far are kept: the same command goes on from there"
            raise Interrupted(str(stop), hint, exit_code=stop.exit_code) from None
    if world.is_main:
        for file in files:
            save_results(file, results)
        partial.remove()
        Path("runs").mkdir(exist_ok=True)
        write_text(Path("runs") / LATEST, f"{files[0].resolve()}\n")
    yield Tested(results, files)


def describe_network(checkpoint: Path, config: Config, name: str) -> dict[str, Any]:
    """What saved scores say of the network they are of; the same in every process."""
    return {
        "preset": name,
        "checkpoint": str(checkpoint),
        "sha256": sha256(checkpoint),
        "dataset": config.data.dataset,
        "network": config.model.identity(),
        "environment": {key: value for key, value in environment().items() if key not in ("command", "threads")},
    }


def describe(config: Config, views: Views, split: Split, device: torch.device) -> str:
    """What is tested, and how, in a line."""
    return (
        f"{len(split.records)} videos, protocol {views.name}: {views.clips} clips x {views.crops} crops of "
        f"{views.crop_px} px, {config.model.num_segments} frames, {views.sampling} sampling, device {device}"
    )


def choose_config(
    path: Path, own: Checkpoint | None, preset: Preset | None, overrides: Sequence[str] = ()
) -> tuple[Config, str]:
    """The configuration to test with, and its name.

    Raises:
        WeightsError: bare weights without a preset, or a preset with another network than the checkpoint's.
    """
    if own is None:
        if preset is None:
            raise WeightsError(f"{path} does not say which network it is of", hint="add --preset NAME")
        return preset.config, preset.name
    config, name = (preset.config, preset.name) if preset else (override(own.config, overrides), own.preset)
    ours, theirs = own.config.model.identity(), config.model.identity()
    wrong = [f"{key} {ours[key]}, not {theirs[key]}" for key in ours if ours[key] != theirs[key]]
    if wrong:
        asked = f"preset {name}" if preset else "--set"
        raise WeightsError(
            f"{path} is of another network than {asked} says: it has {', '.join(wrong)}",
            hint="leave that out: the checkpoint knows its own network",
        )
    return config, name


def choose_classes(config: Config, places: Places, own: Checkpoint | None) -> list[str]:
    """The class names: the checkpoint's, which must be those of the data where the data have any.

    Raises:
        DataError: they differ, or there are none.
    """
    if own is None:
        classes = find_classes(config.data, places)
        check_classes(config, classes)
        return classes
    there = places.classes or dataset_folder(config.data, places) / "classes.txt"
    if there.is_file():
        names = find_classes(config.data, places)
        if names != own.class_names:
            i = next((i for i, (a, b) in enumerate(zip(names, own.class_names, strict=False)) if a != b), None)
            what = (
                f"class {i} is {names[i]!r}, not {own.class_names[i]!r}"
                if i is not None
                else f"{len(names)} classes"
            )
            raise DataError(
                f"{there}: not the {len(own.class_names)} classes the checkpoint was trained on: {what}",
                hint="labels would mean other things; prepare the data with the same classes",
            )
    return own.class_names


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


def load_network(path: Path, own: Checkpoint | None, config: Config, classes: list[str]) -> TSM:
    """The network with the weights of a file, in evaluation mode."""
    model = build_model(config, len(classes))
    if own:
        load_state(model, own.model)
    else:
        load_weights(model, path)
    return model.eval()


def results_file(checkpoint: Path, name: str, digest: str, views: Views, list_file: Path | None) -> Path:
    """Beside a checkpoint of one of our runs, else in a folder of the weights' own."""
    if (checkpoint.parent / "config.yaml").exists():
        folder = checkpoint.parent
    else:
        folder = Path("runs") / name / f"test-{digest[:12]}"
    of_list = f"-{list_file.stem}" if list_file else ""
    return folder / f"scores-{checkpoint.stem}-{views.name}{of_list}.npz"

"""Test a checkpoint on the validation list of its dataset, under a named protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from tsmcli.config import Config, Views
from tsmcli.data.decode import check_decoder
from tsmcli.data.location import Places, Split, find_split
from tsmcli.engine.device import choose_device, environment
from tsmcli.engine.inference import Choice
from tsmcli.engine.processes import ALONE, StopSignals, World
from tsmcli.errors import Interrupted
from tsmcli.files import write_text
from tsmcli.presets import Preset
from tsmcli.recipes.engines import open_engine
from tsmcli.recipes.evaluate import LATEST, check_topk, choose_metrics
from tsmcli.recipes.events import Stage
from tsmcli.recipes.network import Opened, choose_protocol, open_network
from tsmcli.recipes.score import PartialScores, ScoreEvent, score_split
from tsmcli.results import Results, check_writable, read_meta, save_results


@dataclass(frozen=True)
class Tested:
    """The scores of a list, and the files they were written to."""

    results: Results
    files: tuple[Path, ...]


def test(
    checkpoint: Path, preset: Preset | None, places: Places,
    *, overrides: Sequence[str] = (), protocol: str | None = None, device_name: str = "auto",
    out: Path | None = None, average: Literal["prob", "score"] | None = None, engine: Choice | None = None,
    topk: Sequence[int] = (), metrics: Sequence[str] | None = None, world: World = ALONE,
) -> Generator[Stage | ScoreEvent, None, Tested]:  # fmt: skip
    """Score every video of the validation list and save the scores.

    Scores are kept video by video on the way; the same test, started again after it was stopped, goes on from them.

    Args:
        checkpoint, preset, overrides: as in `open_network`.
        protocol: as in `choose_protocol`.
        out: an extra copy of the scores, `.npz`, `.json` or `.csv`.
        average: of views, instead of the protocol's own.
        engine: what scores; default `auto` in fp32.
        topk, metrics: will be asked of the scores; checked before there are any.
        world: this process among those that share the test.

    Raises:
        Interrupted: a signal came.
    """
    if out and world.is_main:
        check_writable(out)
    opened = yield from open_network(checkpoint, preset, overrides, places.classes, places)
    config, classes = opened.config, opened.class_names
    views, device = choose_protocol(config, protocol), choose_device(device_name)
    if average:
        views = views.model_copy(update={"average": average})
    check_decoder(config.data)
    check_topk(topk, len(classes))
    choose_metrics(metrics, multi_label=config.data.multi_label)
    split = find_split(config.data, places, "val", classes)
    network = yield from open_engine(opened, engine or Choice(), device, views, len(split.records), places=places)
    facts = (
        f"{describe(config, views, split, device)}, {network.choice}",
        *(opened.own.notes if opened.own else ()),
    )
    yield Stage(f"testing {opened.path} on {split.list_file}", facts)
    machine = {key: value for key, value in environment(device).items() if key not in ("command", "threads")}
    videos = {"list": str(split.list_file), "media": str(split.media)}
    meta = {**opened.describe(), "environment": machine, **videos, "class_names": classes}
    first = results_file(opened, views, videos, places.val_list, network.choice)
    files = (first, *([out] if out else []))
    of = {**meta, "config": config.model_dump(), "views": views.model_dump(), "videos": split.records,
          "media": split.media.resolve(), **network.choice.identity()}  # fmt: skip
    meta["engine"] = network.choice.describe()
    with closing(PartialScores(first, of, world)) as partial, StopSignals() as signals:
        if partial.kept:
            yield Stage(
                f"{len(partial.kept)} of {len(split.records)} videos were scored before; going on from there"
            )
        try:
            results = yield from score_split(
                network, split, config, views, meta, world=world, signals=signals, partial=partial
            )
        except Interrupted as stop:
            hint = "the scores so far are kept: the same command goes on from there"
            raise Interrupted(str(stop), hint, exit_code=stop.exit_code) from None
        if world.is_main:
            for file in files:
                save_results(file, results)
            partial.remove()
            Path("runs").mkdir(exist_ok=True)
            write_text(Path("runs") / LATEST, f"{first.resolve()}\n")
    return Tested(results, files)


def describe(config: Config, views: Views, split: Split, device: torch.device) -> str:
    """What is tested, and how, in a line."""
    return (
        f"{len(split.records)} videos, protocol {views.name}: {views.clips} clips x {views.crops} crops of "
        f"{views.crop_px} px, {config.model.num_segments} frames, {views.sampling} sampling, device {device}"
    )


def results_file(
    opened: Opened, views: Views, data: Mapping[str, str], list_file: Path | None, choice: Choice
) -> Path:
    """Beside a checkpoint of a run, else in a folder of the weights' own; never in place of scores of other data.

    Args:
        data: what saved scores say of their videos.
        list_file: the list that was named, if one was.
        choice: of the engine.
    """
    folder = opened.path.parent
    if not (folder / "config.yaml").exists():
        folder = Path("runs") / opened.name / f"test-{opened.sha256[:12]}"
    of_list = f"-{list_file.stem}" if list_file else ""
    of_list += f"-{choice.precision}" if choice.precision != "fp32" else ""
    path = folder / f"scores-{opened.path.stem}-{views.name}{of_list}.npz"
    there = read_meta(path)
    if there is None or all(_absolute(there.get(key, data[key])) == _absolute(data[key]) for key in data):
        return path
    own = hashlib.sha256("\n".join(map(_absolute, data.values())).encode()).hexdigest()
    return path.with_stem(f"{path.stem}-{own[:8]}")


def _absolute(path: str) -> str:
    return str(Path(path).resolve())

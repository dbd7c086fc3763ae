"""Several trainings of one recipe, over folds, splits and seeds: how good it is, and how much of that is chance."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from pydantic import Field, ValidationError

from tsmcli.catalog import CATALOG
from tsmcli.config import Section
from tsmcli.data.intervals import CUT
from tsmcli.data.listfile import VideoRecord, read_text, write_list
from tsmcli.data.location import Places, find_classes, find_list, find_split
from tsmcli.engine.processes import World
from tsmcli.errors import ConfigError, DataError, Interrupted, UsageError
from tsmcli.metrics import interval, mean_interval
from tsmcli.prepare.own import groups_of
from tsmcli.presets import Preset, override
from tsmcli.recipes.run_folder import make_run_folder
from tsmcli.recipes.train import Trained, TrainEvent, train
from tsmcli.recipes.train_plan import make_train_plan

_FILE = "several.json"


class Several(Section):
    """Which trainings: each fold, or each split, with each seed.

    Attributes:
        folds: parts of all videos, each of which is the validation of one training; 0: the lists as they are.
        group: a regular expression, see `groups_of`; a group of videos is never in two folds.
        splits: words that take the place of `{}` in the names of lists and folders; where no name is given, numbers
            of official splits.
        seeds: how many, from `train.seed` on.
    """

    folds: int = Field(0, ge=0)
    group: str | None = None
    splits: tuple[str, ...] = ()
    seeds: int = Field(1, ge=1)

    @property
    def asked(self) -> bool:
        """Whether there is more than one training."""
        return bool(self.folds or self.splits or self.seeds > 1)


@dataclass(frozen=True)
class Spread:
    """Accuracies of several trainings: mean, standard deviation, and the 95 % interval of the mean (Student's)."""

    mean: float
    deviation: float
    low: float
    high: float


@dataclass(frozen=True)
class TrainedSeveral:
    """The end of several trainings.

    Attributes:
        runs: name -> its end, in order.
        last, best: top-1 (mAP with several labels a video) after the last epochs, and at best, which flatters: the
            epoch was chosen on the same videos.
        pooled: share of right videos of all folds together, its 95 % interval, and how many videos; each was
            validated once.
        deploy: the checkpoint with the best validation.
    """

    run: Path
    runs: dict[str, Trained]
    last: Spread | None
    best: Spread | None
    pooled: tuple[float, float, float, int] | None
    deploy: Path


def saved_several(run: Path) -> Several | None:
    """Which trainings a folder was made for; None where it holds one. ConfigError if the note is damaged."""
    path = run / _FILE
    if not path.is_file():
        return None
    try:
        return Several.model_validate_json(read_text(path, "JSON"))
    except ValidationError as error:
        raise ConfigError(
            f"{path}: damaged: {error.errors()[0]['msg']}", hint="start again in a new folder"
        ) from None


def train_several(
    several: Several, preset: Preset, places: Places, device: torch.device, world: World,
    *, run: Path | None = None, resume: bool = False, init: str | None = None,
) -> Generator[TrainEvent, None, TrainedSeveral]:  # fmt: skip
    """Train one after the other, each in a folder of its own below `run`; what is done is not done again.

    Args:
        run: folder of all; default `runs/<preset>/<time>`.
        resume: go on in `run`; several, preset, places and init must be those of before.

    Raises:
        Interrupted: a signal came; see `train`.
        ConfigError, DataError, UsageError, WeightsError, EnvironmentProblem: see the functions called.
    """
    check_several(several, places, official=_are_numbers(preset, places))
    lists = fold_lists(several, preset, places) if several.folds and world.is_main else {}
    if not resume:
        if world.is_main:
            note = {_FILE: several.model_dump_json(indent=2) + "\n"}
            run = make_run_folder(run, preset, device, init, note)
        run = world.gather(run)[0]
    assert run is not None
    for name, videos in lists.items():
        path = run / "lists" / f"{name}.txt"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            write_list(path, videos)
    world.gather(None)  # the lists are there
    done = {}
    for name, own_preset, own_places in trainings(several, preset, places, run):
        folder = run / name
        begun = any(world.gather((folder / "config.yaml").is_file()))
        plan = make_train_plan(own_preset, own_places, device, world)
        try:
            done[name] = yield from train(plan, run=folder, resume=begun, init=init)
        except Interrupted as stop:
            hint = f"tsm train --resume --work-dir {run}   goes on from there, with the same options for the data"
            raise Interrupted(str(stop), hint, exit_code=stop.exit_code) from None
    return _summary(several, run, done)


def check_several(several: Several, places: Places, *, official: bool = False) -> None:
    """Raise UsageError for trainings that cannot be told apart, or make no sense together.

    Args:
        official: splits may be numbers of official ones, see `_are_numbers`.
    """
    if several.folds == 1:
        raise UsageError("--folds 1: at least 2 are needed")
    if several.folds and several.splits:
        raise UsageError("--folds and --splits exclude each other: splits are given, folds are drawn")
    if several.group and not several.folds:
        raise UsageError("--group needs --folds", hint="tsm prepare-data folder --group makes a single split")
    if several.splits and not official and not _braces(places):
        hint = "for example --train-list trainlist{}.txt --val-list testlist{}.txt --splits 01 02 03"
        wrong = "--splits takes the place of {} in --data, --train-list or --val-list, or numbers official splits"
        raise UsageError(f"{wrong}; none has it", hint)
    if len({*several.splits}) < len(several.splits) or any("/" in word for word in several.splits):
        raise UsageError(f"--splits {' '.join(several.splits)}: different words are needed, which can name folders")


def _braces(places: Places) -> bool:
    return any("{}" in str(path) for path in (places.folder, places.train_list, places.val_list))


def _are_numbers(preset: Preset, places: Places) -> bool:
    """Whether splits are numbers of the official ones: the dataset has some, and no list is named."""
    named = places.train_list or places.val_list or _braces(places)
    return not named and CATALOG[preset.config.data.dataset].splits > 0


def a_training(several: Several, preset: Preset, places: Places) -> tuple[Preset, Places]:
    """One of the trainings, to check what can be checked before any folder is made; of folds all videos in one."""
    check_several(several, places, official=_are_numbers(preset, places))
    if several.folds:
        if not preset.config.train.validation:
            wrong = "--folds without validation: each fold is there to validate"
            raise UsageError(wrong, "--set train.validation=true")
        return _with(preset, "train.validation=false"), places
    return next(
        (own_preset, own_places) for _, own_preset, own_places in trainings(several, preset, places, Path())
    )


def trainings(several: Several, preset: Preset, places: Places, run: Path) -> Iterator[tuple[str, Preset, Places]]:
    """The name of each training, which is its folder, its preset and its places."""
    parts: list[tuple[str, Preset, Places]] = [("", preset, places)]
    if several.folds:
        media = find_split(preset.config.data, places, "train", None).media
        if preset.config.data.first_label is None:  # a fold may lack the first class, and the lists are ours
            preset = _with(preset, "data.first_label=0")
        parts = []
        for name in (f"fold-{fold}" for fold in range(1, several.folds + 1)):
            train_list, val_list = _fold_list(run, name, "train"), _fold_list(run, name, "val")
            parts.append((name, preset, replace(places, media=media, train_list=train_list, val_list=val_list)))
    if several.splits:
        numbers = _are_numbers(preset, places)
        parts = [
            (f"split-{word}", _with(preset, f"data.split={word}") if numbers else preset, _of_split(places, word))
            for word in several.splits
        ]
    for (name, own, own_places), seed in product(parts, range(several.seeds)):
        if several.seeds == 1:
            yield name, own, own_places
        else:
            seed += preset.config.train.seed
            yield f"{name}-seed-{seed}".strip("-"), _with(own, f"train.seed={seed}"), own_places


def _with(preset: Preset, setting: str) -> Preset:
    return replace(preset, config=override(preset.config, [setting]))


def _of_split(places: Places, word: str) -> Places:
    def filled(path: Path | None) -> Path | None:
        return None if path is None else Path(str(path).replace("{}", word))

    train_list, val_list = filled(places.train_list), filled(places.val_list)
    return replace(places, folder=filled(places.folder), train_list=train_list, val_list=val_list)


def _fold_list(run: Path, name: str, split: str) -> Path:
    return run / "lists" / f"{name}-{split}.txt"


def list_of_fold(run: Path) -> Path | None:
    """The validation list of a training, by its folder, if it is one of several folds."""
    path = _fold_list(run.parent, run.name.partition("-seed-")[0], "val")
    return path if path.is_file() else None


def fold_lists(several: Several, preset: Preset, places: Places) -> dict[str, list[VideoRecord]]:
    """The lists of all folds: `fold-1-train`, `fold-1-val`, ...; with class indices as lists of this dataset have.

    The videos of both lists of the dataset are pooled, and each is in the validation of one fold. Classes are
    spread evenly, as far as groups allow (scikit-learn's StratifiedGroupKFold, with `train.seed`). Without
    `--group` the intervals of a recording, cut out or not, are a group.

    Raises:
        UsageError: there are more folds than groups.
        DataError: a list is missing, or malformed.
    """
    data = preset.config.data
    classes = find_classes(data, places)
    splits = [find_split(data, places, "train", classes)]
    if find_list(data, places, "val").exists():
        splits.append(find_split(data, places, "val", classes))
    pool, first = dict[str, VideoRecord](), data.first_label or 0
    for split in splits:
        for record in split.records:
            path = record.path if split.media == splits[0].media else str((split.media / record.path).absolute())
            labels = record.labels and tuple(label + first for label in record.labels)
            video = record._replace(path=path, label=record.label + first, labels=labels)
            pool.setdefault(video.name, video)
    videos = list(pool.values())
    return {
        f"fold-{fold}-{split}": [video for i, video in enumerate(videos) if (i in val) == (split == "val")]
        for fold, val in enumerate(draw_folds(videos, several, preset.config.train.seed), 1)
        for split in ("train", "val")
    }


def draw_folds(videos: list[VideoRecord], several: Several, seed: int) -> list[set[int]]:
    """The positions of the validation videos of each fold; errors as in `fold_lists`."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    labels, folds = [video.label for video in videos], several.folds
    paths, what, groups = [Path(video.path) for video in videos], "videos", None
    if several.group:
        groups, what = groups_of(paths, several.group), f"groups by --group {several.group}"
    elif any(video.span or CUT.search(video.path) for video in videos):
        groups, what = [CUT.sub("", str(path)) for path in paths], "recordings"
    if (held := len({*groups}) if groups else len(videos)) < folds:
        raise UsageError(f"--folds {folds} of {held} {what}", hint="fewer folds, or more groups")
    kind = StratifiedGroupKFold if groups else StratifiedKFold
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a class with fewer videos than folds is in the validation of some only
        try:
            drawn = list(kind(folds, shuffle=True, random_state=seed).split(np.zeros(len(videos)), labels, groups))
        except ValueError as error:  # every class has fewer videos than there are folds
            raise DataError(f"--folds {folds}: {error}", hint="fewer folds, or more videos a class") from None
    return [{*val.tolist()} for _, val in drawn]


def _summary(several: Several, run: Path, runs: dict[str, Trained]) -> TrainedSeveral:
    best = max(runs.values(), key=lambda done: (done.best_value or 0, done.value or 0))
    lasts = [done.value for done in runs.values() if done.value is not None]
    bests = [done.best_value for done in runs.values() if done.best_value is not None]
    if len(lasts) < len(runs):
        return TrainedSeveral(run, runs, None, None, None, best.best)
    pooled = None
    if several.folds and best.top1 is not None:
        videos = sum(done.scored for done in runs.values())
        share = sum(top1 * done.scored for top1, done in zip(lasts, runs.values(), strict=True)) / videos
        count = videos // several.seeds  # each video was validated by a network of every seed
        pooled = (share, *interval(share, count), count)
    return TrainedSeveral(run, runs, _spread(lasts), _spread(bests), pooled, best.best)


def _spread(values: list[float]) -> Spread:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return Spread(float(np.mean(values)), deviation, *mean_interval(values))

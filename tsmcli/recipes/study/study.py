"""Everything there is to know about a run: curves, tests, classes, mistakes, and what the order of frames does."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tsmcli.config import Config
from tsmcli.data.location import Places
from tsmcli.data.messages import BadVideo
from tsmcli.engine.device import choose_device
from tsmcli.engine.events import VideoScored
from tsmcli.engine.inference import Choice
from tsmcli.errors import DataError, WeightsError
from tsmcli.files import sha256
from tsmcli.metrics import confusion
from tsmcli.presets import resolve
from tsmcli.recipes.evaluate import ClassScore, Evaluation, class_names, class_scores, summarise
from tsmcli.recipes.events import Scoring, Stage
from tsmcli.recipes.several import list_of_fold
from tsmcli.recipes.study.logs import Curves, read_log
from tsmcli.recipes.study.mistakes import ClipGroup, confused_pairs, worst_classes
from tsmcli.recipes.study.reopen import reopen
from tsmcli.recipes.study.shuffled import OrderStudy, study_order
from tsmcli.recipes.test import test
from tsmcli.results import Results, load_results

_ALONE = "tsm report --scores FILE, without a run, makes a page beside the scores"


@dataclass(frozen=True)
class Study:
    """A run, looked into.

    Attributes:
        file, results: the newest test, which all below is of, but for the curves.
        tests: all tests of the run, newest first.
        matrix, classes: confusions [K, K] ([0, 0] where a video may have several labels), and every class in order.
        config: of the run, where it has one.
        curves: of the training; other: of the log it is compared with.
        worst, confused: mistakes to look at.
        order: what the order of frames does.
        notes: what is left out, and why.
    """

    run: Path
    file: Path
    results: Results
    tests: list[Evaluation]
    matrix: NDArray[np.int64]
    classes: list[ClassScore]
    config: Config | None = None
    curves: Curves | None = None
    other: Curves | None = None
    worst: list[ClipGroup] = field(default_factory=list)
    confused: list[ClipGroup] = field(default_factory=list)
    order: OrderStudy | None = None
    notes: list[str] = field(default_factory=list)


StudyEvent = Stage | Scoring | VideoScored | BadVideo


def find_runs(folder: Path) -> list[Path]:
    """The folder itself if it is a run, else the runs right below it: `tsm demo` makes two.

    Raises:
        DataError: there is none.
    """
    if not folder.is_dir():
        raise DataError(f"no run folder {folder}")
    runs = [path for path in (folder, *sorted(folder.iterdir())) if _score_files(path) or _checkpoints(path)]
    if not runs:
        hint = "tsm train makes runs; tsm test --checkpoint FILE puts scores beside the checkpoint of a run"
        raise DataError(f"{folder} is no run: there are no scores and no checkpoint in it", hint)
    return runs[:1] if runs[0] == folder else runs


def study(
    run: Path,
    places: Places,
    *,
    scores: Path | None = None,
    overrides: Sequence[str] = (),
    order: bool = True,
    max_videos: int = 0,
    compare_log: Path | None = None,
    device_name: str = "auto",
    engine: Choice | None = None,
    seed: int = 0,
) -> Generator[StudyEvent, None, Study]:
    """Look into the newest test of a run; where there is none, its best checkpoint is tested first.

    A training of folds is tested on the list that it was validated with: it has seen the other videos.

    What needs the videos or the network is left out, with a note, where they are not there any more.

    Args:
        scores: look into this file instead.
        overrides: `key=value` strings that the test had, such as data.store=zip.
        order: shuffle and reverse the frames of `max_videos` videos (0: of all).
        compare_log: a log whose curves stand beside ours; of tsm or of MMAction2.

    Raises:
        ConfigError: an override is wrong.
        DataError: there is neither a test nor a checkpoint, or a file is damaged.
        EnvironmentProblem: the device is missing.
    """
    device = choose_device(device_name)
    other = read_log(compare_log) if compare_log else None
    file = scores or next(iter(_score_files(run)), None)
    if file is None:
        places = replace(places, val_list=places.val_list or list_of_fold(run))
        tested = yield from test(
            _checkpoints(run)[0], None, places, overrides=overrides, device_name=device_name, engine=engine
        )
        file = tested.files[0]
    found = replace(read_study(run, file), other=other)
    if scores:
        check_of_run(found.results, file, run)
    yield Stage(f"looking into {found.file}", (f"protocol {found.tests[0].protocol}, {found.results.coverage}",))
    if found.results.multi_label:
        return found
    try:
        reopened = reopen(found.results, run, places, overrides)
        found.worst.extend(worst_classes(found.results, found.classes, reopened))
        found.confused.extend(confused_pairs(found.results, found.matrix, reopened, found.worst))
        if order:
            wanted = engine or Choice()
            studied = yield from study_order(
                found.results, reopened, wanted, device, max_videos=max_videos, seed=seed
            )
            found = replace(found, order=studied)
    except (DataError, WeightsError) as error:
        what = "Clips and the order" if not found.worst and not found.confused else "The order"
        note = f"{what} of frames cannot be shown: {error}"
        found.notes.append(note)
        yield Stage(note, tuple(filter(None, [error.hint])))
    return found


def read_study(run: Path, file: Path) -> Study:
    """What the files of a run say, without its videos and its network."""
    results = load_results(file)
    files = [file, *(path for path in _score_files(run) if path != file)]
    log, config = run / "log.jsonl", run / "config.yaml"
    curves, notes = None, list[str]()
    if results.multi_label:
        tests = [summarise(load_results(path), None, None, str(path)) for path in files]
        matrix, classes = np.zeros((0, 0), np.int64), tests[0].classes
        notes.append("Confusions, clips of mistakes and the order of frames are of videos with one label each.")
    else:
        tests = [summarise(load_results(path), ("top_k", "mean_class"), None, str(path)) for path in files]
        matrix = confusion(results.scores, results.labels)
        classes = class_scores(matrix, class_names(results))
    if log.is_file():
        try:
            curves = read_log(log, "this run")
        except DataError as error:
            notes.append(f"There are no training curves: {error}")
    return Study(
        run, file, results, tests, matrix, classes, curves=curves, notes=notes,
        config=resolve(str(config), of_run=True).config if config.is_file() else None,
    )  # fmt: skip


def check_of_run(results: Results, file: Path, run: Path) -> None:
    """Raise DataError for scores of a checkpoint that is not the run's."""
    hashes = [sha256(path) for path in _checkpoints(run)]
    if hashes and results.meta.get("sha256") not in hashes:
        tested = results.meta.get("checkpoint", "an unknown checkpoint")
        raise DataError(f"{file} is of {tested}, which is none of {run}, or has changed since", _ALONE)


def _score_files(run: Path) -> list[Path]:
    """The score files of a run, newest first."""
    return sorted(run.glob("scores*.npz"), key=lambda path: -path.stat().st_mtime)


def _checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, the best one first."""
    return [path for path in (run / "best.pt", run / "last.pt") if path.is_file()]

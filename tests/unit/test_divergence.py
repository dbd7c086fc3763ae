"""A training that goes wrong is told, once, with what to change; one that goes well is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import make_folder_dataset, tsm

from tsmcli.config import TrainConfig
from tsmcli.engine.events import StepDone
from tsmcli.recipes.divergence import Divergence


def steps(losses: list[float], norms: list[float] | None = None) -> list[StepDone]:
    """Steps of epochs of 20 steps."""
    norms = norms or [1.0] * len(losses)
    pairs = zip(losses, norms, strict=True)
    return [
        StepDone(i // 20, i % 20 + 1, 20, loss, None, 0.1, norm, 8, 0.0, 0.0)
        for i, (loss, norm) in enumerate(pairs)
    ]


@pytest.mark.parametrize(
    ("losses", "norms", "words"),
    [
        ([0.7] * 100, None, ""),
        ([9.0] * 4 + [0.7] * 96, None, ""),  # the classifier is fresh
        ([0.7, 0.7, 30.0, 0.7, 0.7] + [0.7] * 20, [1.0] * 10 + [50.0] * 15, ""),
        ([0.7] * 10 + [8.0] * 30, None, "the loss is 8.00, but guessing has 0.69"),
        ([0.7] * 60, [25.0] * 60, "the gradient was clipped to 20 in each of the last 20 steps"),
    ],
)  # fmt: skip
def test_warnings(losses: list[float], norms: list[float] | None, words: str) -> None:
    watch = Divergence(TrainConfig(lr=0.02), 2)
    said = [warning for done in steps(losses, norms) if (warning := watch.warning(done))]
    assert len(said) == bool(words)
    if words:
        assert words in said[0]
        assert said[0].endswith("--set train.lr=0.005 train.fc_lr5=false train.warmup_epochs=1")


def test_clipping_says_nothing_about_adamw() -> None:
    for optimizer, warnings in (("sgd", 1), ("adamw", 0)):
        watch = Divergence(TrainConfig.model_validate({"optimizer": optimizer}), 2)
        assert sum(bool(watch.warning(done)) for done in steps([0.7] * 60, [25.0] * 60)) == warnings


def test_a_real_training_that_diverges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_folder_dataset(Path("in"), videos=6)
    assert tsm("prepare-data", "folder", "--source", "in").code == 0
    small = [f"{part}.{key}=16" for part in ("augment", "val", "test") for key in ("resize_px", "crop_px")]
    done = tsm("train", "--preset", "mbv2-folder", "--init", "none", "--set", *small, "model.num_segments=2",
               "train.batch=1", "train.epochs=3", "train.lr=2", "train.lr_batch=1", "train.workers=0")  # fmt: skip
    assert done.err.count("warning: this training may diverge") == 1, done.err

"""Pictures: names are plain text, nothing is left behind, and none of them ends a training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tsmcli.recipes.events import Saved
from tsmcli.recipes.predict import Predictions, VideoPrediction, Window
from tsmcli.recipes.study.clips import ClipRow
from tsmcli.report.figures import draw_classes, draw_confusion, save_png, style, to_svg, write_timeline
from tsmcli.report.pictures import write_contact_sheet
from tsmcli.report.progress import follow

NAMES = ["a$_{$b", "日本", "\x1b[31m", "\udcff"]
"""Broken mathematics, letters that the font lacks, a control sequence, a byte that is no text."""


def test_names_are_plain_text(tmp_path: Path) -> None:
    """No error, and no warning of the library, which pytest would make one."""
    with style():
        classes = draw_classes(np.linspace(0, 1, 4), NAMES)
        save_png(classes, tmp_path / "classes.png")
        save_png(draw_confusion(np.eye(4, dtype=np.int64), NAMES), tmp_path / "confusion.png")
        assert "a$_{$b" in to_svg(classes)
    windows = [Window(np.full(4, 0.25, np.float32), start, start + 1) for start in (0.0, 0.5)]
    found = Predictions(Path("x"), "x", "x", NAMES, [VideoPrediction(f"{name}.mp4", windows) for name in NAMES])
    write_timeline(tmp_path / "timeline.png", found)
    clip = np.zeros((2, 8, 8, 3), np.uint8)
    write_contact_sheet(tmp_path / "sheet.png", [ClipRow(clip, [(name, "plain")]) for name in NAMES], NAMES[0])
    for name in ("classes", "confusion", "timeline", "sheet"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert min(picture.size) > 100
    assert len(list(tmp_path.iterdir())) == 4


@pytest.fixture
def run(tmp_path: Path) -> Path:
    lines = [
        {"train/epoch": 0, "train/step": 5, "train/steps": 5, "train/loss": 2.0, "train/lr": 0.1},
        {"val/epoch": 0, "val/top1": 0.4, "val/mean_class": 0.3},
    ]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_curves_are_drawn_once_the_checkpoint_is_saved(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    follow(event for event in [Saved(run / "best.pt", best=True)])
    assert not (run / "curves.png").exists()
    follow(event for event in [Saved(run / "best.pt", best=True), Saved(run / "last.pt", best=False)])
    with Image.open(run / "curves.png") as picture:
        assert picture.size[0] > picture.size[1] > 200
    assert "not drawn" not in capsys.readouterr().err
    assert {path.name for path in run.iterdir()} == {"log.jsonl", "curves.png"}


def test_no_picture_ends_a_training(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "curves.png").mkdir()  # a file that cannot be replaced, as one that is open elsewhere on Windows
    follow(event for event in [Saved(run / "last.pt", best=False)])
    assert "  curves.png was not drawn: [Errno" in capsys.readouterr().err
    assert {path.name for path in run.iterdir()} == {"log.jsonl", "curves.png"}
    monkeypatch.setattr("tsmcli.report.figures.draw_curves", lambda _: 1 / 0)
    follow(event for event in [Saved(run / "last.pt", best=False)])
    assert capsys.readouterr().err == "  curves.png was not drawn: division by zero\n"

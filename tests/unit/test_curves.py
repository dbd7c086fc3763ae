"""Training logs, ours and MMAction2's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tsmcli.errors import DataError
from tsmcli.recipes.study.logs import read_log


def write(path: Path, lines: list[object]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_our_log(tmp_path: Path) -> None:
    lines = [
        {
            "train/epoch": 0,
            "train/step": 5,
            "train/steps": 10,
            "train/loss": 2.0,
            "train/top1": None,
            "train/lr": 0.1,
        },
        {"skipped/epoch": 0, "skipped/videos": ["a"]},
        {
            "train/epoch": 1,
            "train/step": 10,
            "train/steps": 10,
            "train/loss": 1.0,
            "train/top1": 0.5,
            "train/lr": 0.1,
        },
        {"val/epoch": 1, "val/top1": 0.4, "val/top5": None, "val/mean_class": 0.3},
    ]
    curves = read_log(write(tmp_path / "log.jsonl", lines))
    assert curves.series == {
        "train/loss": [(0.5, 2.0), (2.0, 1.0)],
        "train/lr": [(0.5, 0.1), (2.0, 0.1)],
        "train/top1": [(2.0, 0.5)],
        "val/top1": [(2, 0.4)],
        "val/mean_class": [(2, 0.3)],
    }
    assert curves.name == f"{tmp_path.name}/log.jsonl"


def test_mmaction2_log(tmp_path: Path) -> None:
    """Their header, iterations every 20 of an epoch of 49, validation with the number of its own batches as iter."""
    train = {
        "mode": "train",
        "lr": 0.01,
        "memory": 7000,
        "data_time": 0.1,
        "top5_acc": 0.5,
        "loss_cls": 4.0,
        "time": 0.5,
    }
    lines: list[object] = [
        {"env_info": "sys.platform: linux", "seed": None, "config_name": "tsm.py", "hook_msgs": {}}
    ]
    for epoch in (1, 2):
        for iteration in (20, 40):
            lines.append({**train, "epoch": epoch, "iter": iteration, "loss": 5 - epoch, "top1_acc": 0.1 * epoch})
    lines.append({"mode": "val", "epoch": 2, "iter": 1440, "lr": 0.01, "top1_acc": 0.4, "mean_class_accuracy": 0.3})
    series = read_log(write(tmp_path / "20200101_000000.log.json", lines)).series
    assert series["train/loss"] == [(0.5, 4), (1.0, 4), (1.5, 3), (2.0, 3)]
    assert series["val/top1"] == [(2, 0.4)]
    assert series["val/mean_class"] == [(2, 0.3)]
    assert series["train/lr"][0] == (0.5, 0.01)


def test_a_last_line_that_is_being_written(tmp_path: Path) -> None:
    path = write(tmp_path / "log.jsonl", [{"val/epoch": 0, "val/top1": 0.5}])
    path.write_text(path.read_text() + '{"train/ep')
    assert read_log(path).series == {"val/top1": [(1, 0.5)]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "no training curves"),
        ('{"env_info": "x"}\n', "no training curves"),
        ("2020-01-01 - mmaction - INFO\n", r"log:1: not a line of a JSON log"),
        ('{"a": 1}\nx\n{"b": 2}\n', r"log:2: not a line of a JSON log"),
        ("[1]\n", "no object"),
        ('{"mode": "train", "epoch": 1}\n', "no or a strange 'iter'"),
        ('{"train/step": 1}\n', "no or a strange 'train/epoch'"),
    ],
)
def test_what_is_no_log(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "log").write_text(content)
    with pytest.raises(DataError, match=message):
        read_log(tmp_path / "log")
    with pytest.raises(DataError, match="no log"):
        read_log(tmp_path / "gone")

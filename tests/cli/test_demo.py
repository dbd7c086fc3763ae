"""The whole demo, as a new user runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from support import tsm


@pytest.mark.slow
def test_the_shift_sees_the_order_of_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = tsm("demo", "--json").json()
    assert result["tsm"]["top1"] >= 0.9
    assert result["tsn"]["top1"] <= 0.6
    with Image.open(Path(result["run"]) / "clips.png") as sheet:
        assert sheet.size[1] > 800
    assert tsm("eval", "--metrics", "top_k", "mean_class").code == 0

"""Scores of an unfinished test, kept video by video so that a stopped test goes on where it was."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tsmcli.engine.scores import VideoScored
from tsmcli.engine.world import World


class PartialScores:
    """One JSON line a video, in a file of each process beside the final score file.

    The first line is a hash of what the scores are of (weights, protocol, list, configuration); lines of another
    test are not taken. Unreadable videos are not kept: they are tried again.

    Args:
        target: the score file to come.
        of: everything that decides a score.
    """

    def __init__(self, target: Path, of: dict[str, Any], world: World) -> None:
        self.key = hashlib.sha256(json.dumps(of, sort_keys=True, default=str).encode()).hexdigest()
        self.pattern = f"{target.name}.partial-*"
        self.folder = target.parent
        self.scored: dict[int, VideoScored] = {}
        for path in sorted(self.folder.glob(self.pattern)):
            self._read(path)
        world.gather(None)  # every process has read before one writes
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / f"{target.name}.partial-{world.rank}"
        lines = [self.key, *(_line(scored) for scored in self.scored.values() if world.is_main)]
        part = self.path.with_name(self.path.name + ".part")
        part.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
        part.replace(self.path)

    def add(self, scored: VideoScored) -> None:
        """Keep the scores of a video."""
        with self.path.open("a", encoding="ascii") as file:
            file.write(_line(scored) + "\n")

    def remove(self) -> None:
        """Forget everything: the test is done."""
        for path in self.folder.glob(self.pattern):
            path.unlink()

    def _read(self, path: Path) -> None:
        lines = path.read_text(encoding="ascii", errors="replace").split("\n")
        if lines[0] != self.key:
            return
        for line in lines[1:-1]:  # what follows the last line break was cut short
            try:
                number, scores = json.loads(line)
                array = np.frombuffer(base64.b64decode(scores, validate=True), dtype="<f4").copy()
            except (ValueError, TypeError):
                continue  # damaged by a power cut, say: this video is scored again
            self.scored[number] = VideoScored(number, torch.from_numpy(array))


def _line(scored: VideoScored) -> str:
    scores = scored.scores.numpy().astype("<f4").tobytes()
    return json.dumps([scored.number, base64.b64encode(scores).decode()])

"""Class probabilities of single videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tsmcli.config import Config
from tsmcli.core.tsm import TSM
from tsmcli.data.dataset import VideoDataset
from tsmcli.data.listfile import VideoRecord
from tsmcli.data.location import Split
from tsmcli.engine.scores import average_views, view_logits


def predict(model: TSM, config: Config, videos: Sequence[Path | str]) -> NDArray[np.float32]:
    """Scores [N, K] of video files under the configuration's test protocol, on the network's own device.

    Raises:
        DataError: a video cannot be read; it is named.
    """
    config = config.model_copy(update={"data": config.data.model_copy(update={"store": "video"})})
    split = Split([VideoRecord(str(v), None, 0) for v in videos], Path(), Path())
    dataset = VideoDataset(split, config, config.test)
    device = next(model.parameters()).device
    model.eval()
    scores = []
    for record in split.records:
        views, _ = dataset.load(record, np.random.default_rng(0))
        logits = view_logits(model, torch.from_numpy(views).movedim(-1, 2), device)
        scores.append(average_views(logits, config.test.average).numpy())
    return np.stack(scores) if scores else np.empty((0, model.fc.out_features), np.float32)

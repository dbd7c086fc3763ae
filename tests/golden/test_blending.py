"""MixUp, CutMix and the loss on hard and soft labels against MMAction2 v0.24.1, with every draw pinned."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden.fill import make_input

from tsmcli.data.blend import cutmix, cutmix_box, mixup

FACTS = json.loads((Path(__file__).parent / "data_blending.json").read_text())
BLEND = FACTS["blending"]


@pytest.mark.parametrize("name", sorted(BLEND["cases"]))
def test_blends(name: str) -> None:
    case = BLEND["cases"][name]
    clips, partners = make_input(4, 2, 16, seed=3), torch.tensor(BLEND["perm"])
    soft = F.one_hot(torch.tensor(BLEND["labels_in"]).ravel(), BLEND["num_classes"]).float()
    kind, weight, *place = name.split("_")
    lam = float(weight.removeprefix("lam"))
    if kind == "mixup":
        out, labels = mixup(clips, soft, lam, partners)
    else:
        x, y = (int(word[2:]) for word in place)
        box = cutmix_box(16, 16, lam, x, y)
        assert list(box) == case["box_x1y1x2y2"]
        out, labels = cutmix(clips, soft, box, partners)
    assert np.abs(out.flatten()[::97].numpy() - np.array(case["imgs_sample"])).max() < 1e-6
    assert np.abs(labels.numpy() - np.array(case["labels"]).reshape(4, -1)).max() < 1e-6


def test_loss_on_hard_and_soft_labels() -> None:
    facts = FACTS["head_loss"]
    scores = torch.tensor(facts["cls_score"])
    hard = F.cross_entropy(scores, torch.tensor(facts["hard_labels"]).ravel())
    soft = F.cross_entropy(scores, torch.tensor(facts["soft_labels"]).reshape(scores.shape))
    assert hard.item() == pytest.approx(facts["hard"]["loss_cls"], rel=1e-6)
    assert soft.item() == pytest.approx(facts["soft"]["loss_cls"], rel=1e-6)

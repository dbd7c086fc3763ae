"""Notice early that a training goes wrong, and say what to change."""

from __future__ import annotations

import math
from collections import deque
from statistics import median

from tsmcli.config import TrainConfig
from tsmcli.engine.events import StepDone

_LOSSES = 5
"""Steps whose median loss counts: a single batch may be odd."""
_CLIPPED = 20
"""Steps in a row whose gradients are clipped."""


class Divergence:
    """Looks at the steps of a training, and warns once.

    A loss of ln K is that of guessing. Three times as much, after the first tenth of an epoch, means that the
    network is wrong and sure of it. With SGD, a gradient that is clipped at every step means that the clipping, and
    not the learning rate, decides how far each step goes. AdamW's steps do not depend on the size of the gradient.
    """

    def __init__(self, config: TrainConfig, num_classes: int) -> None:
        self.config, self.guessing = config, math.log(num_classes)
        self.losses: deque[float] = deque(maxlen=_LOSSES)
        self.clipped, self.said = 0, False

    def warning(self, done: StepDone) -> str:
        """What is wrong after a step, and what to do; nothing where all is well, or where it was said before."""
        if done.epoch + done.step / done.steps > 0.1:
            self.losses.append(done.loss)
        clipped = self.config.optimizer == "sgd" and done.grad_norm > self.config.clip_norm
        self.clipped = self.clipped + 1 if clipped else 0
        loss = median(self.losses or [0.0])
        wrong = ""
        if len(self.losses) == _LOSSES and loss > 3 * self.guessing:
            wrong = f"the loss is {loss:.2f}, but guessing has {self.guessing:.2f}"
        elif self.clipped >= _CLIPPED:
            wrong = f"the gradient was clipped to {self.config.clip_norm:g} in each of the last {_CLIPPED} steps"
        if not wrong or self.said:
            return ""
        self.said = True
        rate = f"train.lr={self.config.lr / 4:.2g}"
        less = [rate, *(["train.fc_lr5=false"] if self.config.fc_lr5 else [])]
        less += ["train.warmup_epochs=1"] if not self.config.warmup_epochs else []
        return f"this training may diverge: {wrong}. A calmer one: --set {' '.join(less)}"

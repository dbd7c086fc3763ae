"""Ctrl-C and SIGTERM wait for the next safe point."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from tsmcli.errors import Interrupted


class StopSignals:
    """Within this context, the first SIGINT or SIGTERM is remembered; a second one acts as it used to.

    Attributes:
        number: the signal that came, or 0.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            self._before = {n: signal.signal(n, self._remember) for n in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        self.number = number
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


def interrupted(number: int) -> Interrupted:
    """The error for a signal, with the exit code that shells expect: 128 + its number."""
    return Interrupted(f"interrupted by {signal.Signals(number).name}", exit_code=128 + number)

"""A function in a process of its own: its memory can be measured, and running out of it ends nobody else."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

from tsmcli.errors import EnvironmentProblem

_PATIENCE_SEC = 3
"""How long a process may take to end by itself."""
P = ParamSpec("P")
R = TypeVar("R")


class Killed(EnvironmentProblem):
    """The process ended without an answer."""


def in_child(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function of a module in a fresh process, and return what it returns or raise what it raises.

    The process ends with this call, and with this process, however that ends.

    Raises:
        Killed: the process died; by SIGKILL, most likely because the system was out of memory.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, os.getpid(), function, args, kwargs))
    try:
        process.start()
        sender.close()
        failed, answer = receiver.recv()
        process.join(_PATIENCE_SEC)  # it has said all, and a signal would only disturb how it ends
    except EOFError:
        process.join()
        why = "killed, most likely because there was no memory left" if process.exitcode == -signal.SIGKILL else (
            f"with exit code {process.exitcode}"
        )  # fmt: skip
        raise Killed(f"the process that measured ended: {why}") from None
    finally:
        if process.pid:
            process.terminate()
            process.join(_PATIENCE_SEC)
            process.kill()
            process.join()
    if failed:
        raise answer
    result: R = answer
    return result


def _answer(sender: Connection, parent: int, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for the caller, who ends this process
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # as an exception does: loaders end their workers
    end_with(parent)
    try:
        sender.send((False, function(*args, **kwargs)))
    except Exception as error:  # whatever it is, the caller raises it
        sender.send((True, error))


def end_with(parent: int) -> None:
    """End this process soon after its parent is gone, however that ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.05)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

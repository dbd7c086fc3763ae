"""A function in a process of its own: its memory can be measured, and running out of it ends nobody else."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

from tsmcli.errors import EnvironmentProblem

_PATIENCE_SEC = 3
"""How long a process that has answered may take to end."""
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
        with _signals_ignored():
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
            process.kill()
            process.join()
    if failed:
        raise answer
    result: R = answer
    return result


@contextlib.contextmanager
def _signals_ignored() -> Iterator[None]:
    """A process that is started in here ignores Ctrl-C and SIGTERM from its first moment: its caller ends it."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _answer(sender: Connection, parent: int, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    end_with(parent)
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)  # as in any command
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

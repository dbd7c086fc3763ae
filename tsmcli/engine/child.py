"""A function in a process of its own: its memory can be measured, and running out of it ends nobody else."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, ParamSpec, TypeVar

from tsmcli.errors import TsmError

P = ParamSpec("P")
R = TypeVar("R")


class Killed(Exception):
    """The process ended without an answer."""


def in_child(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function of a module in a fresh process, and return what it returns.

    The process ends with this call, also when this one is interrupted.

    Raises:
        TsmError: the one that the function raised.
        Killed: the process died; most likely the system was out of memory.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, args, kwargs))
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        process.join()
        raise Killed(f"the process ended with code {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
    if isinstance(answer, TsmError):
        raise answer
    result: R = answer[0]
    return result


def _answer(
    sender: Connection, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for the caller, who ends this process
    try:
        sender.send((function(*args, **kwargs),))
    except TsmError as error:
        sender.send(error)

"""`--gpus N`: start N processes of the same command on this machine."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist

from tsmcli.engine.processes import end_with
from tsmcli.errors import EnvironmentProblem

PATIENCE_SEC = 30
"""How long processes may take to save and end before they are killed."""


def launch(processes: int, device_name: str, args: Sequence[str]) -> int:
    """Run `tsm ARGS` in several processes, one per GPU (or all on the CPU with `--device cpu`); the exit code.

    The processes meet at a port that this process holds open, so that runs beside each other cannot clash. Signals
    are passed on once. When a process fails, the others are ended, and its exit code is returned.

    Raises:
        EnvironmentProblem: there are fewer GPUs.
    """
    there = torch.cuda.device_count()
    if device_name != "cpu" and there < processes:
        raise EnvironmentProblem(
            f"--gpus {processes}: torch sees {there} CUDA devices",
            hint="`tsm doctor` says what torch sees; with --device cpu the processes share the CPU",
        )
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    threads = max(1, (os.cpu_count() or 1) // processes)
    shared = {
        "OMP_NUM_THREADS": str(threads),
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the processes are clients of this store
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "TSM_LAUNCHER_PID": str(os.getpid()),
    }
    command = [sys.executable, "-m", "tsmcli", *args]
    children = [
        subprocess.Popen(command, env={**shared, "RANK": str(i), "LOCAL_RANK": str(i)}, start_new_session=True)
        for i in range(processes)
    ]

    def pass_on(number: int, _frame: FrameType | None) -> None:
        for child in children:
            child.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return wait_for(children)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for child in children:
            child.kill()


def wait_for(children: Sequence[subprocess.Popen[bytes]]) -> int:
    """The first exit code that is not 0; the other processes then have a while to end by themselves."""
    failed, deadline = 0, float("inf")
    while any(child.poll() is None for child in children) and time.monotonic() < deadline:
        time.sleep(0.05)
        codes = [child.returncode for child in children if child.returncode]
        if codes and not failed:
            failed = codes[0] if codes[0] > 0 else 128 - codes[0]
            interrupted = failed in (130, 143)
            deadline = time.monotonic() + (PATIENCE_SEC if interrupted else 2)
    codes = [child.returncode for child in children if child.returncode]
    return failed or (codes[0] if codes else 0)


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

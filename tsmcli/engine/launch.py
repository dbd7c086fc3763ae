"""Other processes of the same program: `--gpus N`, and a function in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, ParamSpec, TypeVar

import torch
import torch.distributed as dist

from tsmcli.engine.processes import end_with, handled_by
from tsmcli.errors import EnvironmentProblem, PeerLost

PATIENCE_SEC = 12
"""How long processes may take to save and end after a signal before they are killed."""
_OTHERS_SEC = 2
"""How long the other processes may take to end after one has failed."""
_ANSWERED_SEC = 3
"""How long a process that has answered may take to end."""
P = ParamSpec("P")
R = TypeVar("R")


class Killed(EnvironmentProblem):
    """A process ended without an answer."""


def launch(processes: int, device_name: str, args: Sequence[str]) -> int:
    """Run `tsm ARGS` in several processes, one per GPU (or all on the CPU with `--device cpu`); the exit code.

    The processes meet at a port that this process holds open, so that runs beside each other cannot clash. Every
    signal is passed on. When a process fails, the others are ended, and its exit code is returned.

    Raises:
        EnvironmentProblem: there are fewer GPUs, or a process was killed.
    """
    there = torch.cuda.device_count()
    if device_name != "cpu" and there < processes:
        hint = "`tsm doctor` says what torch sees; with --device cpu the processes share the CPU"
        raise EnvironmentProblem(f"--gpus {processes}: torch sees {there} CUDA devices", hint)
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    shared = {
        "OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // processes)),
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the processes are clients of this store
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "TSM_LAUNCHER_PID": str(os.getpid()),
    }
    command = [sys.executable, "-m", "tsmcli", *args]
    children: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        for child in children:
            child.send_signal(number)

    try:
        with handled_by(pass_on):
            for i in range(processes):
                env = {**shared, "RANK": str(i), "LOCAL_RANK": str(i)}
                children.append(subprocess.Popen(command, env=env, start_new_session=True))
            return wait_for(children)
    finally:
        for child in children:
            child.kill()
            child.wait()


def wait_for(children: Sequence[subprocess.Popen[bytes]]) -> int:
    """The exit code of all: 0, or that of the process that failed by itself; Killed where one was killed.

    Once one has failed, the others have a while to end: long enough to save after a signal, else a moment.
    """
    deadline = float("inf")
    while True:
        codes = [child.poll() for child in children]
        failed = [code for code in codes if code]
        if failed and deadline == float("inf"):
            interrupted = failed[0] in (130, 143, -signal.SIGINT, -signal.SIGTERM)
            deadline = time.monotonic() + (PATIENCE_SEC if interrupted else _OTHERS_SEC)
        if None not in codes or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    for rank, code in enumerate(codes):
        if code and code < 0 and code not in (-signal.SIGINT, -signal.SIGTERM):
            raise Killed(f"process {rank} of {len(children)} {_ended_by(code)}")
    failed = [code if code > 0 else 128 - code for code in failed]
    own = [code for code in failed if code != PeerLost.exit_code]
    return next(iter(own or failed), 0)


def _ended_by(code: int) -> str:
    """How a process ended, from its exit code."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    why = ", most likely because there was no memory left" if name == "SIGKILL" else ""
    return f"was killed by {name}{why}"


def in_child(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function of a module in a fresh process, and return what it returns or raise what it raises.

    So its memory can be measured. If it runs out of memory, only that process ends, and Killed is raised. It ends
    when this call or this process ends.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, os.getpid(), function, args, kwargs))
    try:
        with handled_by(signal.SIG_IGN):  # from its start: its caller ends it
            process.start()
        sender.close()
        failed, answer = receiver.recv()
        process.join(_ANSWERED_SEC)  # it has answered, and a signal would only disturb its end
    except EOFError:
        process.join()
        raise Killed(f"the process that measured {_ended_by(process.exitcode or 0)}") from None
    finally:
        if process.pid:
            process.kill()
            process.join()
    if failed:
        raise answer
    result: R = answer
    return result


def _answer(sender: Connection, parent: int, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    end_with(parent)
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)  # as in any command
    try:
        sender.send((False, function(*args, **kwargs)))
    except Exception as error:  # whatever it is, the caller raises it
        sender.send((True, error))

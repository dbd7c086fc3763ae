"""`--gpus N`: start N processes of the same command on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from types import FrameType

import torch
import torch.distributed as dist

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

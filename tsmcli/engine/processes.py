"""The processes of one run, one per device: sums, shared values, and how they stop together."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tsmcli.data.shards import LAUNCHERS, whole_variable
from tsmcli.engine.device import choose_device
from tsmcli.errors import EnvironmentProblem, Interrupted, PeerLost

_ONE_SIGNAL_SEC = 1.0
"""Signals this close together count as one: the whole group gets a signal, and a launcher passes it on again."""


@dataclass(frozen=True)
class World:
    """This process among those of the run.

    Attributes:
        rank: 0-based; process 0 writes the files and speaks to the user.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is process 0."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Element-wise sums over all processes, in float64."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total)
        return total.tolist()

    def gather(self, value: Any) -> list[Any]:
        """Every process's value, by rank, in every process."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def share(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite every process's tensors by those of process 0."""
        for tensor in tensors if self.size > 1 else ():
            dist.broadcast(tensor, 0)


ALONE = World()
"""A process without others."""


def launched(env: Mapping[str, str] = os.environ) -> bool:
    """Whether a launcher (ours, torchrun, srun with several tasks) started this process as one of several."""
    return ("RANK" in env and "WORLD_SIZE" in env) or whole_variable(env, "SLURM_STEP_NUM_TASKS", "1") > 1


@contextmanager
def joined(device_name: str = "auto") -> Iterator[tuple[World, torch.device]]:
    """Join the processes that a launcher started, and take this process's device.

    Reads torchrun's variables (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT) or Slurm's. A process that
    was started alone is a world of one. Tensors on a CPU go through gloo, those on a GPU through NCCL.

    Raises:
        EnvironmentProblem: the device is missing, or the processes cannot reach each other.
        PeerLost: another process ended while this one waited for it.
    """
    if launched() and "RANK" not in os.environ:
        os.environ.update(from_slurm(os.environ))
    size = whole_variable(os.environ, "WORLD_SIZE") if launched() else 1
    if size == 1:
        yield ALONE, choose_device(device_name)
        return
    rank = whole_variable(os.environ, "RANK")
    if not 0 <= rank < size:
        raise EnvironmentProblem(f"RANK is {rank}, and WORLD_SIZE {size}: ranks go from 0 to {size - 1}", LAUNCHERS)
    device = choose_device(local_device(device_name, os.environ, torch.cuda.device_count()))
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    if launcher := int(os.environ.get("TSM_LAUNCHER_PID", "0")):  # ours
        end_with(launcher)
    try:
        dist.init_process_group(backend, rank=rank, world_size=size)
    except (RuntimeError, ValueError) as error:  # torch's DistError is a RuntimeError
        raise EnvironmentProblem(
            f"process {rank} of {size} cannot reach the others at "
            f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}: {error}",
            hint=LAUNCHERS,
        ) from None
    try:
        yield World(rank, size), device
    except RuntimeError as error:
        if any(word in str(error) for word in ("gloo", "NCCL", "Connection closed by peer", "Connection reset")):
            raise PeerLost(f"process {rank} lost another process of the run, which has ended") from error
        raise
    finally:
        if backend == "gloo":  # NCCL may wait for a process that is gone; its end ends the group, too
            dist.destroy_process_group()


def local_device(name: str, env: Mapping[str, str], gpus: int) -> str:
    """The device of a process: the GPU with its number on this machine, or the only one that it can see."""
    if name not in ("auto", "cuda") or not gpus:
        return name
    local = whole_variable(env, "LOCAL_RANK") if "LOCAL_RANK" in env else whole_variable(env, "RANK") % gpus
    return f"cuda:{0 if gpus == 1 else local}"


def from_slurm(env: Mapping[str, str]) -> dict[str, str]:
    """torchrun's variables from those that srun gives to each task.

    The first node of the job is the meeting place, at a port that depends on the job, so that two jobs on one
    machine don't meet.
    """
    nodes = env.get("SLURM_STEP_NODELIST") or env.get("SLURM_JOB_NODELIST", "")
    first = nodes
    if "[" in nodes or "," in nodes:
        command = ["scontrol", "show", "hostnames", nodes]
        try:
            first = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
        except (OSError, subprocess.CalledProcessError) as error:
            raise EnvironmentProblem(
                f"scontrol cannot say which machines {nodes} are: {error}", hint="set MASTER_ADDR and MASTER_PORT"
            ) from None
    job = whole_variable(env, "SLURM_JOB_ID", "0") * 31 + whole_variable(env, "SLURM_STEP_ID", "0")
    return {
        "RANK": str(whole_variable(env, "SLURM_PROCID")),
        "WORLD_SIZE": env["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": str(whole_variable(env, "SLURM_LOCALID")),
        "MASTER_ADDR": env.get("MASTER_ADDR", first or "127.0.0.1"),
        "MASTER_PORT": env.get("MASTER_PORT", str(20000 + job % 20000)),
    }


class StopSignals:
    """Within this context, the first SIGINT or SIGTERM is remembered; a later one acts as usual.

    Attributes:
        number: the signal that came, or 0.
    """

    def __init__(self) -> None:
        self.number = 0
        self._came = 0.0
        self._handling = ExitStack()

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers nowhere else
            self._handling.enter_context(handled_by(self._remember))
        return self

    def __exit__(self, *_: object) -> None:
        self._handling.close()

    def _remember(self, number: int, _frame: FrameType | None) -> None:
        if not self.number:
            self.number, self._came = number, time.monotonic()
        elif time.monotonic() - self._came > _ONE_SIGNAL_SEC:
            self._handling.close()
            signal.raise_signal(number)


@contextmanager
def handled_by(handler: Callable[[int, FrameType | None], Any] | signal.Handlers) -> Iterator[None]:
    """Within this context, SIGINT and SIGTERM go to `handler`."""
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)


def interrupted(number: int) -> Interrupted:
    """The error for a signal, with the exit code that shells expect: 128 + its number."""
    return Interrupted(f"interrupted by {signal.Signals(number).name}", exit_code=128 + number)


def end_with(parent: int) -> None:
    """End this process soon after its parent is gone, however that ended."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.05)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

"""What a worker process tells its owner. Pixels go through shared memory."""

from __future__ import annotations

import errno
import mmap
import os
import pickle
import tempfile
from itertools import accumulate
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from tsmcli.errors import EnvironmentProblem

SHARED = Path("/dev/shm")
"""Memory that processes share, as files; a container may have little. Systems other than Linux use pipes."""
SHM_HINT = "give it more (docker run --shm-size=2g), or use fewer processes: --set train.workers=1, or 0 for none"


_SMALL = 2**16
"""Bytes of arrays that go through the pipe, which holds so many. In shared memory an array keeps a file open as
long as it lives, and a process may have a thousand of them."""


class BadVideo(NamedTuple):
    """A video that could not be read, and why. It is counted, never replaced by another."""

    number: int
    path: str
    reason: str


class Told(NamedTuple):
    """A message: the worker began a step, its answer, or an error with its traceback."""

    kind: str
    value: Any


def send(pipe: Connection, told: Told) -> None:
    """Send a message. Arrays are written to a nameless file in shared memory, whose handle goes with the message.

    So an answer arrives whole, even if its worker hangs or is gone by then.

    Raises:
        EnvironmentProblem: there is no shared memory left.
    """
    buffers: list[pickle.PickleBuffer] = []
    words = pickle.dumps(told, protocol=5, buffer_callback=buffers.append if SHARED.is_dir() else None)
    arrays = [buffer.raw() for buffer in buffers]
    if sum(array.nbytes for array in arrays) <= _SMALL:
        pipe.send_bytes(pickle.dumps((pickle.dumps(told, protocol=5), [])))
        return
    head = pickle.dumps((words, [array.nbytes for array in arrays]))
    try:
        with tempfile.TemporaryFile(dir=SHARED, buffering=0) as memory:
            for array in arrays:
                while array.nbytes:
                    array = array[memory.write(array) :]
            pipe.send_bytes(head)
            reduction.send_handle(pipe, memory.fileno(), 0)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.ENOMEM):
            raise
        raise EnvironmentProblem(f"shared memory ({SHARED}) is full", SHM_HINT) from None


def receive(pipe: Connection) -> Told:
    """The next message of a worker.

    Raises:
        EOFError, OSError: the worker is gone.
    """
    words, sizes = pickle.loads(pipe.recv_bytes())
    arrays = memoryview(bytearray())
    if any(sizes):
        memory = reduction.recv_handle(pipe)
        try:
            arrays = memoryview(mmap.mmap(memory, sum(sizes)))
        finally:
            os.close(memory)
    parts = [arrays[end - size : end] for end, size in zip(accumulate(sizes), sizes, strict=True)]
    told: Told = pickle.loads(words, buffers=parts)
    return told

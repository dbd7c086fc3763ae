"""Worker processes that are watched from outside: one that is stuck or crashes costs one video, never the run.

A worker gets tasks through a pipe and answers through it. It says when it begins each step of a task (each video of
a batch, say), so its owner knows what it works on. The owner counts how long it waits, and kills a worker whose
step takes too long. Every worker is killed when its owner ends, whatever the reason.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize
from typing import Any, Generic, TypeVar

import cv2

from tsmcli.data.messages import Told, receive, send
from tsmcli.errors import EnvironmentProblem

Task = TypeVar("Task")
Answer = TypeVar("Answer")
Begin = Callable[[int], None]
"""What a function calls at the start of each step of its task, with the step's number."""

AHEAD = 2
"""Tasks that a worker has at once: one to work on, one that waits."""
GRACE_SEC = 3.0
"""How much longer than its own limit a step may take: functions that keep the limit themselves say more."""
_START_SEC = 60.0
"""What a process may take more than a step until it begins one: to start, or to send a large answer."""
_LOOK_SEC = 0.2
_CRASHES = {"SIGSEGV", "SIGABRT", "SIGBUS", "SIGILL", "SIGFPE"}
"""Signals by which a decoder ends its process over a broken file."""


class _Worker:
    """A process, the pipe to it, its tasks in order, its step, and how long its owner has waited for that."""

    def __init__(self, function: Callable[[Any, Begin], Any], prepare: Callable[[], None]) -> None:
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.Process(
            target=_work, args=(theirs, self.pipe, function, prepare), daemon=True
        )
        self.process.start()
        theirs.close()
        # Before multiprocessing waits at exit for its children, which ignore its signal.
        Finalize(self, self.process.kill, exitpriority=10)
        self.tasks: deque[tuple[int, Any]] = deque()
        self.step: int | None = None
        self.waited_sec = 0.0

    def give(self, number: int, task: Any) -> None:
        """Send a task. A process that is gone is noticed elsewhere."""
        self.tasks.append((number, task))
        with contextlib.suppress(OSError):
            self.pipe.send((number, task))

    def end(self) -> None:
        """End the process, which holds nothing that would be lost."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


class WorkerPool(Generic[Task, Answer]):
    """Several processes that call one function. They start with the first task and stay until `close`.

    Args:
        function: takes a task and a `Begin`. A bound method or a function of a module.
        count: how many processes; 0: the function is called in this process, where nobody watches it.
        timeout_sec: limit of a step; 0: none.
        prepare: called first in every process.
        what: the processes' work in a word or two, for messages.
        setting: what says how many there are, for hints.
    """

    def __init__(
        self,
        function: Callable[[Task, Begin], Answer],
        count: int,
        *,
        timeout_sec: float = 0.0,
        prepare: Callable[[], None] | None = None,
        what: str = "data loading",
        setting: str = "train.workers",
    ) -> None:
        self.function, self.count, self.timeout_sec = function, count, timeout_sec
        self.prepare = prepare or start_worker
        self.what, self.setting = what, setting
        self.workers: list[_Worker] = []

    def run(
        self,
        tasks: Iterable[Task],
        recover: Callable[[Task, int, str], Task],
        *,
        in_order: bool = True,
        stop: Callable[[], bool] = lambda: False,
    ) -> Iterator[Answer]:
        """Answers to all tasks, in their order or as they come; fewer where `stop` says so.

        Args:
            recover: makes the task to do instead of one whose step hung or crashed its process, from that task, the
                step, and why.
            stop: asked while no answer is ready.

        Raises:
            EnvironmentProblem: a process was killed.
            Exception: whatever the function raised.
        """
        if not self.count:
            yield from (self.function(task, _ignore) for task in tasks)
            return
        coming, answers, sent, taken = iter(tasks), dict[int, Answer](), 0, 0
        try:
            while True:
                while sent - taken < AHEAD * self.count and (task := next(coming, _NOTHING)) is not _NOTHING:
                    self._least_busy().give(sent, task)
                    sent += 1
                if taken == sent:
                    return
                while not (answers if not in_order else taken in answers):
                    if stop():
                        return
                    self._collect(answers, recover)
                yield answers.pop(taken if in_order else next(iter(answers)))
                taken += 1
        finally:
            for worker in [worker for worker in self.workers if worker.tasks]:
                self._end(worker)

    def close(self) -> None:
        """End all processes."""
        while self.workers:
            self._end(self.workers[-1])

    def _least_busy(self) -> _Worker:
        if len(self.workers) < self.count and all(worker.tasks for worker in self.workers):
            self.workers.append(_Worker(self.function, self.prepare))
        return min(self.workers, key=lambda worker: len(worker.tasks))

    def _collect(self, answers: dict[int, Answer], recover: Callable[[Task, int, str], Task]) -> None:
        """Receive messages of workers, and replace those that are stuck or gone."""
        busy, began = [worker for worker in self.workers if worker.tasks], time.monotonic()
        ready = set(wait([end for w in busy for end in (w.pipe, w.process.sentinel)], _LOOK_SEC))
        waited = min(time.monotonic() - began, 5 * _LOOK_SEC)  # longer only where this process was stopped, too
        for worker in busy:
            worker.waited_sec += waited
            gone = worker.process.sentinel in ready
            if gone or worker.pipe in ready:
                self._listen(worker, answers)
            if gone and worker.tasks:
                self._replace(worker, recover, self._crash(worker))
            elif self.timeout_sec and worker.step is not None and worker.waited_sec > self.timeout_sec + GRACE_SEC:
                self._replace(worker, recover, f"took longer than {self.timeout_sec:g} s to decode")
            elif self.timeout_sec and worker.waited_sec > self.timeout_sec + _START_SEC:  # it never began
                raise EnvironmentProblem(
                    f"a process for {self.what} has done nothing for {worker.waited_sec:.0f} s",
                    hint="was it stopped, or is the machine too busy?",
                )

    def _listen(self, worker: _Worker, answers: dict[int, Answer]) -> None:
        while worker.pipe.poll():
            try:
                told = receive(worker.pipe)
            except (EOFError, ConnectionError):
                return  # it is gone
            worker.waited_sec = 0.0
            worker.step = told.value if told.kind == "step" else None
            if told.kind == "step":
                continue
            number, _ = worker.tasks.popleft()
            if told.kind == "error":
                error, origin = told.value
                raise error from RuntimeError(f"in a process for {self.what}:\n{origin}")
            answers[number] = told.value

    def _crash(self, worker: _Worker) -> str:
        """Why a process is gone, where a video is to blame.

        Raises:
            EnvironmentProblem: something else ended it.
        """
        worker.process.join()
        code = worker.process.exitcode or 0
        name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        if name in _CRASHES and worker.step is not None:
            return f"crashed the process that read it ({name})"
        fewer = f"--set {self.setting}=N" if "." in self.setting else f"{self.setting} N"
        why = "most likely because there was no memory left" if name == "SIGKILL" else "which no video explains"
        raise EnvironmentProblem(
            f"a process for {self.what} was ended by {name}, {why}", hint=f"use fewer of them: {fewer}"
        )

    def _replace(self, worker: _Worker, recover: Callable[[Task, int, str], Task], reason: str) -> None:
        """Let a new process do the tasks of one that is stuck or gone, the first without the step at fault."""
        (number, task), *others = worker.tasks
        self._end(worker)
        fresh = _Worker(self.function, self.prepare)
        self.workers.append(fresh)
        fresh.give(number, recover(task, worker.step or 0, reason))
        for other in others:
            fresh.give(*other)

    def _end(self, worker: _Worker) -> None:
        self.workers.remove(worker)
        worker.end()


_NOTHING: Any = object()


def _ignore(_step: int) -> None:
    """A `Begin` for tasks in this process, which nobody watches."""


def _work(pipe: Connection, owners: Connection, function: Callable[[Any, Begin], Any], prepare: Any) -> None:
    """The life of a worker: take a task, answer, until the owner is gone."""

    def begin(step: int) -> None:
        send(pipe, Told("step", step))

    owners.close()
    prepare()
    with contextlib.suppress(EOFError, OSError):  # the owner is gone
        while True:
            _, task = pipe.recv()
            try:
                send(pipe, Told("answer", function(task, begin)))
            except Exception as error:  # whatever it is, the owner raises it
                send(pipe, Told("error", (_sendable(error), traceback.format_exc())))


def _sendable(error: Exception) -> Exception:
    """The error, or one with its message if it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def start_worker() -> None:
    """What every worker does first: use one thread, ignore signals, and on Linux end when its owner ends."""
    cv2.setNumThreads(0)
    for number in (signal.SIGINT, signal.SIGTERM):  # they go to whole groups; the owner ends its workers
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if (parent := multiprocessing.parent_process()) and not parent.is_alive():  # gone before prctl was called
        os._exit(1)

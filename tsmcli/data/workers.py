"""What every worker process does first."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys

import cv2


def start_worker() -> None:
    """One thread a process, which leaves Ctrl-C to its parent and, on Linux, does not outlive it."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops; its workers go with it
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if (parent := multiprocessing.parent_process()) and not parent.is_alive():  # gone before it was said above
        os._exit(1)

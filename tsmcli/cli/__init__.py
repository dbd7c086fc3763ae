"""The command line: parse, call a recipe, hand the result to report.

Nothing here imports torch until a command runs.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from tsmcli.cli.app import app
from tsmcli.cli.bench import bench
from tsmcli.cli.data import data
from tsmcli.cli.demo import demo
from tsmcli.cli.doctor import doctor
from tsmcli.cli.evaluate import evaluate
from tsmcli.cli.events import events
from tsmcli.cli.export import export
from tsmcli.cli.features import features, probe
from tsmcli.cli.predict import predict
from tsmcli.cli.prepare_data import prepare_data
from tsmcli.cli.presets import presets
from tsmcli.cli.report import report
from tsmcli.cli.shared import ManyValues
from tsmcli.cli.stream import stream
from tsmcli.cli.test import test
from tsmcli.cli.train import train
from tsmcli.cli.zoo import zoo

_GRACE_SEC = 4.0
"""How long a process may take to end by itself after a second signal."""

app.command()(demo)
app.command()(doctor)
app.add_typer(presets, name="presets")
app.command("prepare-data", cls=ManyValues)(prepare_data)
app.add_typer(data, name="data")
app.command(cls=ManyValues)(train)
app.command(cls=ManyValues)(test)
app.command("eval", cls=ManyValues)(evaluate)
app.command(cls=ManyValues)(report)
app.command(cls=ManyValues)(predict)
app.add_typer(events, name="events")
app.command(cls=ManyValues)(features)
app.command()(probe)
app.command(cls=ManyValues)(stream)
app.command(cls=ManyValues)(export)
app.command(cls=ManyValues)(bench)
app.add_typer(zoo, name="zoo")


def main() -> None:
    """Entry point of `tsm` and `python -m tsmcli`. SIGTERM ends it as an exception does, so that it cleans up.

    Letters that the output's encoding lacks are written as escapes; a closed stdout or stderr swallows all.
    """
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    _end_after_two_signals()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        getattr(sys, name).reconfigure(errors="backslashreplace")
    try:
        app()
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # whoever reads the help, `head` say, has seen enough
            raise SystemExit(0) from None
        if "RANK" in os.environ:  # torch's threads can abort a process that ends while they run, after all is done
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else 1)
        raise


def _end_after_two_signals() -> None:
    """End this process soon after a second SIGINT or SIGTERM, even where the main thread hangs in a library."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)  # the system writes there, whatever hangs

    def watch(keep: socket.socket = theirs) -> None:
        came, last = 0, 0.0
        while came < 2:
            stops = {signal.SIGINT, signal.SIGTERM}.intersection(ours.recv(16))
            if stops and time.monotonic() - last > 1:  # a launcher may pass on what the whole group got
                came, last = came + 1, time.monotonic()
        time.sleep(_GRACE_SEC)
        os._exit(130)

    threading.Thread(target=watch, daemon=True).start()


__all__ = ["app", "main"]

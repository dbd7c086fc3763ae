"""The command line: parse, call a recipe, hand the result to report.

Nothing here imports torch until a command runs.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tsmcli.cli.app import app
from tsmcli.cli.bench import bench
from tsmcli.cli.data import data
from tsmcli.cli.demo import demo
from tsmcli.cli.doctor import doctor
from tsmcli.cli.evaluate import evaluate
from tsmcli.cli.export import export
from tsmcli.cli.predict import predict
from tsmcli.cli.prepare_data import prepare_data
from tsmcli.cli.presets import presets
from tsmcli.cli.report import report
from tsmcli.cli.shared import ManyValues
from tsmcli.cli.stream import stream
from tsmcli.cli.test import test
from tsmcli.cli.train import train
from tsmcli.cli.zoo import zoo

app.command()(demo)
app.command()(doctor)
app.add_typer(presets, name="presets")
app.command("prepare-data")(prepare_data)
app.add_typer(data, name="data")
app.command(cls=ManyValues)(train)
app.command(cls=ManyValues)(test)
app.command("eval", cls=ManyValues)(evaluate)
app.command(cls=ManyValues)(report)
app.command(cls=ManyValues)(predict)
app.command(cls=ManyValues)(stream)
app.command(cls=ManyValues)(export)
app.command(cls=ManyValues)(bench)
app.add_typer(zoo, name="zoo")


def main() -> None:
    """Entry point of `tsm` and `python -m tsmcli`. SIGTERM ends it as an exception does, so that it cleans up.

    Letters that the output's encoding lacks are written as escapes; a closed stdout or stderr swallows all.
    """
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        getattr(sys, name).reconfigure(errors="backslashreplace")
    app()


__all__ = ["app", "main"]

"""The application object, and the one place where failures become messages and exit codes."""

from __future__ import annotations

import os
import select
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tsmcli import __version__
from tsmcli.errors import EnvironmentProblem, Interrupted, TsmError


class ErrorBoundary(TyperGroup):
    """Print `error:` and `hint:` on stderr and exit with the error's code; --debug shows where it came from."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; a known failure never shows a traceback."""
        try:
            return super().invoke(ctx)
        except TsmError as error:
            if ctx.params.get("debug"):
                raise
            rank = os.environ.get("RANK", "0")
            if rank == "0" or not isinstance(error, Interrupted):  # an interruption is told once
                who = "" if rank == "0" else f"process {rank}: "
                sys.stderr.write(f"{who}error: {error}\n")
                for line in filter(None, error.hint.splitlines()):
                    sys.stderr.write(f"hint: {line}\n")
            raise typer.Exit(error.exit_code) from error
        except OSError as error:
            if isinstance(error, BrokenPipeError) and _nobody_reads():
                raise typer.Exit(0) from None
            if ctx.params.get("debug"):
                raise
            sys.stderr.write(f"error: {error.filename or 'a file or stdout'}: {error.strerror or error}\n")
            raise typer.Exit(EnvironmentProblem.exit_code) from error
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            raise typer.Exit(130) from None


def _nobody_reads() -> bool:
    """Whether stdout goes nowhere any more: whoever read it has seen enough, as `head` does."""
    stdout = sys.stdout.fileno()
    watch = select.poll()
    watch.register(stdout, 0)
    if not watch.poll(0):  # neither an error nor a hang-up: another pipe broke
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), stdout)  # for what is written at exit
    return True


app = typer.Typer(
    cls=ErrorBoundary,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Train, test, benchmark and run Temporal Shift Module (TSM) video networks.",
    epilog="Start with: tsm demo",
)


def _print_version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass

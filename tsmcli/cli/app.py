"""The application object, and the one place where failures become messages and exit codes."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Option
from typer.core import TyperGroup

from tsmcli import __version__
from tsmcli.errors import EnvironmentProblem, Interrupted, PeerLost, TsmError, is_out_of_memory
from tsmcli.report.tables import printable, write_out

if TYPE_CHECKING:
    from collections.abc import Iterator


class ErrorBoundary(TyperGroup):
    """Print `error:` and `hint:` on stderr and exit with the error's code; --debug shows where it came from."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse; --help and --version already print here."""
        with _no_traceback(debug=False):
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _no_traceback(ctx.params.get("debug")):
            result = super().invoke(ctx)
            write_out("", flush=True)  # at exit it would fail without a name
            return result


@contextlib.contextmanager
def _no_traceback(debug: bool) -> Iterator[None]:
    """A failure that is no bug becomes a message and an exit code."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if _nobody_reads(error):
            _drop_stdout()
            raise typer.Exit(0) from None
        known = explain(error)
        if known is None or debug:
            raise
        _drop_stdout()
        _tell(known)
        raise typer.Exit(known.exit_code) from error


def explain(error: BaseException) -> TsmError | None:
    """What a user can do something about, as an error of ours; None for a bug."""
    text = str(error).strip() or type(error).__name__
    if is_out_of_memory(error):
        hint = "a smaller batch, fewer workers, or --device cpu"
        return EnvironmentProblem(f"out of memory on the device: {text.splitlines()[0]}", hint)
    match error:
        case TsmError():
            return error
        case KeyboardInterrupt():
            return Interrupted("interrupted")
        case OSError(errno=int()):
            return EnvironmentProblem(f"{error.filename or 'a file'}: {error.strerror}")
        case OSError():  # a library that cannot be loaded has no number
            return EnvironmentProblem(text, hint="tsm doctor says what is missing")
        case ImportError() if not (error.name or "").startswith("tsmcli"):
            return EnvironmentProblem(text.splitlines()[0], hint="tsm doctor says what is missing")
    return None


def _nobody_reads(error: BaseException) -> bool:
    """Whether whoever read stdout has seen enough, as `head` does. Windows calls that an invalid argument."""
    return isinstance(error, OSError) and error.filename == "stdout" and error.errno in (errno.EPIPE, errno.EINVAL)


def _drop_stdout() -> None:
    """Write what is still to be written to stdout, or drop it, so that the exit code is that of the failure."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _tell(error: TsmError) -> None:
    rank = os.environ.get("RANK", "0")
    if rank != "0" and isinstance(error, Interrupted):  # an interruption is told once
        return
    if isinstance(error, PeerLost) and "TSM_LAUNCHER_PID" in os.environ:  # the other, or the launcher, says why
        return
    who = "" if rank == "0" else f"process {rank}: "
    lines = [f"{who}error: {error}", *(f"hint: {line}" for line in error.hint.splitlines() if line)]
    with contextlib.suppress(OSError):  # stderr may be full
        sys.stderr.write(printable("".join(f"{line}\n" for line in lines)))


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
    debug: Annotated[bool, Option("--debug", help="Show a traceback when something fails.")] = False,
    version: Annotated[
        bool, Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass

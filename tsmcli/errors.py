"""Every failure a user can cause or meet, each with a message, a hint and a stable exit code.

The command line turns these into `error: ...` and `hint: ...` on stderr; anything else is a bug and exits 1.
"""

from __future__ import annotations


class TsmError(Exception):
    """A failure with a known cause.

    Args:
        message: what went wrong and where (file:line, key, video).
        hint: what to do next, often a command to type.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(TsmError):
    """A command was called in a way that cannot work."""

    exit_code = 2


class ConfigError(TsmError):
    """A preset or an override is wrong."""

    exit_code = 2


class DataError(TsmError):
    """A list file, a video or a saved result is missing or broken."""

    exit_code = 3


class WeightsError(TsmError):
    """A checkpoint is missing, broken, or of another network."""

    exit_code = 4


class EnvironmentProblem(TsmError):
    """The machine lacks something: a device, a decoder, disk space."""

    exit_code = 5


class PeerLost(EnvironmentProblem):
    """Another process of the run has ended; why is said by that process, or by who started it."""


class SlowerError(TsmError):
    """Something takes longer than it is allowed to."""

    exit_code = 6


class Interrupted(TsmError):
    """Work was stopped by a signal at a point where nothing is lost.

    Args:
        exit_code: 130 for Ctrl-C, 143 for SIGTERM.
    """

    def __init__(self, message: str, hint: str = "", *, exit_code: int = 130) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code


_NO_MEMORY = ("out of memory", "allocate memory", "Storage size calculation overflowed")


def is_out_of_memory(error: BaseException) -> bool:
    """Python's error or torch's, told by its name; on a CPU, or from a driver, only the words tell it."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY))
    )

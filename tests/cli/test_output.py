"""What leaves the program: whole, printable, and with a word where it cannot be written."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support import tsm

from tsmcli.cli.app import explain
from tsmcli.errors import DataError, EnvironmentProblem, Interrupted, TsmError
from tsmcli.recipes.events import Scoring
from tsmcli.report.progress import follow
from tsmcli.report.tables import print_csv, printable
from tsmcli.results import Results, save_results

NAMES = ["\x1b[31mred\x1b[0m", "日本", "a$_{$b", "[/bold]"]


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """A test of four videos, one a class."""
    results = Results(list("abcd"), np.arange(4), np.eye(4, dtype=np.float32), 4, meta={"class_names": NAMES})
    save_results(tmp_path / "scores.npz", results)
    return tmp_path / "scores.npz"


def run(*args: object, **how: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tsmcli", *map(str, args)]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    return subprocess.run(command, text=True, encoding="utf-8", errors="replace", timeout=60, check=False, **how)


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_letters_that_the_encoding_lacks_lose_no_row(scores: Path, encoding: str) -> None:
    done = run("eval", scores, "--metrics", "per_class", env={**os.environ, "PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, "")
    rows = [line for line in done.stdout.splitlines() if "100.00 %" in line]
    assert len(rows) == 4
    assert "\\u65e5\\u672c" in rows[1]


def test_closed_outputs_swallow_all(scores: Path) -> None:
    command = f'"{sys.executable}" -m tsmcli eval "{scores}"'
    for closed in (">&-", ">&- 2>&-"):
        done = subprocess.run(f"{command} {closed}", shell=True, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_named(scores: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = run("eval", scores, stdout=full)
        assert (done.returncode, done.stderr) == (5, "error: stdout: No space left on device\n")
        assert run("eval", "gone.npz", stdout=full, stderr=full).returncode == 3
        told = run("--help", stdout=full)
        assert (told.returncode, told.stderr) == (5, "error: a file: No space left on device\n")


def test_a_reader_that_has_seen_enough(scores: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run("eval", scores, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_commands_the_terminal(scores: Path, tmp_path: Path) -> None:
    shown = tsm("eval", scores, "--metrics", "per_class", "confusion")
    assert "\x1b" not in shown.out
    assert "\\x1b[31mred\\x1b[0m" in shown.out
    assert "[/bold]" in shown.out
    exact = tsm("eval", scores, "--metrics", "confusion", "--json")
    assert "\x1b" not in exact.out
    assert exact.json()["class_names"] == NAMES
    refused = tsm("eval", tmp_path / "\x1b]0;title\x07\u202e.npz")
    assert "\\x1b]0;title\\x07\\u202e.npz" in refused.err
    assert printable("é\n\t\udcff") == "é\n\t\\udcff"


def test_csv_is_exact_but_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    print_csv(("name",), [(name,) for name in NAMES])
    assert [row["name"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))] == NAMES
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    print_csv(("name",), [(name,) for name in NAMES])
    assert capsys.readouterr().out.splitlines()[1] == "\\x1b[31mred\\x1b[0m"


def test_titles_of_bars_are_no_markup(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("tsmcli.report.progress.Console", partial(Console, force_terminal=True))
    follow(event for event in [Scoring("[/bold]\x1b]0;x\x07.mp4", 3)])
    assert "[/bold]\\x1b]0;x\\x07.mp4" in capsys.readouterr().err


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


@pytest.mark.parametrize(
    ("error", "words", "code"),
    [
        (OutOfMemoryError("CUDA out of memory. Tried\nmore"), "out of memory on the device: CUDA out of memory. Tried", 5),
        (MemoryError(), "out of memory on the device: MemoryError", 5),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "can't allocate memory", 5),
        (ImportError("libtorch.so: failed to map", name="torch._C"), "libtorch.so: failed to map", 5),
        (OSError("libavcodec.so: cannot open"), "libavcodec.so: cannot open", 5),
        (OSError(28, "No space left on device", "x.pt"), "x.pt: No space left on device", 5),
        (KeyboardInterrupt(), "interrupted", 130),
        (DataError("gone"), "gone", 3),
        (ValueError("a bug"), None, 1),
        (ImportError("no name x", name="tsmcli.core"), None, 1),
    ],
)  # fmt: skip
def test_what_is_no_bug(error: BaseException, words: str | None, code: int) -> None:
    known = explain(error)
    assert (known is None) == (words is None)
    if known and words:
        assert words in str(known)
        assert "\n" not in str(known)
        assert known.exit_code == code


@pytest.mark.parametrize(
    ("error", "said"), [(EnvironmentProblem("x", "y"), "process 1: error: x\nhint: y\n"), (Interrupted("x"), "")]
)
def test_other_processes_say_who_they_are(error: TsmError, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("tsmcli.recipes.evaluate.evaluate", fail)
    failed = tsm("eval", "x.npz")
    assert (failed.code, failed.err) == (error.exit_code, said)


def test_too_little_memory_to_load_torch(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    limit = partial(resource.setrlimit, resource.RLIMIT_AS, (1_000_000_000, 1_000_000_000))
    done = run("predict", "x.pt", "y.mp4", preexec_fn=limit, cwd=tmp_path)
    assert done.returncode == 5, done.stderr
    assert "hint: tsm doctor" in done.stderr
    assert "Traceback" not in done.stderr


def test_json_lines_are_json(capsys: pytest.CaptureFixture[str]) -> None:
    from tsmcli.report.tables import print_json

    print_json({"name": "\x7f\x1b"}, one_line=True)
    assert json.loads(capsys.readouterr().out) == {"name": "\x7f\x1b"}

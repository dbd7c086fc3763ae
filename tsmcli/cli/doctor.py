"""tsm doctor"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from tsmcli.cli.shared import Json, Root
from tsmcli.errors import EnvironmentProblem
from tsmcli.report.tables import print_json, print_table


def doctor(data_root: Root = Path("data"), as_json: Json = False) -> None:
    """Say what is installed, what the machine has, and how to repair what is missing.

    Exit code 5 if something needed is missing.
    """
    from tsmcli.recipes.doctor import examine

    findings = examine(data_root)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        mark = {True: "ok", False: "MISSING", None: "-"}
        print_table(("", "what", "found", "to do"), [(mark[f.ok], f.name, f.value, f.fix) for f in findings])
    missing = [finding.name for finding in findings if finding.ok is False]
    if missing:
        raise EnvironmentProblem(f"missing: {', '.join(missing)}", hint="the last column says what to do")

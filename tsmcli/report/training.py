"""A training: what `tsm train --dry-run` prints, and the curves that are drawn while it goes on."""

from __future__ import annotations

from pathlib import Path

from tsmcli.errors import DataError
from tsmcli.recipes.study.logs import read_log
from tsmcli.recipes.train_plan import DryRun
from tsmcli.report.tables import print_line, print_table


def write_curves(run: Path) -> str:
    """Draw the log of a run into its curves.png; why that failed, or nothing. No picture may end a training."""
    try:
        from tsmcli.report.figures import draw_curves, save_png, style

        with style():
            save_png(draw_curves([read_log(run / "log.jsonl")]), run / "curves.png")
    except DataError:
        pass  # nothing was logged yet
    except Exception as error:  # a full disk, a picture that is open elsewhere, fonts: whatever it is
        return f"curves.png was not drawn: {error or type(error).__name__}".splitlines()[0]
    return ""


def print_dry_run(result: DryRun) -> None:
    """Facts, values with their origins, parameter groups, learning rates, memory, missing data, the first batch."""
    for fact in result.facts:
        print_line(fact)
    print_table(("key", "value", "from"), [(k, str(v), o) for k, v, o in result.values], "\nconfiguration")
    rows = []
    for name, lr, decay, params in result.groups:
        some = ", ".join(params) if len(params) <= 2 else f"{params[0]} ... {params[-1]}"
        rows.append((name, str(len(params)), f"{lr:g}", f"{decay:g}", some))
    print_table(("group", "tensors", "lr", "weight decay", "parameters"), rows, "\nparameter groups")
    changes = [(str(epoch + 1), f"{lr:g}") for epoch, lr in result.rates]
    print_table(("from epoch", "learning rate"), changes, f"\nschedule, {result.steps_per_epoch} steps per epoch")
    free = f", {result.free_bytes / 1e9:.1f} GB are free" if result.free_bytes else ""
    print_line(f"\nmemory of a step, estimated for fp32: {result.memory_bytes / 1e9:.2f} GB{free}")
    for list_file, videos, missing, example in result.missing:
        gone = f"{missing} missing, {example} among them" if missing else "all there"
        print_line(f"{list_file}: {videos} videos, {gone}")
    for line in result.first_batch:
        print_line(f"first batch: {line}")

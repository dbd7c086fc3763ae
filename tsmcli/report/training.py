"""A training: what `tsm train --dry-run` prints, and the curves that are drawn while it goes on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from tsmcli.errors import DataError
from tsmcli.recipes.several import Spread, TrainedSeveral
from tsmcli.recipes.study.logs import read_log
from tsmcli.recipes.train_plan import DryRun
from tsmcli.report.tables import percent, print_json, print_line, print_table


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


def print_several(done: TrainedSeveral, *, as_json: bool) -> None:
    """Each training, what they agree on, and which one to use."""
    if as_json:
        print_json(asdict(done))
        return
    rows = [(name, one.scored, _percent(one.value), _percent(one.best_value)) for name, one in done.runs.items()]
    metric = "mAP" if any(one.map is not None for one in done.runs.values()) else "top-1"
    print_table(("training", "videos", f"{metric} after the last epoch", "at best"), rows)
    for what, spread in (("after the last epoch", done.last), ("at best", done.best)):
        if spread:
            print_line(f"{metric} {what}: {_spread(spread)} over {len(rows)} trainings")
    if done.pooled:
        share, low, high, videos = done.pooled
        print_line(f"all folds together: {percent(share)} ({100 * low:.1f} to {100 * high:.1f}) of {videos} videos")
    if not done.best:
        print_line(f"to use one of them: {done.deploy}, the first; nothing was validated")
        return
    print_line("at best flatters: the epoch was chosen on the videos that it is measured on")
    print_line(f"to use one of them: {done.deploy}, the best validation")


def _percent(value: float | None) -> str:
    return "" if value is None else percent(value)


def _spread(spread: Spread) -> str:
    ends = f"{100 * spread.low:.1f} to {100 * spread.high:.1f}"
    return f"{percent(spread.mean)} +- {100 * spread.deviation:.2f}, 95 % interval of the mean {ends}"

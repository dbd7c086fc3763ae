"""tsm eval"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from tsmcli.cli.shared import Data, Device, Json, Metrics, Missing, Preset, Root, TopK
from tsmcli.errors import DataError, UsageError


def evaluate(
    results: Annotated[
        list[Path] | None,
        Argument(help="Results files, ours or MMAction2's; several are averaged.", show_default="the newest"),
    ] = None,
    metrics: Metrics = None,
    topk: TopK = None,
    weights: Annotated[
        list[float] | None, Option(help="A weight for each of several files.", show_default="all equal")
    ] = None,
    list_file: Annotated[
        Path | None,
        Option("--list", help="Of MMAction2's files, which have no labels; of events, the true intervals."),
    ] = None,
    softmax: Annotated[
        bool, Option("--softmax", help="Turn raw scores into probabilities before averaging.")
    ] = False,
    compare: Annotated[
        tuple[Path, Path] | None,
        Option(metavar="A B", help="Is B better than A, or is it chance? Two results files."),
    ] = None,
    seed: Annotated[int, Option(min=0, help="Of the samples that --compare draws.")] = 0,
    checkpoint: Annotated[Path | None, Option(help="Test this checkpoint first.")] = None,
    preset: Preset = None,
    data_root: Root = Path("data"),
    data: Data = None,
    device: Device = "auto",
    allow_missing: Missing = False,
    as_json: Json = False,
) -> None:
    """Compute metrics from saved scores, without torch; with --checkpoint, test it first.

    Examples: tsm eval --metrics top_k mean_class

    tsm eval rgb.npz flow.npz --weights 1 1.5

    tsm eval --compare old.npz new.npz

    tsm eval events.json --metrics tiou_map --list true-intervals.csv
    """
    if any(metric.startswith("tiou_map") for metric in metrics or ()) and not (compare or checkpoint):
        _events(results or [], metrics or [], list_file, allow_missing=allow_missing, as_json=as_json)
        return
    from tsmcli.recipes.evaluate import check_metrics

    check_metrics(metrics or ())
    if sum(map(bool, (results, compare, checkpoint))) > 1:
        raise UsageError("name results files, --compare or --checkpoint, not several of these")
    if checkpoint:
        if weights or list_file or softmax:
            raise UsageError("--weights, --list and --softmax are for saved scores")
        from tsmcli.cli.test import test

        test(checkpoint, preset, metrics=metrics, topk=topk, data_root=data_root, data=data, device=device,
             allow_missing=allow_missing, as_json=as_json)  # fmt: skip
        return
    if preset:
        raise UsageError("--preset needs --checkpoint", hint="a preset alone has no weights to test")
    if data or device != "auto":
        raise UsageError("--data and --device are for --checkpoint", hint="saved scores need neither")
    from tsmcli.recipes.compare import compare as run_compare
    from tsmcli.recipes.ensemble import check_list_used, open_scores
    from tsmcli.recipes.evaluate import evaluate as run
    from tsmcli.report.evaluation import print_comparison, print_evaluation

    if compare:
        if weights:
            raise UsageError("--weights is for several files that are averaged, not for --compare")
        if softmax:
            raise UsageError("--softmax changes no ranking, so it is of no use to --compare")
        a, b = (open_scores(file, list_file) for file in compare)
        check_list_used((a, b), list_file)
        both = run_compare(a, b, compare, metrics, topk, seed=seed)
        print_comparison(both, as_json=as_json)
        complete = both.a.complete and both.b.complete
        what = f"this compares the {both.a.coverage} that could be read"
    else:
        found = run(results or [], metrics, topk, weights=weights, list_file=list_file, softmax=softmax)
        print_evaluation(found, as_json=as_json)
        complete, what = found.complete, f"this is the accuracy on {found.coverage}"
    if not complete and not allow_missing:
        raise DataError(what, hint="--allow-missing accepts that")


def _events(
    files: list[Path], metrics: list[str], list_file: Path | None, *, allow_missing: bool, as_json: bool
) -> None:
    """Score a file of `tsm predict --events`."""
    from tsmcli.recipes.eval_events import eval_events
    from tsmcli.report.event_scores import print_event_scores

    found = eval_events(files, metrics, list_file)
    print_event_scores(found, as_json=as_json)
    if found.missing and not allow_missing:
        wrong = f"{len(found.missing)} videos of the list have no events because they were not looked at"
        raise DataError(f"{wrong}: {', '.join(found.missing[:5])}", hint="--allow-missing accepts that")

"""tsm zoo ls | show | download | verify | convert"""

from __future__ import annotations

from dataclasses import asdict
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from typer import Argument, Option

from tsmcli.catalog import CATALOG
from tsmcli.cli.shared import Classes, Form, Json, ManyValues
from tsmcli.errors import Interrupted, UsageError, WeightsError
from tsmcli.report.tables import print_json, print_line, print_table

if TYPE_CHECKING:
    from tsmcli.zoo import Extra, Model

zoo = typer.Typer(no_args_is_help=True, help="The published checkpoints: list, fetch, verify, convert.")
Ids = Annotated[list[str] | None, Argument(metavar="ID...", help="Ids that tsm zoo ls lists.")]
Target = Literal["mmaction", "mit", "tsm", "safetensors", "torchvision"]


class Log(str, Enum):  # typer takes no list of literals
    """The words of --with."""

    log, json = "log", "json"


@zoo.command("ls")
def list_models(
    dataset: Annotated[str | None, Option(help="k400, sthv1, sthv2, jester, diving48, ucf101 or hmdb51.")] = None,
    backbone: Annotated[str | None, Option(help="resnet50, resnet101, mobilenet_v2 or mobileone_s4.")] = None,
    frames: Annotated[int | None, Option(help="8 or 16.")] = None,
    sort: Annotated[
        Literal["accuracy", "speed", "memory"] | None, Option(help="Best first.", show_default="as published")
    ] = None,
    everything: Annotated[bool, Option("--all", help="Also what its publisher does not list today.")] = False,
    form: Annotated[Form, Option("--format", help="All but the table have every column.")] = "table",
    as_json: Json = False,
) -> None:
    """List the published checkpoints with their published accuracy, speed and memory.

    Without --all: those that the latest tables of their publishers list: MMAction2 0.24.1 and 1.2.0 and, under ids
    that begin with authors-, the authors of TSM.
    """
    from tsmcli.report.zoo import print_models
    from tsmcli.zoo import select

    models = select(dataset=dataset, backbone=backbone, frames=frames, sort=sort, withdrawn=everything)
    print_models(models, "json" if as_json else form)


@zoo.command()
def show(
    id: Annotated[str, Argument(metavar="ID", help="An id that tsm zoo ls lists.")], as_json: Json = False
) -> None:
    """Show everything about a checkpoint: numbers, addresses, slips, how our preset differs, what is cached."""
    from tsmcli.recipes.zoo.download import Supply, remote_of, survey
    from tsmcli.report.zoo import model_json, preset_differences, print_entry
    from tsmcli.zoo import Model, find

    entry = find(id)
    cached = "not a file"
    if isinstance(entry, Model) or entry.file:
        (file,) = survey([remote_of(entry, Supply.of_environment())])
        cached = f"{file.state}: {file.remote.there}"
    if not as_json:
        print_entry(entry, cached)
    elif isinstance(entry, Model):
        print_json({**model_json(entry), "preset_differs": preset_differences(entry), "cache": cached})
    else:
        url = entry.file.url if entry.file else entry.page
        print_json({"id": entry.id, "about": entry.about, "url": url, "cache": cached})


@zoo.command(cls=ManyValues)
def download(
    ids: Ids = None,
    all_models: Annotated[bool, Option("--all", help="All that tsm zoo ls lists.")] = False,
    extra_kinds: Annotated[list[Log] | None, Option("--with", help="Training logs too: log json.")] = None,
    mirror: Annotated[
        list[str] | None,
        Option(help="Try this web address or folder first; repeatable; or set TSM_ZOO_MIRROR."),
    ] = None,
    jobs: Annotated[int, Option(min=1, max=32, help="Files at a time.")] = 4,
    dry_run: Annotated[bool, Option("--dry-run", help="Say what would be fetched; fetch nothing.")] = False,
    offline: Annotated[
        bool, Option("--offline", help="Use no network: fail unless all is cached; or set TSM_OFFLINE.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Fetch checkpoints to the cache, resuming what was interrupted, and verify them. Prints where they are.

    The cache is $TSM_ZOO, else $XDG_CACHE_HOME/tsm/zoo, else ~/.cache/tsm/zoo.
    """
    from tsmcli.recipes.zoo.download import Supply, plan, remote_of
    from tsmcli.recipes.zoo.download import download as run
    from tsmcli.report.progress import follow
    from tsmcli.report.transfers import print_plan
    from tsmcli.zoo import Model, find, select

    if bool(ids) == all_models:
        raise UsageError("name checkpoints, or say --all", hint="tsm zoo ls lists them")
    supply = Supply.of_environment(mirror or (), offline=offline)
    entries: list[Model | Extra] = list(select()) if all_models else [find(id) for id in dict.fromkeys(ids or ())]
    remotes = [remote_of(entry, supply) for entry in entries]
    for kind in dict.fromkeys(extra_kinds or ()):
        logged = [entry for entry in entries if isinstance(entry, Model) and kind.value in entry.files]
        remotes += [remote_of(entry, supply, kind.value) for entry in logged]
    if dry_run:
        print_plan(plan(remotes, supply, jobs), supply.cache, as_json=as_json)
        return
    try:
        done = follow(run(remotes, supply, jobs=jobs))
    except KeyboardInterrupt:
        raise Interrupted("interrupted", hint="the same command goes on where it stopped") from None
    if as_json:
        files = [{"name": f.remote.name, "path": f.remote.path, "verified": bool(f.remote.sha256_prefix),
                  "cached": f.cached} for f in done.files]  # fmt: skip
        print_json({"files": files, "unpacked": done.unpacked})
    else:
        for path in (*(file.remote.path for file in done.files), *done.unpacked):
            print_line(str(path))


@zoo.command()
def verify(ids: Ids = None, as_json: Json = False) -> None:
    """Check the files in the cache against their published hashes; exit 4 if any is damaged or incomplete."""
    from tsmcli.recipes.zoo.download import Supply, remote_of, survey
    from tsmcli.zoo import Model, extras, find, models

    supply = Supply.of_environment()
    known: list[Model | Extra] = [*models(), *(extra for extra in extras() if extra.file)]
    entries = [find(id) for id in ids] if ids else known
    main = [remote_of(entry, supply) for entry in entries]
    rows = [entry for entry in entries if isinstance(entry, Model)]
    logs = [remote_of(row, supply, kind) for row in rows for kind in row.files if kind != "ckpt"]
    files = [file for file in survey([*main, *logs]) if file.state != "missing" or (ids and file.remote in main)]
    there = [file.remote.there for file in files]
    lines = [(file.remote.name, file.state, path.stat().st_size if path.exists() else 0)
             for file, path in zip(files, there, strict=True)]  # fmt: skip
    if as_json:
        print_json([{"name": name, "state": state, "path": path, "bytes": size}
                    for (name, state, size), path in zip(lines, there, strict=True)])  # fmt: skip
    elif files:
        print_table(("file", "state", "bytes"), lines, str(supply.cache))
    else:
        print_line(f"{supply.cache}: nothing was downloaded yet")
    bad = [file.remote.name for file in files if not file.whole]
    if bad:
        names = " ".join(dict.fromkeys(name.split(" ")[0] for name in bad))
        raise WeightsError(f"{len(bad)} files are not whole", hint=f"tsm zoo download {names}")


@zoo.command()
def convert(
    source: Annotated[Path, Argument(metavar="IN", help="Weights in any known layout, or an id of the zoo.")],
    target: Annotated[Path, Argument(metavar="OUT", help="File to write.")],
    to: Annotated[Target, Option("--to", help="Layout to write.")],
    preset: Annotated[str | None, Option(help="What network it is.", show_default="read off the tensors")] = None,
    dataset: Annotated[str | None, Option(help="Whose class order it has: k400, sthv1, jester, ...")] = None,
    classes: Classes = None,
    force: Annotated[bool, Option("--force", help="Overwrite OUT.")] = False,
    as_json: Json = False,
) -> None:
    """Write weights in another layout, exactly, and check that they read back bit by bit.

    The authors' files of Something-Something V1 and Jester have their classes in alphabetical order; they are put
    into the official order, and back. Example: tsm zoo convert r50-sthv1-8f@h100 tsm.safetensors --to safetensors
    """
    from tsmcli.presets import resolve

    if dataset and dataset not in CATALOG:
        raise UsageError(f"no dataset named {dataset!r}", hint=f"choose from {', '.join(CATALOG)}")
    resolved = resolve(preset) if preset else None

    from tsmcli.config import DataConfig
    from tsmcli.data.location import Places, find_classes
    from tsmcli.recipes.zoo.convert import convert as run
    from tsmcli.report.progress import follow

    data = resolved.config.data if resolved else DataConfig(dataset=dataset or "folder")
    names = find_classes(data, Places(classes=classes)) if classes else None
    done = follow(run(source, target, to, preset=resolved, dataset=dataset, classes=names, force=force))
    if as_json:
        facts = asdict(done)
        print_json({**facts, "classes_reordered": facts.pop("reordered")})
        return
    print_line(f"{done.source}: {done.network}, in {done.layout} layout")
    order = ", classes put into the other order" if done.reordered else ""
    print_line(f"{done.target}: {done.tensors} tensors, {done.renamed} renamed{order}; reads back bit by bit")

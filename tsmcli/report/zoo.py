"""The zoo for people (a table, Markdown) and for scripts (CSV, JSON)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tsmcli.config import PROTOCOLS
from tsmcli.presets import PRESET_DIR, load_preset
from tsmcli.report.tables import print_csv, print_json, print_line, print_markdown, print_table
from tsmcli.zoo import COLUMNS, NETWORKS, Extra, Model, extras, superseded_by
from tsmcli.zoo import models as all_models

_FACTS = ("id", "table", "preset", "dataset", "network", "file_network", "frames", "config", "config_link",
          "reference", "version", "withdrawn")  # fmt: skip
_FILES = ("ckpt", "log", "json")
_SHOWN = ("top1", "top5", "inference_time", "gpu_mem")
_ACCURACIES = ("top1", "top5", "reference_top1", "reference_top5", "delta_top1", "delta_top5")


def print_models(models: Sequence[Model], form: str) -> None:
    """The rows in one of four forms. All but the table have every column; the table fits 80 characters."""
    match form:
        case "json":
            print_json([model_json(model) for model in models])
        case "csv":
            print_csv([*_FACTS, *COLUMNS, "sha256_prefix", *_FILES], map(_csv_row, models))
        case "markdown":
            print_markdown(["id", "config", *COLUMNS, *_FILES], map(_markdown_row, models))
        case _:
            rows = [(m.id, *(m.cells.get(name, "").split(" (")[0] for name in _SHOWN)) for m in models]
            print_table(("checkpoint", "top-1 %", "top-5 %", "speed", "MiB"), rows)
            for line in footnotes(models):
                print_line(line)


def footnotes(models: Sequence[Model]) -> list[str]:
    """What the table leaves out, and what is wrong in it."""
    lines = ["Two numbers: two tests, mostly the efficient and the accurate one. Speed: videos/s on one GPU. "
             "MiB: training, a GPU."]  # fmt: skip
    for model in models:
        if model.file_network:
            lines.append(f"{model.id}: its file holds a {NETWORKS[model.file_network]}")
        if model.withdrawn:
            lines.append(f"{model.id}: {withdrawal(model)}")
    if all(model.current for model in models):
        hidden = sum(not model.current for model in all_models())
        lines.append(f"--all: also {hidden} that the latest tables of their publishers do not list")
    return [*lines, f"Also here: {', '.join(extra.id for extra in extras())}", "tsm zoo show ID tells everything."]


def withdrawal(model: Model) -> str:
    """Since when a row is not listed, and what was published in its place."""
    return f"not listed since {model.withdrawn}; in its place: {', '.join(superseded_by(model)) or 'nothing'}"


def _csv_row(model: Model) -> list[object]:
    """Facts, the cells as the tables have them, the hash, the addresses."""
    cells = [model.cells.get(column, "") for column in COLUMNS]
    facts = [getattr(model, name) for name in _FACTS]
    return [*facts, *cells, model.ckpt.sha256_prefix, *_urls(model).values()]


def _urls(model: Model) -> dict[str, str | None]:
    """The address of each kind of file, None for one that was not published."""
    return {kind: model.files[kind].url if kind in model.files else None for kind in _FILES}


def _markdown_row(model: Model) -> list[str]:
    """The columns of all published tables, linked."""
    linked_config = f"[{model.config}]({model.config_link})" if model.config_link else model.config
    cells = [model.id, linked_config or ""]
    for column in COLUMNS:
        cell = model.cells.get(column, "")
        linked = column.startswith("reference") and cell and model.reference
        cells.append(f"[{cell}]({model.reference})" if linked else cell)
    return [*cells, *(f"[{kind}]({url})" if url else "" for kind, url in _urls(model).items())]


def model_json(model: Model) -> dict[str, Any]:
    """A row with its accuracies in numbers, by protocol, each spelled out; `cells` are the tables' own words."""
    return {
        **{name: getattr(model, name) for name in _FACTS},
        **{name: model.values(name) for name in _ACCURACIES},
        "protocol": {p: {**PROTOCOLS[p].model_dump(), "views": PROTOCOLS[p].views} for p in model.protocols},
        "gpus": model.gpus,
        "videos_per_sec": model.videos_per_sec,
        "memory_mib": model.memory_mb,
        "cells": model.cells,
        "sha256_prefix": model.ckpt.sha256_prefix,
        **_urls(model),
        "supersedes": model.supersedes,
        "superseded_by": superseded_by(model),
        "notes": model.notes,
    }


def print_entry(entry: Model | Extra, cached: str) -> None:
    """Everything about one entry; `cached` says what of it is on this machine."""
    if isinstance(entry, Extra):
        facts = {"what": entry.about, "address": entry.file.url if entry.file else entry.page}
        prefix = entry.file.sha256_prefix if entry.file else None
        print_table(("", entry.id), [*facts.items(), ("sha256", prefix or "not published"), ("cache", cached)])
        return
    rows: list[tuple[str, object]] = [
        ("table", f"{entry.table or 'none'}, {entry.version}"), ("preset", " ".join([entry.preset, *entry.sets])),
        ("network", f"{NETWORKS[entry.network]}, {entry.frames} frames"), ("config", entry.config or "none"),
    ]  # fmt: skip
    if entry.withdrawn:
        rows.append(("withdrawn", withdrawal(entry)))
    if entry.supersedes:
        rows.append(("supersedes", ", ".join(entry.supersedes)))
    if entry.file_network:
        rows.append(("file", f"holds a {NETWORKS[entry.file_network]}, not what the row says"))
    for column in COLUMNS:
        if column in entry.cells:
            accuracy = column in _ACCURACIES and entry.values(column)
            protocols = f"   {' / '.join(entry.protocols)}" if accuracy else ""
            rows.append((column.replace("_", " "), entry.cells[column] + protocols))
    if entry.values("reference_top1") and entry.version.startswith("0."):
        rows.append(("reference", f"the authors' code, trained again by MMAction2: {entry.reference or 'no link'}"))
    prefix = entry.ckpt.sha256_prefix
    rows.append(("sha256", f"{prefix}..." if prefix else "not published: a file cannot be compared with it"))
    rows += [(kind, file.url) for kind, file in entry.files.items()]
    print_table(("", entry.id), [*rows, ("cache", cached)])
    for title, remarks in (("Notes", entry.notes), (f"Preset {entry.preset}", preset_differences(entry))):
        for remark in remarks:
            print_line(f"{title}: {remark}")


def preset_differences(model: Model) -> list[str]:
    """In what our preset differs from how the row was made or measured, as far as that is on record."""
    text = (PRESET_DIR / f"{model.preset}.yaml").read_text(encoding="utf-8")
    remarks = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
    config = load_preset(model.preset, model.sets)
    total = config.train.batch * (model.gpus or 0)
    if total not in (0, config.train.lr_batch):
        remarks.append(
            f"its learning rate {config.train.lr:g} is for {config.train.lr_batch} videos a step; "
            f"{model.gpus} GPUs with {config.train.batch} each make {total}, for which tsm scales it"
        )
    for other in (name for name in model.protocols if name != config.test.name):
        nearest = "val" if other == "efficient" and config.val.name != other else other
        remarks.append(f"it tests with {config.test.name}; --protocol {nearest} measures the other number")
    return remarks

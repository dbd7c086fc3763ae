"""The published TSM checkpoints: what the tables of MMAction2 and the authors say of each, and where its files are.

Facts only, from `zoo.yaml` and `zoo_later.yaml`: no network, no torch. `recipes/zoo/download.py` fetches the files.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from tsmcli.errors import UsageError, WeightsError

COLUMNS = (
    "resolution", "gpus", "backbone", "pretrain", "top1", "top5", "reference_top1", "reference_top5",
    "delta_top1", "delta_top5", "inference_time", "gpu_mem", "testing_protocol", "flops", "params",
)  # fmt: skip
"""Columns of the published tables, apart from the links; no table has all of them."""

NETWORKS = {
    **{f"resnet{depth}": f"ResNet-{depth}" for depth in (18, 34, 50, 101, 152)},
    "mobilenet_v2": "MobileNetV2",
    "mobileone_s4": "MobileOne-S4",
}


@dataclass(frozen=True)
class File:
    """A published file; a name that ends in `-<8 hex digits>` says how its SHA-256 begins."""

    url: str

    @property
    def name(self) -> str:
        """Its file name."""
        return urlsplit(self.url).path.rsplit("/", 1)[-1]

    @property
    def sha256_prefix(self) -> str | None:
        """The first 8 hex digits of its SHA-256, or None where the publisher gave none."""
        match = re.search(r"-([0-9a-f]{8})\.pth$", self.name)
        return match[1] if match else None


@dataclass(frozen=True)
class Model:
    """A row of the tables: a checkpoint, what was measured with it, and the preset that rebuilds its network.

    Attributes:
        id: `<preset>@<resolution of the stored frames>`, or `authors-...`.
        table: heading of its table, None for a file that is in none.
        network: trunk of its recipe.
        file_network: trunk of the weights in its file, where that is another one.
        frames: T.
        protocols: what each number of an accuracy cell was measured under.
        sets: overrides of the preset that make it the row's, such as its test.
        config, config_link: name and address of the MMAction2 config, as the table has them.
        cells: column -> the table's own text; `x` and `xx` mean unknown.
        reference: where the reference accuracies point to: retrainings of the authors' code.
        ckpt, log, json: checkpoint and training logs.
        version: of MMAction2, whose table it is in (the 28 rows: a commit after 0.15.0), or the authors' commit.
        withdrawn: the day on which its publisher stopped listing it.
        supersedes: ids of the rows in whose place it was published.
    """

    id: str
    preset: str
    dataset: str
    network: str
    frames: int
    protocols: list[str]
    cells: dict[str, str]
    ckpt: File
    log: File | None = None
    json: File | None = None
    table: str | None = None
    config: str | None = None
    config_link: str | None = None
    reference: str | None = None
    file_network: str | None = None
    version: str = "0.15.0+dae2f4bc"
    withdrawn: str | None = None
    supersedes: list[str] = field(default_factory=list)
    sets: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def files(self) -> dict[str, File]:
        """All files that were published: ckpt, log and json."""
        files = {"ckpt": self.ckpt, "log": self.log, "json": self.json}
        return {kind: file for kind, file in files.items() if file}

    @property
    def current(self) -> bool:
        """Whether the latest tables of its publisher list it."""
        return self.table is not None and self.withdrawn is None

    def values(self, column: str) -> dict[str, float | None]:
        """An accuracy cell in numbers: protocol -> percent, None where unknown; {} for a cell without any."""
        words = self.cells.get(column, "x").split("/")
        if words == ["x"]:
            return {}
        return {p: _number(word) for p, word in zip(self.protocols, words, strict=True)}

    @property
    def top1(self) -> float | None:
        """The first top-1 number of the row: the efficient one where there are two; None where none is known."""
        return next((value for value in self.values("top1").values() if value is not None), None)

    @property
    def videos_per_sec(self) -> float | None:
        """Published inference speed: videos a second, one GPU, batch 1, the network alone."""
        return _number(self.cells.get("inference_time", "x").split(" ")[0])

    @property
    def memory_mb(self) -> float | None:
        """Published peak memory of training, MiB on each GPU."""
        return _number(self.cells.get("gpu_mem", "x"))

    @property
    def gpus(self) -> int | None:
        """How many GPUs it was trained on: `8x4` is 32; None where that is not known."""
        return math.prod(map(int, self.cells["gpus"].split("x"))) if "gpus" in self.cells else None


@dataclass(frozen=True)
class Extra:
    """A file beside the checkpoints; `page` instead of `file` is an address for a browser."""

    id: str
    about: str
    file: File | None = None
    page: str | None = None


@dataclass(frozen=True)
class Gone:
    """A file that nobody offers any more: why, and the id of what to take instead."""

    file: File
    why: str
    instead: str


def models() -> list[Model]:
    """All rows in the order of the tables: the 28 of June 2021, later ones of MMAction2, those of the authors."""
    return _read()[0]


def extras() -> list[Extra]:
    """Reference archive, validation list, label map, ImageNet weights."""
    return _read()[1]


def superseded_by(model: Model) -> list[str]:
    """Ids of the rows that were published in the place of one."""
    return [later.id for later in models() if model.id in later.supersedes]


def find(name: str) -> Model | Extra:
    """The entry with an id; a preset's name will do where it has one row only.

    Raises:
        UsageError: there is none; the nearest names are told.
        WeightsError: the name, or the hash in it, is that of a file that was withdrawn.
    """
    if name in (entries := _entries()):
        return entries[name]
    if gone := _gone(name):
        raise WeightsError(f"{gone.file.name} was withdrawn: {gone.why}", hint=f"take {gone.instead}")
    rows = [model for model in models() if model.preset == name and model.current and model.config]
    first = [row for row in rows if row.version == Model.version]  # names that meant one row keep their meaning
    for found in (first, rows):
        if len(found) == 1:
            return found[0]
    if rows:
        ids = ", ".join(row.id for row in rows)
        raise UsageError(f"{name} has {len(rows)} checkpoints in the zoo", hint=f"choose from {ids}")
    likely = near(name, 0.5)
    hint = f"did you mean {', '.join(likely)}?\n" if likely else ""
    raise UsageError(f"nothing in the zoo is named {name!r}", hint=f"{hint}tsm zoo ls --all lists everything")


def near(name: str, cutoff: float = 0.8) -> list[str]:
    """Names of the zoo that are spelled much like a word, the nearest first."""
    names = {*_entries(), *(model.preset for model in models())}
    return difflib.get_close_matches(name, sorted(names), n=3, cutoff=cutoff)


def has(name: str) -> bool:
    """Whether a word is meant as a name of the zoo: an id, something with an @, a preset, a withdrawn file."""
    known = {*_entries(), *(model.preset for model in models() if model.config)}
    return name in known or _gone(name) is not None or re.fullmatch(r"[\w.-]+@[\w-]+", name) is not None


def find_row(name: Path) -> Model | None:
    """The checkpoint that a word on the command line names; None for a file.

    Raises:
        UsageError: nothing is named like this, or it is no checkpoint.
        WeightsError: there is no such file, but a similar name.
    """
    if not has(str(name)):
        if not name.exists() and (similar := near(str(name))):
            raise WeightsError(f"no checkpoint {name}", hint=f"did you mean {', '.join(similar)}, of the zoo?")
        return None
    entry = find(str(name))
    if isinstance(entry, Extra):
        raise UsageError(f"{name} is not a checkpoint of the zoo: {entry.about}", hint="tsm zoo ls lists them")
    return entry


def with_hash(sha256: str) -> Model | None:
    """The row whose file has this SHA-256, as far as its name tells, or None; of two, the one listed today."""
    rows = [model for model in models() if sha256.startswith(model.ckpt.sha256_prefix or "-")]
    return next((row for row in rows if row.current), rows[0] if rows else None)


def select(
    *, dataset: str | None = None, backbone: str | None = None, frames: int | None = None, sort: str | None = None,
    withdrawn: bool = False,
) -> list[Model]:  # fmt: skip
    """Rows of a dataset, backbone and number of frames, best first: accuracy, speed or memory; else as published.

    A row without the number that is sorted by is last.

    Args:
        withdrawn: also rows that the latest tables of their publishers do not list.

    Raises:
        UsageError: no row has this dataset or backbone, or all of what is asked for.
    """
    rows = [model for model in models() if withdrawn or model.current]
    wishes = {"dataset": dataset, "network": _network(backbone), "frames": frames}
    for name in ("dataset", "network"):
        known = sorted({getattr(model, name) for model in rows})
        if wishes[name] not in (None, *known):
            raise UsageError(f"no checkpoint with {name} {wishes[name]!r}", hint=f"choose from {', '.join(known)}")
    rows = [m for m in rows if all(wanted in (None, getattr(m, name)) for name, wanted in wishes.items())]
    keys = {
        "accuracy": lambda model: -(model.top1 or 0.0),
        "speed": lambda model: -(model.videos_per_sec or 0.0),
        "memory": lambda model: model.memory_mb or float("inf"),
    }
    if not rows:
        raise UsageError("no checkpoint is of all of these", hint="tsm zoo ls --all lists them all")
    return sorted(rows, key=keys[sort]) if sort else rows


def _network(name: str | None) -> str | None:
    """`ResNet50`, `resnet-50` and `r50` are resnet50; the table writes it in one way, people in many."""
    if name is None:
        return None
    plain = re.sub(r"^r(?=\d)", "resnet", re.sub(r"[-_]", "", name.lower()))
    return {"mobilenetv2": "mobilenet_v2", "mbv2": "mobilenet_v2", "mobileones4": "mobileone_s4"}.get(plain, plain)


def _number(word: str) -> float | None:
    """What is in brackets behind a number, such as a difference, is left out."""
    return None if set(word.strip()) == {"x"} else float(word.split("(")[0])


@functools.cache
def _read() -> tuple[list[Model], list[Extra], list[Gone]]:
    files = (Path(__file__).with_name(name) for name in ("zoo.yaml", "zoo_later.yaml"))
    first, later = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in files)

    def rows(key: str, tree: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
        return [
            {k: File(v) if k in ("ckpt", "log", "json", "file") else v for k, v in row.items()} for row in tree[key]
        ]

    models = [Model(**row) for tree in (first, later) for row in rows("models", tree)]
    return models, [Extra(**row) for row in rows("extras", first)], [Gone(**row) for row in rows("gone", later)]


def _entries() -> dict[str, Model | Extra]:
    known: list[Model | Extra] = [*models(), *extras()]
    return {entry.id: entry for entry in known}


def _gone(name: str) -> Gone | None:
    """The withdrawn file with this name, or with this hash in its name."""
    return next((gone for gone in _read()[2] if name in (gone.file.name, gone.file.sha256_prefix)), None)

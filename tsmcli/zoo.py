"""The published TSM checkpoints: what MMAction2's tables say of each, and where its files are.

Facts only, read from `zoo.yaml`: no network, no torch. `recipes/zoo/download.py` fetches the files.
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
    "delta_top1", "delta_top5", "inference_time", "gpu_mem",
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
        id: `<preset>@<resolution of the stored frames>`.
        table: heading of its table.
        network: trunk of its recipe.
        file_network: trunk of the weights in its file, where that is another one.
        frames: T.
        protocols: what each number of an accuracy cell was measured under.
        config, config_link: name and address of the MMAction2 config, as the table has them.
        cells: column -> the table's own text; `x` and `xx` mean unknown.
        reference: where the reference accuracies point to: retrainings of the authors' code.
        ckpt, log, json: checkpoint and training logs.
        corrects: id of the row whose file this one replaced.
    """

    id: str
    table: str
    preset: str
    dataset: str
    network: str
    frames: int
    protocols: list[str]
    config: str
    config_link: str
    cells: dict[str, str]
    ckpt: File
    log: File
    json: File
    reference: str | None = None
    file_network: str | None = None
    corrects: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def files(self) -> dict[str, File]:
        """All files: ckpt, log and json."""
        return {"ckpt": self.ckpt, "log": self.log, "json": self.json}

    def values(self, column: str) -> dict[str, float | None]:
        """An accuracy cell in numbers: protocol -> percent, None where unknown; {} for a cell without any."""
        words = self.cells.get(column, "x").split("/")
        if words == ["x"]:
            return {}
        return {p: _number(word) for p, word in zip(self.protocols, words, strict=True)}

    @property
    def top1(self) -> float:
        """The first top-1 number of the row: the efficient one where there are two."""
        return next(value for value in self.values("top1").values() if value is not None)

    @property
    def videos_per_sec(self) -> float | None:
        """Published inference speed: videos a second, one GPU, batch 1, the network alone."""
        return _number(self.cells.get("inference_time", "x").split(" ")[0])

    @property
    def memory_mb(self) -> float | None:
        """Published peak memory of training, MiB on each GPU."""
        return _number(self.cells.get("gpu_mem", "x"))

    @property
    def gpus(self) -> int:
        """How many GPUs it was trained on: `8x4` is 32."""
        return math.prod(int(word) for word in self.cells["gpus"].split("x"))


@dataclass(frozen=True)
class Extra:
    """A file beside the checkpoints; `page` instead of `file` is an address for a browser."""

    id: str
    about: str
    file: File | None = None
    page: str | None = None


def models() -> list[Model]:
    """The 28 rows, in the order of the tables."""
    return _read()[0]


def corrections() -> list[Model]:
    """Checkpoints that were published later in the place of a row with another network's file."""
    return _read()[1]


def extras() -> list[Extra]:
    """Reference archive, validation list, label map, ImageNet weights."""
    return _read()[2]


def find(name: str) -> Model | Extra:
    """The entry with an id; a preset's name will do where it has one row only. UsageError names the nearest."""
    if name in (entries := _entries()):
        return entries[name]
    rows = [model for model in models() if model.preset == name]
    if len(rows) == 1:
        return rows[0]
    if rows:
        ids = ", ".join(row.id for row in rows)
        raise UsageError(f"{name} has {len(rows)} checkpoints in the zoo", hint=f"choose from {ids}")
    likely = near(name, 0.5)
    hint = f"did you mean {', '.join(likely)}?\n" if likely else ""
    raise UsageError(f"nothing in the zoo is named {name!r}", hint=f"{hint}tsm zoo ls lists everything")


def near(name: str, cutoff: float = 0.8) -> list[str]:
    """Names of the zoo that are spelled much like a word, the nearest first."""
    names = {*_entries(), *(model.preset for model in models())}
    return difflib.get_close_matches(name, sorted(names), n=3, cutoff=cutoff)


def has(name: str) -> bool:
    """Whether a word is meant as a name of the zoo: an id, something with an @, or a preset's name."""
    known = {*(model.preset for model in models()), *(extra.id for extra in extras())}
    return name in known or re.fullmatch(r"[\w.-]+@[\w-]+", name) is not None


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
    """The row whose file has this SHA-256, as far as its name tells, or None."""
    return next((m for m in (*models(), *corrections()) if sha256.startswith(m.ckpt.sha256_prefix or "-")), None)


def select(
    *, dataset: str | None = None, backbone: str | None = None, frames: int | None = None, sort: str | None = None
) -> list[Model]:
    """Rows of a dataset, backbone and number of frames, best first: accuracy, speed or memory; else as published.

    Raises:
        UsageError: no row has this dataset or backbone, or all of what is asked for.
    """
    rows = models()
    wishes = {"dataset": dataset, "network": _network(backbone), "frames": frames}
    for name in ("dataset", "network"):
        known = sorted({getattr(model, name) for model in rows})
        if wishes[name] not in (None, *known):
            raise UsageError(f"no checkpoint with {name} {wishes[name]!r}", hint=f"choose from {', '.join(known)}")
    rows = [m for m in rows if all(wanted in (None, getattr(m, name)) for name, wanted in wishes.items())]
    keys = {
        "accuracy": lambda model: -model.top1,
        "speed": lambda model: -(model.videos_per_sec or 0.0),
        "memory": lambda model: model.memory_mb or float("inf"),
    }
    if not rows:
        raise UsageError("no checkpoint is of all of these", hint="tsm zoo ls lists them all")
    return sorted(rows, key=keys[sort]) if sort else rows


def _network(name: str | None) -> str | None:
    """`ResNet50`, `resnet-50` and `r50` are resnet50; the table writes it in one way, people in many."""
    if name is None:
        return None
    plain = re.sub(r"^r(?=\d)", "resnet", re.sub(r"[-_]", "", name.lower()))
    return {"mobilenetv2": "mobilenet_v2", "mbv2": "mobilenet_v2", "mobileones4": "mobileone_s4"}.get(plain, plain)


def _number(word: str) -> float | None:
    return None if set(word.strip()) == {"x"} else float(word)


@functools.cache
def _read() -> tuple[list[Model], list[Model], list[Extra]]:
    tree = yaml.safe_load((Path(__file__).parent / "zoo.yaml").read_text(encoding="utf-8"))

    def rows(key: str) -> list[dict[str, Any]]:
        return [
            {k: File(v) if k in ("ckpt", "log", "json", "file") else v for k, v in row.items()} for row in tree[key]
        ]

    models, corrections = ([Model(**row) for row in rows(key)] for key in ("models", "corrections"))
    return models, corrections, [Extra(**row) for row in rows("extras")]


def _entries() -> dict[str, Model | Extra]:
    known: list[Model | Extra] = [*models(), *corrections(), *extras()]
    return {entry.id: entry for entry in known}

"""What is installed, what the machine has, and how to repair what is missing."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tsmcli.catalog import CATALOG
from tsmcli.engine.packages import installed, version_of
from tsmcli.recipes.zoo.download import cache_folder
from tsmcli.zoo import models

PACKAGES = ("torch", "torchvision", "numpy", "av", "opencv-python-headless", "pydantic", "typer", "rich", "pyyaml",
            "httpx", "safetensors")  # fmt: skip
MIN_FREE_GB = 1.0


@dataclass(frozen=True)
class Finding:
    """One line of the examination.

    Attributes:
        ok: True, False, or None where it does not matter.
        fix: what to type when it is not ok.
    """

    name: str
    ok: bool | None
    value: str
    fix: str = ""


def examine(data_root: Path) -> list[Finding]:
    """All findings, in a fixed order."""
    findings = [Finding("python", True, f"{platform.python_version()} on {platform.platform()}")]
    findings += [_package(name) for name in PACKAGES]
    findings += [
        _devices(),
        _engines(),
        _decoder("PyAV", _av_codecs),
        _decoder("decord", _decord_version, needed=False),
    ]
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    enough = free > MIN_FREE_GB
    findings.append(Finding("free disk", enough, f"{free:.0f} GB here", "" if enough else "free some space"))
    for name, dataset in CATALOG.items():
        folder = data_root / dataset.folder
        found = folder.is_dir() and any(folder.glob(f"{dataset.folder}_*_*.txt"))
        make = "tsm prepare-data" if name == "demo" else f"tsm prepare-data {name} --source DIR"
        facts = (True, str(folder)) if found else (None, "not prepared", make)
        findings.append(Finding(f"data: {name}", *facts))
    return [*findings, _zoo()]


def _zoo() -> Finding:
    cache = cache_folder()
    there = sum((cache / model.id / model.ckpt.name).is_file() for model in models())
    value = f"{there} of {len(models())} checkpoints in {cache}"
    return Finding("zoo", True, value) if there else Finding("zoo", None, value, "tsm zoo download ID")


def _package(name: str) -> Finding:
    try:
        return Finding(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, False, "not installed", f"pip install {name}")


def _devices() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        return Finding("devices", False, f"torch cannot be loaded: {error}", "pip install --force-reinstall torch")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return Finding("devices", True, ", ".join([*names, f"cpu with {torch.get_num_threads()} threads"]))


def _engines() -> Finding:
    """What can run networks faster than PyTorch on a CPU."""
    there = {name: installed(name) for name in ("openvino", "onnxruntime")}
    names = ", ".join(f"{name} {version_of(name)}" for name, found in there.items() if found)
    if there["openvino"]:
        return Finding("engines", True, names)
    return Finding("engines", None, names or "PyTorch alone", "pip install openvino: a CPU is faster with it")


def _decoder(name: str, version: Callable[[], str], *, needed: bool = True) -> Finding:
    try:
        return Finding(f"decoder: {name}", True, version())
    except (ImportError, OSError) as error:
        fix = "pip install --force-reinstall av" if needed else "only needed for --set data.decoder=decord"
        return Finding(f"decoder: {name}", False if needed else None, f"not usable: {error}", fix)


def _av_codecs() -> str:
    av = importlib.import_module("av")
    codecs = [name for name in ("h264", "hevc", "vp9", "av1", "libdav1d") if name in av.codecs_available]
    return f"{av.__version__}, reads {', '.join(codecs)}"


def _decord_version() -> str:
    return str(importlib.import_module("decord").__version__)

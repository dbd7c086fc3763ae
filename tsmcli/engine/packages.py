"""Packages that may be there or not."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from tsmcli.errors import EnvironmentProblem


def installed(package: str) -> bool:
    """Whether a package is there; it is not loaded."""
    return find_spec(package) is not None


def need(*packages: str) -> None:
    """Raise EnvironmentProblem unless these are installed."""
    missing = [name for name in packages if not installed(name)]
    if missing:
        extra = "openvino" if missing == ["openvino"] else "'tsmcli[export]'"
        raise EnvironmentProblem(f"not installed: {', '.join(missing)}", hint=f"pip install {extra}")


def version_of(package: str) -> str:
    """Its version; a module may be installed under another name, as onnxruntime's for GPUs is."""
    try:
        return version(package)
    except PackageNotFoundError:
        return str(import_module(package).__version__)

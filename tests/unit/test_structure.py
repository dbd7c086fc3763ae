"""The shape of the package: imports point down, help is quick, the wheel is complete."""

from __future__ import annotations

import ast
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support import make_folder_dataset

import tsmcli

PACKAGE = Path(tsmcli.__file__).parent
ROOT = Path(__file__).parents[2]

LEVELS = [
    {"errors", "catalog", "files"},
    {"config"},
    {"presets", "zoo"},
    {"core", "intervals", "metrics", "results"},
    {"data"},
    {"engine", "prepare"},
    {"recipes"},
    {"report"},
    {"cli"},
]
"""A module may import from levels above it in this list, and from its own folder; neighbours are strangers."""


def part_of(module: str) -> str:
    """`tsmcli.data.decode` -> `data`."""
    return module.split(".")[1] if "." in module else ""


def imports(path: Path) -> set[str]:
    """Every tsmcli module a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tsmcli"):
            found |= {f"{node.module}.{a.name}" for a in node.names} if node.module == "tsmcli" else {node.module}
        elif isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.startswith("tsmcli")}
    return found


def test_imports_point_down() -> None:
    level = {part: i for i, parts in enumerate(LEVELS) for part in parts}
    wrong = []
    for path in PACKAGE.rglob("*.py"):
        relative = path.relative_to(PACKAGE)
        own = relative.parts[0].removesuffix(".py")
        if own.startswith("__"):
            continue
        for module in imports(path):
            other = part_of(module)
            if other.startswith("__") or other == own:
                continue
            if level[other] >= level[own]:
                wrong.append(f"{relative} imports {module}")
    assert not wrong


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("typer", {"cli"}),
        ("rich", {"report"}),
        ("matplotlib", {"report"}),
        ("jinja2", {"report"}),
        ("av", {"data", "prepare"}),
        ("decord", {"data"}),
        ("httpx", {"engine"}),
    ],
)
def test_only_one_place_knows(module: str, allowed: set[str]) -> None:
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(n == module or n.startswith(module + ".") for n in names):
                assert part in allowed, f"{path.name} imports {module}"


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_help_loads_no_torch() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom tsmcli.cli import app\n"
        "result = CliRunner().invoke(app, ['--help'])\nassert result.exit_code == 0\n"
        "print(sorted({'torch', 'numpy', 'av', 'cv2', 'pydantic', 'decord'} & set(sys.modules)))"
    )
    assert run_python(code).strip() == "[]"


def test_eval_of_saved_scores_loads_no_torch() -> None:
    code = (
        "import sys, tempfile, pathlib, numpy as np\nfrom typer.testing import CliRunner\nfrom tsmcli.cli import app\n"
        "from tsmcli.results import Results, save_results\n"
        "path = pathlib.Path(tempfile.mkdtemp()) / 's.npz'\n"
        "save_results(path, Results(['a'], np.array([1]), np.array([[0.2, 0.8]], np.float32), 1))\n"
        "result = CliRunner().invoke(app, ['eval', str(path), '--metrics', 'top_k', 'mean_class'])\n"
        "assert result.exit_code == 0, result.output\nprint('torch' in sys.modules)"
    )
    assert run_python(code).strip() == "False"


def test_networks_load_no_torchvision() -> None:
    """It takes as long to load as torch; MobileOne and two recipes use a part of it."""
    code = "import sys, tsmcli.recipes.predict, tsmcli.recipes.train\nprint(sorted({'torchvision', 'scipy'} & {*sys.modules}))"
    assert run_python(code).strip() == "[]"


def test_preparing_and_checking_data_need_no_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_folder_dataset(tmp_path / "clips", videos=5)
    (tmp_path / "marks.csv").write_text("video,start,end,label\n" + "".join(
        f"{label}/{letter}_clip {i}.mp4,0,0.2,{label}\n"
        for label in ("jump", "wave") for i, letter in enumerate("abcde")
    ))  # fmt: skip
    for words in (
        ["prepare-data", "folder", "--source", "clips", "--out", "own", "--store", "zip"],
        [
            "prepare-data",
            "intervals",
            "--annotations",
            "marks.csv",
            "--source",
            "clips",
            "--out",
            "cut",
            "--store",
            "zip",
        ],
        ["data", "check", "--data", "own", "--set", "data.dataset=folder", "--set", "data.store=zip"],
        ["zoo", "ls"],
    ):
        code = "import sys\nsys.modules['torch'] = None\nfrom tsmcli.cli import main\nmain()"
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


def test_public_names_are_lazy_and_there() -> None:
    code = "import sys\nimport tsmcli\nprint('torch' in sys.modules)\nfor n in tsmcli.__all__: getattr(tsmcli, n)"
    assert run_python(code).strip() == "False"
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tsmcli.nothing  # noqa: B018


def test_wheel_holds_the_presets_and_class_names_and_nothing_else(tmp_path: Path) -> None:
    build = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    names = zipfile.ZipFile(tmp_path / done.stdout.split()[-1]).namelist()
    presets = {name for name in names if name.startswith("tsmcli/presets/")}
    assert {Path(name).stem for name in presets} == {p.stem for p in (ROOT / "presets").glob("*.yaml")}
    assert "tsmcli/classes/k400.txt" in names
    assert "tsmcli/py.typed" in names
    assert "tsmcli/zoo.yaml" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"tsmcli"}


def test_files_and_functions_stay_small() -> None:
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 300, f"{path}: more than 300 lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and node.end_lineno:
                assert node.end_lineno - node.body[0].lineno <= 60, f"{path}:{node.lineno}: {node.name} is too long"

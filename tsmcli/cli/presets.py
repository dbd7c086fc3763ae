"""tsm presets ls | show | diff | copy"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from tsmcli.cli.shared import Json, ManyValues, Set
from tsmcli.errors import UsageError
from tsmcli.files import write_text
from tsmcli.report.tables import print_json, print_line, print_table

presets = typer.Typer(no_args_is_help=True, help="The recipes: list, inspect, compare, copy.")
Name = Annotated[str, Argument(help="Preset name, MMAction2 config name, or a .yaml file.")]


@presets.command("ls")
def list_presets(as_json: Json = False) -> None:
    """List all presets."""
    from tsmcli.presets import load_preset, preset_names

    configs = {name: load_preset(name) for name in preset_names()}
    if as_json:
        print_json([{"name": name, "about": c.about, "source": c.source} for name, c in configs.items()])
    else:
        print_table(("preset", "what it is"), [(name, c.about) for name, c in configs.items()])


@presets.command(cls=ManyValues)
def show(name: Name, sets: Set = None, as_json: Json = False) -> None:
    """Show every value of a preset and where it comes from."""
    from tsmcli.presets import leaves, resolve

    preset = resolve(name, sets or ())
    if as_json:
        print_json(
            {"name": preset.name, "config": preset.config.model_dump(mode="json"), "origins": preset.origins}
        )
    else:
        rows = [
            (key, "null" if value is None else value, preset.origins[key]) for key, value in leaves(preset.config)
        ]
        print_table(("key", "value", "from"), rows, preset.name)


@presets.command()
def diff(first: Name, second: Name, as_json: Json = False) -> None:
    """Show the values in which two presets differ."""
    from tsmcli import presets as core

    rows = core.diff(core.load_preset(first), core.load_preset(second))
    if as_json:
        print_json({key: [a, b] for key, a, b in rows})
    else:
        print_table(("key", first, second), rows)


@presets.command()
def copy(
    name: Name,
    file: Annotated[Path, Argument(help="File to write, ending in .yaml.")],
    force: Annotated[bool, Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Copy a preset to a file of your own, to be edited and used with --preset FILE."""
    from tsmcli.presets import find

    if file.suffix not in (".yaml", ".yml"):
        raise UsageError(f"{file}: a preset file ends in .yaml")
    if file.exists() and not force:
        raise UsageError(f"{file} already exists", hint="--force overwrites it")
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, find(name).read_text(encoding="utf-8"))
    print_line(str(file))


@presets.command()
def schema() -> None:
    """Print the JSON schema of a preset, for editors that complete and check YAML."""
    from tsmcli.config import Config

    print_json(Config.model_json_schema())

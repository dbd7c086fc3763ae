"""Find, read, override and compare presets: YAML files checked against the schema in `config/`.

Every problem of a file is reported at once, as `presets/x.yaml:6: unknown key 'train.epoch'; did you mean
'epochs'?`, and every resolved value knows where it comes from.

Values are read as YAML 1.2 reads them: 010 is 10, 5e-4 is a number, and 1:30, 1_000, 0x10 and yes are words.
Anchors, aliases and tags are refused.
"""

from __future__ import annotations

import difflib
import functools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from tsmcli.config import PROTOCOLS, Config
from tsmcli.errors import ConfigError

_HERE = Path(__file__).parent
PRESET_DIR = _HERE / "presets" if (_HERE / "presets").is_dir() else _HERE.parent / "presets"
"""Inside the package when installed from a wheel, beside it in a checkout."""


@dataclass(frozen=True)
class Preset:
    """A resolved preset; `origins` says for every dotted key: `default`, `<file>:<line>` or `--set ...`."""

    name: str
    config: Config
    origins: dict[str, str]


_CONSTANTS = {"": None, "~": None, "null": None, "true": True, "false": False}
_INTEGER = re.compile(r"[-+]?[0-9]{1,400}")
_NUMBER = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")


def preset_names() -> list[str]:
    """Names of all shipped presets, sorted."""
    return sorted(path.stem for path in PRESET_DIR.glob("*.yaml"))


def load_preset(name: str, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a preset; see `resolve`.

    Args:
        name: a preset name, the name of an MMAction2 TSM config, or the path of a `.yaml` file.
        overrides: `key=value` strings such as `train.lr=0.005`.

    Raises:
        ConfigError: no such preset, or a wrong key or value in it or in an override.
    """
    return resolve(name, overrides).config


def resolve(name: str, overrides: Sequence[str] = (), *, of_run: bool = False) -> Preset:
    """Read a preset, apply overrides, check everything, and remember where each value comes from.

    Args:
        of_run: the file was written by a run, perhaps of an older version: keys that are gone since may be in it if
            they are switched off.

    Raises:
        ConfigError: with one line per problem.
    """
    path = find(name)
    try:
        check_name(path.stem)
    except ValueError as error:
        raise ConfigError(f"{path!s:.200}: {error}", hint="rename the file") from None
    where = str(path) if path.parent != PRESET_DIR else f"presets/{path.name}"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{where}: cannot be read: {error}") from error
    tree, lines = _parse(text, where)
    if of_run:
        _drop_gone(tree)
    places = {key: f"{where}:{line}" for key, line in lines.items()}
    config = _overridden(tree, overrides, places, where)
    return Preset(path.stem, config, {key: _origin(key, places) for key, _ in leaves(config)})


def override(config: Config, overrides: Sequence[str]) -> Config:
    """A configuration with some values replaced; see `resolve`."""
    return _overridden(config.model_dump(mode="json"), overrides, {}, "configuration")


def check_name(name: str) -> str:
    """A preset's name, which also names folders of runs; ValueError for one that cannot."""
    if not re.fullmatch(r"[^/\\:]{1,150}", name) or not name.isprintable() or not name.strip(". "):
        raise ValueError(f"{name!r:.100} is no name of a preset: 1 to 150 printable characters without / \\ :")
    return name


def find(name: str) -> Path:
    """The file of a preset given by name, by MMAction2 config name, or by path; or ConfigError."""
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"no preset file {name}", hint="tsm presets ls lists the presets by name")
        return path
    known, aliases = preset_names(), _aliases()
    own = name if name in known else aliases.get(name.removesuffix(".py").rsplit("/", 1)[-1])
    if own:
        return PRESET_DIR / f"{own}.yaml"
    near = difflib.get_close_matches(name, [*known, *aliases], n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?\n" if near else ""
    raise ConfigError(f"no preset named {name!r}", hint=hint + "tsm presets ls lists them all")


@functools.cache
def _aliases() -> dict[str, str]:
    """MMAction2 config name -> preset name."""
    source = re.compile(r"^source:\s*(\S+)", re.MULTILINE)
    found = {path.stem: source.search(path.read_text(encoding="utf-8")) for path in PRESET_DIR.glob("*.yaml")}
    return {match[1]: name for name, match in found.items() if match}


def leaves(config: BaseModel, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a configuration as (dotted key, value), in schema order."""
    for name in type(config).model_fields:
        value = getattr(config, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def diff(a: Config, b: Config) -> list[tuple[str, Any, Any]]:
    """The keys in which two configurations differ, as (dotted key, value in a, value in b)."""
    left, right = dict(leaves(a)), dict(leaves(b))
    keys = [*left, *(key for key in right if key not in left)]
    return [(k, left.get(k), right.get(k)) for k in keys if left.get(k) != right.get(k)]


def _parse(text: str, where: str) -> tuple[dict[str, Any], dict[str, int]]:
    """YAML text -> (nested dict, line number of every dotted key)."""
    try:
        _check_plain(text)
        node = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{where}{line}: not valid YAML: {getattr(error, 'problem', error)}") from error
    lines: dict[str, int] = {}
    tree = {} if node is None else _construct(node, "", lines, where)
    if not isinstance(tree, dict):
        raise ConfigError(f"{where}:1: a preset is a mapping of sections, not a {type(tree).__name__}")
    return tree, lines


def _check_plain(text: str) -> None:
    """Refuse what makes a tree larger than its text, or other than it looks."""
    depth = 0
    event: Any
    for event in yaml.parse(text, Loader=yaml.BaseLoader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        anchor, tag = getattr(event, "anchor", None), getattr(event, "tag", None)
        if anchor or tag or depth > 8:
            what = "anchors and aliases" if anchor else f"tags ({tag:.40})" if tag else "so many levels"
            raise yaml.MarkedYAMLError(problem=f"{what} are not read in presets", problem_mark=event.start_mark)


def is_gone(problem: ErrorDetails) -> bool:
    """Whether what is wrong with a stored configuration is a switched-off key that this version does not know."""
    return problem["type"] == "extra_forbidden" and problem["input"] in (False, None, "none")


def _drop_gone(tree: dict[str, Any]) -> None:
    """Leave out switched-off keys that this version does not know."""
    try:
        Config.model_validate_json(json.dumps(tree))
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            *sections, key = problem["loc"]
            if is_gone(problem):
                section = tree
                for name in sections:
                    section = section[str(name)]
                section.pop(str(key), None)


def _construct(node: yaml.Node, prefix: str, lines: dict[str, int], where: str) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return [_construct(item, prefix, lines, where) for item in node.value]
    if not isinstance(node, yaml.MappingNode):
        return _scalar(node.value) if node.style is None else node.value  # type: ignore[attr-defined]
    tree: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, line = key_node.value, key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode) or "." in key:
            what = repr(key) if isinstance(key_node, yaml.ScalarNode) else f"a {key_node.id}"
            raise ConfigError(f"{where}:{line}: a key is one word, such as 'lr' below 'train', not {what}")
        if key in tree:
            raise ConfigError(f"{where}:{line}: key {prefix + key!r} is given twice")
        lines[prefix + key] = line
        tree[key] = _construct(value_node, f"{prefix}{key}.", lines, where)
    return tree


def _scalar(text: str) -> Any:
    """A word without quotes: a number, true, false, nothing, or itself."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text


def _apply(tree: dict[str, Any], override: str, places: dict[str, str]) -> None:
    """Put one `key=value` into the tree."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override}: write key=value, for example --set train.lr=0.005")
    *sections, name = key.split(".")
    here = tree
    for depth, section in enumerate(sections):
        below = here.get(section, {})
        if isinstance(below, str) and below in PROTOCOLS:  # spell it out, then override one value of it
            below = PROTOCOLS[below].model_dump()
        if not isinstance(below, dict):
            raise ConfigError(f"--set {override}: {'.'.join(sections[: depth + 1])} is a value, not a section")
        here[section] = below
        here = below
    here[name] = _parse(f"value: {text}", f"--set {override}")[0]["value"]
    places[key] = f"--set {override}"


def _overridden(tree: dict[str, Any], overrides: Sequence[str], places: dict[str, str], where: str) -> Config:
    """A tree with overrides put into it, checked; `places` learns where they come from."""
    for override in overrides:
        _apply(tree, override, places)
    try:
        # JSON mode: strict about types, yet a YAML list may fill a tuple
        return Config.model_validate_json(json.dumps(tree, default=str))
    except ValidationError as error:
        problems = [_describe(detail, places, where) for detail in error.errors()]
        raise ConfigError("\n".join(problems), hint="tsm presets show NAME prints every key") from None


def _describe(detail: ErrorDetails, places: dict[str, str], where: str) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    overrides = (place for k, place in places.items() if k.startswith(key + ".") and place.startswith("--set"))
    place = next(overrides, _origin(key, places))
    place = where if place == "default" else place
    if detail["type"] == "extra_forbidden":
        known = _keys_beside(key)
        near = difflib.get_close_matches(key.rsplit(".", 1)[-1], known, n=1, cutoff=0.5)
        tail = f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(known)}"
        return f"{place}: unknown key {key!r}{tail}"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    if detail["type"] == "value_error":
        return f"{place}: {message}"
    return f"{place}: {key} {message}, not {json.dumps(detail['input']):.80}"


def _keys_beside(key: str) -> list[str]:
    """Names that the schema allows where `key` stands."""
    model: Any = Config
    for part in key.split(".")[:-1]:
        annotation = model.model_fields[part].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return list(model.model_fields)


def _origin(key: str, places: dict[str, str]) -> str:
    """Where a key's value stands: its own place, or that of the nearest section above it, or default."""
    own = key
    while key:  # where a preset spells out a section, what it leaves out is a default
        if key in places and (key == own or not any(other.startswith(f"{key}.") for other in places)):
            return places[key]
        key = key.rpartition(".")[0]
    return "default"


def to_yaml(preset: Preset) -> str:
    """A resolved preset as YAML that reads back to the same configuration, with each value's origin beside it."""
    lines = [f"# {preset.name}, resolved: every value and where it came from"]
    for name in type(preset.config).model_fields:
        value = getattr(preset.config, name)
        if isinstance(value, BaseModel):
            lines.append(f"{name}:")
            lines += [f"  {key}: {json.dumps(v)}  # {preset.origins[f'{name}.{key}']}" for key, v in leaves(value)]
        else:
            lines.append(f"{name}: {json.dumps(value)}  # {preset.origins[name]}")
    return "\n".join(lines) + "\n"

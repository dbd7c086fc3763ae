"""The one way from a name on the command line to a network with its weights and class names."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from torch import Tensor

from tsmcli import zoo
from tsmcli.config import PROTOCOLS, Config, Views
from tsmcli.core.recognise import recognise
from tsmcli.core.tsm import TSM, build_model
from tsmcli.data.location import Places, dataset_folder, find_classes
from tsmcli.engine.checkpoint import Checkpoint, checkpoint_of, load_weights
from tsmcli.engine.sidecar import EXPORTED, Exported, read_exported
from tsmcli.engine.weight_file import check_weights, read_file, weights_of
from tsmcli.errors import ConfigError, DataError, UsageError, WeightsError
from tsmcli.files import sha256
from tsmcli.presets import Preset, override, resolve
from tsmcli.recipes.events import result_of
from tsmcli.recipes.zoo.published import check_network, check_unseen, fetch, find_init

_IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class ReadFile:
    """A file of weights that was read once.

    Attributes:
        tree: what is in it.
        own: the same as a checkpoint, where it is one of ours.
        preset: the preset that was given, or the zoo's for one of its names.
        exported: how it is used, where it is no file of weights but an exported network.
        zoo: its id in the zoo, where that is how it was found.
    """

    path: Path
    sha256: str
    tree: dict[str, Any]
    own: Checkpoint | None
    preset: Preset | None
    exported: Exported | None = None
    zoo: str | None = None


@dataclass(frozen=True)
class Opened:
    """A network found by a name.

    Attributes:
        name: of its preset.
        class_names: K names in index order.
        build: make the network with its weights, in evaluation mode, on the CPU.
        own: the checkpoint, where the file is one of ours.
        exported: how the file is used, where it holds no weights but an exported network.
        zoo: its id in the zoo, where that is how it was found.
    """

    path: Path
    sha256: str
    name: str
    config: Config
    class_names: list[str]
    build: Callable[[], TSM]
    own: Checkpoint | None
    exported: Exported | None = None
    zoo: str | None = None

    @cached_property
    def model(self) -> TSM:
        """The network, built when it is first needed: a converted one that was kept does not need it."""
        return self.build()

    @property
    def thresholds(self) -> list[float] | None:
        """The probability of each class from which on a video has it; None where a video has one label."""
        if not self.config.data.multi_label:
            return None
        return list(self.own.thresholds) if self.own and self.own.thresholds else [0.5] * len(self.class_names)

    def describe(self) -> dict[str, Any]:
        """What saved scores say of the network they are of."""
        return {
            **({"thresholds": self.thresholds} if self.thresholds else {}),
            **({"zoo": self.zoo} if self.zoo else {}),
            "preset": self.name,
            "checkpoint": str(self.path),
            "sha256": self.sha256,
            "dataset": self.config.data.dataset,
            "network": self.config.model.identity(),
        }


def open_network(
    name: Path, preset: Preset | None = None, overrides: Sequence[str] = (), classes: Path | None = None,
    data: Places | None = None,
) -> Generator[Any, None, Opened]:  # fmt: skip
    """Find a file, fetch it if it is of the zoo, read and hash it once, and build its network.

    Args:
        name: one of our checkpoints, a name of the zoo, a weight file in any known layout, which needs `preset`, or
            an exported network.
        preset: what network it is; default the checkpoint's own configuration.
        overrides: `key=value` strings that change the checkpoint's configuration, such as data.store=zip.
        classes: a file of class names.
        data: where labelled videos lie, whose class names must be the network's.

    Raises:
        WeightsError: the file cannot be read or fetched, says not which network it is of, or is of another one, or
            was trained with another number of labels a video.
        DataError: there are no class names, or they are not the network's.
        ConfigError, UsageError: an override or a name is wrong.
    """
    file = yield from read_weight_file(name, preset, overrides)
    config, preset_name = choose_config(file, () if preset else overrides)
    if file.own and (several := file.own.config.data.multi_label) != config.data.multi_label:
        kind = "any number of labels" if several else "one label"
        raise WeightsError(f"{file.path} gives {kind} a video", f"--set data.multi_label={str(several).lower()}")
    names = choose_classes(config, file.own, classes, data)
    return opened_as(file, config, preset_name, names)


def opened_as(file: ReadFile, config: Config, preset_name: str, class_names: list[str]) -> Opened:
    """A file with what it is of; its network is built when it is needed."""
    build = partial(load_network, file, config, len(class_names))
    facts = preset_name, config, class_names, build, file.own, file.exported, file.zoo
    return Opened(file.path, file.sha256, *facts)


def open_trunk(
    name: Path, preset: Preset | None, overrides: Sequence[str], places: Places
) -> Generator[Any, None, Opened]:
    """A network for its features alone: the classes are those of the data, and the classifier has no weights.

    Args:
        name: as of `open_network`, or `imagenet`, or a file of a trunk, such as torchvision's; these need `preset`.

    Raises:
        UsageError: `imagenet` without a preset; and as `open_network`.
    """
    of_imagenet = str(name) == "imagenet" or (str(name).startswith("imagenet-") and zoo.has(str(name)))
    if of_imagenet and not name.is_file():
        if preset is None:
            raise UsageError(f"{name}: of which trunk?", hint="--preset NAME, such as mbv2-folder")
        name = Path((yield from find_init(str(name), preset.config)))
    file = yield from read_weight_file(name, preset, overrides)
    config, preset_name = choose_config(file, () if preset else overrides)
    there = places.classes or dataset_folder(config.data, places) / "classes.txt"
    same = file.own and not places.classes and file.own.config.data.dataset == config.data.dataset
    names = file.own.class_names if file.own and same and not there.is_file() else find_classes(config.data, places)
    weights = file.own.model if file.own else weights_of(file.tree)
    model, config, _ = build_trunk(config, weights, len(names), file.path)
    return Opened(file.path, file.sha256, preset_name, config, names, lambda: model, file.own)


def build_trunk(
    config: Config, weights: Mapping[str, Tensor], num_classes: int, of: Path | str
) -> tuple[TSM, Config, bool]:
    """A network with the weights of a trunk and a new classifier, in evaluation mode; whether they are ImageNet's.

    A trunk that was trained without shifts, as ImageNet's was, gets none: the configuration says so.
    """
    config = override(config, [f"model.num_classes={num_classes}"])
    model = build_model(config, seed=0)
    layout = load_weights(model, weights, new_classifier=True, of=of).layout
    found = recognise(weights)
    imagenet = layout != "tsm" and found.shifted is None and found.classes in (None, _IMAGENET_CLASSES)
    if imagenet or found.shifted is False:
        config, state = override(config, ["model.shift=none"]), model.state_dict()
        model = build_model(config, seed=0)
        model.load_state_dict(state)
    return model.eval(), config, imagenet


def load_checkpoint(name: Path | str) -> tuple[TSM, Config]:
    """The network of a checkpoint or of a name of the zoo, in evaluation mode, and its configuration."""
    opened = result_of(open_network(Path(name)))
    return opened.model, opened.config


def read_weight_file(
    name: Path, preset: Preset | None, overrides: Sequence[str] = ()
) -> Generator[Any, None, ReadFile]:
    """Read the file that a path or a name of the zoo stands for; a published one must be what it is listed as.

    An exported network has no weights that could be read, but the description beside it.

    Raises:
        UsageError: nothing in the zoo is named like this.
        WeightsError: it cannot be read or fetched, or it holds another network than it is listed as.
    """
    if name.suffix in EXPORTED and name.is_file():
        exported, without_weights, digest = read_exported(name)
        return ReadFile(name, digest, {}, without_weights, preset, exported)
    row = None if name.is_file() else zoo.find_row(name)
    path, digest = name, ""
    if row:
        preset = preset or resolve(row.preset, [*row.sets, *overrides])
        check_unseen(row, preset)
        path, digest = yield from fetch(row)
    tree = read_file(path)
    own = checkpoint_of(tree, path)
    if own is None:
        check_weights(weights_of(tree), path)
        found = recognise(weights_of(tree))
        if preset and found.folded and found.backbone == preset.config.model.backbone:
            preset = replace(preset, config=override(preset.config, ["model.folded=true"]))
    if row and preset:
        check_network(row, preset, weights_of(tree))
    return ReadFile(path, digest or sha256(path), tree, own, preset, zoo=row.id if row else None)


def load_network(file: ReadFile, config: Config, num_classes: int) -> TSM:
    """The network of a configuration with the weights of a file, in evaluation mode; see `load_weights`."""
    if file.exported:
        raise WeightsError(f"{file.path} is an exported network", "take the checkpoint that it was made from")
    model = build_model(config, num_classes)
    weights = file.own.model if file.own else weights_of(file.tree)
    try:
        model.load_state_dict(weights)
    except RuntimeError:  # other names, or another network
        load_weights(model, weights, of=file.path)
    return model.eval()


def choose_config(file: ReadFile, overrides: Sequence[str] = ()) -> tuple[Config, str]:
    """The configuration to use a file with, and its name.

    Raises:
        WeightsError: bare weights without a preset, or a preset with another network than the checkpoint's.
    """
    own, preset = file.own, file.preset
    if own is None:
        if preset is None:
            raise WeightsError(f"{file.path} does not say which network it is of", hint="add --preset NAME")
        return preset.config, preset.name
    config, name = (preset.config, preset.name) if preset else (own.config, own.preset)
    if overrides and not preset:
        config = override(config, overrides)
    ours, theirs = own.config.model.identity(), config.model.identity()
    if wrong := [f"{key} {ours[key]}, not {theirs[key]}" for key in ours if ours[key] != theirs[key]]:
        asked = f"preset {name}" if preset else "--set"
        hint = "leave that out: the checkpoint knows its own network"
        raise WeightsError(f"{file.path} is of another network than {asked} says: it has {', '.join(wrong)}", hint)
    return config, name


def choose_classes(config: Config, own: Checkpoint | None, classes: Path | None, data: Places | None) -> list[str]:
    """The checkpoint's class names; DataError if those of the data or of a given file differ, or there are none."""
    if own and not classes and not data:
        return own.class_names
    places = replace(data or Places(), classes=classes)
    if own is None:
        names = find_classes(config.data, places)
        check_classes(config, names)
        return names
    there = classes or dataset_folder(config.data, places) / "classes.txt"
    if classes or there.is_file():
        names = find_classes(config.data, places)
        if names != own.class_names:
            pairs = enumerate(zip(names, own.class_names, strict=False))
            other = (f"class {i} is {a!r}, not {b!r}" for i, (a, b) in pairs if a != b)
            wrong = f"{there}: not the {len(own.class_names)} classes the checkpoint was trained on: "
            wrong += next(other, f"{len(names)} classes")
            raise DataError(wrong, "labels would mean other things; prepare the data with the same classes")
    return own.class_names


def check_classes(config: Config, classes: list[str]) -> None:
    """Raise ConfigError where the preset and the class names disagree about K."""
    said = config.model.num_classes
    if said not in (None, len(classes)):
        raise ConfigError(f"model.num_classes is {said}, but there are {len(classes)} class names")


def choose_protocol(config: Config, name: str | None) -> Views:
    """The views of a protocol; `val`, `test` and None are the preset's own. UsageError for any other name."""
    own = {None: config.test, "test": config.test, "val": config.val}
    if name in own:
        return own[name]
    if name not in PROTOCOLS:
        hint = f"choose from {', '.join([*PROTOCOLS, 'val', 'test'])}"
        raise UsageError(f"no protocol named {name!r}", hint)
    return PROTOCOLS[name]

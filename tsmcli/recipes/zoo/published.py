"""From the name of a published checkpoint to a verified file, the preset that rebuilds its network, and a check."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch

from tsmcli import zoo
from tsmcli.config import Config, ModelConfig
from tsmcli.core.recognise import Recognised, recognise
from tsmcli.errors import UsageError, WeightsError
from tsmcli.files import sha256
from tsmcli.presets import Preset, resolve
from tsmcli.recipes.zoo.download import Supply, download, remote_of

_LEAVE_IT_OUT = "leave out --preset, and what --set says of the network: the zoo knows it"


def find_init(name: str, config: Config) -> Generator[Any, None, str]:
    """Where starting weights are: `none`, or a file, fetched if the name is `imagenet` or one of the zoo."""
    if name == "imagenet":
        name = f"imagenet-{config.model.backbone}"
    if name == "none" or Path(name).is_file():
        return name
    if not zoo.has(name):
        hint = "--init imagenet, none, a file, or an id of tsm zoo ls"
        raise WeightsError(f"no starting weights {name}: neither a file nor of the zoo", hint)
    entry = zoo.find(name)
    if isinstance(entry, zoo.Extra) and not entry.id.startswith("imagenet-"):
        raise UsageError(f"{name} is no file of weights: {entry.about}", hint="tsm zoo ls lists them")
    path, _ = yield from fetch(entry)
    return str(path)


def fetch(entry: zoo.Model | zoo.Extra) -> Generator[Any, None, tuple[Path, str]]:
    """The file of an entry, fetched if neither we nor torch.hub did so before, and its SHA-256; see `download`."""
    supply = Supply.of_environment()
    remote = remote_of(entry, supply)
    by_torch = Path(torch.hub.get_dir()) / "checkpoints" / remote.path.name
    for path in (remote.path, by_torch):
        if path.is_file() and (digest := sha256(path)).startswith(remote.sha256_prefix or "-"):
            return path, digest
    yield from download([remote], supply)
    return remote.path, sha256(remote.path)


def check_network(model: zoo.Model, preset: Preset, state: dict[str, torch.Tensor]) -> None:
    """Raise WeightsError for a file of another network than its preset builds; say which, and what to do."""
    found = recognise(state)
    wanted = described(preset.config.model, found)
    if wanted == found:
        return
    if found == described(resolve(model.preset, model.sets).config.model, found):
        raise WeightsError(
            f"{model.id} holds {found}; preset {preset.name}, as it was changed, is {wanted}", _LEAVE_IT_OUT
        )
    hint = [f"{name} is the file that was published in its place" for name in zoo.superseded_by(model)]
    facts = (found.backbone, model.dataset, model.frames, model.version)
    same = {m.preset for m in zoo.models() if (m.network, m.dataset, m.frames, m.version) == facts}
    if found.channels == 3:
        hint += [f"--preset {name} takes the weights as what they are" for name in sorted(same - {preset.name})]
    raise WeightsError(f"{model.id}: preset {preset.name} is {wanted}, but the file holds {found}", "\n".join(hint))


def described(config: ModelConfig, found: Recognised) -> Recognised:
    """What a network of this configuration would be recognised as; classes as found, which loading checks."""
    return Recognised(
        backbone=config.backbone,
        classes=found.classes,
        non_local="embedded_gaussian" if config.non_local == "dot_product" else config.non_local,
        shifted=None if found.shifted is None else config.shift != "none",
        whole_block=config.shift_place == "block" and found.shifted is True,
        temporal_pool=config.temporal_pool,
        folded=config.folded,
    )


def check_unseen(model: zoo.Model, preset: Preset) -> None:
    """Raise WeightsError for a preset that differs from the row's in what weights do not show, such as T."""
    own, given = (c.model.model_dump(include={"num_segments", "non_local", "shift", "shift_div", "shift_window"})
                  for c in (resolve(model.preset, model.sets).config, preset.config))  # fmt: skip
    if wrong := [f"{key} {own[key]}, not {given[key]}" for key in own if own[key] != given[key]]:
        raise WeightsError(
            f"{model.id} was trained with {', '.join(wrong)} as is asked for (preset {preset.name}); the weights "
            "would load all the same, and the scores would be wrong", _LEAVE_IT_OUT,
        )  # fmt: skip

"""The videos and the network of a saved test, found again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tsmcli.config import Config, Views
from tsmcli.data.decode import check_decoder
from tsmcli.data.location import Places, Split, find_split
from tsmcli.errors import DataError, WeightsError
from tsmcli.presets import preset_names, resolve
from tsmcli.recipes.events import result_of
from tsmcli.recipes.network import Opened, choose_config, opened_as, read_weight_file
from tsmcli.results import Results


@dataclass(frozen=True)
class Reopened:
    """What a test was made of.

    Attributes:
        split: its records are the videos of the results, in their order.
        places: where the data lies.
    """

    opened: Opened
    views: Views
    split: Split
    places: Places

    @property
    def config(self) -> Config:
        """Of the test."""
        return self.opened.config

    @property
    def class_names(self) -> list[str]:
        """K names in index order."""
        return self.opened.class_names


def reopen(results: Results, run: Path, places: Places, overrides: Sequence[str] = ()) -> Reopened:
    """Find the checkpoint, the list and the media of saved results.

    Args:
        run: where the checkpoint lies if it is no longer where it was.
        places: where the data lies; by default where the test had its list.
        overrides: `key=value` strings that the test had, such as data.store=zip.

    Raises:
        DataError: the results do not say what they are of, or the list or the media are not there or others.
        WeightsError: the checkpoint is not there, has changed since, or is of a network that is not known.
    """
    meta = results.meta
    if not {"checkpoint", "sha256", "protocol", "class_names"} <= {*meta}:
        raise DataError("the score file does not say which network and protocol it is of")
    checkpoint = Path(meta["checkpoint"])
    if not checkpoint.is_file():
        checkpoint = run / checkpoint.name
    file = result_of(read_weight_file(checkpoint, None))
    if file.sha256 != meta["sha256"]:
        raise WeightsError(f"{checkpoint} has changed since the test", hint=f"tsm test --checkpoint {checkpoint}")
    if file.own is None:
        if meta["preset"] not in preset_names():
            raise WeightsError(f"{checkpoint} says no network, and there is no preset {meta['preset']}")
        file = replace(file, preset=resolve(meta["preset"], overrides))
    config, name = choose_config(file, overrides if file.own else ())
    check_decoder(config.data)
    places = _places(places, Path(meta.get("list", "")))
    split = find_split(config.data, places, "val", meta["class_names"])
    records = {record.name: record for record in split.records}
    if missing := [path for path in results.paths if path not in records]:
        raise DataError(f"{split.list_file} is not the list of the test: {missing[0]} is not in it")
    split = replace(split, records=[records[path] for path in results.paths])
    opened = opened_as(file, config, name, meta["class_names"])
    return Reopened(opened, Views.model_validate(meta["protocol"]), split, places)


def _places(places: Places, list_file: Path) -> Places:
    """The places that were named, and for what was not, those of the test's list."""
    if places.val_list or not list_file.is_file():
        return places
    beside = list_file.parent if (list_file.parent / "manifest.json").is_file() else None
    return replace(places, val_list=list_file, folder=places.folder or beside)

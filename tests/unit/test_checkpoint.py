"""Files of weights that are damaged, lie, or come from another version; and whose classes stand in which order."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import tsmcli
from tsmcli.catalog import CATALOG
from tsmcli.config import Config, DataConfig, ModelConfig
from tsmcli.core.tsm import TSM, build_model
from tsmcli.core.weights import export_state
from tsmcli.engine.checkpoint import (
    Checkpoint,
    Progress,
    checkpoint_tree,
    load_weights,
    open_checkpoint,
    save_checkpoint,
)
from tsmcli.engine.weight_file import read_file, read_weights, write_safetensors, write_torch
from tsmcli.errors import UsageError, WeightsError
from tsmcli.recipes.run_folder import newest_checkpoint

MODEL = ModelConfig(backbone="resnet18", width=0.25, num_segments=2, init="none", dropout=0)
LARGEST = "backbone.layer4.1.conv2.weight"


def saved(model: TSM | None = None, **more: Any) -> Checkpoint:
    model = model or build_model(MODEL, 3, seed=0)
    return Checkpoint("mine", Config(model=MODEL), ["a", "b", "c"], Progress(epoch=2), model.state_dict(), **more)


def flip(path: Path, tensor: Tensor) -> None:
    """Change twenty bytes in the middle of a tensor's numbers, by little: none becomes infinite."""
    data, inside = bytearray(path.read_bytes()), tensor.numpy().tobytes()
    at = data.index(inside) + len(inside) // 8 * 4
    for i in range(20):
        data[at + 4 * i] ^= 1
    path.write_bytes(data)


def test_a_flipped_byte_in_a_checkpoint_is_found(tmp_path: Path) -> None:
    model = build_model(MODEL, 3, seed=0)
    for name, epoch in (("last.pt", 2), ("best.pt", 1)):
        save_checkpoint(tmp_path / name, saved(model, training={"averaged": epoch}))
    flip(tmp_path / "last.pt", model.state_dict()[LARGEST])
    for read in (read_file, read_weights, open_checkpoint, lambda path: load_weights(model, path)):
        with pytest.raises(
            WeightsError, match=r"last.pt: damaged, nothing was loaded: its record archive/data/\d+ "
        ):
            read(tmp_path / "last.pt")  # type: ignore[operator]
    found = newest_checkpoint(tmp_path)
    assert found is not None
    assert found[0].training == {"averaged": 1}
    assert found[1] == tmp_path / "best.pt"
    assert "last.pt: damaged" in found[2][0]


def test_a_flipped_byte_in_safetensors_of_ours_is_found(tmp_path: Path) -> None:
    state, path = build_model(MODEL, 3, seed=0).state_dict(), tmp_path / "a.safetensors"
    write_safetensors(path, {**state, "half": torch.ones(3, dtype=torch.bfloat16)}, {})
    assert torch.equal(read_weights(path)[LARGEST], state[LARGEST])
    flip(path, state[LARGEST])
    with pytest.raises(WeightsError, match="a.safetensors: damaged, nothing was loaded"):
        read_weights(path)


def test_files_without_checksums_are_read(tmp_path: Path) -> None:
    import safetensors.torch

    state = {"a": torch.randn(5)}
    safetensors.torch.save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    if choose := getattr(torch.serialization, "set_crc32_options", None):
        choose(False)
        torch.save(state, tmp_path / "none.pth")
        choose(True)
    for path in tmp_path.iterdir():
        assert torch.equal(read_weights(path)["a"], state["a"]), path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda t: t.to(torch.complex64), "is of type complex64; weights are floating-point numbers"),
        (lambda t: t.long(), "is of type int64"),
        (lambda t: t > 0, "is of type bool"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "is (of type qint8|no ordinary tensor)"),
        (lambda t: t.to_sparse(), "is no ordinary tensor"),
        (lambda t: t.to("meta"), "is no ordinary tensor"),
        (lambda t: torch.full_like(t, math.nan), "holds NaN or infinity"),
        (lambda t: t.half() / 0, "holds NaN or infinity"),
    ],
)
def test_tensors_that_are_no_weights(tmp_path: Path, wrong: Callable[[Tensor], Tensor], message: str) -> None:
    model = build_model(MODEL, 3, seed=0)
    kept = model.fc.weight.clone()
    state = {**model.state_dict(), "fc.weight": wrong(torch.randn(3, 128))}
    torch.save({"state_dict": state}, tmp_path / "theirs.pth")
    torch.save({**checkpoint_tree(saved(model)), "model": state}, tmp_path / "ours.pt")
    for call in (
        lambda: load_weights(model, tmp_path / "theirs.pth"),
        lambda: load_weights(model, state),
        lambda: open_checkpoint(tmp_path / "ours.pt"),
    ):
        with pytest.raises(WeightsError, match=f"fc.weight {message}"):
            call()
    assert torch.equal(model.fc.weight, kept)


def test_half_precision_and_counters_are_weights(tmp_path: Path) -> None:
    model = build_model(MODEL, 3, seed=0)
    for kind in (torch.float16, torch.bfloat16, torch.float64):
        state = {k: v.to(kind) if v.is_floating_point() else v.int() for k, v in model.state_dict().items()}
        torch.save(state, tmp_path / "x.pth")
        other = build_model(MODEL, 3, seed=1)
        load_weights(other, tmp_path / "x.pth")
        assert torch.equal(other.fc.weight, state["fc.weight"].float())


def config_with(section: str, **values: Any) -> str:
    tree = Config(model=MODEL).model_dump(mode="json")
    (tree[section] if section else tree).update(values)
    return json.dumps(tree)


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"preset": "../../x"}, "no name of a preset"),
        ({"preset": ".."}, "no name of a preset"),
        ({"preset": "C:x"}, "no name of a preset"),
        ({"preset": "x\x1b[31m"}, "no name of a preset"),
        ({"preset": "x" * 300}, "no name of a preset"),
        ({"preset": 5}, "preset should be a valid string"),
        ({"class_names": ["a"]}, "1 class names for a classifier of 3 classes"),
        ({"class_names": ["a", "b", 3]}, "class_names.2 should be a valid string"),
        ({"class_names": None}, "class_names should be a valid list"),
        ({"progress": {"epoch": -1}}, "progress.epoch should be greater than or equal to 0"),
        ({"progress": {"step": 10**30}}, "progress.step should be less than"),
        ({"progress": {"seconds": math.inf}}, "progress.seconds should be a finite number"),
        ({"progress": {"best_top1": math.nan}}, "progress.best_top1 should be"),
        ({"progress": 3}, "progress should be"),
        ({"training": [1]}, "training should be a valid dictionary"),
        ({"model": [1]}, "model should be a valid dictionary"),
        ({"model": {"fc.weight": "x"}}, "fc.weight is of type str"),
        ({"config": config_with("model", num_segments=10**9)}, "model.num_segments should be less than or equal to"),
        ({"config": config_with("model", backbone="resnet51")}, "model.backbone should be 'resnet18'"),
        ({"config": config_with("model", trunk="new")}, "model.trunk .*not permitted"),
        ({"config": config_with("test", frames="all")}, "test.frames .*not permitted"),
        ({"config": config_with("data", dataset="new")}, "data.dataset must be one of"),
        ({"config": config_with("", train=5)}, "train should be"),
        ({"config": "[" * 5000}, "Invalid JSON"),
        ({"config": "{"}, "Invalid JSON"),
        ({"config": 5}, "JSON input should be"),
    ],
)  # fmt: skip
def test_what_a_checkpoint_says_is_checked(tmp_path: Path, claims: dict[str, Any], message: str) -> None:
    torch.save({**checkpoint_tree(saved()), **claims}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=message) as caught:
        open_checkpoint(tmp_path / "x.pt")
    assert "pydantic" not in str(caught.value).lower()
    assert "http" not in str(caught.value)
    without = {key: value for key, value in checkpoint_tree(saved()).items() if key not in claims}
    torch.save(without, tmp_path / "x.pt")
    if {*claims} != {"training"}:  # which files for use only lack
        with pytest.raises(WeightsError, match=f"{next(iter(claims))}"):
            open_checkpoint(tmp_path / "x.pt")


def test_a_checkpoint_of_an_older_version_is_read(tmp_path: Path) -> None:
    """Keys that are gone are left out, and it says so, where they do not change what the network is."""
    tree = json.loads(config_with("train", nesterov=True, workers=10**6))
    tree["model"] |= {"attention": False, "gate": "none"}
    tree["augment"]["crop"] = "the old way"
    old = {**checkpoint_tree(saved()), "config": json.dumps(tree), "progress": {"epoch": 2, "samples": 7}}
    torch.save(old, tmp_path / "old.pt")
    back = open_checkpoint(tmp_path / "old.pt")
    assert back is not None
    assert (back.config, back.progress) == (Config(model=MODEL), Progress(epoch=2))
    assert [note.split(" in ")[0] for note in back.notes] == [
        "model.attention was False", "model.gate was 'none'", "augment.crop was 'the old way'",
        "train.workers was 1000000", "train.nesterov was True",
    ]  # fmt: skip


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """No file may become larger, as on a full disk."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("name", ["x.pt", "x.safetensors", "x.npz", "x.json", "x.csv"])
@pytest.mark.parametrize("room", [0, 5000, 100_000])
def test_no_space_left(tmp_path: Path, name: str, room: int) -> None:
    """The error is the system's, of this file; what was there before is whole, and nothing else is left."""
    import numpy as np

    from tsmcli.results import Results, save_results

    path = tmp_path / name
    path.write_text("before")
    state = {"a": torch.randn(50_000), "b": torch.randn(50_000)}
    scores = np.random.default_rng(0).random((1000, 50), np.float32)
    results = Results([f"{i}.mp4" for i in range(1000)], np.zeros(1000, np.int64), scores, 1000)
    writers: dict[str, Callable[[], None]] = {
        "x.pt": lambda: write_torch(path, state),
        "x.safetensors": lambda: write_safetensors(path, state, {}),
    }
    with pytest.raises(OSError, match="File too large") as caught, small_files(room):
        writers.get(name, lambda: save_results(path, results))()
    assert caught.value.filename == str(path)
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == [name]


def authors_file(path: Path, classes: int) -> tuple[TSM, Tensor]:
    model = build_model(MODEL, classes, seed=1)
    torch.nn.init.normal_(model.fc.bias)
    torch.save({"state_dict": export_state(model, "mit")}, path)
    return model, model.fc.bias.detach()


@pytest.mark.parametrize("dataset", ["sthv1", "jester"])
def test_authors_classes_are_put_into_official_order(dataset: str, tmp_path: Path) -> None:
    names = CATALOG[dataset].class_names() or []
    _, theirs = authors_file(tmp_path / "theirs.pth", len(names))
    expected = torch.stack([theirs[sorted(names).index(name)] for name in names])
    assert not torch.equal(expected, theirs)
    model = tsmcli.build_model(Config(model=MODEL, data=DataConfig(dataset=dataset)))
    tsmcli.load_weights(model, tmp_path / "theirs.pth")
    assert torch.equal(model.fc.bias, expected)
    tsmcli.load_weights(model, read_weights(tmp_path / "theirs.pth"))
    assert torch.equal(model.fc.bias, expected), "and not twice"
    bare = tsmcli.build_model(MODEL, len(names))
    kept = bare.fc.bias.clone()
    with pytest.raises(UsageError, match="theirs.pth: .* classes: the authors order those") as caught:
        tsmcli.load_weights(bare, tmp_path / "theirs.pth")
    assert "load_weights(..., dataset=NAME)" in caught.value.hint
    assert torch.equal(bare.fc.bias, kept)
    tsmcli.load_weights(bare, tmp_path / "theirs.pth", dataset=dataset)
    assert torch.equal(bare.fc.bias, expected)
    with pytest.raises(UsageError, match="no dataset named 'jetser'"):
        tsmcli.load_weights(bare, tmp_path / "theirs.pth", dataset="jetser")


def test_class_orders_that_agree_are_left_alone(tmp_path: Path) -> None:
    for classes, dataset in ((174, "sthv2"), (400, "k400"), (27, "folder"), (10, "sthv1"), (5, None)):
        source, theirs = authors_file(tmp_path / "theirs.pth", classes)
        model = build_model(MODEL, classes)
        load_weights(model, tmp_path / "theirs.pth", dataset=dataset)
        assert torch.equal(model.fc.bias, theirs)
    for layout in ("tsm", "mmaction", "torchvision"):
        source, theirs = authors_file(tmp_path / "theirs.pth", 174)
        model = tsmcli.build_model(Config(model=MODEL, data=DataConfig(dataset="sthv1")))
        load_weights(model, export_state(source, layout))  # type: ignore[arg-type]
        assert torch.equal(model.fc.bias, theirs)


def test_what_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, Path("/dev/zero")):
        if path.exists():
            with pytest.raises(WeightsError, match="not a file"):
                read_file(path)


def test_tensors_that_are_not_what_they_say(tmp_path: Path) -> None:
    whole, path = checkpoint_tree(saved()), tmp_path / "last.pt"
    for name, tensor, message in (
        ("fc.weight", torch.zeros(1).expand(10**6, 10**6), "fc.weight is no ordinary tensor"),
        ("fc.bias", torch.tensor(0.0), "3 class names for a classifier of 1 classes"),
    ):
        write_torch(path, {**whole, "model": {**whole["model"], name: tensor}})
        with pytest.raises(WeightsError, match=message):
            open_checkpoint(path)
    write_torch(path, {**whole, "format": -1})
    with pytest.raises(WeightsError, match="checkpoint format -1"):
        open_checkpoint(path)

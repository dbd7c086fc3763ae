"""Engines and number formats: the same scores whatever computes them, and exported files in place of checkpoints."""

from __future__ import annotations

import json
import pickle
import time
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import pytest
import torch
from support import tsm

from tsmcli.core.exportable import example_input
from tsmcli.core.tsm import build_model
from tsmcli.engine import exported_file, inference, packages
from tsmcli.errors import EnvironmentProblem
from tsmcli.files import cache_home, sha256
from tsmcli.presets import load_preset
from tsmcli.recipes import conversion, doctor, engines
from tsmcli.results import load_results


@pytest.fixture
def here(untrained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(untrained / "cache"))
    return untrained


def scores(*args: object) -> np.ndarray:
    done = tsm("test", *args, "--out", "out.npz")
    assert done.code == 0, done.err
    return load_results(Path("out.npz")).scores


def hide(monkeypatch: pytest.MonkeyPatch, *hidden: str) -> None:
    """Make packages look as if they were not installed."""
    for module in (packages, inference, engines, doctor):
        monkeypatch.setattr(module, "installed", lambda name: name not in hidden and find_spec(name) is not None)


def kept() -> list[Path]:
    folder = cache_home() / "engines"
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def test_all_engines_give_the_same_scores(here: Path) -> None:
    plain = scores("--checkpoint", "bid.pt", "--engine", "torch")
    for name in ("openvino", "onnxruntime"):
        found = scores("--checkpoint", "bid.pt", "--engine", name, "--protocol", "test")
        assert np.abs(found - plain).max() < 1e-5
        assert load_results(Path("out.npz")).meta["engine"]["name"] == name
    features = {}
    for name in ("torch", "openvino"):
        assert tsm("features", "bid.pt", "--engine", name, "--out", f"{name}.npz", "--of", "frame").code == 0
        features[name] = np.load(f"{name}.npz")["features"]
    np.testing.assert_allclose(features["openvino"], features["torch"], rtol=1e-4, atol=1e-5)
    assert len(kept()) == 3
    # bf16 is another number format: other scores, in a file of their own
    rough = scores("--checkpoint", "bid.pt", "--engine", "torch", "--precision", "bf16")
    assert 1e-5 < np.abs(rough - plain).max() < 0.05
    files = {path.name.rpartition("-")[2] for path in here.glob("runs/**/scores*.npz")}
    assert "bf16.npz" in files
    assert len(files) == 2
    both = [str(path) for path in here.glob("runs/**/scores*.npz")]
    refused = tsm("eval", *both)
    assert (refused.code, "scores in bf16 and fp32 are not averaged" in refused.err) == (2, True)


def test_auto_takes_openvino_where_it_pays(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def engine_of(*args: object) -> str:
        assert tsm("test", "--checkpoint", "bid.pt", "--out", "out.npz", *args).code == 0
        return str(load_results(Path("out.npz")).meta["engine"]["name"])

    assert engine_of() == "torch"  # 16 videos
    monkeypatch.setattr(engines, "PAYS", (4, 16, 1000))
    assert engine_of() == "openvino"
    monkeypatch.setattr(engines, "PAYS", (4, 1000, 1000))
    assert engine_of() == "openvino"  # it is kept
    for path in kept()[0].iterdir():
        path.write_bytes(b"damaged")
    assert engine_of() == "openvino"  # and made again
    monkeypatch.setattr(conversion, "TOLERANCE", -1.0)
    monkeypatch.setattr(engines, "PAYS", (1, 1, 1000))
    for path in kept():
        engines.remove(path)
    assert engine_of() == "torch"  # it would say something else
    refused = tsm("test", "--checkpoint", "bid.pt", "--engine", "openvino")
    assert (refused.code, "openvino differs from PyTorch by" in refused.err) == (5, True)
    assert kept() == []


def test_auto_takes_the_faster_of_two(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = scores("--checkpoint", "bid.pt")
    monkeypatch.setattr(engines, "PAYS", (1000, 1000, 1))
    monkeypatch.setattr(conversion, "_TIMING_SEC", 0.0)

    def faster(slow: str) -> str:
        """Which one is taken where calls of the other take longer."""

        def open_slowly(path: Path, engine: str, *args: Any, **options: Any) -> exported_file.Runner:
            run = exported_file.open_file(path, engine, *args, **options)
            wait = 0.1 if engine == slow else 0.0
            return exported_file.Runner(lambda inputs: [time.sleep(wait), run(inputs)][1], run.shapes)

        monkeypatch.setattr(conversion, "open_file", open_slowly)
        assert np.abs(scores("--checkpoint", "bid.pt") - plain).max() < 1e-5
        (folder,) = kept()
        name = str(load_results(Path("out.npz")).meta["engine"]["name"])
        assert {path.suffix for path in folder.iterdir()} == ({".xml", ".bin"} if name == "openvino" else {".onnx"})
        engines.remove(folder)
        return name

    assert faster("onnxruntime") == "openvino"
    assert faster("openvino") == "onnxruntime"

    def broken(*args: Any, **options: Any) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(conversion, "write_onnx", broken)
    assert faster("openvino") == "openvino"  # the other one cannot be used


def test_8_bits_of_a_checkpoint(here: Path) -> None:
    plain = scores("--checkpoint", "bid.pt")
    rough = scores("--checkpoint", "bid.pt", "--precision", "int8")
    assert 1e-5 < np.abs(rough - plain).max() < 0.05
    meta = load_results(Path("out.npz")).meta["engine"]
    (folder,) = kept()
    file = folder / {"onnxruntime": "model.onnx", "openvino": "model.bin"}[meta["name"]]
    assert (meta["precision"], meta["sha256"]) == ("int8", sha256(file))
    assert len(list(here.glob("runs/**/scores*-int8.npz"))) == 1
    clip, videos = here / "data/demo/videos/val/grow_000.mp4", here / "data/demo/demo_train_list_videos.txt"
    videos.rename(here / "moved.txt")
    said = tsm("predict", "bid.pt", clip, "--precision", "int8", "--json")
    assert said.code == 0, said.err  # it is kept, and needs no training videos
    engines.remove(folder)
    refused = tsm("predict", "bid.pt", clip, "--precision", "int8")
    assert (refused.code, "8 bits are calibrated with training videos: no list" in refused.err) == (3, True)
    assert "tsm export CHECKPOINT model.onnx --int8" in refused.err
    assert kept() == []
    (here / "moved.txt").rename(videos)
    found = {}
    for name in ("openvino", "onnxruntime"):
        done = tsm("stream", "uni.pt", "--source", clip, "--precision", "int8", "--json", "--engine", name)
        assert done.code == 0, done.err
        found[name] = [json.loads(line)["probability"] for line in done.out.splitlines()]
    assert found["openvino"] == pytest.approx(found["onnxruntime"], abs=0.01)
    assert {path.name for folder in kept() for path in folder.iterdir()} == {"model.xml", "model.bin", "model.onnx"}


def test_without_engines_torch_does_everything(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "PAYS", (1, 1, 1))
    hide(monkeypatch, "openvino", "onnxruntime")
    assert scores("--checkpoint", "bid.pt").shape == (16, 8)
    assert scores("--checkpoint", "bid.pt", "--precision", "bf16").shape == (16, 8)
    clip = here / "data/demo/videos/val/grow_000.mp4"
    assert tsm("predict", "bid.pt", clip).code == 0
    assert tsm("stream", "uni.pt", "--source", clip, "--json").code == 0
    assert tsm("features", "bid.pt").code == 0
    assert next(one for one in doctor.examine(Path("data")) if one.name == "engines").fix.startswith("pip install")
    refused = tsm("test", "--checkpoint", "bid.pt", "--engine", "openvino")
    assert (refused.code, "not installed: openvino" in refused.err) == (5, True)


def test_what_cannot_compute_like_this_says_so(here: Path) -> None:
    for words, code, wrong in (
        (["--engine", "onnxruntime", "--precision", "bf16"], 5, "onnxruntime does not compute in bf16 here"),
        (["--precision", "fp16"], 5, "fp16 needs a GPU"),
        (["--engine", "torch-compile", "--precision", "int8"], 5, "torch-compile does not compute in int8 here"),
    ):
        refused = tsm("test", "--checkpoint", "bid.pt", *words)
        assert (refused.code, wrong in refused.err) == (code, True), refused.err


def test_a_network_that_cannot_be_compiled(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*_: Any, **__: Any) -> Callable[..., None]:
        def fail(*_: Any) -> None:
            raise RuntimeError("no C++ compiler")

        return fail

    monkeypatch.setattr(torch, "compile", no_compiler)
    clip = here / "data/demo/videos/val/grow_000.mp4"
    for words in (["predict", "bid.pt", clip], ["stream", "uni.pt", "--source", clip]):
        refused = tsm(*words, "--engine", "torch-compile")
        assert (refused.code, "torch.compile failed: no C++ compiler" in refused.err) == (5, True)


@pytest.mark.slow  # the compiler takes half a minute
@pytest.mark.skipif(which("c++") is None, reason="no C++ compiler")
def test_a_compiled_network_gives_the_same_scores(here: Path) -> None:
    plain = scores("--checkpoint", "bid.pt")
    assert np.abs(scores("--checkpoint", "bid.pt", "--engine", "torch-compile") - plain).max() < 1e-5
    assert load_results(Path("out.npz")).meta["engine"]["name"] == "torch-compile"
    clip, said = here / "data/demo/videos/val/grow_000.mp4", list[float]()
    for engine in ("torch", "torch-compile"):
        done = tsm("stream", "uni.pt", "--source", clip, "--json", "--engine", engine)
        assert done.code == 0, done.err
        said.append(json.loads(done.out.splitlines()[-1])["probability"])
    assert said[0] == pytest.approx(said[1], abs=1e-5)


@pytest.mark.parametrize("name", ["m.onnx", "m.xml", pytest.param("m.pt2", marks=pytest.mark.slow)])
def test_an_exported_file_is_a_checkpoint(here: Path, name: str) -> None:
    plain = scores("--checkpoint", "bid.pt")
    assert tsm("export", "bid.pt", name, "--preprocess", "--softmax").code == 0
    assert np.abs(scores("--checkpoint", name) - plain).max() < 1e-5
    clip = here / "data/demo/videos/val/grow_000.mp4"
    said = [tsm("predict", one, clip, "--json").json()["videos"] for one in ("bid.pt", name)]
    assert said[0][0]["top"][0]["name"] == said[1][0]["top"][0]["name"]
    assert tsm("export", "uni.pt", f"s{name}", "--stream").code == 0
    lines = [
        [json.loads(line) for line in tsm("stream", one, "--source", clip, "--json").out.splitlines()]
        for one in ("uni.pt", f"s{name}")
    ]
    assert [one["probability"] for one in lines[1]] == pytest.approx([one["probability"] for one in lines[0]])


def test_an_exported_file_says_what_it_is_not(here: Path) -> None:
    assert tsm("export", "bid.pt", "m.xml").code == 0
    clip = here / "data/demo/videos/val/grow_000.mp4"
    for words, code, wrong in (
        (["stream", "m.xml", "--source", clip], 2, "m.xml takes clips"),
        (["features", "m.xml"], 4, "m.xml: no weights in this file"),
        (["predict", "m.xml", clip, "--protocol", "efficient"], 2, "m.xml takes frames of 56 px, not 224"),
        (["predict", "m.xml", clip, "--engine", "torch"], 5, "torch does not read m.xml"),
        (["predict", "m.xml", clip, "--precision", "int8"], 2, "m.xml computes in fp32, not in int8"),
        (["export", "m.xml", "n.onnx"], 4, "m.xml is an exported network"),
    ):
        refused = tsm(*words)
        assert (refused.code, wrong in refused.err) == (code, True), refused.err
    facts = json.loads(Path("m.xml.json").read_text())
    for change in (
        {"sha256": "0"}, {"weights": {"file": "../m.bin", "sha256": ""}}, {"outputs": None}, {"checkpoint": {}},
        {"weights": {"file": "m.xml", "sha256": ""}}, {"frames": []},
    ):  # fmt: skip
        Path("m.xml.json").write_text(json.dumps(facts | change))
        refused = tsm("predict", "m.xml", clip)
        assert (refused.code, "m.xml.json" in refused.err) == (4, True), refused.err
    Path("m.xml.json").unlink()
    assert tsm("predict", "m.xml", clip).code == 4


def test_a_program_runs_no_code(here: Path) -> None:
    """A file of torch.export may hold pickles; torch itself would run them."""
    assert tsm("export", "bid.pt", "m.pt2").code == 0

    class Hostile:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return Path.touch, (here / "canary",)

    with zipfile.ZipFile("m.pt2") as old:
        parts = {name: old.read(name) for name in old.namelist()}
    replaced = 0
    with zipfile.ZipFile("bad.pt2", "w") as new:
        for name, data in parts.items():
            hostile = data[:2] == b"PK" or name.endswith((".pt", ".pkl"))
            replaced += hostile
            new.writestr(name, pickle.dumps(Hostile()) if hostile else data)
    assert replaced
    with pytest.raises((RuntimeError, ValueError, pickle.UnpicklingError)):
        exported_file.open_program(Path("bad.pt2"))
    assert not (here / "canary").exists()


def test_a_gpu_scores_as_many_views_as_fit() -> None:
    sizes: list[int] = []

    def network(clips: torch.Tensor) -> torch.Tensor:
        sizes.append(len(clips))
        if len(clips) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return clips.mean((1, 2, 3, 4), keepdim=False)[:, None]

    views = torch.randint(0, 256, (10, 2, 3, 4, 4), dtype=torch.uint8)
    meta = torch.device("cpu")
    every = inference.view_logits(network, views, meta, at_once=10)
    assert sizes == [10, 5, 3, 3, 3, 1]
    assert torch.allclose(every, inference.view_logits(network, views, meta))


def test_views_come_in_order_and_errors_come_out() -> None:
    def run(views: torch.Tensor) -> torch.Tensor:
        if views.max() == 7:
            raise EnvironmentProblem("seven")
        return views.float()

    items = [(n, torch.full((3, 2), n)) for n in range(10)]
    two = inference.Engine(inference.Choice("torch"), run, at_once=2)
    found = list(inference.score_in_order(two, iter(items[:7])))
    assert [(tag, views.tolist()) for tag, views in found] == [(n, [[n, n]] * 3) for n in range(7)]
    with pytest.raises(EnvironmentProblem, match="seven"):
        list(inference.score_in_order(two, iter(items)))


def test_clips_at_the_same_time_get_the_scores_of_one_after_the_other() -> None:
    model = build_model(load_preset("demo"), 5, seed=0).eval()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        engine = inference.torch_engine(model, torch.device("cpu"), many=True)
        clips = [(n, example_input([2, 8], 56, pixels=True, seed=n).movedim(-1, 2)) for n in range(5)]
        found = dict(inference.score_in_order(engine, iter(clips)))
        assert (engine.at_once, torch.get_num_threads()) == (4, 4)
    finally:
        torch.set_num_threads(threads)
    for number, views in clips:
        torch.testing.assert_close(found[number], engine.run(views), rtol=1e-5, atol=1e-6)

"""tsm export: what it writes can be used with the file beside it alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from support import tsm

from tsmcli.data.pyav_reader import PyAVReader
from tsmcli.recipes.network import load_checkpoint


@pytest.fixture
def here(untrained: Path) -> Path:
    return untrained


def frames_for(facts: dict[str, Any], path: Path) -> np.ndarray:
    """The frames that a sidecar asks for, cut as it says, with OpenCV and numpy alone."""
    with PyAVReader(path) as reader:
        T, n = facts["frames"]["num_segments"], reader.num_frames
        rule = facts["frames"]["which"]
        assert rule.startswith("frame int(i * n / T + n / T / 2) of n" if T > 1 else "every frame, in order")
        wanted = [int(i * n / T + n / T / 2) for i in range(T)] if T > 1 else range(n)
        frames = reader.read(np.array(list(wanted)))
    size = facts["frames"]["crop_px"]
    assert facts["frames"]["resize_short_side_px"] is None
    cut = []
    for frame in frames:
        height, width = frame.shape[:2]
        y, x = (height - size) // 2, (width - size) // 2
        cut.append(frame[y : y + size, x : x + size])
    return np.stack(cut)


def a_clip(here: Path) -> Path:
    return here / "data/demo/videos/val/grow_000.mp4"


def test_clips_with_pixels_in_and_probabilities_out(here: Path) -> None:
    done = tsm("export", "bid.pt", "m.onnx", "--preprocess", "--softmax", "--json").json()
    assert done["difference"] < 1e-5
    assert done["videos"] == 3
    facts = json.loads(Path("m.onnx.json").read_text())
    assert facts["layout"] == "[batch, T, H, W, 3]"
    assert facts["inputs"] == [{"name": "clips", "type": "uint8", "shape": ["batch", 8, 56, 56, 3]}]
    assert facts["outputs"] == [{"name": "probabilities", "type": "float32", "shape": ["batch", 8]}]
    assert (facts["test_protocol"]["clips"], facts["test_protocol"]["crop"]) == (1, "center")
    session = onnxruntime.InferenceSession("m.onnx")
    assert [(i.name, i.shape) for i in session.get_inputs()] == [("clips", ["batch", 8, 56, 56, 3])]
    (probabilities,) = session.run(
        [o["name"] for o in facts["outputs"]], {"clips": frames_for(facts, a_clip(here))[None]}
    )
    top = tsm("predict", "bid.pt", a_clip(here), "--json").json()["videos"][0]["top"]
    assert [facts["class_names"][i] for i in np.argsort(-probabilities[0])[:5]] == [guess["name"] for guess in top]
    assert sorted(probabilities[0])[::-1][:5] == pytest.approx([guess["probability"] for guess in top], rel=1e-4)


def test_a_stream_goes_on_from_its_cache(here: Path) -> None:
    done = tsm("export", "uni.pt", "s.onnx", "--stream")
    assert done.code == 0, done.err
    assert "differs from PyTorch by" in done.out
    facts = json.loads(Path("s.onnx.json").read_text())
    mean, std = (np.array(facts["normalisation"][key], np.float32) for key in ("mean", "std"))
    session = onnxruntime.InferenceSession("s.onnx")
    cache = {i["name"]: np.zeros((1, *i["shape"][1:]), i["type"]) for i in facts["inputs"][1:]}
    assert [o["shape"] for o in facts["outputs"][1:]] == [i["shape"] for i in facts["inputs"][1:]]
    labels = []
    for frame in frames_for(facts, a_clip(here)):
        pixels = ((frame - mean) / std).transpose(2, 0, 1)[None].astype(np.float32)
        logits, *kept = session.run([o["name"] for o in facts["outputs"]], {"frames": pixels, **cache})
        cache = dict(zip(cache, kept, strict=True))
        labels.append(facts["class_names"][int(logits.argmax())])
    said = [
        json.loads(line) for line in tsm("stream", "uni.pt", "--source", a_clip(here), "--json").out.splitlines()
    ]
    assert labels == [seen["name"] for seen in said]


def test_a_program_of_torch_export(here: Path) -> None:
    assert tsm("export", "bid.pt", "m.pt2").code == 0
    program: Any = torch.export.load("m.pt2").module()
    model, _ = load_checkpoint("bid.pt")
    clips = torch.randn(3, 8, 3, 56, 56)
    with torch.no_grad():
        assert (program(clips) - model(clips)).abs().max() < 1e-4


def test_safetensors_is_a_checkpoint(here: Path) -> None:
    done = tsm("export", "bid.pt", "m.safetensors", "--json").json()
    assert done["difference"] == 0
    (before, config), (after, again) = load_checkpoint("bid.pt"), load_checkpoint("m.safetensors")
    assert again == config
    assert all(torch.equal(value, after.state_dict()[key]) for key, value in before.state_dict().items())
    one, two = (
        tsm("predict", name, a_clip(here), "--json").json()["videos"] for name in ("bid.pt", "m.safetensors")
    )
    assert one == two


def test_eight_bits_and_what_they_cost(here: Path) -> None:
    done = tsm("export", "bid.pt", "q.onnx", "--int8", "--calibrate", "4", "--preprocess")
    assert done.code == 0, done.err
    assert "int8: top-1" in done.out
    assert "(McNemar)" in done.out
    assert "in floating point: no layer; relative error of the logits" in done.out
    assert "before quantising, it differs from PyTorch by" in done.out
    facts = json.loads(Path("q.onnx.json").read_text())["int8"]
    assert (facts["calibrated_on"], facts["tested_on"], facts["bad"]) == (4, 16, 0)
    assert 0 <= facts["low"] <= facts["after"] <= facts["high"] <= 1
    assert (facts["metric"], facts["layers"]["kept_float"]) == ("top1", [])
    assert 0 <= facts["layers"]["error"] == facts["layers"]["error_all"] < 0.05
    assert 0 < facts["p"] <= 1
    before = tsm("test", "--checkpoint", "bid.pt", "--json").json()["top1"]
    assert facts["before"] == before
    assert Path("q.onnx").stat().st_size < 0.6 * facts["bytes_before"]
    session = onnxruntime.InferenceSession("q.onnx")
    assert session.get_inputs()[0].type == "tensor(uint8)"
    assert sorted(path.name for path in here.iterdir() if path.name.startswith((".", "q"))) == [
        "q.onnx",
        "q.onnx.json",
    ]


def test_a_stream_in_eight_bits(here: Path) -> None:
    """Its videos are fed frame by frame; the mean over frames is what the network of clips says."""
    done = tsm("export", "uni.pt", "q.onnx", "--stream", "--int8", "--calibrate", "2", "--softmax", "--json")
    assert done.code == 0, done.err
    cost = done.json()["quantised"]
    assert (cost["calibrated_on"], cost["tested_on"]) == (2, 16)
    assert cost["before"] == tsm("test", "--checkpoint", "uni.pt", "--json").json()["top1"]
    assert cost["layers"]["error"] < 0.1
    assert cost["agreement"] > 0.8
    session = onnxruntime.InferenceSession("q.onnx")
    feed = {i.name: np.zeros([1, *i.shape[1:]], np.float32) for i in session.get_inputs()}
    probabilities, *kept = session.run(None, feed)
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert [one.shape for one in kept] == [feed[name].shape for name in list(feed)[1:]]


def test_eight_bits_need_videos_to_calibrate_with(here: Path) -> None:
    Path("gone.txt").write_text("none.mp4 0\n")
    refused = tsm("export", "bid.pt", "q.onnx", "--int8", "--train-list", "gone.txt")
    assert refused.code == 3, refused.err
    assert "none of the training videos to calibrate with could be read" in refused.err
    assert not list(here.glob("*q.onnx*"))


def test_a_file_that_differs_is_not_kept(here: Path) -> None:
    refused = tsm("export", "bid.pt", "m.onnx", "--tolerance", "0")
    assert refused.code == 5
    assert "the onnx file differs from PyTorch by" in refused.err
    assert not list(here.glob("m.onnx*"))


def test_nothing_is_lost_where_it_cannot_be_written(here: Path) -> None:
    """Neither the checkpoint, which is no target, nor what stood under the name before."""
    assert tsm("export", "bid.pt", "own.safetensors").code == 0
    before = Path("own.safetensors").read_bytes()
    refused = tsm("export", "own.safetensors", "own.safetensors", "--force")
    assert (refused.code, "is the checkpoint itself" in refused.err) == (2, True)
    Path("own.safetensors.json").unlink()
    Path("own.safetensors.json").mkdir()
    refused = tsm("export", "bid.pt", "own.safetensors", "--force")
    assert (refused.code, "own.safetensors.json already exists" in refused.err) == (2, True)
    assert Path("own.safetensors").read_bytes() == before
    assert not list(here.glob("*.draft"))


def test_the_file_is_named_like_the_checkpoint(here: Path) -> None:
    assert tsm("export", "uni.pt", "--format", "torch-export", "--stream").code == 0
    assert Path("uni-stream.pt2").is_file()
    assert tsm("export", "uni.pt", "--format", "safetensors").code == 0
    assert Path("uni.safetensors").is_file()


def test_without_data_it_says_so(here: Path) -> None:
    (here / "data/demo").unlink()
    assert "no videos (no validation list was found)" in tsm("export", "bid.pt", "m.pt2").out


REFUSALS: dict[str, tuple[list[str], int, str]] = {
    "suffix": (["bid.pt", "m.bin"], 2, "does not say in which format"),
    "no word of the format": (["bid.pt"], 2, "no OUT: does not say in which format"),
    "other suffix": (["bid.pt", "m.pt2", "--format", "onnx"], 2, "end in .onnx"),
    "exists": (["bid.pt", "there.onnx"], 2, "--force overwrites a file"),
    "sidecar exists": (["bid.pt", "beside.onnx"], 2, "beside.onnx.json already exists"),
    "no folder": (["bid.pt", "none/m.onnx"], 2, "there is no folder none"),
    "stream of the future": (["bid.pt", "m.onnx", "--stream"], 2, "a stream has no future"),
    "weights are no network": (["bid.pt", "m.safetensors", "--softmax"], 2, "safetensors holds weights"),
    "eight bits": (["bid.pt", "m.pt2", "--int8"], 2, "--int8 is of ONNX files"),
    "no list": (["bid.pt", "m.onnx", "--list", "none.txt"], 3, "no list file none.txt"),
    "no checkpoint": (["none.pt", "m.onnx"], 4, "none.pt"),
}


@pytest.mark.parametrize("case", sorted(REFUSALS))
def test_refusals(here: Path, case: str) -> None:
    (here / "there.onnx").write_text("")
    (here / "beside.onnx.json").write_text("")
    args, code, words = REFUSALS[case]
    refused = tsm("export", *args)
    assert (refused.code, refused.out) == (code, ""), refused.err
    assert words in refused.err
    assert not list(here.glob("m.*"))

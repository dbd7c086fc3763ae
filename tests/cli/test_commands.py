"""The commands end to end, on a tiny demo dataset; and every refusal with its exit code."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support import make_folder_dataset, tsm

from tsmcli.config import Config, ModelConfig
from tsmcli.core.tsm import build_model
from tsmcli.core.weights import export_state
from tsmcli.presets import load_preset
from tsmcli.results import load_results

QUICK = ["train.epochs=1", "train.workers=0", "model.width=0.125", "train.lr_steps=[]"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_data: Path) -> Path:
    """An empty working folder with the demo dataset in its usual place."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(demo_data, tmp_path / "data" / "demo")
    return tmp_path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, demo_data: Path) -> Path:
    """A run of one epoch."""
    run = tmp_path_factory.mktemp("runs") / "demo"
    sets = [word for key in QUICK for word in ("--set", key)]
    done = tsm("train", "--preset", "demo", "--data", demo_data, "--work-dir", run, *sets, "--json").json()
    assert done["run"] == str(run)
    return run


def test_train_writes_a_run(trained: Path) -> None:
    assert {p.name.partition(".tfevents")[0] for p in trained.iterdir()} == {
        ".lock",
        "events.out",
        "curves.png",
        "config.yaml",
        "environment.json",
        "log.jsonl",
        "last.pt",
        "best.pt",
    }
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    assert lines[0]["train/epoch"] == 0
    assert lines[0]["train/lr"] == pytest.approx(0.02)
    assert 0 <= lines[-1]["val/top1"] <= 1
    assert lines[-1]["val/coverage"] == "16 of 16 videos"
    config = load_preset(str(trained / "config.yaml"))
    assert config.model.width == 0.125
    assert json.loads((trained / "environment.json").read_text())["torch"] == torch.__version__


def test_train_then_test_then_eval(here: Path) -> None:
    trained = tsm("train", "--preset", "demo", "--set", *QUICK, "--json")
    run = Path(trained.json()["run"])
    assert run.parent == Path("runs/demo")
    assert "16 of 16 videos" in trained.err
    tested = tsm("test", "--checkpoint", run / "best.pt", "--out", "result.json", "--json").json()
    assert {*tested} == {
        "top1", "top5", "mean_class", "intervals", "videos", "complete", "protocol", "preset", "scores", "published",
    }  # fmt: skip
    assert tested["published"] is None
    assert tested["protocol"] == "uniform-1x1-56px-unscaled"
    results = load_results(Path("result.json"))
    assert results.scores.shape == (16, 8)
    assert np.allclose(results.scores.sum(1), 1, atol=1e-5)
    again = tsm("eval", "--metrics", "top_k", "mean_class", "--json").json()
    assert Path(again.pop("scores")) == Path(tested.pop("scores")).resolve()
    assert again == tested
    table = tsm("eval", "--metrics", "top_k", "mean_class")
    assert f"{100 * tested['top1']:.2f} %" in table.out
    assert "protocol uniform-1x1-56px-unscaled, 16 of 16 videos" in table.out
    assert {*tsm("eval", "--metrics", "top_k", "--topk", "1", "3", "--json").json()} >= {"top1", "top3"}
    assert "top1" not in tsm("eval", "result.json", "--metrics", "mean_class_accuracy", "--json").json()


def test_validation_and_test_agree(trained: Path, here: Path) -> None:
    """The last validation and a test of the last checkpoint under the same protocol are the same number."""
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    tested = tsm("test", "--checkpoint", trained / "last.pt", "--protocol", "val", "--json").json()
    assert tested["top1"] == pytest.approx(lines[-1]["val/top1"])


def test_eval_with_a_checkpoint_tests_it_first(trained: Path, here: Path) -> None:
    assert "top1" in tsm("eval", "--metrics", "top_k", "--checkpoint", trained / "last.pt", "--json").json()


def test_weights_of_mmaction2_need_a_preset(here: Path) -> None:
    config = Config.model_validate({"model": load_preset("demo").model.model_dump()})
    torch.save({"state_dict": export_state(build_model(config, 8, seed=0), "mmaction")}, "theirs.pth")
    refused = tsm("test", "--checkpoint", "theirs.pth")
    assert refused.code == 4
    assert "does not say which network it is of" in refused.err
    assert (
        tsm("test", "--checkpoint", "theirs.pth", "--preset", "demo", "--json").json()["videos"]
        == "16 of 16 videos"
    )


def test_authors_class_order_is_put_right(here: Path) -> None:
    """A file in the authors' layout for Jester: its classes are alphabetical, the scores are not."""
    import numpy as np
    from support import numbered_frames, write_frames, write_lists

    from tsmcli.catalog import CATALOG
    from tsmcli.data.listfile import VideoRecord

    write_frames(here / "data/jester/rawframes/1", numbered_frames(8), "{:05}.jpg")
    write_lists(here / "data/jester", "jester", [VideoRecord("1", 8, 0)], "rawframes")
    model = build_model(load_preset("r50-jester-8f"), seed=0)
    torch.nn.init.zeros_(model.fc.weight)
    model.fc.bias.data = torch.arange(27.0)  # the authors' last class, in the alphabet, scores highest
    torch.save({"state_dict": export_state(model, "mit")}, "theirs.pth")
    done = tsm(
        "test",
        "--checkpoint",
        "theirs.pth",
        "--preset",
        "r50-jester-8f",
        "--protocol",
        "efficient",
        "--out",
        "s.json",
    )
    assert done.code == 0, done.err
    scores = load_results(Path("s.json")).scores[0]
    names = CATALOG["jester"].class_names() or []
    assert names[int(np.argmax(scores))] == sorted(names)[-1]


def test_fine_tuning_starts_from_a_file(trained: Path, here: Path) -> None:
    done = tsm("train", "--preset", "demo", "--set", *QUICK, "--init", trained / "last.pt", "--json")
    assert done.code == 0
    assert "new classifier" in done.err


def test_own_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_folder_dataset(tmp_path / "clips", videos=3)
    made = tsm("prepare-data", "folder", "--source", "clips", "--val-share", "0.34", "--json").json()
    assert made["classes"] == {"jump": {"train": 2, "val": 1}, "wave": {"train": 2, "val": 1}}
    small = ["model.backbone=resnet18", "model.init=none", "augment.resize_px=48", "augment.crop_px=32",
             "val.resize_px=48", "val.crop_px=32", "test.resize_px=48", "test.crop_px=32"]  # fmt: skip
    done = tsm("train", "--preset", "mbv2-folder", "--set", *QUICK, *small, "--json").json()
    tested = tsm("test", "--checkpoint", done["best"], "--json").json()
    assert tested["videos"] == "2 of 2 videos"
    assert {*tsm("eval", "--metrics", "top_k", "mean_class", "--json").json()} >= {"top1", "mean_class"}
    assert tsm("eval", "--topk", "5").code == 2
    (tmp_path / "data/folder/classes.txt").write_text("jump\nzebra\n")
    other = tsm("test", "--checkpoint", done["best"])
    assert other.code == 3
    assert "class 1 is 'zebra', not 'wave'" in other.err
    (tmp_path / "data/folder/classes.txt").write_text("jump\nwave\n")
    lists = tsm(
        "train", "--preset", "mbv2-folder", "--set", *QUICK, *small, "--train-list", "data/folder/folder_train_list_videos.txt",
        "--val-list", "data/folder/folder_val_list_videos.txt", "--media", "clips", "--classes", "data/folder/classes.txt",
        "--json",
    )  # fmt: skip
    assert lists.code == 0


def test_prepare_data_makes_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = tsm("prepare-data")
    assert done.code == 0
    assert "data/demo: 672 videos in 8 classes" in done.out
    assert "tsm prepare-data sthv1" in done.out
    assert len(list((tmp_path / "data/demo/videos/train").glob("*.mp4"))) == 480


def test_presets_commands(here: Path) -> None:
    names = [row["name"] for row in tsm("presets", "ls", "--json").json()]
    assert len(names) == 57
    assert "r50-sthv1-flip" in tsm("presets", "ls").out
    shown = tsm("presets", "show", "r50-sthv1-flip", "--set", "train.lr=0.005", "--json").json()
    assert shown["config"]["train"]["lr"] == 0.005
    assert shown["origins"]["train.lr"] == "--set train.lr=0.005"
    assert "presets/r50-sthv1-flip.yaml:5" in tsm("presets", "show", "r50-sthv1-flip").out
    differ = tsm("presets", "diff", "r50-sthv1-8f", "r50-sthv1-16f", "--json").json()
    assert differ["model.num_segments"] == [8, 16]
    assert tsm("presets", "copy", "r50-sthv1-flip", "mine.yaml").code == 0
    assert load_preset("mine.yaml") == load_preset("r50-sthv1-flip")
    assert tsm("presets", "copy", "r50-sthv1-flip", "mine.yaml").code == 2


def test_schema_knows_every_key_and_says_what_it_is() -> None:
    schema = tsm("presets", "schema").json()
    assert {*schema["properties"]} == {"about", "source", "data", "model", "augment", "train", "val", "test"}
    assert "frames the network sees" in schema["$defs"]["ModelConfig"]["properties"]["num_segments"]["description"]


def test_doctor(here: Path) -> None:
    findings = {f["name"]: f for f in tsm("doctor", "--json").json()}
    assert torch.__version__.startswith(findings["torch"]["value"])
    assert findings["decoder: PyAV"]["ok"] is True
    assert findings["data: demo"]["ok"] is True
    assert findings["data: sthv1"]["fix"] == "tsm prepare-data sthv1 --source DIR"


def test_predict_from_python(trained: Path, demo_data: Path) -> None:
    import tsmcli

    model, config = tsmcli.load_checkpoint(trained / "last.pt")
    videos = [demo_data / "videos/val/right_000.mp4", demo_data / "videos/val/down_000.mp4"]
    scores = tsmcli.predict(model, config, videos)
    assert scores.shape == (2, 8)
    results = load_results(Path(_tested(trained, demo_data)))
    for row, video in enumerate(videos):
        where = results.paths.index(f"val/{video.name}")
        assert np.allclose(scores[row], results.scores[where], atol=1e-6)


def _tested(trained: Path, demo_data: Path) -> str:
    return str(tsm("test", "--checkpoint", trained / "last.pt", "--data", demo_data, "--json").json()["scores"])


REFUSALS: dict[str, tuple[list[str], int, list[str]]] = {
    "unknown preset": (["train", "--preset", "r50-sthv1-flop"], 2, ["no preset named 'r50-sthv1-flop'", "hint: did you mean r50-sthv1-flip"]),
    "unknown key": (["train", "--preset", "demo", "--set", "train.epoch=3"], 2, ["unknown key 'train.epoch'; did you mean 'epochs'?"]),
    "wrong type": (["train", "--preset", "demo", "--set", "train.epochs=many"], 2, ['should be a valid integer, not "many"']),
    "dataset not there": (["train", "--preset", "r50-sthv1-flip"], 3, ["no list file data/sthv1/sthv1_train_list_rawframes.txt", "hint: tsm prepare-data sthv1 --source DIR --store frames"]),
    "missing list": (["train", "--preset", "demo", "--train-list", "gone.txt"], 3, ["no list file gone.txt"]),
    "malformed line": (["train", "--preset", "demo", "--train-list", "malformed.txt"], 3, ["malformed.txt:2: expected `<video file> <label>`"]),
    "label out of range": (["train", "--preset", "demo", "--train-list", "label.txt"], 3, ["label.txt:1: label 8, but there are 8 classes (0 to 7)"]),
    "empty list": (["train", "--preset", "demo", "--train-list", "empty.txt"], 3, ["empty.txt: the list is empty"]),
    "no media folder": (["train", "--preset", "demo", "--media", "gone"], 3, ["no media folder gone"]),
    "no class names": (["train", "--preset", "mbv2-folder"], 3, ["no file of class names data/folder/classes.txt", "hint: tsm prepare-data folder"]),
    "no checkpoint": (["test", "--checkpoint", "gone.pt"], 4, ["no checkpoint gone.pt"]),
    "broken checkpoint": (["test", "--checkpoint", "label.txt"], 4, ["label.txt: cannot be read as a checkpoint"]),
    "nothing tested yet": (["eval", "--metrics", "top_k", "mean_class"], 3, ["nothing was tested yet", "hint: tsm test --checkpoint"]),
    "unknown metric": (["eval", "--metrics", "speed"], 2, ["no metric named 'speed'", "hint: choose from top_k, mean_class"]),
    "a device of no use": (["bench", "demo", "--device", "meta"], 5, ["no device named 'meta'"]),
    "a file in the way": (["prepare-data", "--out", "label.txt"], 2, ["is no demo dataset"]),
    "seed too large": (["train", "--preset", "demo", "--set", "train.seed=5000000000"], 2, ["train.seed should be less than or equal to"]),
    "results of unknown kind": (["test", "--checkpoint", "label.txt", "--out", "x.txt"], 2, ["saved as .npz, .json or .csv"]),
    "no device": (["train", "--preset", "demo", "--device", "cuda:99"], 5, ["--device cuda:99: torch sees"]),
    "no source": (["prepare-data", "folder"], 2, ["needs --source DIR"]),
    "unknown dataset": (["prepare-data", "imagenet"], 2, ["no dataset named 'imagenet'", "k400"]),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(REFUSALS))
def test_refusals(here: Path, case: str) -> None:
    """One clear message on stderr, a stable exit code, nothing on stdout, no half-made run."""
    (here / "malformed.txt").write_text("a.mp4 1\nb.mp4\n")
    (here / "label.txt").write_text("a.mp4 8\n")
    (here / "empty.txt").write_text("")
    args, code, words = REFUSALS[case]
    refused = tsm(*args)
    assert refused.code == code, refused.err
    for word in words:
        assert word in refused.err
    assert "Traceback" not in refused.err
    assert refused.out == ""
    assert not (here / "runs").exists()


def test_checkpoint_of_another_network(trained: Path, here: Path) -> None:
    other = tsm("test", "--checkpoint", trained / "last.pt", "--preset", "r50-k400-8f")
    assert other.code == 4
    assert "it has backbone resnet18, not resnet50" in other.err
    frames = tsm(
        "test",
        "--checkpoint",
        trained / "last.pt",
        "--preset",
        "demo",
        "--set",
        "model.width=0.125",
        "model.num_segments=16",
    )
    assert frames.code == 4
    assert "it has num_segments 8, not 16" in frames.err


def test_a_checkpoint_can_be_tested_with_other_values(trained: Path, here: Path) -> None:
    done = tsm("test", "--checkpoint", trained / "last.pt", "--set", "data.decoder=pyav", "test.crop=ten", "--json")
    assert done.json()["protocol"] == "uniform-1x10-56px-unscaled"
    other = tsm("test", "--checkpoint", trained / "last.pt", "--set", "model.shift=none")
    assert other.code == 4
    assert "of another network than --set says: it has shift bidirectional, not none" in other.err
    wrong = tsm("test", "--checkpoint", trained / "last.pt", "--set", "data.decodr=pyav")
    assert wrong.code == 2
    assert "did you mean 'decoder'?" in wrong.err


def test_missing_and_broken_videos_in_a_test(trained: Path, here: Path) -> None:
    """Accuracy on N of M, every video named with its reason, exit 3 unless allowed."""
    videos = here / "data/demo/videos/val"
    (videos / "right_000.mp4").unlink()
    (videos / "down_000.mp4").write_bytes(b"")
    cut = videos / "grow_000.mp4"
    cut.write_bytes(cut.read_bytes()[:3000])
    refused = tsm("test", "--checkpoint", trained / "last.pt", "--json")
    assert refused.code == 3
    assert json.loads(refused.out)["videos"] == "13 of 16 videos"
    assert json.loads(refused.out)["complete"] is False
    assert "3 of 16 videos could not be read" in refused.err
    for name, reason in (("right_000", "no such video"), ("down_000", "empty"), ("grow_000", "cannot be decoded")):
        assert any(name in line and reason in line for line in refused.err.splitlines())
    assert tsm("test", "--checkpoint", trained / "last.pt", "--allow-missing").code == 0
    assert tsm("eval").code == 3
    assert tsm("eval", "--allow-missing").code == 0


def test_broken_videos_in_training_are_skipped_and_counted(here: Path) -> None:
    (here / "data/demo/videos/train/right_000.mp4").write_bytes(b"")
    done = tsm("train", "--preset", "demo", "--set", *QUICK)
    assert done.code == 0
    assert "skipped: data/demo/videos/train/right_000.mp4: the file is empty" in done.err
    stopped = tsm("train", "--preset", "demo", "--set", *QUICK, "train.max_bad_videos=0")
    assert stopped.code == 3
    assert "1 videos of this epoch could not be read" in stopped.err
    assert "1 times a video could not be read" in done.out
    log = next(Path("runs/demo").glob("*/log.jsonl")).read_text()
    assert '"skipped/videos": ["train/right_000.mp4"]' in log


@pytest.mark.parametrize("mix", ["mixup", "cutmix"])
def test_augmentations_train(here: Path, mix: str) -> None:
    done = tsm("train", "--preset", "demo", "--set", *QUICK, f"augment.mix={mix}", "augment.rand_augment=true")
    assert done.code == 0, done.err
    log = next(Path("runs/demo").glob("*/log.jsonl")).read_text().splitlines()
    assert json.loads(log[0])["train/top1"] is None


def test_a_run_is_not_overwritten(trained: Path, here: Path) -> None:
    again = tsm("train", "--preset", "demo", "--work-dir", trained, "--set", *QUICK)
    assert again.code == 2
    assert "already holds a run" in again.err


def test_debug_shows_where(here: Path) -> None:
    with pytest.raises(Exception, match="nothing was tested yet"):
        tsm("--debug", "eval")


def test_version_and_help() -> None:
    import tsmcli

    assert tsm("--version").out.strip() == tsmcli.__version__
    for command in (
        "demo",
        "doctor",
        "presets",
        "prepare-data",
        "train",
        "test",
        "eval",
        "report",
        "predict",
        "bench",
    ):
        assert command in tsm("--help").out
        assert tsm(command, "--help").code == 0


def test_results_without_labels_of_their_own_are_refused(here: Path) -> None:
    (here / "other.json").write_text("[[0.1, 0.9]]")
    refused = tsm("eval", "other.json")
    assert refused.code == 3
    assert "other.json: scores without labels" in refused.err


def test_trunks_have_names_in_errors() -> None:
    with pytest.raises(ValueError, match="non_local: gaussian needs backbone: resnet50"):
        ModelConfig(backbone="resnet18", non_local="gaussian")

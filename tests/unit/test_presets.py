"""All 23 recipes of June 2021 and the 27 after it, value by value, and the messages of the configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tsmcli import zoo
from tsmcli.catalog import CATALOG
from tsmcli.config import PROTOCOLS, Config, Views
from tsmcli.core.tsm import MEAN, STD, TSM
from tsmcli.engine.optim import lr_factor, scaled_lr
from tsmcli.errors import ConfigError
from tsmcli.presets import PRESET_DIR, diff, leaves, load_preset, preset_names, resolve, to_yaml

GOLDEN = Path(__file__).parents[1] / "golden"
LATER: dict[str, Any] = json.loads((GOLDEN / "recipes_later.json").read_text())
FACTS: dict[str, Any] = json.loads((GOLDEN / "recipes.json").read_text()) | LATER
TRAINED = sorted(name for name, fact in FACTS.items() if fact["train"])
NETWORKS = {"mobilenetv2_tsm": "mobilenet_v2", "mobileone_tsm": "mobileone_s4"}
CURVES: dict[str, Any] = json.loads((GOLDEN / "schedule_1x.json").read_text())


def steps(pipeline: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {step["op"]: step for step in pipeline}


def views_of(pipeline: list[dict[str, Any]]) -> Views:
    """A test pipeline of the facts as one of our protocols."""
    ops = steps(pipeline)
    dense = "sample_dense" in ops
    clips = ops["sample_dense"]["num_sample_positions"] if dense else 1 + ops["sample_uniform"]["twice_sample"]
    crop = next(name for name in ("center_crop", "three_crop", "ten_crop") if name in ops)
    return Views(
        sampling="dense" if dense else "uniform",
        clips=clips,
        crop=crop.removesuffix("_crop"),  # type: ignore[arg-type]
        crop_px=ops[crop]["size"],
        resize_px=ops["resize_short_side"]["size"],
    )


def test_the_facts_are_of_all_recipes() -> None:
    assert (len(FACTS), len(LATER)) == (50, 27)
    assert {*FACTS} <= {*preset_names()}
    ours = {"demo", "mbv2-jester-online", "r50-jester-online"}
    ours |= {"mbv2-folder", "mbv2-folder-zoo", "r50-folder", "r50-folder-zoo"}
    assert {*preset_names()} - {*FACTS} == ours


def test_recipes_for_own_videos_differ_in_network_and_start_alone() -> None:
    first = load_preset("mbv2-folder")
    for name in ("mbv2-folder-zoo", "r50-folder", "r50-folder-zoo"):
        other = load_preset(name)
        keys = {key for key, _, _ in diff(first, other)}
        sizes = {f"{section}.{key}_px" for section in ("augment", "val", "test") for key in ("resize", "crop")}
        assert keys <= {"about", "model.backbone", "model.init", "train.frozen_stages", *sizes}, name
        start = other.model.init
        assert (start == "imagenet") == (not name.endswith("-zoo"))
        if start != "imagenet":
            row = zoo.find(start)
            assert isinstance(row, zoo.Model)
            assert load_preset(row.preset).model.identity() == other.model.identity()


@pytest.mark.parametrize("name", sorted(FACTS))
def test_data_and_model(name: str) -> None:
    fact, config = FACTS[name], load_preset(name)
    backbone, data = fact["model"]["backbone"], fact["data"]
    assert config.source == fact["config_name"]
    assert config.model.backbone == NETWORKS.get(backbone["type"], f"resnet{backbone.get('depth')}")
    assert config.model.num_segments == fact["model"]["head"]["num_segments"]
    assert (config.model.shift_window or config.model.num_segments) == backbone["num_segments"]
    assert config.model.folded == backbone.get("deploy", False)
    assert (config.model.shift == "bidirectional") == backbone["is_shift"]
    assert config.model.shift_div == backbone["shift_div"]
    if config.model.backbone != "mobileone_s4":
        assert config.model.shift_place == backbone.get("shift_place", "blockres")
    assert config.model.temporal_pool == backbone.get("temporal_pool", False)
    assert config.model.non_local == (fact["model"]["non_local"] or {"mode": "none"})["mode"]
    assert config.model.dropout == fact["model"]["head"]["dropout"]
    assert config.model.width == 1
    if fact.get("load_from"):
        row = zoo.find(config.model.init)
        assert isinstance(row, zoo.Model)
        assert row.ckpt.url == fact["load_from"]
        assert row.frames == config.model.num_segments
    else:
        assert config.model.init == "imagenet"
    facts = CATALOG[config.data.dataset]
    assert config.data.dataset == data["dataset"]
    assert facts.num_classes == fact["model"]["head"]["num_classes"]
    assert config.data.store == {"rawframes": "frames", "video": "video"}[data["source"]]
    if config.data.store == "frames":
        assert (facts.frame_template, facts.start_index) == (data["filename_template"], data["start_index"])
    assert config.data.split == data.get("split", 1)
    for split in ("train", "val") if fact["train"] else ():
        assert f"data/{facts.folder}/{facts.list_name(config.data.store, split)}" == data[split]["list"]
        assert f"data/{facts.folder}/{facts.media(config.data.store, split)}" == data[split]["root"]


@pytest.mark.parametrize("name", TRAINED)
def test_training(name: str) -> None:
    fact, train = FACTS[name], load_preset(name).train
    batch, warmup = fact["loader"]["videos_per_gpu"], fact["train"]["warmup"] or {"end": 0, "start_factor": 0.1}
    scaled = fact["train"].get("auto_scale_lr", {"base_batch_size": 8 * batch})
    expected = {
        "epochs": fact["train"]["epochs"],
        "batch": batch,
        "lr": fact["train"]["lr"],
        "lr_batch": scaled["base_batch_size"],
        "workers": fact["loader"]["workers_per_gpu"] if name in LATER else 2,
        "warmup_epochs": warmup["end"],
        "warmup_from": warmup["start_factor"],
        "warmup_by": warmup.get("by", "step"),
        "lr_steps": tuple(fact["train"]["lr_steps"]),
        "lr_gamma": 0.1,
        "momentum": fact["train"]["momentum"],
        "weight_decay": fact["train"]["weight_decay"],
        "fc_lr5": fact["train"]["param_policy"]["fc_lr5"],
        "clip_norm": fact["train"]["grad_clip"]["max_norm"],
        "val_every": fact["train"]["eval_interval"],
        "save_every": fact["train"]["checkpoint_interval"],
        "log_every": fact["train"]["log_interval"],
    }
    assert {key: getattr(train, key) for key in expected} == expected
    if "lr_really_used" in fact["train"]:
        assert scaled_lr(train, fact["loader"]["gpus"]) == fact["train"]["lr_really_used"]


def rates(name: str, epochs: int, steps: int = 1, by: str = "epoch") -> list[list[float]]:
    train = load_preset(name, [f"train.warmup_by={by}"]).train
    return [
        [scaled_lr(train, 8) * lr_factor(train, epoch, i, steps) for i in range(steps)] for epoch in range(epochs)
    ]


def test_learning_rates_are_those_of_mmengine() -> None:
    """Warm-up and steps by epoch, as configured; and a warm-up by step."""
    assert rates("r50-k400-8f-v1", 50) == [
        [pytest.approx(x, abs=1e-12)] for x in CURVES["as_configured"]["epoch_lr_50"]
    ]
    for name, key in (
        ("r50-k400-8f-100e-v1", "as_configured_100e"), ("mbv2-k400-8f-v1", "mobilenetv2_100e_no_warmup"),
    ):  # fmt: skip
        assert rates(name, 100, 7) == [7 * [pytest.approx(x, abs=1e-12)] for x in CURVES[key]["epoch_lr_100"]]
    by_step = CURVES["convert_to_iter_based"]["lr"]
    assert rates("r50-k400-8f-v1", 7, 10, "step") == [pytest.approx(epoch, abs=1e-12) for epoch in by_step]


@pytest.mark.parametrize("name", TRAINED)
def test_training_clips(name: str) -> None:
    fact, config = FACTS[name], load_preset(name)
    augment, ops = config.augment, steps(fact["pipelines"]["train"])
    sampler = ops.get("sample_uniform") or ops["sample_dense"]
    assert augment.sampling == ("uniform" if "sample_uniform" in ops else "dense")
    assert sampler["num_clips"] == config.model.num_segments
    assert augment.keep_tail == sampler.get("keep_tail_frames", False)
    assert augment.short_videos == sampler["out_of_bound"]
    assert augment.resize_px == ops.get("resize_short_side", {"size": None})["size"]
    assert augment.crop == ("multi_scale" if "multi_scale_crop" in ops else "random_resized")
    assert (augment.crop_px, augment.crop_px) == (ops["resize_exact"]["width"], ops["resize_exact"]["height"])
    flip = ops.get("flip", {"ratio": 0, "label_map": None})
    assert augment.flip_prob == flip["ratio"]
    assert augment.flip_swaps_labels == (flip["label_map"] is not None)
    if flip["label_map"]:
        assert CATALOG[config.data.dataset].flip_map == {int(a): b for a, b in flip["label_map"].items()}
    extra = next((ops[op] for op in ("rand_augment", "aug_mix") if op in ops), {})
    ptv = extra.get("engine") == "pytorchvideo"
    assert augment.pytorchvideo == (extra["op"] if ptv else "none")
    assert augment.rand_augment == (bool(extra) and not ptv)
    blending = fact["blending"] or {"type": "none", "alpha": 0.2}
    assert (augment.mix, augment.mix_alpha) == (blending["type"], blending["alpha"])


@pytest.mark.parametrize("name", sorted(FACTS))
def test_views(name: str) -> None:
    fact, config = FACTS[name], load_preset(name)
    pipelines, settings = fact["pipelines"], fact["test_settings"]
    assert config.val == views_of(pipelines.get("val") or pipelines["test"])
    assert config.test == views_of(pipelines[settings["default"] if settings["default"] in pipelines else "test"])
    if "accurate" in settings:
        assert PROTOCOLS["accurate"] == views_of(pipelines[settings["accurate"]])
        assert config.val == views_of(pipelines[settings["efficient"]])
    assert config.test.average == fact["model"]["average_clips"]
    for pipeline in pipelines.values():
        if "normalize" in steps(pipeline):
            assert (steps(pipeline)["normalize"]["mean"], steps(pipeline)["normalize"]["std"]) == ([*MEAN], [*STD])


@pytest.mark.parametrize("name", preset_names())
def test_presets_are_short_and_build(name: str) -> None:
    import torch

    assert len((PRESET_DIR / f"{name}.yaml").read_text().splitlines()) <= 30
    config = load_preset(name)
    with torch.device("meta"):
        model = TSM(config.model, CATALOG[config.data.dataset].num_classes or 5)
    if name in FACTS:
        assert sum(p.numel() for p in model.parameters()) == FACTS[name]["expected"]["parameters"]
        assert len(model.state_dict()) == FACTS[name]["expected"]["state_dict_entries"]


@pytest.mark.parametrize("name", preset_names())
def test_a_resolved_preset_reads_back(name: str, tmp_path: Path) -> None:
    preset = resolve(name, ["train.seed=5"])
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(preset))
    assert load_preset(str(path)) == preset.config
    assert "seed: 5  # --set train.seed=5" in path.read_text()


def test_original_names_are_aliases() -> None:
    for name, fact in FACTS.items():
        for alias in (fact["config_name"], f"configs/recognition/tsm/{fact['config_name']}.py"):
            assert resolve(alias).name == name


def test_origins() -> None:
    origins = resolve("r50-sthv1-flip", ["train.lr=5e-3", "test.crop_px=128"]).origins
    assert origins["train.lr"] == "--set train.lr=5e-3"
    assert origins["augment.flip_prob"] == "presets/r50-sthv1-flip.yaml:5"
    assert origins["model.shift_div"] == "default"
    assert origins["test.crop_px"] == "--set test.crop_px=128"
    assert {*origins} == {key for key, _ in leaves(Config())}


def test_overrides_keep_the_rest_of_a_named_protocol() -> None:
    config = load_preset("r50-sthv1-mixup", ["test.average=score"])
    assert config.test == PROTOCOLS["accurate"].model_copy(update={"average": "score"})


def test_diff() -> None:
    rows = diff(load_preset("r50-sthv1-8f"), load_preset("r50-sthv1-flip"))
    assert {key for key, *_ in rows} == {"about", "source", "augment.flip_prob", "augment.flip_swaps_labels"}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epoch=3", "--set train.epoch=3: unknown key 'train.epoch'; did you mean 'epochs'?"),
        ("tran.lr=3", "--set tran.lr=3: unknown key 'tran'; did you mean 'train'?"),
        ("train.lr=true", "--set train.lr=true: train.lr should be a valid number, not true"),
        ("train.epochs=1.5", "--set train.epochs=1.5: train.epochs should be a valid integer"),
        ("train.lr=fast", '--set train.lr=fast: train.lr should be a valid number, not "fast"'),
        ("train.lr=-1", "--set train.lr=-1: train.lr should be greater than 0, not -1"),
        ("model.backbone=resnet51", "model.backbone should be 'resnet18', 'resnet34'"),
        ("data.dataset=kinetics", "data.dataset must be one of k400, sthv1"),
        ("test=fast", "no protocol named 'fast'; known: efficient, accurate"),
        ("test.clips=3", "uniform sampling has 1 or 2 clips, not 3"),
        ("val.crop=three", "crop: three needs crop_px equal to resize_px (256), not 224"),
        ("test.crop_px=300", "a crop of 300 px does not fit a short side of 256 px"),
        ("model.width=0.5", "init: imagenet needs width: 1"),
        ("model.folded=true", "folded needs backbone: mobileone_s4, not resnet50"),
        ("model.shift_window=3", "shift_window: 8 frames are not whole windows of 3"),
        ("model={shift_window: 4, shift: unidirectional}", "shift_window cannot be combined with"),
        ("train.lr_steps=[40,20]", "lr_steps must rise"),
        ("train.lr", "write key=value"),
        ("train.lr.x=1", "is a value, not a section"),
        ("augment.crop_px=4294967296", "augment.crop_px should be less than or equal to 4096, not 4294967296"),
        ("model.num_segments=1000000000", "model.num_segments should be less than or equal to 1024"),
        ("train.workers=1000000", "train.workers should be less than or equal to 256"),
        ("test={sampling: dense, clips: 100000}", "test.clips should be less than or equal to 1000"),
        ("train.batch=" + 5000 * "9", "train.batch should be a valid integer"),
        ("train.batch=" + 350 * "9", "train.batch should be less than or equal to 65536"),
        ("train.lr=1e999", "train.lr should be"),
        ("train.lr=.inf", 'train.lr should be a valid number, not ".inf"'),
        ("train.epochs=1:30", 'train.epochs should be a valid integer, not "1:30"'),
        ("train.epochs=0x10", 'train.epochs should be a valid integer, not "0x10"'),
        ("train.sync_bn=yes", 'train.sync_bn should be a valid boolean, not "yes"'),
        ("train={epochs.x: 3}", "a key is one word, such as 'lr' below 'train', not 'epochs.x'"),
        ("train..lr=1", "unknown key"),
    ],
)
def test_messages_of_overrides(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_preset("r50-k400-8f", [override])
    assert message in str(caught.value)


def test_messages_of_files_name_the_line_and_come_all_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model: {backbone: resnet50}\ntrain:\n  epoch: 3\n  lr: 5e-4\n  batch: many\nspeed: 3\n")
    with pytest.raises(ConfigError) as caught:
        load_preset(str(path))
    assert sorted(str(caught.value).splitlines()) == [
        f"{path}:3: unknown key 'train.epoch'; did you mean 'epochs'?",
        f'{path}:5: train.batch should be a valid integer, not "many"',
        f"{path}:6: unknown key 'speed'; known here: about, source, data, model, augment, train, val, test",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {lr: 1, lr: 2}", "mine.yaml:1: key 'train.lr' is given twice"),
        ("- a\n- b", "mine.yaml:1: a preset is a mapping"),
        ("train: [", "not valid YAML"),
        ("train: 5", "mine.yaml:1: train should be"),
        ("5", "mine.yaml:1: a preset is a mapping of sections, not a int"),
        ("\nfoo.lr: 0.1", "mine.yaml:2: a key is one word"),
        ("train: {epochs.x: 3}", "mine.yaml:1: a key is one word"),
        ("? [a, b]\n: 1", "mine.yaml:1: a key is one word, such as 'lr' below 'train', not a sequence"),
        ("zz: &a [*a]", "mine.yaml:1: not valid YAML: anchors and aliases are not read"),
        ("a: &a [1]\nb: *a", "mine.yaml:1: not valid YAML: anchors and aliases are not read"),
        ("zz: " + 3000 * "[", "mine.yaml:1: not valid YAML: so many levels are not read"),
        (3000 * "- ", "mine.yaml:1: not valid YAML: so many levels are not read"),
        ("about: x\nsource: !!timestamp foo", "mine.yaml:2: not valid YAML: tags (tag:yaml.org,2002:timestamp)"),
        ("train: !!bool foo", "tags (tag:yaml.org,2002:bool) are not read"),
        ('train: !!int ""', "tags (tag:yaml.org,2002:int) are not read"),
        ("!foo {train: 1}", "tags (!foo) are not read"),
        ("about: \x1b", "not valid YAML"),
        ("? \n: 5", "unknown key ''"),
    ],
)
def test_messages_of_broken_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_preset(str(path))
    assert message in str(caught.value)


def test_a_tree_that_grows_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join(10 * [f'*a{i - 1}'])}]" for i in range(1, 10)]
    (tmp_path / "mine.yaml").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match="anchors and aliases"):
        load_preset(str(tmp_path / "mine.yaml"))


def test_numbers_are_read_as_written() -> None:
    config = load_preset("r50-k400-8f", ["train.epochs=010", "train.lr=5e-4", "train.batch=+7", "about=2020-01-01"])
    assert (config.train.epochs, config.train.lr, config.train.batch) == (10, 5e-4, 7)
    assert config.about == "2020-01-01"
    assert load_preset("r50-k400-8f", ["about='010'", "train.momentum=.5"]).about == "010"


def test_a_file_whose_name_cannot_name_a_run(tmp_path: Path) -> None:
    (tmp_path / "C:x.yaml").write_text("")
    with pytest.raises(ConfigError, match="no name of a preset") as caught:
        resolve(str(tmp_path / "C:x.yaml"))
    assert caught.value.hint == "rename the file"


def test_unknown_presets_name_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no preset named 'r50-sthv1-flop'") as caught:
        resolve("r50-sthv1-flop")
    assert "did you mean r50-sthv1-flip" in caught.value.hint
    with pytest.raises(ConfigError, match=r"no preset file nowhere\.yaml"):
        resolve("nowhere.yaml")


def test_a_run_of_an_older_version_may_have_keys_that_are_gone(tmp_path: Path) -> None:
    path, text = tmp_path / "demo.yaml", to_yaml(resolve("demo"))
    path.write_text(text.replace("train:\n", "train:\n  nesterov: false\n"))
    assert resolve(str(path), of_run=True).config == resolve("demo").config
    with pytest.raises(ConfigError, match=r"unknown key 'train\.nesterov'"):
        resolve(str(path))
    path.write_text(text.replace("train:\n", "train:\n  nesterov: true\n"))
    with pytest.raises(ConfigError, match=r"unknown key 'train\.nesterov'"):
        resolve(str(path), of_run=True)

"""Schedule, scaling, the loop's events, checkpoints, scores."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from tsmcli.catalog import CATALOG
from tsmcli.config import Config, ModelConfig, TrainConfig
from tsmcli.core.tsm import build_model, normalize
from tsmcli.core.weights import export_state
from tsmcli.data.dataset import BadVideo, Batch
from tsmcli.engine.checkpoint import (
    Checkpoint,
    load_checkpoint,
    load_weights,
    read_checkpoint,
    save_checkpoint,
)
from tsmcli.engine.loop import StepDone, VideosSkipped, train_epoch, train_step
from tsmcli.engine.optim import lr_factor, make_optimizer, param_groups, scaled_lr, set_lr
from tsmcli.engine.runtime import choose_device
from tsmcli.engine.scores import VideoScored, average_views, score_videos, view_logits
from tsmcli.errors import ConfigError, DataError, EnvironmentProblem, WeightsError
from tsmcli.presets import load_preset, preset_names

CPU = torch.device("cpu")
MODEL = ModelConfig(backbone="resnet18", width=0.25, num_segments=2, init="none", dropout=0)


def batch(numbers: list[int], bad: list[BadVideo] | None = None) -> Batch:
    n = len(numbers)
    views = torch.randint(0, 256, (n, 1, 2, 32, 32, 3), dtype=torch.uint8).movedim(-1, 3)
    return Batch(torch.tensor(numbers), views, torch.tensor([i % 3 for i in numbers]), bad or [])


def test_learning_rate_falls_in_steps() -> None:
    config = TrainConfig(lr_steps=(20, 40))
    factors = {epoch: lr_factor(config, epoch) for epoch in (0, 19, 20, 39, 40, 49)}
    assert factors == pytest.approx({0: 1, 19: 1, 20: 0.1, 39: 0.1, 40: 0.01, 49: 0.01})


def test_learning_rate_is_linear_in_the_batch() -> None:
    recipe = load_preset("r50-sthv1-flip").train
    assert scaled_lr(recipe) == pytest.approx(0.01 / 8)
    assert scaled_lr(recipe, world_size=8) == pytest.approx(0.01)
    assert scaled_lr(load_preset("r50-k400-16f").train, world_size=8) == pytest.approx(0.0075)


def test_groups_follow_the_schedule() -> None:
    model = build_model(MODEL, 3)
    optimizer = make_optimizer(model, TrainConfig(weight_decay=0.1), lr=0.5)
    set_lr(optimizer, 0.1)
    seen = {g["name"]: (g["lr"], g["weight_decay"]) for g in optimizer.param_groups}
    assert seen["weight"] == pytest.approx((0.05, 0.1))
    assert seen["classifier_weight"] == pytest.approx((0.25, 0.1))
    assert seen["classifier_bias"] == pytest.approx((0.5, 0))
    assert seen["norm"] == pytest.approx((0.05, 0))
    plain = param_groups(model, fc_lr5=False)
    assert [name for name, _ in plain[2].params][-1] == "fc.weight"
    assert sum(len(g.params) for g in plain) == len(list(model.parameters()))


def test_an_epoch_yields_a_step_a_batch_and_learns() -> None:
    torch.manual_seed(0)
    model = build_model(MODEL, 3, seed=0)
    config = TrainConfig(batch=6, max_bad_videos=2)
    optimizer = make_optimizer(model, config, lr=0.05)
    data = [batch([0, 1, 2, 3, 4, 5])]
    losses = []
    for epoch in range(8):
        events = list(train_epoch(model, optimizer, data, Config(train=config), CPU, epoch))  # type: ignore[arg-type]
        assert [type(e) for e in events] == [StepDone]
        losses.append(events[0].loss)  # type: ignore[union-attr]
        assert events[0].grad_norm > 0  # type: ignore[union-attr]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_takes_a_step(name: str) -> None:
    """Its own network, groups, blending and learning rate, on two clips of noise at 64 px."""
    config = load_preset(name)
    model = build_model(config, CATALOG[config.data.dataset].num_classes or 5, seed=0).train()
    before = model.fc.weight.clone()
    optimizer = make_optimizer(model, config.train, scaled_lr(config.train))
    views = torch.randint(0, 256, (2, 1, config.model.num_segments, 64, 64, 3), dtype=torch.uint8).movedim(-1, 3)
    clips = Batch(torch.arange(2), views, torch.tensor([0, 1]), [])
    loss, logits, norm = train_step(model, optimizer, clips, config, CPU, np.random.default_rng(0))
    assert loss.item() == pytest.approx(np.log(logits.shape[1]), rel=0.1), "a fresh classifier knows nothing"
    assert torch.isfinite(norm)
    assert not torch.equal(model.fc.weight, before)


def test_bad_videos_are_skipped_counted_and_bounded() -> None:
    model = build_model(MODEL, 3, seed=0)
    config = TrainConfig(max_bad_videos=2)
    optimizer = make_optimizer(model, config, lr=0.01)
    broken = [BadVideo(i, f"{i}.mp4", f"{i}.mp4: broken") for i in range(3)]
    fine = [batch([1, 2], broken[:1]), Batch(*batch([])[:3], bad=broken[1:2])]
    events = list(train_epoch(model, optimizer, fine, Config(train=config), CPU, 0))  # type: ignore[arg-type]
    assert [type(e) for e in events] == [VideosSkipped, StepDone, VideosSkipped]
    with pytest.raises(DataError, match=r"3 videos of this epoch could not be read, the last one: 2\.mp4: broken"):
        list(train_epoch(model, optimizer, [batch([0], broken)], Config(train=config), CPU, 0))  # type: ignore[arg-type]


def test_a_loss_that_is_not_finite_stops_before_it_does_harm() -> None:
    model = build_model(MODEL, 3, seed=0)
    optimizer = make_optimizer(model, TrainConfig(), lr=0.01)
    torch.nn.init.constant_(model.fc.weight, torch.inf)
    kept = model.backbone.conv1.weight.clone()
    with pytest.raises(ConfigError, match=r"the loss is nan and .* at epoch 1, step 1, .* videos \[7, 9\]"):
        list(train_epoch(model, optimizer, [batch([7, 9])], Config(), CPU, 0))  # type: ignore[arg-type]
    assert torch.equal(model.backbone.conv1.weight, kept)


def test_an_infinite_gradient_takes_no_step_either() -> None:
    model = build_model(MODEL, 3, seed=0)
    optimizer = make_optimizer(model, TrainConfig(), lr=0.01)
    model.fc.weight.register_hook(lambda gradient: gradient * torch.inf)
    kept = model.backbone.conv1.weight.clone()
    with pytest.raises(ConfigError, match="its gradient's norm"):
        list(train_epoch(model, optimizer, [batch([7, 9])], Config(), CPU, 0))  # type: ignore[arg-type]
    assert torch.equal(model.backbone.conv1.weight, kept)


def test_an_epoch_without_a_step_is_an_error() -> None:
    model = build_model(MODEL, 3, seed=0)
    optimizer = make_optimizer(model, TrainConfig(), lr=0.01)
    nothing = [Batch(*batch([])[:3], bad=[BadVideo(0, "a", "broken")])]
    with pytest.raises(DataError, match="epoch 1 had nothing to train on: none of its 1 videos"):
        list(train_epoch(model, optimizer, nothing, Config(), CPU, 0))  # type: ignore[arg-type]


def test_views_are_averaged_as_asked() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    assert torch.allclose(average_views(logits, "score"), torch.tensor([1.0, 0.5]))
    assert torch.allclose(average_views(logits, "prob"), logits.softmax(-1).mean(0))


def test_chunked_views_equal_one_batch() -> None:
    model = build_model(MODEL, 3, seed=0).eval()
    torch.nn.init.normal_(model.fc.weight)
    views = torch.randint(0, 256, (5, 2, 32, 32, 3), dtype=torch.uint8).movedim(-1, 2)
    with torch.no_grad():
        together = model(normalize(views))
    assert (view_logits(model, views, CPU) - together).abs().max() < 1e-5


def test_scoring_names_every_video() -> None:
    model = build_model(MODEL, 3, seed=0)
    data = [batch([4]), Batch(*batch([])[:3], bad=[BadVideo(5, "x", "broken")]), batch([6])]
    events = list(score_videos(model, data, CPU, "prob"))  # type: ignore[arg-type]
    assert [e.number for e in events] == [4, 5, 6]
    scored = [e for e in events if isinstance(e, VideoScored)]
    assert all(e.scores.sum().item() == pytest.approx(1) for e in scored)


def checkpoint_of(config: Config) -> Checkpoint:
    model = build_model(config, 3, seed=4)
    optimizer = make_optimizer(model, config.train, 0.1)
    return Checkpoint("mine", config, ["a", "b", "c"], 2, 0.5, model.state_dict(), optimizer.state_dict())


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    config = Config(model=MODEL)
    saved = checkpoint_of(config)
    save_checkpoint(tmp_path / "last.pt", saved)
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]
    back = read_checkpoint(tmp_path / "last.pt")
    assert (back.preset, back.config, back.class_names, back.epoch, back.best_top1) == (
        "mine", config, ["a", "b", "c"], 2, 0.5,
    )  # fmt: skip
    model, again = load_checkpoint(tmp_path / "last.pt")
    assert again == config
    assert not model.training
    assert all(torch.equal(value, saved.model[key]) for key, value in model.state_dict().items())


def test_weights_of_others(tmp_path: Path) -> None:
    source = build_model(MODEL, 3, seed=1)
    torch.save({"meta": {"epoch": 50}, "state_dict": export_state(source, "mmaction")}, tmp_path / "theirs.pth")
    model = build_model(MODEL, 3, seed=2)
    assert load_weights(model, tmp_path / "theirs.pth").layout == "mmaction"
    assert torch.equal(model.fc.weight, source.fc.weight)
    with pytest.raises(WeightsError, match="not a checkpoint of tsm"):
        read_checkpoint(tmp_path / "theirs.pth")


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('code was run')",))


def test_files_that_are_no_checkpoint(tmp_path: Path) -> None:
    model = build_model(MODEL, 3)
    with pytest.raises(WeightsError, match="no checkpoint"):
        load_weights(model, tmp_path / "none.pt")
    good = tmp_path / "good.pt"
    save_checkpoint(good, checkpoint_of(Config(model=MODEL)))
    (tmp_path / "cut.pt").write_bytes(good.read_bytes()[:5000])
    (tmp_path / "empty.pt").write_bytes(b"")
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "evil.pt").write_bytes(pickle.dumps({"state_dict": _Evil()}, protocol=2))
    torch.save({"state_dict": _Evil()}, tmp_path / "evil2.pt")
    for name in ("cut.pt", "empty.pt", "text.pt", "evil.pt", "evil2.pt"):
        with pytest.raises(WeightsError, match="cannot be read as a checkpoint"):
            load_weights(model, tmp_path / name)
    torch.save({"state_dict": {}}, tmp_path / "nothing.pt")
    with pytest.raises(WeightsError, match="no weights in this file"):
        load_weights(model, tmp_path / "nothing.pt")
    torch.save(json.loads('{"format": 99}'), tmp_path / "newer.pt")
    with pytest.raises(WeightsError, match="checkpoint format 99; this tsm reads up to 1"):
        read_checkpoint(tmp_path / "newer.pt")


def test_a_missing_device_is_an_error_and_not_replaced() -> None:
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(EnvironmentProblem, match="no device named 'gpu'"):
        choose_device("gpu")
    with pytest.raises(EnvironmentProblem, match="torch sees"):
        choose_device(f"cuda:{torch.cuda.device_count()}")


def test_scores_are_numpy_friendly() -> None:
    scores = average_views(torch.zeros(2, 3), "prob").numpy()
    assert np.allclose(scores, 1 / 3)

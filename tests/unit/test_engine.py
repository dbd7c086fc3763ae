"""Schedule, scaling, the loop's events, checkpoints, scores."""

from __future__ import annotations

import json
import pickle
import platform
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support import presets_in_turn

from tsmcli.catalog import CATALOG
from tsmcli.config import Backbone, Config, ModelConfig, Recompute, TrainConfig
from tsmcli.core.tsm import TSM, build_model, normalize
from tsmcli.core.weights import export_state
from tsmcli.data.dataset import Batch
from tsmcli.data.messages import BadVideo
from tsmcli.data.shards import TrainOrder
from tsmcli.engine.checkpoint import (
    Checkpoint,
    Progress,
    load_weights,
    open_checkpoint,
    save_checkpoint,
)
from tsmcli.engine.device import choose_device, keep_freed_memory
from tsmcli.engine.events import StepDone, VideoScored, VideosSkipped
from tsmcli.engine.inference import torch_engine, view_logits
from tsmcli.engine.learner import Learner, make_learner, take_step
from tsmcli.engine.loop import train_epoch
from tsmcli.engine.memory import largest_batch, num_parameters, saved_bytes, step_bytes
from tsmcli.engine.optim import lr_factor, make_optimizer, param_groups, scaled_lr, set_lr, set_training
from tsmcli.engine.processes import ALONE
from tsmcli.engine.scores import average_views, score_videos
from tsmcli.errors import ConfigError, DataError, EnvironmentProblem, WeightsError
from tsmcli.presets import load_preset
from tsmcli.recipes.network import load_checkpoint

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


def test_cosine_and_warm_up() -> None:
    cosine = TrainConfig(schedule="cosine", epochs=10, lr_steps=())
    assert [lr_factor(cosine, e) for e in (0, 5, 10)] == pytest.approx([1, 0.5, 0])
    warm = TrainConfig(warmup_epochs=2, warmup_from=0.2)
    assert [lr_factor(warm, 0, step, 5) for step in (0, 3)] == pytest.approx([0.2, 0.2 + 0.8 / 3])
    assert [lr_factor(warm, 1, step, 5) for step in (3, 4)] == pytest.approx([0.2 + 0.8 * 8 / 9, 1])
    assert [lr_factor(warm, epoch, 0, 5) for epoch in (2, 20)] == pytest.approx([1, 0.1])
    assert lr_factor(TrainConfig(warmup_epochs=0.5), 0, 0, 2) == 1, "the one step of the warm-up is its last"


def test_learning_rate_is_linear_in_the_batch() -> None:
    recipe = load_preset("r50-sthv1-flip").train
    assert scaled_lr(recipe) == pytest.approx(0.01 / 8)
    assert scaled_lr(recipe, world_size=8) == pytest.approx(0.01)
    assert scaled_lr(recipe.model_copy(update={"accumulate": 2}), world_size=8) == pytest.approx(0.02)
    assert scaled_lr(recipe.model_copy(update={"scale_lr": False}), world_size=3) == 0.01
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


@pytest.mark.parametrize(
    ("folded", "counts"), [(False, [1, 0, 88, 24, 198, 1, 1]), (True, [1, 1, 66, 66, 0, 1, 1])]
)
def test_parameter_groups_of_a_mobileone(folded: bool, counts: list[int]) -> None:
    """43 blocks have 22 scale and 34 identity branches, too, and 12 excitations of two convolutions with biases."""
    model = build_model(ModelConfig(backbone="mobileone_s4", width=0.25, folded=folded, init="none"), 3)
    groups = param_groups(model)
    assert [len(group.params) for group in groups] == counts
    assert sum(counts) == len(list(model.parameters()))
    assert groups[0].params[0][0].startswith("backbone.stage0.0.")


def test_adamw_steps_as_its_authors_wrote_it() -> None:
    """Decay first, then the step, which at the first one is the rate, whatever the gradient."""
    model = build_model(MODEL, 3, seed=0)
    config = TrainConfig(optimizer="adamw", weight_decay=0.1, fc_lr5=False)
    optimizer = make_optimizer(model, config, lr=0.01)
    before = model.fc.weight.detach().clone()
    model.fc.weight.grad = torch.full_like(before, 3.0)
    optimizer.step()
    assert torch.allclose(model.fc.weight, before * (1 - 0.01 * 0.1) - 0.01, atol=1e-6)
    assert step_bytes(Config(train=config), 3, 1) - step_bytes(Config(), 3, 1) == 4 * num_parameters(Config(), 3)


def learner_of(config: TrainConfig, model: TSM | None = None, lr: float = 0.01) -> Learner:
    """A learner whose learning rate is not scaled."""
    config = config.model_copy(update={"lr": lr, "scale_lr": False})
    return make_learner(model or build_model(MODEL, 3, seed=0), config, CPU, ALONE)


def epoch_of(learner: Learner, data: list[Batch], epoch: int = 0) -> list[StepDone | VideosSkipped]:
    """The events of an epoch with one given batch a step."""
    order = TrainOrder(len(data), 1, seed=0)
    order.start(epoch)
    config = Config(train=learner.config)
    return list(train_epoch(learner, data, order, config))  # type: ignore[arg-type]


def test_an_epoch_yields_a_step_a_batch_and_learns() -> None:
    learner = learner_of(TrainConfig(max_bad_videos=2), lr=0.05)
    torch.manual_seed(0)
    data = [batch([0, 1, 2, 3, 4, 5])]
    losses = []
    for epoch in range(8):
        events = epoch_of(learner, data, epoch)
        assert [type(e) for e in events] == [StepDone]
        losses.append(events[0].loss)  # type: ignore[union-attr]
        assert events[0].grad_norm > 0  # type: ignore[union-attr]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("name", presets_in_turn())
def test_every_preset_takes_a_step(name: str) -> None:
    """Its own network, groups, blending and learning rate, on two clips of noise at 64 px."""
    config = load_preset(name)
    model = build_model(config, CATALOG[config.data.dataset].num_classes or 5, seed=0)
    learner = make_learner(model, config.train, CPU, ALONE)
    # without batch norms, random weights let nothing through to the classifier
    learning = model.fc.bias if config.model.folded else model.fc.weight
    before = learning.detach().clone()
    views = torch.randint(0, 256, (2, 1, config.model.num_segments, 64, 64, 3), dtype=torch.uint8).movedim(-1, 3)
    clips = Batch(torch.arange(2), views, torch.tensor([0, 1]), [])
    order = TrainOrder(2, 2, seed=0)
    (done,) = train_epoch(learner, [clips], order, config)  # type: ignore[arg-type]
    assert isinstance(done, StepDone)
    assert done.loss == pytest.approx(np.log(model.fc.out_features), rel=0.1), "a fresh classifier knows nothing"
    assert done.lr == pytest.approx(scaled_lr(config.train) * lr_factor(config.train, 0))
    assert not torch.equal(learning, before)


def test_fp16_that_never_finds_a_finite_gradient_is_told() -> None:
    learner = learner_of(TrainConfig())
    learner.scaler = torch.amp.GradScaler("cpu", init_scale=16.0)
    learner.model.fc.weight.register_hook(lambda gradient: gradient * float("inf"))
    before = learner.model.fc.weight.clone()
    events: list[object] = []
    order = TrainOrder(9, 1, seed=0)
    order.start(0)
    with pytest.raises(
        ConfigError, match="fp16 trains nothing: at epoch 1, step 5 the gradient is still out of range"
    ):
        events.extend(train_epoch(learner, [batch([0, 1])] * 9, order, Config()))
    assert torch.equal(learner.model.fc.weight, before)


def test_bad_videos_are_skipped_counted_and_bounded() -> None:
    learner = learner_of(TrainConfig(max_bad_videos=2))
    broken = [BadVideo(i, f"{i}.mp4", f"{i}.mp4: broken") for i in range(3)]
    fine = [batch([1, 2], broken[:1]), Batch(*batch([])[:3], bad=broken[1:2])]
    assert [type(e) for e in epoch_of(learner, fine)] == [VideosSkipped, StepDone, VideosSkipped]
    with pytest.raises(DataError, match=r"3 videos of this epoch could not be read, the last one: 2\.mp4: broken"):
        epoch_of(learner, [batch([0], broken)])


def test_a_loss_that_is_not_finite_stops_before_it_does_harm() -> None:
    learner = learner_of(TrainConfig())
    torch.nn.init.constant_(learner.model.fc.weight, torch.inf)
    kept = learner.model.backbone.conv1.weight.clone()  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match=r"the loss is nan and .* at epoch 1, step 1, .* videos \[7, 9\]"):
        epoch_of(learner, [batch([7, 9])])
    assert torch.equal(learner.model.backbone.conv1.weight, kept)  # type: ignore[union-attr]


def test_an_infinite_gradient_takes_no_step_either() -> None:
    learner = learner_of(TrainConfig())
    learner.model.fc.weight.register_hook(lambda gradient: gradient * torch.inf)
    kept = learner.model.backbone.conv1.weight.clone()  # type: ignore[union-attr]
    with pytest.raises(ConfigError, match="its gradient's norm"):
        epoch_of(learner, [batch([7, 9])])
    assert torch.equal(learner.model.backbone.conv1.weight, kept)  # type: ignore[union-attr]


def test_an_epoch_without_a_step_is_an_error() -> None:
    nothing = [Batch(*batch([])[:3], bad=[BadVideo(0, "a", "broken")])]
    with pytest.raises(DataError, match="epoch 1 had nothing to train on: none of its 1 videos"):
        epoch_of(learner_of(TrainConfig()), nothing)


def clips_and_labels(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, 2, 3, 32, 32, generator=generator).double(), torch.arange(n) % 3


@pytest.mark.parametrize("class_weights", [None, [0.5, 1.0, 4.0]])
def test_accumulated_batches_equal_one_batch(class_weights: list[float] | None) -> None:
    """With batch norms that do not look at the batch, in float64; a batch may be empty. The loss is torch's."""
    clips, labels = clips_and_labels(5)
    config = TrainConfig(freeze_bn="statistics")
    whole, parts = (learner_of(config, build_model(MODEL, 3, seed=0).double()) for _ in range(2))
    weights = torch.tensor(class_weights).double() if class_weights else None
    for learner in (whole, parts):
        set_training(learner.model, config)
        learner.class_weights = weights
    assert whole.weight_of(labels) == (2 * 0.5 + 2 * 1 + 4 if class_weights else 5)
    with torch.no_grad():
        torch.manual_seed(0)
        expected = torch.nn.functional.cross_entropy(whole.model.eval()(clips), labels, weights)
    one = take_step(whole, [(clips, labels)], whole.weight_of(labels))
    assert one.loss == pytest.approx(expected.item(), rel=1e-9)
    split = [(clips[:3], labels[:3]), (clips[3:], labels[3:]), (clips[:0], labels[:0])]
    two = take_step(parts, split, parts.weight_of(labels))
    assert two.loss == pytest.approx(one.loss, rel=1e-12)
    assert two.hits == one.hits
    assert two.grad_norm == pytest.approx(one.grad_norm, rel=1e-10)
    for a, b in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v2", "mobileone_s4"])
@pytest.mark.parametrize("recompute", ["block", "stage"])
def test_recomputed_activations_change_nothing(backbone: Backbone, recompute: Recompute) -> None:
    clips, labels = clips_and_labels(3)
    network = MODEL.model_copy(update={"backbone": backbone, "width": 0.5})
    results = []
    for how in ("none", recompute):
        learner = learner_of(TrainConfig(recompute=how), build_model(network, 3, seed=0).double())  # type: ignore[arg-type]
        learner.model.train()
        step = take_step(learner, [(clips, labels)], 3)
        results.append((step.grad_norm, learner.model.state_dict()))
    assert results[1][0] == pytest.approx(results[0][0], rel=1e-10)
    for key, value in results[0][1].items():
        assert torch.allclose(value.double(), results[1][1][key].double(), rtol=0, atol=1e-10), key


def test_the_shifted_copy_is_not_kept() -> None:
    config = ModelConfig(backbone="resnet50", width=0.25, num_segments=4, init="none")
    clips = torch.randn(1, 4, 3, 64, 64)
    kept = {}
    for shift in ("bidirectional", "none"):
        model = build_model(config.model_copy(update={"shift": shift}), 3, seed=0).train()
        kept[shift] = saved_bytes(model, clips)
    assert kept["bidirectional"] == kept["none"]
    model = build_model(config, 3, seed=0).train()
    for how, share in (("block", 0.5), ("stage", 0.3)):
        model.backbone.recompute = how  # type: ignore[assignment]
        assert saved_bytes(model, clips) < share * kept["none"]


def test_memory_is_estimated_and_the_batch_is_lowered_until_it_fits() -> None:
    config = load_preset("demo")
    assert step_bytes(config, 8, 2) > step_bytes(config, 8, 1)
    free = 100 * step_bytes(config, 8, 1)
    estimate = largest_batch(config, 8, free)
    assert step_bytes(config, 8, estimate) <= free
    tried = []

    def try_step(batch: int) -> None:
        tried.append(batch)
        if batch > estimate // 2:
            raise torch.OutOfMemoryError

    assert largest_batch(config, 8, free, try_step) <= estimate // 2
    assert tried[0] == estimate
    assert largest_batch(config, 8, 0) == 1


def test_what_is_frozen_stays() -> None:
    config = TrainConfig(freeze_bn="partial", frozen_stages=1)
    learner = learner_of(config)
    model = learner.model
    set_training(model, config)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    clips, labels = clips_and_labels(4)
    take_step(learner, [(clips.float(), labels)], 4)
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert "backbone.layer2.0.conv1.weight" in changed
    assert not any(key.startswith(("backbone.conv1", "backbone.bn1", "backbone.layer1")) for key in changed)
    assert not any("bn" in key for key in changed)
    with pytest.raises(ConfigError, match="this trunk has 4 stages"):
        learner_of(TrainConfig(frozen_stages=5))


def test_the_average_follows_the_weights() -> None:
    learner = learner_of(TrainConfig(ema=0.9), lr=0.1)
    learner.model.train()
    clips, labels = clips_and_labels(4)
    take_step(learner, [(clips.float(), labels)], 4)
    first = learner.model.fc.weight.clone()
    assert torch.equal(learner.trained.fc.weight, first), "it starts at the first weights"
    take_step(learner, [(clips.float(), labels)], 4)
    expected = 0.9 * first + 0.1 * learner.model.fc.weight
    assert torch.allclose(learner.trained.fc.weight, expected, atol=1e-7)


def test_label_smoothing_is_torchs() -> None:
    learner = learner_of(TrainConfig(label_smoothing=0.1))
    clips, labels = clips_and_labels(4)
    logits = learner.model(clips.float()).detach()
    step = take_step(learner, [(clips.float(), labels)], 4)
    assert step.loss == pytest.approx(F.cross_entropy(logits, labels, label_smoothing=0.1).item(), rel=1e-6)


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
    events = list(score_videos(torch_engine(model, CPU), data, "prob"))  # type: ignore[arg-type]
    assert [e.number for e in events] == [4, 5, 6]
    scored = [e for e in events if isinstance(e, VideoScored)]
    assert all(e.scores.sum().item() == pytest.approx(1) for e in scored)


def checkpoint_of(config: Config) -> Checkpoint:
    model = build_model(config, 3, seed=4)
    learner = learner_of(config.train, model)
    progress = Progress(epoch=2, best_top1=0.5)
    return Checkpoint("mine", config, ["a", "b", "c"], progress, model.state_dict(), learner.state())


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    config = Config(model=MODEL)
    saved = checkpoint_of(config)
    save_checkpoint(tmp_path / "last.pt", saved)
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]
    back = open_checkpoint(tmp_path / "last.pt")
    assert back is not None
    assert (back.preset, back.config, back.class_names) == ("mine", config, ["a", "b", "c"])
    assert back.progress == saved.progress
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
    assert open_checkpoint(tmp_path / "theirs.pth") is None


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
        with pytest.raises(WeightsError, match=r"cannot be read as a checkpoint|which could run code"):
            load_weights(model, tmp_path / name)
    torch.save({"state_dict": {}}, tmp_path / "nothing.pt")
    with pytest.raises(WeightsError, match="no weights in this file"):
        load_weights(model, tmp_path / "nothing.pt")
    torch.save(json.loads('{"format": 99}'), tmp_path / "newer.pt")
    with pytest.raises(WeightsError, match="checkpoint format 99; this tsm reads up to 2"):
        open_checkpoint(tmp_path / "newer.pt")


def test_a_missing_device_is_an_error_and_not_replaced() -> None:
    assert choose_device("cpu").type == "cpu"
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")
    with pytest.raises(EnvironmentProblem, match="no device named 'gpu'"):
        choose_device("gpu")
    with pytest.raises(EnvironmentProblem, match="torch sees"):
        choose_device(f"cuda:{torch.cuda.device_count()}")


def test_scores_are_numpy_friendly() -> None:
    scores = average_views(torch.zeros(2, 3), "prob").numpy()
    assert np.allclose(scores, 1 / 3)

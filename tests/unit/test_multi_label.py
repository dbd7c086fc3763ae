"""Videos with several labels, or none: lists, tables, loss, metrics, thresholds, saved scores."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, f1_score

from tsmcli.config import AugmentConfig, Config, DataConfig, ModelConfig, Store, TrainConfig, Views
from tsmcli.core.tsm import build_model
from tsmcli.data.blend import blend
from tsmcli.data.dataset import Sample, collate
from tsmcli.data.listfile import VideoRecord, labels_of, read_list, with_labels, write_list
from tsmcli.data.location import Places, find_split
from tsmcli.data.spatial import train_view
from tsmcli.engine.checkpoint import Checkpoint, Progress, open_checkpoint, save_checkpoint
from tsmcli.engine.learner import loss_sum, make_learner, take_step
from tsmcli.engine.optim import set_training
from tsmcli.engine.processes import ALONE
from tsmcli.engine.scores import average_views, averaging
from tsmcli.errors import DataError, UsageError, WeightsError
from tsmcli.metrics import average_precisions, best_thresholds, f1_scores, map_interval, mean_average_precision
from tsmcli.prepare.own import draw_several, read_table
from tsmcli.recipes.ensemble import align, open_scores, to_probabilities
from tsmcli.recipes.evaluate import summarise
from tsmcli.results import Results, load_results, many_hot, save_results

K = 4
MODEL = ModelConfig(backbone="resnet18", width=0.25, num_segments=2, init="none", dropout=0)
NAMES = ["a", "b", "c", "d"]
tables = st.integers(1, 25).flatmap(
    lambda n: st.tuples(
        arrays(np.float32, (n, K), elements=st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0])),
        arrays(np.bool_, (n, K)),
    )
)
Table = tuple[np.ndarray, np.ndarray]


def video(path: str, frames: int | None, *labels: int) -> VideoRecord:
    return with_labels(VideoRecord(path, frames, -1), labels)


@pytest.mark.parametrize(("store", "frames"), [("video", None), ("frames", 37), ("zip", 9)])
def test_lists_are_read_as_they_were_written(tmp_path: Path, store: Store, frames: int | None) -> None:
    records = [video("a 2/clip one.mp4", frames, 3, 0), video("no label.mp4", frames), video("7", frames, 2)]
    (tmp_path / "no label.mp4").touch()
    write_list(tmp_path / "list.txt", records)
    assert read_list(tmp_path / "list.txt", store, classes=NAMES, media=tmp_path, several=True) == records
    assert records[0].labels == (0, 3)
    assert labels_of(records, K).tolist() == many_hot([[0, 3], [], [2]], K).tolist()


def test_the_form_of_mmaction2(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("some/clip.mp4 1 3 3 4\n\n# a comment 2\nb.mp4 2\n")
    records = read_list(tmp_path / "list.txt", "video", classes=NAMES, first_label=1, several=True)
    assert records == [video("some/clip.mp4", None, 0, 2, 3), video("b.mp4", None, 1)]
    with pytest.raises(DataError, match=r"list.txt:1: label 4, but there are 4 classes \(0 to 3\)"):
        read_list(tmp_path / "list.txt", "video", classes=NAMES, several=True)


@pytest.mark.parametrize(
    ("store", "line", "message"),
    [
        ("video", "clip.mp4", "'clip.mp4' has no label, and there is no such video"),
        ("video", "clip.mp4 1 x", "'clip.mp4 1 x' has no label"),
        ("video", "clip.mp4 -1", "'clip.mp4 -1' has no label"),
        ("frames", "folder", "expected `<folder> <number of frames> <label> <label> ...`"),
        ("frames", "folder 0 1", "a video of 0 frames"),
    ],
)
def test_lines_that_cannot_be_understood(tmp_path: Path, store: Store, line: str, message: str) -> None:
    (tmp_path / "list.txt").write_text(f"a.mp4 5 0\n{line}\n")
    with pytest.raises(DataError) as caught:
        read_list(tmp_path / "list.txt", store, media=tmp_path, several=True)
    assert f"list.txt:2: {message}" in str(caught.value)


def test_paths_that_end_in_a_number_are_refused(tmp_path: Path) -> None:
    write_list(tmp_path / "one.txt", [VideoRecord("take 2", 5, 1)])
    with pytest.raises(DataError, match="'take 2' cannot stand in a list of several labels"):
        write_list(tmp_path / "list.txt", [video("take 2", 5, 1)])


def test_a_list_of_several_labels_read_as_one_of_single_ones(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    (tmp_path / "b.mp4").touch()
    (tmp_path / "list.txt").write_text("a.mp4 0\nb.mp4 0 2\n")
    places = Places(folder=tmp_path, val_list=tmp_path / "list.txt", media=tmp_path)
    with pytest.raises(DataError, match=r"b.mp4 has several labels") as caught:
        find_split(DataConfig(), places, "val", NAMES)
    assert "data.multi_label=true" in str(caught.value.hint)
    split = find_split(DataConfig(multi_label=True), places, "val", NAMES)
    assert [record.labels for record in split.records] == [(0,), (0, 2)]
    assert split.num_classes == K


@pytest.mark.parametrize(("mark", "separator"), [("|", ","), ("; ", ","), ("|", ";")])
def test_tables(tmp_path: Path, mark: str, separator: str) -> None:
    rows = [("path", "label", "split"), ("a.mp4", f"wave{mark}big jump", "train"), ("b.mp4", "", "train"),
            ("c.mp4", "wave", "val"), ("d.mp4", "wave" + mark + "wave", "train")]  # fmt: skip
    (tmp_path / "t.csv").write_text("".join(separator.join(row) + "\n" for row in rows))
    found = read_table(tmp_path / "t.csv", 0.2, 0, several=True)
    assert found.classes == ["big jump", "wave"]
    assert [(item.split, item.label, item.labels) for item in found.items] == [
        ("train", 0, (0, 1)), ("train", -1, ()), ("val", 1, (1,)), ("train", 1, (1,)),
    ]  # fmt: skip
    assert found.facts["multi_label"] is True


@given(st.lists(st.frozensets(st.sampled_from(NAMES)), min_size=1, max_size=40), st.integers(0, 5))
def test_a_drawn_split_keeps_every_class_in_training(labels: list[frozenset[str]], seed: int) -> None:
    drawn = draw_several([sorted(own) for own in labels], 0.25, seed)
    train = Counter(name for i, own in enumerate(labels) for name in own if i not in drawn)
    assert set(train) == set().union(*labels)
    assert drawn <= set(range(len(labels)))
    if len(labels) > 1 and not any(labels):
        assert 0 < len(drawn) < len(labels)


def test_a_drawn_split_has_about_its_share_of_every_class() -> None:
    rng = np.random.default_rng(0)
    labels = [[name for name in NAMES if rng.random() < 0.3] for _ in range(400)]
    drawn = draw_several(labels, 0.2, 0)
    for name in NAMES:
        share = sum(name in labels[i] for i in drawn) / sum(name in own for own in labels)
        assert 0.19 <= share <= 0.3, name
    assert 0.15 < len(drawn) / 400 < 0.3


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_torchs_mean_over_videos_and_classes(smoothing: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits, truth = torch.randn(5, K, generator=generator), torch.rand(5, K, generator=generator) < 0.4
    config = TrainConfig(label_smoothing=smoothing)
    expected = F.binary_cross_entropy_with_logits(logits, truth * (1 - smoothing) + smoothing / 2)
    ours = loss_sum(logits, truth.float(), config, multi_label=True) / 5
    assert ours.item() == pytest.approx(expected.item(), rel=1e-6)


def test_accumulated_batches_equal_one_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    clips = torch.randn(5, 2, 3, 32, 32, generator=generator).double()
    labels = (torch.rand(5, K, generator=generator) < 0.5).float()
    config = TrainConfig(freeze_bn="statistics")
    losses = []
    for parts in (
        [(clips, labels)],
        [(clips[:3], labels[:3]), (clips[3:], labels[3:]), (clips[:0], labels[:0, 0])],
    ):
        model = build_model(MODEL, K, seed=0).double()
        learner = make_learner(model, config, torch.device("cpu"), ALONE, multi_label=True)
        set_training(model, config)
        first = take_step(learner, parts, 5)
        losses.append((first.loss, first.grad_norm, take_step(learner, parts, 5).loss))
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)
    assert losses[0][2] < losses[0][0]


def test_batches_and_blends_are_many_hot() -> None:
    truth = many_hot([[0, 2], []], K)
    batch = collate([Sample(i, np.zeros((1, 2, 8, 8, 3), np.uint8), row) for i, row in enumerate(truth)])
    assert (batch.labels.dtype, batch.labels.tolist()) == (torch.float32, [[1, 0, 1, 0], [0, 0, 0, 0]])
    config = AugmentConfig(mix="mixup")
    _, soft = blend(torch.zeros(2, 2, 3, 8, 8), batch.labels, K, config, np.random.default_rng(2))
    assert soft.sum(0).tolist() == pytest.approx(batch.labels.sum(0).tolist())
    assert not set(soft.flatten().tolist()) <= {0.0, 1.0}


def test_a_mirror_image_changes_every_label() -> None:
    config = AugmentConfig(flip_prob=1, flip_swaps_labels=True, crop_px=16, resize_px=None)
    frame = np.zeros((24, 24, 3), np.uint8)
    _, labels = train_view([frame], (0, 1, 3), config, {0: 2, 2: 0}, np.random.default_rng(0))
    assert labels == (2, 1, 3)


def test_views_are_averaged_as_sigmoids() -> None:
    config, logits = Config(data=DataConfig(multi_label=True)), torch.tensor([[2.0, -1.0], [0.0, 3.0]])
    assert averaging(config, Views(average="score")) == "score"
    assert averaging(Config(), Views()) == "prob"
    assert torch.allclose(average_views(logits, averaging(config, Views())), logits.sigmoid().mean(0))


@settings(deadline=None)
@given(tables)
def test_average_precision_is_that_of_scikit_learn(table: Table) -> None:
    scores, truth = table
    held = truth.any(axis=0)
    each = average_precisions(scores, truth)
    assert np.isnan(each).tolist() == (~held).tolist()
    if held.any():
        theirs = np.array([average_precision_score(truth[:, c], scores[:, c]) for c in np.flatnonzero(held)])
        assert np.abs(each[held] - theirs).max() <= 1e-12
        assert abs(mean_average_precision(scores, truth) - theirs.mean()) <= 1e-12


@settings(deadline=None)
@given(tables)
def test_no_threshold_has_a_better_f1(table: Table) -> None:
    scores, truth = table
    cuts = best_thresholds(scores, truth)
    best = f1_scores(scores, truth, cuts)
    assert all(0 <= cut <= 1 for cut in cuts)
    for c in range(K):
        if not truth[:, c].any():
            assert (cuts[c], np.isnan(best[c])) == (0.5, True)
            continue
        tried = [f1_score(truth[:, c], scores[:, c] >= cut) for cut in np.linspace(0, 1, 17)]
        assert best[c] == pytest.approx(max(tried))
        assert best[c] == pytest.approx(f1_score(truth[:, c], scores[:, c] >= cuts[c]))


def test_the_interval_is_that_of_drawing_videos_again() -> None:
    rng = np.random.default_rng(3)
    truth = rng.random((60, K)) < [0.02, 0.1, 0.3, 0]
    truth[0, 0] = True
    scores = np.round(rng.random((60, K)) * 0.7 + 0.3 * truth, 1).astype(np.float32)
    again, drawn = np.random.default_rng(0), []
    for _ in range(200):
        rows = again.integers(60, size=60)
        drawn.append(mean_average_precision(scores[rows], truth[rows]))
    assert map_interval(scores, truth, samples=200) == pytest.approx(tuple(np.percentile(drawn, (2.5, 97.5))))


def results() -> Results:
    scores = np.array([[0.9, 0.2, 0.6, 0.1], [0.3, 0.8, 0.4, 0.1], [0.2, 0.1, 0.3, 0.2]], np.float32)
    meta = {"class_names": NAMES, "thresholds": [0.5, 0.5, 0.65, 0.5]}
    return Results(["x", "y", "z"], many_hot([[0, 2], [1], []], K), scores, 3, meta=meta)


@pytest.mark.parametrize("suffix", [".npz", ".json"])
def test_scores_are_read_as_they_were_saved(tmp_path: Path, suffix: str) -> None:
    save_results(tmp_path / f"s{suffix}", results())
    back = load_results(tmp_path / f"s{suffix}")
    assert back.multi_label
    assert back.labels.tolist() == results().labels.tolist()
    assert (back.paths, back.meta) == (results().paths, results().meta)


def test_scores_as_csv(tmp_path: Path) -> None:
    save_results(tmp_path / "s.csv", results())
    assert [line.split(",")[1] for line in (tmp_path / "s.csv").read_text().splitlines()] == [
        "label",
        "a|c",
        "b",
        "",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [4]}, "4 is none of 4 classes"), ({"labels": [-1]}, "-1 is none of 4"),
        ({"labels": [True]}, "True is none of 4"), ({"labels": 3}, "not a results file"),
        ({"labels": [10**12]}, "is none of 4 classes"),
    ],
)  # fmt: skip
def test_damaged_scores(tmp_path: Path, change: dict[str, object], message: str) -> None:
    save_results(tmp_path / "s.json", results())
    tree = json.loads((tmp_path / "s.json").read_text())
    tree["videos"][1] |= change
    (tmp_path / "s.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match=message):
        load_results(tmp_path / "s.json")


@pytest.mark.parametrize("cuts", [[0.5], ["a"] * K, 0.5])
def test_damaged_thresholds(tmp_path: Path, cuts: object) -> None:
    odd = results()
    save_results(tmp_path / "s.npz", replace(odd, meta={**odd.meta, "thresholds": cuts}))
    with pytest.raises(DataError, match="its thresholds are not a number for each of 4 classes"):
        load_results(tmp_path / "s.npz")


def test_metrics_of_saved_scores() -> None:
    found = summarise(results(), None, None, "s.npz")
    assert found.values == {"map": 1.0, "f1": pytest.approx(2 / 3)}
    rows = [(c.videos, c.ap, c.threshold, c.f1) for c in found.classes]
    assert rows == [(1, 1.0, 0.5, 1.0), (1, 1.0, 0.5, 1.0), (1, 1.0, 0.65, 0.0), (0, None, 0.5, None)]
    assert list(summarise(replace(results(), meta={}), ["map"], None, "s.npz").values) == ["map"]
    for metric in ("top_k", "mean_class", "confusion"):
        with pytest.raises(UsageError, match=f"{metric} is of videos with one label each"):
            summarise(results(), [metric], None, "s.npz")
    with pytest.raises(DataError, match="no video that was scored has a label"):
        summarise(replace(results(), labels=np.zeros((3, K), np.bool_)), None, None, "s.npz")


def test_raw_scores_become_sigmoids_and_other_labels_are_no_match() -> None:
    raw = replace(results(), scores=np.array([[200.0, -200, 1, 0]] * 3, np.float32))
    assert to_probabilities(raw).scores[0].tolist() == pytest.approx([1, 0, 0.7310586, 0.5])
    assert to_probabilities(results()) is not raw
    assert to_probabilities(results()).scores.tolist() == results().scores.tolist()
    with pytest.raises(DataError, match=r"b: x has label \[0\], but in a it has \[0, 2\]"):
        align(results(), replace(results(), labels=many_hot([[0], [1], []], K)), "a", "b")
    with pytest.raises(DataError, match=r"b: x has label 0, but in a it has \[0, 2\]"):
        align(results(), replace(results(), labels=np.array([0, 1, 2])), "a", "b")


def test_a_list_of_scores_of_mmaction2(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps([[0.1, 0.9, 0.2], [2.0, -1.0, 0.5]]))
    (tmp_path / "list.txt").write_text("a.mp4 0 1\nb c.mp4 2\n")
    found = open_scores(tmp_path / "s.json", tmp_path / "list.txt")
    assert (found.paths, found.labels.tolist()) == (["a.mp4", "b c.mp4"], [[1, 1, 0], [0, 0, 1]])
    (tmp_path / "list.txt").write_text("a.mp4 0 1\nb c.mp4 3\n")
    with pytest.raises(DataError, match="3 is none of 3 classes"):
        open_scores(tmp_path / "s.json", tmp_path / "list.txt")


@pytest.mark.parametrize("cuts", [(0.25, 0.5, 1, 0.0), None])
def test_thresholds_are_kept_in_a_checkpoint(tmp_path: Path, cuts: tuple[float, ...] | None) -> None:
    weights = build_model(MODEL, K, seed=0).state_dict()
    kept = Checkpoint("mine", Config(model=MODEL), NAMES, Progress(), weights, thresholds=cuts)
    save_checkpoint(tmp_path / "a.pt", kept)
    back = open_checkpoint(tmp_path / "a.pt")
    assert back is not None
    assert back.thresholds == cuts


@pytest.mark.parametrize("cuts", [["0.5"] * K, [0.5], [2.0] * K, [float("nan")] * K, 0.5])
def test_thresholds_of_another_kind_are_damage(tmp_path: Path, cuts: object) -> None:
    weights = build_model(MODEL, K, seed=0).state_dict()
    save_checkpoint(tmp_path / "a.pt", Checkpoint("mine", Config(model=MODEL), NAMES, Progress(), weights))
    tree = torch.load(tmp_path / "a.pt", weights_only=True)
    torch.save({**tree, "thresholds": cuts}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="thresholds"):
        open_checkpoint(tmp_path / "a.pt")

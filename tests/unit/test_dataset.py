"""Samples do not depend on workers; bad videos are counted and never replaced; every video is seen once."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import numbered_frames, write_frames

from tsmcli.config import Config, Views
from tsmcli.data.dataset import Loader, Sample, VideoDataset, collate
from tsmcli.data.listfile import VideoRecord, read_list
from tsmcli.data.location import Split
from tsmcli.data.messages import BadVideo
from tsmcli.data.shards import TrainOrder, class_chances, eval_shard, train_order
from tsmcli.presets import load_preset


def dataset(demo_data: Path, *sets: str, views: Views | None = None) -> VideoDataset:
    config = load_preset("demo", sets)
    records = read_list(demo_data / "demo_train_list_videos.txt", "video")
    return VideoDataset(Split(records, demo_data / "videos", demo_data), config, views)


def order_of(data: VideoDataset) -> TrainOrder:
    return TrainOrder(len(data), data.config.train.batch, seed=0)


def epoch(data: VideoDataset, number: int) -> list[tuple[int, int, bytes]]:
    """(position, label, pixels) of every sample of an epoch, in order."""
    order = order_of(data)
    order.start(number)
    seen = []
    with Loader(data) as loader:
        for batch in loader.batches(order):
            assert batch.views.dtype == torch.uint8
            for row in range(len(batch.numbers)):
                pixels = batch.views[row].contiguous().numpy().tobytes()
                seen.append((int(batch.numbers[row]), int(batch.labels[row]), pixels))
    return seen


def test_the_same_clips_with_any_number_of_workers(demo_data: Path) -> None:
    expected = epoch(dataset(demo_data, "train.workers=0"), 3)
    assert len(expected) == 32
    for workers in (1, 4):
        assert epoch(dataset(demo_data, f"train.workers={workers}"), 3) == expected


@pytest.mark.parametrize("kind", ["rand_augment", "aug_mix"])
def test_augmented_clips_do_not_depend_on_workers(demo_data: Path, kind: str) -> None:
    plain, sets = epoch(dataset(demo_data, "train.workers=0"), 0), f"augment.pytorchvideo={kind}"
    changed = epoch(dataset(demo_data, "train.workers=0", sets), 0)
    assert [key for *key, _ in changed] == [key for *key, _ in plain]
    assert sum(a != b for a, b in zip(changed, plain, strict=True)) > 16
    assert epoch(dataset(demo_data, "train.workers=1", sets), 0) == changed


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_the_same_clips_with_any_way_to_start_workers(
    demo_data: Path, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = dataset(demo_data, "train.workers=1")
    monkeypatch.setattr("tsmcli.data.workers.multiprocessing", multiprocessing.get_context(method))
    with Loader(data) as loader:
        batches = list(loader.batches(order_of(data)))
    with Loader(dataset(demo_data, "train.workers=0")) as loader:
        pixels = [batch.views.sum(dtype=torch.int64).item() for batch in loader.batches(order_of(data))]
    assert [int(n) for batch in batches for n in batch.numbers] == [n for keys in order_of(data) for _, n in keys]
    assert [batch.views.sum(dtype=torch.int64).item() for batch in batches] == pixels


def test_epochs_and_seeds_differ(demo_data: Path) -> None:
    data = dataset(demo_data, "train.workers=0")
    first, second = epoch(data, 0), epoch(data, 1)
    assert [number for number, *_ in first] != [number for number, *_ in second]
    assert sorted(number for number, *_ in first) == list(range(32))
    assert sorted(first) != sorted(second)
    other = epoch(dataset(demo_data, "train.workers=0", "train.seed=1"), 0)
    assert sorted(other) != sorted(first)


def test_flips_swap_left_and_right(demo_data: Path) -> None:
    data = dataset(demo_data, "augment.flip_prob=1")
    moving_right = next(i for i, record in enumerate(data.split.records) if record.label == 0)
    growing = next(i for i, record in enumerate(data.split.records) if record.label == 4)
    flipped, same = data[moving_right], data[growing]
    assert isinstance(flipped, Sample)
    assert isinstance(same, Sample)
    assert (flipped.label, same.label) == (1, 4)


def test_shapes_and_memory_order(demo_data: Path) -> None:
    views = Views(clips=2, crop="ten", crop_px=48, resize_px=None)
    with Loader(dataset(demo_data, "train.workers=0", views=views)) as loader:
        batch = next(loader.videos(eval_shard(3)))
    assert batch.views.shape == (1, 20, 8, 3, 48, 48)
    frames = batch.views.flatten(0, 2)
    assert frames.is_contiguous(memory_format=torch.channels_last)


def test_frame_folders(tmp_path: Path) -> None:
    write_frames(tmp_path / "media" / "7", numbered_frames(9), "{:05}.jpg")
    config = Config.model_validate({"data": {"dataset": "jester", "store": "frames"}})
    split = Split([VideoRecord("7", 9, 3)], tmp_path / "media", tmp_path, "{:05}.jpg")
    data = VideoDataset(split, config, Views())
    sample = data[0]
    assert isinstance(sample, Sample)
    assert sample.views.shape == (1, 8, 224, 224, 3)
    assert sample.label == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_videos_are_reported_and_not_replaced(demo_data: Path, tmp_path: Path, workers: int) -> None:
    data = dataset(demo_data, f"train.workers={workers}", "train.batch=4")
    data.split.records[5:] = [VideoRecord("gone.mp4", None, 2), *data.split.records[5:7]]
    order = order_of(data)
    seen, bad = [], []
    with Loader(data) as loader:
        for batch in loader.batches(order):
            seen += batch.numbers.tolist()
            bad += batch.bad
    assert sorted(seen) == [0, 1, 2, 3, 4, 6, 7]
    assert [(b.number, b.path) for b in bad] == [(5, "gone.mp4")]
    assert "no such video" in bad[0].reason


def test_a_batch_of_bad_videos_alone_is_empty() -> None:
    batch = collate([BadVideo(0, "a", "broken")])
    assert len(batch.numbers) == 0
    assert len(batch.bad) == 1


@given(st.integers(0, 300), st.integers(1, 40))
def test_shards_hold_each_video_once(videos: int, world: int) -> None:
    shards = [eval_shard(videos, rank=rank, world_size=world) for rank in range(world)]
    assert sorted(i for shard in shards for i in shard) == list(range(videos))
    assert max(map(len, shards)) - min(map(len, shards)) <= 1


@given(st.integers(0, 200), st.integers(0, 5), st.integers(0, 5))
def test_train_order_is_a_permutation_of_its_own(videos: int, seed: int, number: int) -> None:
    order = train_order(videos, seed=seed, epoch=number)
    assert sorted(order) == list(range(videos))
    assert order == train_order(videos, seed=seed, epoch=number)


def test_numpys_global_generator_is_not_used(demo_data: Path) -> None:
    np.random.seed(0)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002  # type: ignore[index]
    epoch(dataset(demo_data, "train.workers=0"), 0)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002  # type: ignore[index]


@given(
    st.integers(1, 60), st.integers(1, 5), st.integers(1, 3), st.integers(1, 4), st.integers(0, 3), st.booleans()
)  # fmt: skip
def test_processes_share_the_steps_of_one(
    videos: int, batch: int, accumulate: int, world: int, first: int, balanced: bool
) -> None:
    """Each step holds the same videos however many processes there are; an epoch can be entered at any step."""
    total = batch * accumulate * world
    chances = class_chances([i % 7 == 0 for i in range(videos)], 0) if balanced else None
    alone = TrainOrder(videos, total, seed=1, chances=chances)
    ranks = [
        TrainOrder(videos, batch, accumulate, seed=1, rank=r, world_size=world, chances=chances)
        for r in range(world)
    ]
    for order in (alone, *ranks):
        order.start(2, min(first, order.steps - 1))
        assert len(list(order)) == len(order)
    for step in range(alone.first_step, alone.steps):
        shares = [order.batches(step) for order in ranks]
        assert all(1 <= len(share) <= accumulate for share in shares)
        assert all(len(numbers) <= batch for share in shares for numbers in share)
        together = sorted(n for share in shares for numbers in share for n in numbers)
        assert together == sorted(alone.batches(step)[0])
    seen = sorted(key for order in ranks for keys in order for key in keys)
    assert seen == sorted(alone.keys[alone.first_step * total :])
    assert len(set(alone.keys)) == videos, "every draw is a clip of its own"


def test_balanced_draws_follow_mmaction2s_rule() -> None:
    """`sample_by_class`: a class by its share ** power, then one of its videos, all alike."""
    labels = [2] * 60 + [0] * 30 + [5] * 10
    for power in (0.0, 0.5, 1.0):
        by_class = {label: [i for i, own in enumerate(labels) if own == label] for label in {*labels}}
        shares = {label: (len(videos) / 100) ** power for label, videos in by_class.items()}
        expected = [shares[label] / sum(shares.values()) / len(by_class[label]) for label in labels]
        chances = class_chances(labels, power)
        assert chances == pytest.approx(expected, rel=1e-12)
        drawn = [n for epoch in range(400) for n in train_order(100, seed=0, epoch=epoch, chances=chances)]
        counts = np.bincount(drawn, minlength=100)
        assert ((counts - 40_000 * chances) ** 2 / (40_000 * chances)).sum() < 149  # chi-square, 99.9 %, 99 d.f.


def test_a_video_drawn_twice_is_two_clips(demo_data: Path) -> None:
    data = dataset(demo_data)
    first, again, later = data[(0, 3)], data[(0, 3, 1)], data[(1, 3)]
    assert isinstance(first, Sample)
    assert isinstance(again, Sample)
    assert isinstance(later, Sample)
    assert first.label // 2 == again.label // 2  # a flip may exchange the two classes of a pair
    assert len({sample.views.tobytes() for sample in (first, again, later)}) == 3

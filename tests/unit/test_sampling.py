"""Properties of the samplers, and their options."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tsmcli.config import AugmentConfig, Views
from tsmcli.core.sampling import DENSE_WINDOW, sample_test, sample_train

frames = st.integers(1, 2000)
segments = st.sampled_from([1, 2, 3, 8, 16])
seeds = st.integers(0, 2**32 - 1)
VIEWS = (Views(), Views(clips=2), Views(sampling="dense", clips=10), Views(sampling="dense", clips=3))


@given(frames, segments, st.sampled_from(VIEWS))
def test_test_indices_exist(n: int, T: int, views: Views) -> None:
    indices = sample_test(n, T, views)
    assert indices.shape == (views.clips, T)
    assert indices.dtype == np.int64
    assert indices.min() >= 0
    assert indices.max() < n
    if views.sampling == "uniform":
        assert (np.diff(indices) >= 0).all()


@given(frames, segments, seeds, st.sampled_from(["uniform", "dense"]), st.booleans(), st.booleans())
def test_training_indices_exist(n: int, T: int, seed: int, kind: str, tail: bool, last: bool) -> None:
    for short in ("loop", "repeat_last"):
        config = AugmentConfig(sampling=kind, keep_tail=tail, short_videos=short, dense_last_start=last)  # type: ignore[arg-type]
        indices = sample_train(n, T, config, np.random.default_rng(seed))
        assert indices.shape == (1, T)
        assert indices.min() >= 0
        assert indices.max() < n
        assert np.array_equal(indices, sample_train(n, T, config, np.random.default_rng(seed)))


@given(st.integers(16, 2000), st.sampled_from([8, 16]), seeds)
def test_each_segment_gives_one_frame(n: int, T: int, seed: int) -> None:
    indices = sample_train(n, T, AugmentConfig(), np.random.default_rng(seed))[0]
    length = n // T
    assert (indices // length == np.arange(T)).all()


def test_short_videos_wrap_as_published_or_repeat_the_last_frame() -> None:
    rng = np.random.default_rng(0)
    assert sample_train(4, 8, AugmentConfig(), rng).tolist() == [[0, 0, 1, 2, 2, 2, 3, 0]]
    repeat = AugmentConfig(short_videos="repeat_last")
    assert sample_train(4, 8, repeat, rng).tolist() == [[0, 0, 1, 2, 2, 2, 3, 3]]


def test_tail_frames_are_drawn_only_if_asked_for() -> None:
    rng = np.random.default_rng(0)
    published = {int(i) for _ in range(500) for i in sample_train(15, 8, AugmentConfig(), rng)[0]}
    assert published == set(range(8))
    kept = {int(i) for _ in range(500) for i in sample_train(15, 8, AugmentConfig(keep_tail=True), rng)[0]}
    assert kept == set(range(15))


def test_the_last_dense_window_is_drawn_only_if_asked_for() -> None:
    rng = np.random.default_rng(0)
    n = DENSE_WINDOW + 2  # starts 0, 1, 2

    def starts(last: bool) -> set[int]:
        config = AugmentConfig(sampling="dense", dense_last_start=last)
        return {int(sample_train(n, 8, config, rng)[0, 0]) for _ in range(200)}

    assert starts(False) == {0, 1}
    assert starts(True) == {0, 1, 2}


def test_no_frames_is_an_error() -> None:
    with pytest.raises(ValueError, match="without frames"):
        sample_test(0, 8, Views())
    with pytest.raises(ValueError, match="without frames"):
        sample_train(0, 8, AugmentConfig(), np.random.default_rng(0))

"""The temporal shift against a loop over every element."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tsmcli.core.shift import TemporalPool, temporal_shift


def slow_shift(x: Tensor, T: int, div: int, direction: str) -> Tensor:
    """The definition, element by element: [B*T, C, H, W]."""
    out = torch.zeros_like(x)
    fold = x.shape[1] // div
    for row in range(x.shape[0]):
        t = row % T
        for c in range(x.shape[1]):
            source = row
            if c < fold:
                source = row + 1 if direction == "bidirectional" else row - 1
            elif c < 2 * fold and direction == "bidirectional":
                source = row - 1
            if 0 <= t + (source - row) < T:
                out[row, c] = x[source, c]
    return out


@settings(max_examples=60, deadline=None)
@given(
    clips=st.integers(1, 3),
    T=st.sampled_from([1, 2, 3, 8]),
    channels=st.integers(1, 20),
    div=st.integers(2, 8),
    direction=st.sampled_from(["bidirectional", "unidirectional"]),
    channels_last=st.booleans(),
)
def test_equals_the_definition(
    clips: int, T: int, channels: int, div: int, direction: str, channels_last: bool
) -> None:
    x = torch.randn(clips * T, channels, 2, 3)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    kept = x.clone()
    assert torch.equal(temporal_shift(x, T, div, direction), slow_shift(x, T, div, direction))  # type: ignore[arg-type]
    assert torch.equal(x, kept), "the input must not change: the shortcut reads it"


def test_worked_example() -> None:
    """T = 4, C = 8, value 10 t + c; with 7 channels nothing moves."""
    x = (10 * torch.arange(4.0)[:, None] + torch.arange(8.0))[..., None, None]
    rows = temporal_shift(x, 4)[:, :, 0, 0].int().tolist()
    assert rows[0][:3] == [10, 0, 2]
    assert rows[1][:3] == [20, 1, 12]
    assert rows[3][:3] == [0, 21, 32]
    assert torch.equal(temporal_shift(x[:, :7], 4), x[:, :7])


def test_padding_is_zero_even_beside_infinity() -> None:
    x = torch.full((4, 8, 1, 1), torch.inf)
    out = temporal_shift(x, 4)
    assert out[-1, 0].item() == 0
    assert out[0, 1].item() == 0


@pytest.mark.parametrize("channels_last", [False, True])
def test_backward_is_the_reverse_shift(channels_last: bool) -> None:
    x = torch.randn(6, 8, 2, 2, dtype=torch.float64)
    if channels_last:
        x = x.to(memory_format=torch.channels_last)
    assert torch.autograd.gradcheck(lambda y: temporal_shift(y, 3, 4), x.requires_grad_())


def test_channels_last_stays_channels_last() -> None:
    x = torch.randn(8, 16, 4, 4).to(memory_format=torch.channels_last)
    assert temporal_shift(x, 8).is_contiguous(memory_format=torch.channels_last)


def test_incomplete_clip_is_an_error() -> None:
    with pytest.raises(ValueError, match="9 frames are not a whole number of clips of 8"):
        temporal_shift(torch.zeros(9, 8, 1, 1), 8)


def test_temporal_pool_is_a_maximum_over_three_frames() -> None:
    x = torch.randn(8, 3, 2, 2)
    out = TemporalPool(8)(x)
    assert out.shape == (4, 3, 2, 2)
    for t in range(4):
        near = [x[i] for i in (2 * t - 1, 2 * t, 2 * t + 1) if 0 <= i < 8]
        assert torch.equal(out[t], torch.stack(near).amax(0))
    assert np.isfinite(out.numpy()).all()

"""Sigmoid loss of pairs against its oracle; scale and bias as numbers, as tensors and learned."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.judge import assert_same, quick, thorough
from oracles.problems import Posed, posed
from tuplet.losses import SigLIPLoss, siglip


@thorough
@given(
    posed=posed(pairs=True),
    tile_size=st.sampled_from([1, 7, None]),
    scale=st.sampled_from([1.0, 10.0]),
    bias=st.sampled_from([-10.0, 0.5]),
)
def test_value_and_gradient_equal_the_oracle_for_every_tiling(posed: Posed, tile_size, scale, bias):
    t, b = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (scale, bias))
    truth = oracles.siglip(posed.embeddings, posed.labels, scale=t, bias=b, **posed.sides)
    found = siglip(posed.embeddings, posed.labels, scale=t, bias=b, tile_size=tile_size, **posed.sides)
    assert_same(found, truth.value, *posed.leaves, t, b)


@quick
@given(posed=posed(pairs=True))
def test_the_module_learns_scale_and_bias_from_where_the_paper_starts(posed: Posed):
    loss = SigLIPLoss().double()
    assert loss.log_scale.item() == pytest.approx(math.log(10), rel=1e-6)
    assert loss.shift.item() == -10
    truth = oracles.siglip(
        posed.embeddings, posed.labels, scale=loss.log_scale.exp(), bias=loss.shift, **posed.sides
    ).value
    found = loss(posed.embeddings, posed.labels, **posed.sides)
    assert_same(found, truth, *posed.leaves, loss.log_scale, loss.shift)


def test_fixed_numbers_are_no_parameters():
    assert [name for name, _ in SigLIPLoss(scale=5.0).named_parameters()] == ["shift"]
    assert list(SigLIPLoss(scale=5.0, bias=0.0).parameters()) == []

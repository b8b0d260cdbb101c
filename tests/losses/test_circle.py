"""Circle loss against its oracle and the peer."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.judge import assert_same, thorough
from oracles.problems import Posed, posed
from tuplet.losses import CircleLoss, circle


@thorough
@given(
    posed=posed(pairs=True),
    tile_size=st.sampled_from([1, 7, None]),
    margin=st.sampled_from([0.0, 0.25, 0.4]),
    gamma=st.sampled_from([1.0, 80.0]),
)
def test_value_and_gradient_equal_the_oracle_for_every_tiling(posed: Posed, tile_size, **options):
    truth = oracles.circle(posed.embeddings, posed.labels, **posed.sides, **options)
    found = circle(posed.embeddings, posed.labels, tile_size=tile_size, **posed.sides, **options)
    assert_same(found, truth.value, *posed.leaves)
    outcome = CircleLoss(**options).measure(posed.embeddings, posed.labels, **posed.sides)
    assert outcome.count.item() == pytest.approx(truth.count, abs=1e-12)


@pytest.mark.parametrize(("margin", "gamma"), [(0.4, 80), (0.25, 256)])
def test_value_and_gradient_are_those_of_the_peer(margin, gamma):
    peer = pytest.importorskip("pytorch_metric_learning.losses")
    x = torch.randn(24, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.arange(24) % 5
    labels[:4] = torch.arange(10, 14)  # alone in their classes
    truth = peer.CircleLoss(m=margin, gamma=gamma)(x, labels)
    assert_same(circle(x, labels, margin=margin, gamma=gamma), truth, x, tolerance=1e-9)

"""Neighbourhood components analysis against its oracle and the peer."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.judge import assert_same, quick, thorough
from oracles.problems import Posed, posed
from tuplet.losses import NCALoss, nca


@thorough
@given(
    posed=posed(pairs=True),
    tile_size=st.sampled_from([1, 7, None]),
    scale=st.sampled_from([0.1, 1.0, 4.0]),
    geometry=st.sampled_from(["cosine", "dot", "squared_euclidean"]),
)
def test_value_and_gradient_equal_the_oracle_for_every_tiling(posed: Posed, tile_size, **options):
    found = nca(posed.embeddings, posed.labels, tile_size=tile_size, **posed.sides, **options)
    assert_same(found, oracles.nca(posed.embeddings, posed.labels, **posed.sides, **options).value, *posed.leaves)


@quick
@given(posed=posed())
def test_the_module_is_the_function_and_counts_the_anchors_with_a_positive(posed: Posed):
    outcome = NCALoss(scale=2.0).measure(posed.embeddings, posed.labels, **posed.sides)
    truth = oracles.nca(posed.embeddings, posed.labels, scale=2.0, **posed.sides)
    assert_same(outcome.value, truth.value, *posed.leaves)
    assert outcome.count.item() == pytest.approx(truth.count, abs=1e-12)


def test_value_and_gradient_are_those_of_the_peer():
    peer = pytest.importorskip("pytorch_metric_learning.losses")
    distances = pytest.importorskip("pytorch_metric_learning.distances")
    distance = distances.LpDistance(normalize_embeddings=False, power=2)
    x = torch.randn(24, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.arange(24) % 5
    labels[:4] = torch.arange(10, 14)  # alone in their classes
    truth = peer.NCALoss(softmax_scale=3, distance=distance)(x, labels)
    assert_same(nca(x, labels, scale=3.0), truth, x, tolerance=1e-9)

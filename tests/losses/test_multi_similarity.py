"""Multi-similarity loss and its mining against the oracle and the peer."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.judge import assert_same, quick, thorough
from oracles.problems import Posed, posed
from tuplet.losses import MultiSimilarityLoss, multi_similarity


@thorough
@given(
    posed=posed(pairs=True),
    tile_size=st.sampled_from([1, 7, None]),
    alpha=st.sampled_from([0.5, 2.0]),
    beta=st.sampled_from([1.0, 50.0]),
    base=st.sampled_from([-0.2, 0.5, 1.0]),
)
def test_value_and_gradient_equal_the_oracle_for_every_tiling(posed: Posed, tile_size, **options):
    found = multi_similarity(posed.embeddings, posed.labels, tile_size=tile_size, **posed.sides, **options)
    truth = oracles.multi_similarity(posed.embeddings, posed.labels, **posed.sides, **options)
    assert_same(found, truth.value, *posed.leaves)


@thorough
@given(posed=posed(pairs=True, grid=False, copies=False), tile_size=st.sampled_from([1, 7, None]), epsilon=st.just(0.1))
def test_mining_keeps_the_pairs_of_the_oracle(posed: Posed, tile_size, epsilon):
    given = {"epsilon": epsilon, **posed.sides}
    found = multi_similarity(posed.embeddings, posed.labels, tile_size=tile_size, **given)
    assert_same(found, oracles.multi_similarity(posed.embeddings, posed.labels, **given).value, *posed.leaves)


@quick
@given(posed=posed())
def test_every_anchor_counts(posed: Posed):
    outcome = MultiSimilarityLoss(alpha=3.0).measure(posed.embeddings, posed.labels, **posed.sides)
    truth = oracles.multi_similarity(posed.embeddings, posed.labels, alpha=3.0, **posed.sides)
    assert_same(outcome.value, truth.value, *posed.leaves)
    assert outcome.count.item() == pytest.approx(truth.count, abs=1e-12)


@pytest.mark.parametrize("epsilon", [None, 0.0, 0.1])
def test_value_and_gradient_are_those_of_the_peer(epsilon):
    peer = pytest.importorskip("pytorch_metric_learning.losses")
    miners = pytest.importorskip("pytorch_metric_learning.miners")
    x = torch.randn(24, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.arange(24) % 5
    labels[:6] = torch.arange(10, 16)  # alone in their classes: they count
    mined = None if epsilon is None else miners.MultiSimilarityMiner(epsilon)(x, labels)
    truth = peer.MultiSimilarityLoss()(x, labels, mined)
    assert_same(multi_similarity(x, labels, epsilon=epsilon), truth, x, tolerance=1e-9)

"""Multi-similarity loss and its mining against the oracle and the peer."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.judge import assert_same, thorough
from oracles.problems import Posed, posed
from tuplet.losses import multi_similarity


@thorough
@given(posed=posed(pairs=True, grid=False, copies=False), tile_size=st.sampled_from([1, 7, None]), epsilon=st.just(0.1))
def test_mining_keeps_the_pairs_of_the_oracle(posed: Posed, tile_size, epsilon):
    given = {"epsilon": epsilon, **posed.sides}
    found = multi_similarity(posed.embeddings, posed.labels, tile_size=tile_size, **given)
    assert_same(found, oracles.multi_similarity(posed.embeddings, posed.labels, **given).value, *posed.leaves)


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

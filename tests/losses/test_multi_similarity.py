"""Multi-similarity loss and its mining against the oracle and pytorch-metric-learning."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.comparison import assert_same, thorough
from oracles.problems import Case, case
from tuplet.losses import multi_similarity


@thorough
@given(case=case(pairs=True, grid=False, copies=False), tile_size=st.sampled_from([1, 7, None]), epsilon=st.just(0.1))
def test_mining_keeps_the_pairs_of_the_oracle(case: Case, tile_size, epsilon):
    given = {"epsilon": epsilon, **case.sides}
    found = multi_similarity(case.embeddings, case.labels, tile_size=tile_size, **given)
    assert_same(found, oracles.multi_similarity(case.embeddings, case.labels, **given).value, *case.leaves)


@pytest.mark.shows("pytorch-metric-learning", "multi_similarity")
@pytest.mark.parametrize("epsilon", [None, 0.0, 0.1])
def test_value_and_gradient_are_those_of_pytorch_metric_learning(epsilon):
    pml = pytest.importorskip("pytorch_metric_learning.losses")
    miners = pytest.importorskip("pytorch_metric_learning.miners")
    x = torch.randn(24, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.arange(24) % 5
    labels[:6] = torch.arange(10, 16)  # alone in their classes: they count
    mined = None if epsilon is None else miners.MultiSimilarityMiner(epsilon)(x, labels)
    truth = pml.MultiSimilarityLoss()(x, labels, mined)
    assert_same(multi_similarity(x, labels, epsilon=epsilon), truth, x, tolerance=1e-9)

"""Value and gradient of losses that the battery holds to their oracles, beside those of pytorch-metric-learning."""

import pytest
import torch

from oracles.comparison import assert_same
from tuplet import losses

peers = pytest.importorskip("pytorch_metric_learning.losses")
distances = pytest.importorskip("pytorch_metric_learning.distances")


def examples(rows=24, classes=6):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 5, dtype=torch.float64, generator=generator).requires_grad_()
    return x, torch.arange(rows) % classes


def test_generalised_lifted_is_that_of_pytorch_metric_learning():
    x, labels = examples()
    distance = distances.LpDistance(normalize_embeddings=False)
    truth = peers.GeneralizedLiftedStructureLoss(neg_margin=2, distance=distance)(x, labels)
    assert_same(losses.generalized_lifted(x, labels, margin=2.0), truth, x, tolerance=1e-9)


@pytest.mark.parametrize("bins", [4, 10])
def test_fast_ap_is_that_of_pytorch_metric_learning(bins):
    x, labels = examples()
    labels[:4] = torch.arange(10, 14)  # alone in their classes
    assert_same(losses.fast_ap(x, labels, bins=bins), peers.FastAPLoss(num_bins=bins)(x, labels), x, tolerance=1e-9)


def test_proxy_nca_is_that_of_pytorch_metric_learning():
    x, labels = examples()
    loss, theirs = losses.ProxyNCALoss(9, 5, scale=3.0).double(), peers.ProxyNCALoss(9, 5, softmax_scale=3)
    theirs.proxies.data = loss.weight.detach().clone()
    found, truth = loss(x, labels), theirs(x, labels)
    assert_same(found, truth, x, tolerance=1e-9)
    (mine,) = torch.autograd.grad(found, loss.weight)
    torch.testing.assert_close(mine, torch.autograd.grad(truth, theirs.proxies)[0], rtol=0, atol=1e-9)

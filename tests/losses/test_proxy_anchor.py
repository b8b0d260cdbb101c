"""Proxy-Anchor against pytorch-metric-learning; the battery holds it to its oracle."""

import pytest
import torch

from oracles.comparison import assert_same
from tuplet.errors import LabelError, ShapeError
from tuplet.losses import ProxyAnchorLoss


@pytest.mark.shows("pytorch-metric-learning", "proxy_anchor")
def test_value_and_gradient_are_those_of_pytorch_metric_learning():
    pml = pytest.importorskip("pytorch_metric_learning.losses")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(24, 5, dtype=torch.float64, generator=generator).requires_grad_()
    labels = torch.arange(24) % 6
    loss, theirs = ProxyAnchorLoss(9, 5).double(), pml.ProxyAnchorLoss(9, 5)
    theirs.proxies.data = loss.proxies.detach().clone()
    found, truth = loss(x, labels), theirs(x, labels)
    assert_same(found, truth, x, tolerance=1e-9)
    (mine,) = torch.autograd.grad(found, loss.proxies)
    torch.testing.assert_close(mine, torch.autograd.grad(truth, theirs.proxies)[0], rtol=0, atol=1e-9)


def test_what_does_not_fit_the_proxies_is_refused():
    loss = ProxyAnchorLoss(3, 4)
    with pytest.raises(LabelError, match="3"):
        loss(torch.ones(2, 4), torch.tensor([0, 3]))
    with pytest.raises(LabelError):
        loss(torch.ones(2, 4))
    with pytest.raises(ShapeError):
        loss(torch.ones(2, 5), torch.tensor([0, 1]))
    assert torch.equal(ProxyAnchorLoss(3, 4, seed=1).proxies, ProxyAnchorLoss(3, 4, seed=1).proxies)
    assert not torch.equal(ProxyAnchorLoss(3, 4, seed=1).proxies, loss.proxies)

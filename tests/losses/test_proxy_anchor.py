"""Proxy-Anchor against its oracle and the peer."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.judge import assert_same, thorough
from oracles.problems import rows
from oracles.problems import weights as weights_of
from tuplet.errors import LabelError, ShapeError
from tuplet.losses import ProxyAnchorLoss, proxy_anchor


@thorough
@given(
    data=st.data(),
    tile_size=st.sampled_from([1, 7, None]),
    margin=st.sampled_from([0.0, 0.1]),
    alpha=st.sampled_from([1.0, 32.0]),
)
def test_value_and_gradient_equal_the_oracle_for_every_tiling(data, tile_size, **options):
    count, classes, dim = (data.draw(st.integers(1, most)) for most in (9, 5, 4))
    x, proxies = (data.draw(rows(each, dim)).requires_grad_() for each in (count, classes))
    labels = torch.tensor(data.draw(st.lists(st.integers(-1, classes - 1), min_size=count, max_size=count)))
    w = data.draw(weights_of(count))
    found = proxy_anchor(x, proxies, labels, weights=w, tile_size=tile_size, **options)
    assert_same(found, oracles.proxy_anchor(x, proxies, labels, weights=w, **options).value, x, proxies)


def test_value_and_gradient_are_those_of_the_peer():
    peer = pytest.importorskip("pytorch_metric_learning.losses")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(24, 5, dtype=torch.float64, generator=generator).requires_grad_()
    labels = torch.arange(24) % 6
    loss, theirs = ProxyAnchorLoss(9, 5).double(), peer.ProxyAnchorLoss(9, 5)
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

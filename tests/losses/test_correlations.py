"""VICReg and Barlow Twins against their oracles, and beside pytorch-metric-learning."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.comparison import assert_same, quick
from oracles.problems import rows
from oracles.problems import weights as weights_of
from tuplet import losses
from tuplet.errors import LabelError, ShapeError

OPTIONS = {
    "vicreg": {"invariance": [0.0, 25.0], "variance": [0.0, 25.0], "covariance": [0.0, 1.0], "eps": [1e-4, 0.1]},
    "barlow_twins": {"redundancy": [0.0, 0.0051, 1.0]},
}


@pytest.mark.shows("oracle")
@pytest.mark.parametrize("name", OPTIONS)
@quick
@given(data=st.data(), count=st.integers(1, 7), dim=st.integers(1, 4))
def test_value_and_gradient_equal_the_oracle(name, data, count, dim):
    """Off the grid: a feature without variance would vary by rounding."""
    x, y = (part.requires_grad_() for part in data.draw(rows(2 * count, dim, grid=False)).split(count))
    options = {key: data.draw(st.sampled_from(values), key) for key, values in OPTIONS[name].items()}
    w = data.draw(weights_of(count))
    truth = getattr(oracles, name)(x, y, weights=w, **options)
    assert_same(getattr(losses, name)(x, y, weights=w, **options), truth.value, x, y, tolerance=1e-9)


@pytest.mark.shows("pytorch-metric-learning", "vicreg")
def test_vicreg_is_that_of_pytorch_metric_learning():
    peers = pytest.importorskip("pytorch_metric_learning.losses")
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(24, 5, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2))
    assert_same(losses.VICRegLoss()(x, references=y), peers.VICRegLoss()(x, ref_emb=y), x, y, tolerance=1e-9)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_feature_that_does_not_vary_is_no_reason_for_nan(name):
    x = torch.randn(6, 3, dtype=torch.float64)
    x[:, 1] = 2.0
    value = getattr(losses, name)(x.requires_grad_(), x.detach().clone())
    value.backward()
    assert value.isfinite()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", OPTIONS)
def test_what_are_no_two_views_is_refused(name):
    loss, x = losses.registry[name](), torch.ones(3, 4)
    for call in (lambda: loss(x), lambda: loss(x, torch.zeros(3).long(), references=x)):
        with pytest.raises(LabelError):
            call()
    with pytest.raises(ShapeError):
        loss(x, references=x[:2])

"""CoSENT and AnglE against their oracles, and beside sentence-transformers' form of the similarity."""

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

both = pytest.mark.parametrize("name", ["cosent", "angle"])


@pytest.mark.shows("oracle")
@both
@quick
@given(data=st.data(), count=st.integers(1, 8), dim=st.integers(1, 5), scale=st.sampled_from([1.0, 20.0, 500.0]))
def test_value_and_gradient_equal_the_oracle(name, data, count, dim, scale):
    """Few scores, so that many are equal; equal and zero rows. On the grid AnglE may be 0, where it has a kink."""
    both_sides = data.draw(rows(2 * count, dim, grid=False if name == "angle" else None))
    a, b = (part.requires_grad_() for part in both_sides.split(count))
    y = torch.tensor(data.draw(st.lists(st.integers(-1, 2), min_size=count, max_size=count))) / 2
    w = data.draw(weights_of(count))
    truth = getattr(oracles, name)(a, y, b, scale=scale, weights=w)
    assert_same(getattr(losses, name)(a, b, y, scale=scale, weights=w), truth.value, a, b, tolerance=1e-9)


@both
def test_only_the_order_of_the_scores_counts(name):
    a, b = torch.randn(2, 9, 4, dtype=torch.float64)
    y = torch.randperm(9)
    function = getattr(losses, name)
    torch.testing.assert_close(function(a, b, y), function(a, b, y.double().exp()))
    assert function(a, b, torch.ones(9)) == 0


def test_long_batches_hold_no_matrix_of_pairs():
    a, b = torch.randn(2, 40_000, 4)
    assert losses.cosent(a, b, torch.arange(40_000)).isfinite()


def test_what_does_not_fit_is_refused():
    x, loss = torch.ones(3, 4), losses.CoSENTLoss()
    for call in (lambda: loss(x, torch.ones(3)), lambda: loss(x, torch.ones(2), references=x)):
        with pytest.raises(LabelError):
            call()
    with pytest.raises(LabelError):
        loss(x, torch.ones(3, 2), references=x)
    with pytest.raises(ShapeError):
        loss(x, torch.ones(3), references=x[:2])
    assert loss(x, torch.ones(3, 1), references=x) == 0

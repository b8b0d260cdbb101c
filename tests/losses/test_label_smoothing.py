"""Label smoothing of the heads, against the oracle and against torch."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.comparison import assert_same, quick
from oracles.problems import rows
from oracles.problems import weights as weights_of
from tuplet import losses
from tuplet.errors import ShapeError

MARGINS = {"arcface": {"m2": 0.5, "m3": 0.0}, "cosface": {"m2": 0.0, "m3": 0.35}}


@pytest.mark.parametrize("name", MARGINS)
@quick
@given(data=st.data(), share=st.sampled_from([0.1, 0.5]), scale=st.sampled_from([4.0, 30.0]))
def test_value_and_gradient_equal_the_oracle(name, data, share, scale):
    count, classes, dim = (data.draw(st.integers(least, most)) for least, most in ((1, 7), (2, 5), (1, 4)))
    x, weight = (data.draw(rows(each, dim)).requires_grad_() for each in (count, classes))
    labels = torch.tensor(data.draw(st.lists(st.integers(-1, classes - 1), min_size=count, max_size=count)))
    options = {"scale": scale, "label_smoothing": share, "weights": data.draw(weights_of(count))}
    truth = oracles.combined_margin(x, weight, labels, **MARGINS[name], **options)
    assert_same(getattr(losses, name)(x, weight, labels, **options), truth.value, x, weight)


def test_without_a_margin_it_is_the_cross_entropy_of_torch():
    x = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    head, labels = losses.CosFaceLoss(5, 4, margin=0.0, scale=8.0, label_smoothing=0.2).double(), torch.arange(9) % 5
    unit = torch.nn.functional.normalize
    truth = torch.nn.functional.cross_entropy(8 * unit(x) @ unit(head.weight).T, labels, label_smoothing=0.2)
    assert_same(head(x, labels), truth, x, head.weight)


def test_a_part_of_the_classes_has_no_mean():
    x, labels = torch.randn(4, 4), torch.arange(4)
    for options in ({"sub_centers": 2}, {"sample_rate": 0.5}):
        with pytest.raises(ShapeError) as caught:
            losses.ArcFaceLoss(6, 4, label_smoothing=0.1, **options)(x, labels)
        assert caught.value.reference == "label-smoothing"

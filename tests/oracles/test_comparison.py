"""The comparison finds a wrong value and a wrong gradient; the strategies draw what they promise."""

import pytest
import torch
from hypothesis import Phase, find, given, settings

from oracles.comparison import assert_same, gradients, quick
from oracles.problems import HUGE, Problem, problems


def test_equal_losses_pass():
    x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    assert_same((x**2).sum(), (x * x).sum(), x)


def test_another_value_fails():
    x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    with pytest.raises(AssertionError, match="value"):
        assert_same((x**2).sum() + 1e-9, (x**2).sum(), x)


def test_the_same_value_with_another_gradient_fails():
    x = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    with pytest.raises(AssertionError, match="gradient of leaf 0"):
        assert_same((x**2).sum(), (x**2).detach().sum() + 0 * x.sum(), x)


def test_not_a_number_is_equal_to_nothing():
    x = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    with pytest.raises(AssertionError):
        assert_same(x.sum() * torch.nan, x.sum(), x)


def test_a_loss_that_does_not_depend_on_a_leaf_has_gradient_zero():
    x, y = (torch.ones(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert gradients(x.sum(), x, y)[1].tolist() == [0.0, 0.0]


@quick
@given(problem=problems())
def test_problems_are_float64_leaves_with_one_label_per_row(problem: Problem):
    for rows, labels in ((problem.anchors, problem.labels), (problem.references, problem.reference_labels)):
        assert rows.dtype == torch.float64
        assert rows.is_leaf
        assert rows.requires_grad
        assert 1 <= len(rows) == len(labels) <= 9
        assert labels.dtype == torch.int64


@pytest.mark.parametrize(
    "wanted",
    [
        lambda p: len(p.anchors) > 1 and torch.equal(p.anchors[0], p.anchors[1]),
        lambda p: bool((p.anchors == 0).all(1).any()),
        lambda p: bool((p.labels == -1).any()),
        lambda p: bool((p.labels > HUGE).any()),
        lambda p: len(p.labels) > 3 and len(p.labels.unique()) == 1,
        lambda p: len(p.labels) > 3 and len(p.labels.unique()) == len(p.labels),
        lambda p: len(p.anchors) == 1,
    ],
    ids=["copies", "zero row", "unknown", "huge", "one class", "distinct", "one row"],
)
def test_every_promised_case_is_sampled(wanted):
    find(problems(), wanted, settings=settings(phases=[Phase.generate]))

"""What margin loss has beside the battery: one boundary per class, learned."""

import pytest
import torch

import oracles
from oracles.comparison import assert_same
from tuplet.errors import TupletError
from tuplet.losses import MarginLoss, margin


def examples():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(14, 4, dtype=torch.float64, generator=generator).requires_grad_()
    beta = torch.linspace(0.8, 1.5, 3, dtype=torch.float64).requires_grad_()
    return x, torch.tensor([0, 1, 2, -1, 0, 1, 2, 0, 1, 2, 0, -1, 1, 2]), beta


@pytest.mark.parametrize("sides", [{}, {"weights": torch.arange(14).double()}])
def test_a_boundary_per_class_has_the_oracles_value_and_gradient(sides):
    x, labels, beta = examples()
    truth = oracles.margin(x, labels, beta=beta, nu=0.2, **sides)
    assert_same(margin(x, labels, beta=beta, nu=0.2, **sides), truth.value, x, beta)
    loss = MarginLoss(beta="per-class", num_classes=3, nu=0.2).double()
    loss.boundary.data = beta.detach().clone()
    assert_same(loss(x, labels, **sides), truth.value.detach(), *())


def test_a_boundary_per_class_asks_for_classes():
    x, _, _ = examples()
    with pytest.raises(TupletError) as refused:
        MarginLoss(beta="per-class")
    assert refused.value.reference == "option-range"
    with pytest.raises(TupletError) as refused:
        MarginLoss(beta="per-class", num_classes=3).double()(x, references=x + 1)
    assert refused.value.reference == "labels-missing"

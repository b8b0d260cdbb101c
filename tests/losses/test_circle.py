"""Circle loss against pytorch-metric-learning; the battery holds it to its oracle."""

import pytest
import torch

from oracles.comparison import assert_same
from tuplet.losses import circle


@pytest.mark.shows("pytorch-metric-learning", "circle")
@pytest.mark.parametrize(("margin", "gamma"), [(0.4, 80), (0.25, 256)])
def test_value_and_gradient_are_those_of_pytorch_metric_learning(margin, gamma):
    pml = pytest.importorskip("pytorch_metric_learning.losses")
    x = torch.randn(24, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.arange(24) % 5
    labels[:4] = torch.arange(10, 14)  # alone in their classes
    truth = pml.CircleLoss(m=margin, gamma=gamma)(x, labels)
    assert_same(circle(x, labels, margin=margin, gamma=gamma), truth, x, tolerance=1e-9)

"""Neighbourhood components analysis against pytorch-metric-learning; the battery holds it to its oracle."""

import pytest
import torch

from oracles.comparison import assert_same
from tuplet.losses import nca


@pytest.mark.shows("pytorch-metric-learning", "nca")
def test_value_and_gradient_are_those_of_pytorch_metric_learning():
    pml = pytest.importorskip("pytorch_metric_learning.losses")
    distances = pytest.importorskip("pytorch_metric_learning.distances")
    distance = distances.LpDistance(normalize_embeddings=False, power=2)
    x = torch.randn(24, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.arange(24) % 5
    labels[:4] = torch.arange(10, 14)  # alone in their classes
    truth = pml.NCALoss(softmax_scale=3, distance=distance)(x, labels)
    assert_same(nca(x, labels, scale=3.0), truth, x, tolerance=1e-9)

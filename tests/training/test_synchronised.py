"""Batch normalisation over the rows of all processes; of one process alone it is torch's, to rounding."""

import copy

import pytest
import torch
from torch import nn

from tuplet.engine import SINGLE_PROCESS
from tuplet.training.synchronised import SynchronisedBatchNorm


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("shape", [(6, 3), (6, 3, 5), (4, 3, 5, 2), (4, 3, 2, 3, 2)])
def test_alone_it_equals_the_layer_it_replaces_in_value_gradient_and_statistics(shape, momentum):
    kinds = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
    torch.manual_seed(0)
    layer = kinds[len(shape)](3, momentum=momentum).double()
    nn.init.normal_(layer.weight)
    ours = SynchronisedBatchNorm(copy.deepcopy(layer), SINGLE_PROCESS)
    for _ in range(2):
        x = (torch.randn(shape, dtype=torch.float64) * 3 + 7).requires_grad_()
        y = x.detach().clone().requires_grad_()
        expected, found = layer(x), ours(y)
        (expected**3).sum().backward()
        (found**3).sum().backward()
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(y.grad, x.grad)
    assert ours.state_dict().keys() == layer.state_dict().keys()
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value)
    torch.testing.assert_close(ours.weight.grad, layer.weight.grad)
    torch.testing.assert_close(ours.eval()(x), layer.eval()(x))

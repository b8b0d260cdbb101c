import math

import pytest
import torch

from tuplet.losses.word_block import SparseGrad
from tuplet.training.words import RowOptimizer


def gradients(steps=3, rows=9, words=6):
    random = torch.Generator().manual_seed(0)
    for _ in range(steps):
        values = torch.randn(rows, 4, generator=random, dtype=torch.float64)
        yield SparseGrad(torch.randint(words, (rows,), generator=random), values)


@pytest.mark.parametrize("name", ["sgd", "adagrad"])
def test_steps_are_those_of_torch_on_the_summed_gradient(name):
    table = torch.randn(6, 4, dtype=torch.float64)
    weight = table.clone().requires_grad_()
    theirs = {"sgd": torch.optim.SGD, "adagrad": torch.optim.Adagrad}[name]([weight], lr=0.1)
    mine = RowOptimizer(table, name)
    for gradient in gradients():
        weight.grad = torch.zeros_like(weight).index_add_(0, gradient.rows, gradient.values)
        theirs.step()
        mine.step(gradient, 0.1)
        torch.testing.assert_close(table, weight.detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["sgd", "adagrad"])
def test_rows_that_are_not_named_stay_and_so_does_their_state(name):
    table = torch.randn(6, 4, dtype=torch.float64)
    before, mine = table.clone(), RowOptimizer(table, name)
    mine.step(SparseGrad(torch.tensor([1, 4, 1]), torch.ones(3, 4, dtype=torch.float64)), 0.1)
    others = torch.tensor([0, 2, 3, 5])
    assert torch.equal(table[others], before[others])
    assert not torch.equal(table[1], before[1])
    if mine.squares is not None:
        assert not mine.squares[others].any()


def test_the_sum_is_capped_and_not_its_parts():
    table = torch.zeros(2, 2)
    rows, values = torch.tensor([0, 0, 1]), torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.3, 0.4]])
    capped = RowOptimizer(table, cap=1.0).step(SparseGrad(rows, values), 1.0)
    torch.testing.assert_close(table, -torch.tensor([[0.6, 0.8], [0.3, 0.4]]))
    assert capped is not None
    assert int(capped.sum()) == 1  # a row that is named twice counts once


def test_a_restored_optimiser_goes_on_bit_for_bit():
    tables = [torch.zeros(6, 4, dtype=torch.float64) for _ in range(2)]
    one, other = (RowOptimizer(table, "adagrad", cap=math.inf) for table in tables)
    first, second, third = gradients()
    one.step(first, 0.1)
    one.step(second, 0.1)
    tables[1].copy_(tables[0])
    other.load_state_dict({key: value.clone() for key, value in one.state_dict().items()})
    one.step(third, 0.1)
    other.step(third, 0.1)
    assert torch.equal(*tables)

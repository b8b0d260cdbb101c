"""Losses as citizens of torch: one operator in a compiled graph, and words where a transform cannot be had."""

import copy
from pathlib import Path

import pytest
import torch

from tuplet.errors import TupletError
from tuplet.losses import SupConLoss, registry


# engines differ inside of the operator, where nothing is traced: some of the losses are enough to show that both work
@pytest.mark.slow
@pytest.mark.parametrize(("engine", "every"), [("auto", 1), ("tiles", 6)])
def test_every_loss_is_one_operator_of_a_compiled_graph(starter, tmp_path, engine, every):
    # in a process of its own: what checks shapes in tests cannot be traced
    script = Path(__file__).with_name("compiled_losses.py")
    done = starter(["python", script, engine, every], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == list(registry)[::every]


def test_a_copy_of_a_module_has_a_number_of_its_own():
    loss = SupConLoss(temperature="learned")
    assert copy.deepcopy(loss)._number != loss._number


def test_transforms_of_functions_are_refused_in_words():
    labels = torch.arange(8) // 2
    with pytest.raises(TupletError) as refused:
        torch.func.grad(lambda x: SupConLoss()(x, labels))(torch.randn(8, 3))
    assert refused.value.reference == "function-transform"
    with pytest.raises(TupletError) as refused:
        torch.func.vmap(lambda x: SupConLoss()(x, labels))(torch.randn(2, 8, 3))
    assert refused.value.reference == "function-transform"

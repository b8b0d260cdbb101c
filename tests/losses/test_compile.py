"""Losses as citizens of torch: one operator in a compiled graph, and words where a transform cannot be had."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tuplet.errors import TupletError
from tuplet.losses import SupConLoss, registry


@pytest.mark.parametrize("engine", ["auto", "tiles"])
def test_every_loss_is_one_operator_of_a_compiled_graph(engine):
    # in a process of its own: what checks shapes in tests cannot be traced
    script = Path(__file__).with_name("compiled_losses.py")
    paths = os.pathsep.join([str(script.parents[1]), *sys.path])
    done = subprocess.run(
        [sys.executable, script, engine],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split() == list(registry)


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

"""Losses that look at the negatives of both ends of a pair, with relations in the place of labels."""

import pytest
import torch

from oracles.comparison import assert_same
from tuplet.errors import TupletError
from tuplet.losses import dynamic_soft_margin, lifted_structure
from tuplet.relations import matrix, same_class


@pytest.mark.parametrize("loss", [dynamic_soft_margin, lifted_structure])
def test_a_symmetric_relation_is_as_labels_are_and_another_is_refused(loss):
    x = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.arange(9) % 3
    assert_same(loss(x, relation=same_class(labels)), loss(x, labels), x)
    for asked in (
        {"relation": matrix(labels[:, None] <= labels)},
        {"relation": same_class(labels, labels), "references": x + 1},
    ):
        with pytest.raises(TupletError) as refused:
            loss(x, **asked)
        assert refused.value.reference == "relation-of-both-ends"

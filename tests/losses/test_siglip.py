"""Sigmoid loss of pairs against its oracle; scale and bias as numbers, as tensors and learned."""

import math

import pytest
from hypothesis import given

import oracles
from oracles.comparison import assert_same, quick
from oracles.problems import Case, case
from tuplet.losses import SigLIPLoss


@quick
@given(case=case(pairs=True))
def test_the_module_learns_scale_and_bias_from_where_the_paper_starts(case: Case):
    loss = SigLIPLoss().double()
    assert loss.log_scale.item() == pytest.approx(math.log(10), rel=1e-6)
    assert loss.shift.item() == -10
    truth = oracles.siglip(
        case.embeddings, case.labels, scale=loss.log_scale.exp(), bias=loss.shift, **case.sides
    ).value
    found = loss(case.embeddings, case.labels, **case.sides)
    assert_same(found, truth, *case.leaves, loss.log_scale, loss.shift)


def test_fixed_numbers_are_no_parameters():
    assert [name for name, _ in SigLIPLoss(scale=5.0).named_parameters()] == ["shift"]
    assert list(SigLIPLoss(scale=5.0, bias=0.0).parameters()) == []

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.judge import assert_same, thorough
from oracles.problems import rows, weights
from tuplet.errors import TupletError
from tuplet.losses import CPCLoss, cpc, mutual_information_bound


@st.composite
def sequences(draw: st.DrawFn):
    batch, times, steps = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    latent, context = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    z = draw(rows(batch * times, latent)).reshape(batch, times, latent)
    c = draw(rows(batch * times, context)).reshape(batch, times, context)
    maps = draw(rows(steps * latent, context, grid=False)).reshape(steps, latent, context)
    lengths = draw(st.none() | st.lists(st.integers(0, times), min_size=batch, max_size=batch).map(torch.tensor))
    return z.requires_grad_(), c.requires_grad_(), maps.requires_grad_(), lengths, draw(weights(batch))


@thorough
@given(sequences=sequences(), negatives=st.sampled_from(["batch", "all"]))
def test_value_and_gradient_equal_the_oracle(sequences, negatives):
    z, c, maps, lengths, w = sequences
    found = cpc(z, c, maps, negatives=negatives, lengths=lengths, weights=w)
    truth = oracles.cpc(z, c, maps, negatives=negatives, lengths=lengths, weights=w)
    assert_same(found, truth.value, z, c, maps)


@pytest.mark.parametrize("negatives", ["batch", "all"])
def test_the_module_owns_its_maps(negatives):
    z, c = torch.randn(3, 4, 5, dtype=torch.float64).requires_grad_(), torch.randn(3, 4, 2, dtype=torch.float64)
    loss = CPCLoss(5, 2, 2, negatives=negatives).double()
    (maps,) = loss.parameters()
    outcome = loss.measure(z, c)
    truth = oracles.cpc(z, c, maps, negatives=negatives)
    assert outcome.count.item() == truth.count == 3 * (3 + 2)
    assert_same(outcome.value, truth.value, z, maps)


def test_the_bound_on_mutual_information_does_not_exceed_the_log_of_the_candidates():
    assert mutual_information_bound(0.0, 8) == pytest.approx(math.log(8))
    z, c = torch.randn(8, 3, 4), torch.randn(8, 3, 4)
    value = cpc(z, c, torch.eye(4)[None])
    assert mutual_information_bound(value, 8) < math.log(8)


@pytest.mark.parametrize("negatives", ["batch", "all"])
def test_what_comes_after_the_end_of_a_sequence_changes_nothing(negatives):
    z, c, lengths = torch.randn(5, 6, 4), torch.randn(5, 6, 3), torch.tensor([6, 2, 4, 2, 0])
    loss = CPCLoss(4, 3, 3, negatives=negatives)
    outcome = loss.measure(z, c, lengths=lengths)
    assert outcome.count == (5 + 4 + 3) + (1 + 0) + (3 + 2 + 1) + (1 + 0)
    late = torch.arange(6) >= lengths[:, None]
    assert (
        loss(z.masked_fill(late[:, :, None], 9), c.masked_fill(late[:, :, None], -9), lengths=lengths) == outcome.value
    )
    with pytest.raises(TupletError, match="lengths are"):
        loss(z, c, lengths=lengths + 1)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(TupletError, match="shape"):
        CPCLoss(5, 2, 2)(torch.randn(3, 4, 5), torch.randn(3, 3, 2))

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.comparison import assert_same, thorough
from oracles.problems import rows, weights
from tuplet.errors import TupletError
from tuplet.losses import CPCLoss, cpc, info_nce, mutual_information_bound


@st.composite
def sequences(draw: st.DrawFn):
    batch, times, steps = draw(st.integers(1, 4)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    latent, context = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    z = draw(rows(batch * times, latent)).reshape(batch, times, latent)
    c = draw(rows(batch * times, context)).reshape(batch, times, context)
    maps = draw(rows(steps * latent, context, grid=False)).reshape(steps, latent, context)
    lengths = draw(st.none() | st.lists(st.integers(0, times), min_size=batch, max_size=batch).map(torch.tensor))
    return z.requires_grad_(), c.requires_grad_(), maps.requires_grad_(), lengths, draw(weights(batch))


@pytest.mark.shows("oracle", "cpc")
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


GAUSSIANS = [  # dimensions, correlation, candidates, log N - L of the best critic and its standard error
    (1, 0.5, 256, 0.1427, 0.0011),
    (4, 0.5, 16, 0.5188, 0.0036),
    (4, 0.5, 256, 0.5697, 0.0022),
    (20, 0.5, 16, 1.9360, 0.0046),
    (20, 0.5, 256, 2.6942, 0.0042),
    (20, 0.9, 64, 4.1587, 0.0001),
    (20, 0.9, 1024, 6.9283, 0.0003),
    (20, 0.9, 4096, 8.3046, 0.0010),
]


def best_critic(dims: int, correlation: float, candidates: int, generator: torch.Generator):
    """x = rho c + noise, as vectors whose product is log p(x|c)/p(x) but for what depends on c alone."""
    spread = 1 - correlation**2
    c, noise = torch.randn(2, candidates, dims, dtype=torch.float64, generator=generator)
    x = correlation * c + math.sqrt(spread) * noise
    asked = torch.cat([correlation * c / spread, torch.ones(candidates, 1).double()], 1)
    return asked, torch.cat([x, -(correlation**2) * x.square().sum(1, keepdim=True) / (2 * spread)], 1)


@pytest.mark.parametrize(("dims", "correlation", "candidates", "expected", "error"), GAUSSIANS)
def test_the_bound_on_correlated_gaussians_is_that_of_the_table(dims, correlation, candidates, expected, error):
    """It nears the information from below while log N exceeds it, and log N otherwise; above log N it never is."""
    generator = torch.Generator().manual_seed(candidates + dims)
    found = []
    for _ in range(max(3, 2**12 // candidates)):
        asked, answers = best_critic(dims, correlation, candidates, generator)
        found.append(mutual_information_bound(info_nce(asked, answers, temperature=1.0, geometry="dot"), candidates))
        assert found[-1] <= math.log(candidates)
    found = torch.stack(found)
    own_error = found.std().item() / math.sqrt(len(found))
    assert abs(found.mean().item() - expected) < 3.5 * math.hypot(own_error, error)
    information = -dims / 2 * math.log(1 - correlation**2)
    assert found.mean().item() <= information + 3.5 * own_error


def test_predictive_coding_gives_the_bound_of_its_softmax():
    """Two times of independent sequences: the context of the first tells the latent of the second."""
    asked, answers = best_critic(4, 0.5, 64, torch.Generator().manual_seed(0))
    latents, contexts = (torch.stack([x, torch.zeros_like(x)], 1) for x in (answers, asked))
    value = cpc(latents.roll(1, 1), contexts, torch.eye(5).double()[None])
    torch.testing.assert_close(value, info_nce(asked, answers, temperature=1.0, geometry="dot"))


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

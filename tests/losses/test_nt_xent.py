import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.comparison import assert_same, quick, thorough
from oracles.problems import rows, weights
from tuplet.losses import NTXentLoss, nt_xent


@st.composite
def views(draw: st.DrawFn):
    count, dim = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    both = draw(rows(2 * count, dim))
    a, b = (part.clone().requires_grad_() for part in both.split(count))
    return a, b, draw(weights(count))


@pytest.mark.shows("oracle", "nt_xent")
@thorough
@given(
    views=views(),
    tile_size=st.sampled_from([1, 7, None]),
    temperature=st.sampled_from([0.01, 0.1, 1.0]),
    geometry=st.sampled_from(["cosine", "dot"]),
)
def test_value_and_gradient_equal_the_oracle_for_every_tiling(views, tile_size, **options):
    a, b, w = views
    found = nt_xent(a, references=b, weights=w, tile_size=tile_size, **options)
    assert_same(found, oracles.nt_xent(a, b, weights=w, **options).value, a, b)


@quick
@given(views=views(), temperature=st.sampled_from([0.1, 1.0]))
def test_the_temperature_has_its_gradient(views, temperature):
    a, b, w = views
    tau = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    found = nt_xent(a, references=b, weights=w, temperature=tau)
    assert_same(found, oracles.nt_xent(a, b, weights=w, temperature=tau).value, a, b, tau)


@quick
@given(views=views())
def test_pair_ids_say_the_same_as_two_views(views):
    a, b, _ = views
    order = torch.randperm(2 * len(a), generator=torch.Generator().manual_seed(0))
    ids = (torch.arange(2 * len(a)) % len(a))[order] + 2**24
    assert_same(NTXentLoss()(torch.cat([a, b])[order], ids), oracles.nt_xent(a, b).value, a, b)

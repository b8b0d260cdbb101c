"""The alias table draws every word as often as its probability says."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tuplet.errors import TupletError
from tuplet.noise import AliasTable


@given(counts=st.lists(st.integers(0, 10**9), min_size=1, max_size=60), power=st.sampled_from([0.0, 0.75, 1.0]))
def test_columns_of_the_table_add_up_to_the_probability(counts, power):
    table = AliasTable(counts, power)
    expected = torch.tensor(counts).double().clamp_min(1) ** power
    expected /= expected.sum()
    torch.testing.assert_close(table.probability, expected, rtol=1e-12, atol=0)
    given_away = torch.zeros(len(counts), dtype=torch.float64).index_add_(0, table.alias, 1 - table.keep)
    torch.testing.assert_close((table.keep + given_away) / len(counts), expected, rtol=0, atol=1e-12)
    assert ((table.keep >= 0) & (table.keep <= 1)).all()


def test_draws_are_as_frequent_as_that():
    table = AliasTable([1000, 100, 10, 0, 500])
    sampled = table.draw((200_000,), torch.Generator().manual_seed(0)).bincount(minlength=5) / 200_000
    error = (table.probability * (1 - table.probability) / 200_000).sqrt()
    assert ((sampled - table.probability).abs() < 4 * error).all()


@pytest.mark.parametrize("counts", [[], [3, -1], [1.0, float("nan")]])
def test_what_is_no_count_is_refused(counts):
    with pytest.raises(TupletError, match="word counts"):
        AliasTable(torch.tensor(counts))

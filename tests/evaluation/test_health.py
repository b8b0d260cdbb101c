import math

import pytest
import torch

from tuplet.errors import ShapeError
from tuplet.evaluation import health


def rows(count: int, dim: int, seed: int = 0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_values_equal_their_definitions():
    x, labels = rows(50, 6) + 2, torch.arange(50) % 7
    labels[::9] = -1
    found = health(x, labels)
    unit = x / x.norm(dim=1, keepdim=True)
    squared = torch.cdist(unit, unit, compute_mode="donot_use_mm_for_euclid_dist").square()
    first, second = torch.triu_indices(50, 50, 1)
    same = (labels[first] == labels[second]) & (labels[first] != -1)
    assert found.values["alignment"] == pytest.approx(squared[first, second][same].mean().item())
    assert found.counts["n_positive_pairs"] == int(same.sum())
    assert found.values["uniformity"] == pytest.approx((-2 * squared[first, second]).exp().mean().log().item())
    sizes = torch.linalg.svdvals(x - x.mean(0))
    shares = sizes / sizes.sum()
    assert found.values["effective_rank"] == pytest.approx(math.exp(-(shares * shares.log()).sum()))
    powers = sizes**2
    assert found.values["participation_ratio"] == pytest.approx((powers.sum() ** 2 / (powers**2).sum()).item())
    assert found.values["norm_mean"] == pytest.approx(x.norm(dim=1).mean().item())
    assert found.values["duplicate_share"] == 0


def test_directions_that_are_used_alike_are_counted():
    x = torch.cat([torch.eye(5), -torch.eye(5)])
    found = health(x)
    assert found.values["effective_rank"] == pytest.approx(5)
    assert found.values["participation_ratio"] == pytest.approx(5)


def test_a_collapsed_space_has_no_directions():
    for value in (0.0, 0.3, 1e6):
        found = health(torch.full((1000, 16), value), torch.arange(1000) % 10)
        assert found.values["effective_rank"] == 0
        assert found.values["participation_ratio"] == 0
        assert found.values["uniformity"] == pytest.approx(0)
        assert found.values["alignment"] == pytest.approx(0, abs=1e-12)
        assert found.values["duplicate_share"] == pytest.approx(0.999)
    assert health(torch.zeros(4, 2)).counts["n_zero_rows"] == 4


def test_uniformity_of_many_rows_is_that_of_some():
    x = rows(3000, 8)
    some, whole = health(x, max_rows=1500), health(x)
    assert some.settings["uniformity_rows"] == 1500
    assert some.values["uniformity"] == pytest.approx(whole.values["uniformity"], abs=0.02)
    assert some.to_dict() == health(x, max_rows=1500).to_dict()


def test_without_a_pair_there_is_no_alignment():
    found = health(rows(4, 2), torch.arange(4))
    assert math.isnan(found.values["alignment"])
    assert found.to_dict()["values"]["alignment"] is None
    assert "alignment" not in health(rows(4, 2)).values


def test_what_cannot_be_evaluated_is_refused():
    with pytest.raises(ShapeError, match="1 embeddings"):
        health(torch.ones(1, 3))
    with pytest.raises(ShapeError, match=r"2 rows: 0, 2\."):
        health(torch.tensor([[torch.nan], [1.0], [torch.inf]]))

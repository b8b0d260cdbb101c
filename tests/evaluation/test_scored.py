"""Similarities of pairs against the scores of the pairs."""

import pytest
import torch
from scipy import stats

from shapes import unchecked
from tuplet.errors import LabelError, ShapeError
from tuplet.evaluation import compare, scored_pairs

A, B = torch.randn(2, 40, 5, generator=torch.Generator().manual_seed(0))
SCORES = torch.randint(0, 4, (40,), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("geometry", ["cosine", "dot", "euclidean", "squared_euclidean"])
def test_correlations_are_those_of_scipy(geometry):
    near = {
        "cosine": torch.cosine_similarity(A, B),
        "dot": (A * B).sum(1),
        "euclidean": -(A - B).norm(dim=1),
        "squared_euclidean": -(A - B).square().sum(1),
    }[geometry]
    found = scored_pairs(A, B, SCORES, geometry=geometry, bootstrap=20)
    assert found.values["spearman"] == pytest.approx(stats.spearmanr(near, SCORES).statistic)
    assert found.values["kendall"] == pytest.approx(stats.kendalltau(near, SCORES).statistic)
    apart = abs(stats.rankdata(near) - stats.rankdata(SCORES)) / 40
    assert found.values["rank_gap"] == pytest.approx(apart.mean())
    assert found.lower["spearman"] <= found.values["spearman"] <= found.upper["spearman"]


def test_a_model_is_compared_with_another_on_the_same_pairs():
    right = torch.stack([torch.linspace(0, 3, 40).cos(), torch.linspace(0, 3, 40).sin()], 1)
    one = scored_pairs(right, right[:1].expand(40, 2), -torch.arange(40), bootstrap=50)
    other = scored_pairs(A[:, :2], B[:, :2], -torch.arange(40), bootstrap=50)
    assert one.values["spearman"] == pytest.approx(1)
    assert one.values["rank_gap"] == 0
    found = compare(one, other, bootstrap=50)
    assert found.lower["spearman"] > 0
    assert found.upper["rank_gap"] < 0


def test_what_does_not_fit_is_refused():
    with unchecked(), pytest.raises(ShapeError):
        scored_pairs(A, B[:9], SCORES)
    for scores in (SCORES[:9], SCORES.double() / 0):
        with unchecked(), pytest.raises(LabelError):
            scored_pairs(A, B, scores)

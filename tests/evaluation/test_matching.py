"""Rank of the right answer, against a count over the whole matrix and all orders of equal scores."""

import itertools
import resource

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shapes import unchecked
from tuplet.engine.topk import nearness, pair_scores
from tuplet.errors import ShapeError
from tuplet.evaluation import matching
from tuplet.evaluation.ranking import Ranker


def rows(count: int, dim: int, seed: int = 0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def expected(keys, wanted, top):
    """Mean over every order of the answers that tie with the right one."""
    found = {**{f"recall@{k}": [] for k in top}, "mrr": []}
    for row, at in zip(keys, wanted, strict=True):
        above = int((row > row[at]).sum())
        tied = (row == row[at]).nonzero()[:, 0].tolist()
        ranks = [above + 1 + order.index(at) for order in itertools.permutations(tied)]
        for k in top:
            found[f"recall@{k}"].append(sum(rank <= k for rank in ranks) / len(ranks))
        found["mrr"].append(sum(1 / rank for rank in ranks) / len(ranks))
    return {name: sum(values) / len(values) for name, values in found.items()}


@pytest.mark.parametrize("geometry", ["cosine", "dot", "euclidean", "squared_euclidean"])
@pytest.mark.parametrize("tile_size", [1, 100, 10**6])
def test_values_equal_a_count_over_the_whole_matrix(geometry, tile_size):
    answers = rows(30, 5)
    answers[7:11] = answers[7]  # equal answers tie exactly
    wanted = torch.randint(30, (40,), generator=torch.Generator().manual_seed(1))
    queries = answers[wanted] + 0.7 * rows(40, 5, 2)
    queries[:5] = answers[7]
    a, b = queries.double(), answers.double()
    if geometry == "cosine":
        a, b = torch.nn.functional.normalize(a, dim=1), torch.nn.functional.normalize(b, dim=1)
    keys = (a @ b.T if geometry in ("cosine", "dot") else -torch.cdist(a, b)).round(decimals=10)
    found = matching(queries, answers, wanted, geometry=geometry, top=(1, 3, 30), bootstrap=0, tile_size=tile_size)
    for name, value in expected(keys, wanted.tolist(), (1, 3, 30)).items():
        assert found.values[name] == pytest.approx(value, abs=1e-12)


def test_a_collapsed_embedding_finds_by_chance():
    found = matching(torch.ones(20, 4), torch.ones(20, 4), top=(1, 5), bootstrap=0)
    assert found.values["recall@1"] == pytest.approx(1 / 20)
    assert found.values["recall@5"] == pytest.approx(5 / 20)
    assert found.values["mrr"] == pytest.approx(sum(1 / rank for rank in range(1, 21)) / 20)


def test_rows_that_a_product_cannot_distinguish_are_distinguished():
    answers = torch.tensor([[1.0, 0.0], [1.0, 1e-7]])
    found = matching(answers.clone(), answers, geometry="euclidean", top=(1,), bootstrap=0)
    assert found.values["recall@1"] == 1


@pytest.mark.parametrize("geometry", ["cosine", "dot"])
def test_memory_is_bounded_where_nearly_all_answers_are_as_near(geometry):
    """As between bags of words that have none in common; the scores of all pairs took gigabytes."""
    queries, answers = torch.zeros(400, 4096), torch.zeros(400, 4096)
    queries[:, 0] = answers[:, 1] = 1
    queries[:8, 2] = answers[:8, 2] = 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = matching(queries, answers, geometry=geometry, top=[1], bootstrap=0)
    assert result.values["recall@1"] == pytest.approx((8 / 8 + 392 / 400) / 400)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_500_000  # kB


def test_queries_of_one_answer_are_sampled_together():
    wanted = torch.arange(30).repeat_interleave(2)
    found = matching(rows(60, 3, 1), rows(30, 3), wanted, bootstrap=200)
    assert (found.counts["n_queries"], found.counts["n_classes"], found.counts["n_gallery"]) == (60, 30, 30)
    assert found.lower["mrr"] < found.values["mrr"] < found.upper["mrr"]
    assert matching(rows(10, 3, 1), rows(10, 3)).few_classes


@pytest.mark.parametrize(
    "wrong", [{"wanted": torch.tensor([0, 1])}, {"wanted": torch.tensor([0, 1, 9])}, {"top": ()}, {"top": (0,)}]
)
def test_arguments_that_do_not_fit_are_refused(wrong):
    with unchecked(), pytest.raises(ShapeError) as caught:
        matching(rows(3, 2), rows(3, 2), **wrong)
    assert caught.value.reference in {"matching-arguments", "option-range"}


@settings(max_examples=60)
@given(
    st.integers(0, 10_000),
    st.sampled_from(["cosine", "dot", "euclidean", "squared_euclidean"]),
    st.sampled_from([1, 60, 1 << 22]),
)
def test_ranks_count_the_exact_scores_of_all_pairs(seed, geometry, tile_size):
    draw = torch.Generator().manual_seed(seed)
    queries, gallery = (torch.randint(-1, 2, (count, 3), generator=draw).float() for count in (12, 25))
    gallery[::2] *= 1 + 1e-7  # ties by rounding, near ties, rows that share no entry with a query
    wanted = torch.randint(25, (12,), generator=draw)
    above, ties = Ranker(queries, gallery, geometry, tile_size=tile_size).rank_of(wanted)
    scores = pair_scores(queries[:, None].expand(12, 25, 3), gallery.expand(12, 25, 3), geometry)
    keys = nearness(scores, geometry)
    own = keys.gather(1, wanted[:, None])
    assert above.tolist() == (keys > own).sum(1).tolist()
    assert ties.tolist() == (keys == own).sum(1).tolist()

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import kendalltau, spearmanr
from sklearn.metrics import ndcg_score

from shapes import unchecked
from tuplet.engine.topk import pair_scores
from tuplet.errors import LabelError, ShapeError
from tuplet.evaluation import compare, graded, ndcg, rank_correlation
from tuplet.evaluation.correlation import Kendall, weighted_spearman
from tuplet.evaluation.pairs import scores_of


def rows(count: int, dim: int, seed: int = 0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([2, 4, 1000]), items=st.integers(2, 12))
def test_ndcg_equals_scikit_learn_with_ties(seed, levels, items):
    generator = np.random.default_rng(seed)
    gains, scores = generator.random((3, items)), generator.integers(0, levels, (3, items)) / 3
    found = ndcg(torch.tensor(gains), torch.tensor(scores), (1, 3, items))
    for k in (1, 3, items):
        for query in range(3):
            expected = ndcg_score(gains[query : query + 1], scores[query : query + 1], k=k)
            assert found[f"ndcg@{k}"][query].item() == pytest.approx(expected, rel=1e-12)


def test_ndcg_without_any_gain_is_not_defined():
    assert ndcg(torch.zeros(1, 3), torch.rand(1, 3), (2,))["ndcg@2"].isnan().all()


@pytest.mark.parametrize("gain", ["inverse", "exponential"])
@pytest.mark.parametrize("geometry", ["cosine", "euclidean"])
def test_values_equal_those_of_the_whole_matrix(gain, geometry):
    x, targets = rows(40, 3), rows(40, 2, 1)
    x[10:20] = x[10]  # ties
    found = graded(x, targets, geometry=geometry, gain=gain, top=(1, 5, 39), bootstrap=0)
    unit = torch.nn.functional.normalize(x.double(), dim=1)
    scores = unit @ unit.T if geometry == "cosine" else -torch.cdist(x.double(), x.double())
    scores = scores.round(decimals=12)  # of these, equal rows are only nearly equal
    distances = torch.cdist(targets.double(), targets.double(), compute_mode="donot_use_mm_for_euclid_dist")
    gains = 1 / (1 + distances) if gain == "inverse" else 2 ** (1 / (1 + distances)) - 1
    for k in (1, 5, 39):
        expected, label_distances = [], []
        for q in range(40):
            others = np.arange(40) != q
            row = scores[q].numpy()[others]
            expected.append(ndcg_score(gains[q].numpy()[others][None], row[None], k=k))
            # The label distance of a position is linear in what is there, so the mean over orders averages ties.
            by_score = {level: distances[q].numpy()[others][row == level].mean() for level in set(row)}
            label_distances.append(np.mean([by_score[level] for level in sorted(row, reverse=True)[:k]]))
        assert found.values[f"ndcg@{k}"] == pytest.approx(np.mean(expected), rel=1e-9)
        assert found.values[f"label_distance@{k}"] == pytest.approx(np.mean(label_distances), rel=1e-9)


def test_correlations_are_those_of_all_pairs():
    x, targets = rows(30, 4), rows(30, 1, 1)[:, 0]
    found = graded(x, targets, geometry="euclidean", bootstrap=0)
    first, second = np.triu_indices(30, 1)
    near = torch.cdist(x.double(), x.double(), compute_mode="donot_use_mm_for_euclid_dist").numpy()[first, second]
    labels = (targets[first] - targets[second]).abs().double().numpy()
    assert found.counts["n_pairs"] == 435
    assert found.values["spearman"] == pytest.approx(stats.spearmanr(near, labels).statistic, rel=1e-12)
    assert found.values["kendall"] == pytest.approx(stats.kendalltau(near, labels).statistic, rel=1e-12)


def test_a_gallery_answers_queries_of_another_set():
    x, targets = rows(25, 3), rows(25, 1, 1)[:, 0]
    found = graded(x[:5], targets[:5], x[5:], targets[5:], geometry="euclidean", top=(3,), bootstrap=50)
    distances = (targets[:5, None] - targets[5:]).abs().double()
    nearest = torch.cdist(x[:5].double(), x[5:].double()).argsort(1)[:, :3]
    assert found.values["label_distance@3"] == pytest.approx(distances.gather(1, nearest).mean().item(), rel=1e-9)
    assert found.counts["n_pairs"] == 100
    assert found.lower["spearman"] <= found.values["spearman"] <= found.upper["spearman"]


def test_embeddings_that_follow_the_labels_are_perfect():
    targets = torch.arange(20.0)
    found = graded(targets[:, None], targets, geometry="euclidean", bootstrap=100)
    for name in ("ndcg@1", "ndcg@10", "spearman", "kendall"):
        assert found.values[name] == pytest.approx(1)
        assert found.lower[name] == pytest.approx(1)
    assert found.values["label_distance@1"] == 1


def test_more_neighbours_than_there_are_count_as_all_of_them():
    found = graded(rows(4, 2), rows(4, 1), top=(3, 50), bootstrap=0)
    assert found.values["ndcg@50"] == found.values["ndcg@3"]
    assert found.values["label_distance@50"] == found.values["label_distance@3"]


def test_sampled_pairs_follow_the_seed():
    x, targets = rows(60, 3), rows(60, 1, 1)
    some = graded(x, targets, max_pairs=200, bootstrap=0)
    assert some.counts["n_pairs"] == 200
    assert some.to_dict() == graded(x, targets, max_pairs=200, bootstrap=0).to_dict()
    assert some.values["spearman"] != graded(x, targets, max_pairs=200, bootstrap=0, seed=1).values["spearman"]


def test_a_constant_list_has_no_rank_correlation():
    assert np.isnan(list(rank_correlation(torch.ones(5), torch.arange(5)).values())).all()
    found = graded(rows(6, 2), torch.zeros(6), bootstrap=5)
    assert found.to_dict()["values"]["spearman"] is None


def test_two_models_are_compared_query_by_query():
    targets = torch.arange(40.0)
    good, bad = (
        graded(targets[:, None], targets, geometry="euclidean"),
        graded(rows(40, 1), targets, geometry="euclidean"),
    )
    found = compare(good, bad)
    assert found.lower["ndcg@5"] > 0
    assert found.p_values["ndcg@5"] < 0.01


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"targets": torch.tensor([1.0, torch.nan, 2, 3])}, LabelError, "1 numbers that are not finite"),
        ({"targets": torch.zeros(3)}, LabelError, r"\(3,\)"),
        ({"gallery": torch.zeros(2, 2)}, ShapeError, "a gallery without targets"),
        ({"top": (0,)}, ShapeError, r"top is \(0,\)"),
        ({"embeddings": torch.zeros(1, 2), "targets": torch.zeros(1)}, ShapeError, "1 queries"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(change, error, message):
    with unchecked(), pytest.raises(error, match=message):
        graded(**{"embeddings": rows(4, 2), "targets": torch.arange(4.0)} | change)


def test_a_gap_is_the_share_of_the_distance_of_pairs_sampled_at_random():
    x, targets = rows(50, 3), rows(50, 1, 1)
    found = graded(x, targets[:, 0], geometry="euclidean", top=(1, 10), bootstrap=0)
    distances = torch.cdist(x.double(), x.double()).fill_diagonal_(torch.inf)
    label_distances = (targets.double() - targets.double().T).abs()
    nearest = distances.argsort(1)[:, :10]
    expected = label_distances.gather(1, nearest).mean() / (label_distances.sum() / (50 * 49))
    assert found.values["label_gap@10"] == pytest.approx(expected.item(), rel=1e-12)
    assert found.per_query["label_gap@10"].mean().item() == pytest.approx(expected.item(), rel=1e-12)


def test_correlations_are_compared_in_the_same_resamples():
    targets = rows(60, 1, 1)
    near, far = (targets + noise * rows(60, 1, 2) for noise in (0.1, 3.0))
    good, bad = (graded(x, targets[:, 0], geometry="euclidean", bootstrap=100) for x in (near, far))
    difference = compare(good, bad, bootstrap=100)
    assert difference.values["spearman"] == pytest.approx(good.values["spearman"] - bad.values["spearman"])
    assert 0 < difference.lower["spearman"] < difference.values["spearman"] < difference.upper["spearman"]
    same = compare(good, graded(near * 2, targets[:, 0], geometry="euclidean", bootstrap=100), bootstrap=100)
    assert same.lower["spearman"] == same.upper["spearman"] == 0


def test_the_correlation_of_resampled_pairs_is_that_of_the_listed_ones():
    random = np.random.default_rng(0)
    for levels in (3, 10, 10**6):
        u, v = random.integers(0, levels, (2, 300)) + random.integers(0, 2, 300)
        weights = random.integers(0, 4, 300)
        sampled = np.repeat(np.arange(300), weights)
        codes = [np.unique(values, return_inverse=True)[1] for values in (u, v)]
        assert weighted_spearman(*codes, weights) == pytest.approx(
            spearmanr(u[sampled], v[sampled]).statistic, abs=1e-12
        )
    assert np.isnan(weighted_spearman(codes[0], codes[1], np.zeros(300, int)))
    assert np.isnan(weighted_spearman(np.zeros(300, int), codes[1], weights))


def test_rows_that_were_scaled_once_give_the_same_scores_bit_for_bit():
    x = torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    first, second = torch.triu_indices(50, 50, 1)
    assert torch.equal(scores_of(x, first, x, second, "cosine"), pair_scores(x[first], x[second], "cosine"))


@pytest.mark.parametrize(("count", "levels"), [(1, 2), (2, 2), (7, 3), (50, 6), (333, 20), (700, 700)])
def test_kendall_of_weighed_items_is_that_of_items_listed_several_times(count, levels):
    random = np.random.default_rng(count)
    for _ in range(5):
        u = random.integers(0, levels, count)
        v = u + random.integers(0, levels, count)
        weights = random.poisson(1.0, (count, 3))
        codes = [torch.from_numpy(np.unique(values, return_inverse=True)[1]) for values in (u, v)]
        found = Kendall(*codes).taus(torch.from_numpy(weights).double()).tolist()
        for tau, column in zip(found, weights.T, strict=True):
            sampled = np.repeat(np.arange(count), column)
            expected = float(kendalltau(u[sampled], v[sampled]).statistic) if len(sampled) > 1 else np.nan
            assert tau == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_a_distance_of_ones_own_takes_the_place_of_the_euclidean_one():
    """The Euclidean distance given as a function measures what it does by itself, with a gallery and without."""
    x, targets = rows(40, 3), rows(40, 2, 1)
    own = {
        "label_distance": lambda mine, theirs: torch.cdist(mine, theirs, compute_mode="donot_use_mm_for_euclid_dist")
    }
    for more in ({}, {"gallery": rows(25, 3, 2), "gallery_targets": rows(25, 2, 3)}):
        plain, given = (graded(x, targets, **more, **how, top=(1, 5), bootstrap=20, max_pairs=300) for how in ({}, own))
        assert given.values == pytest.approx(plain.values)
        assert given.lower == pytest.approx(plain.lower)


def test_a_distance_between_names_is_followed():
    """Names that are one number apart as letters, and all equally far as names."""
    kinds = torch.tensor([0.0, 0.0, 1.0, 1.0, 2.0, 2.0])
    x = torch.nn.functional.one_hot(kinds.long()).double() + 1e-3 * rows(6, 3).double()
    found = graded(
        x, kinds, label_distance=lambda a, b: (a != b.T).double(), geometry="euclidean", top=(1,), bootstrap=0
    )
    assert found.values["label_distance@1"] == 0
    assert found.values["ndcg@1"] == pytest.approx(1)
    assert found.values["spearman"] > graded(x, kinds, geometry="euclidean", top=(1,), bootstrap=0).values["spearman"]

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.comparison import assert_same, gradients, quick, thorough
from oracles.problems import Case, case
from tuplet.losses import TripletLoss, triplet

selections = st.sampled_from(["all", "easy", "semihard", "hard", "batch_hard", "facenet"])
tile_sizes = st.sampled_from([1, 7, None])
means = st.sampled_from([None, "active", "all", "anchors"])


@thorough
@given(
    case=case(pairs=True),
    tile_size=tile_sizes,
    select=selections,
    geometry=st.sampled_from(["euclidean", "squared_euclidean"]),
    margin=st.sampled_from([0.0, 0.2, 0.25, 1.0]),
    power=st.sampled_from([1, 2]),
    soft=st.booleans(),
    hard_offset=st.sampled_from([None, 0.0, 0.25, 1.0]),
    mean_over=means,
)
def test_value_and_gradient_equal_the_oracle_for_every_tiling(case: Case, tile_size, **options):
    found = triplet(case.embeddings, case.labels, tile_size=tile_size, **case.sides, **options)
    assert_same(found, oracles.triplet(case.embeddings, case.labels, **case.sides, **options).value, *case.leaves)


@quick
@given(
    case=case(
        dims=(2, 5), pairs=True, copies=False, grid=False
    ),  # ties of cosines are ties up to rounding: not compared
    tile_size=tile_sizes,
    select=selections,
    geometry=st.sampled_from(["cosine", "dot"]),
    soft=st.booleans(),
)
def test_similarities_are_turned_into_distances(case: Case, tile_size, **options):
    found = triplet(case.embeddings, case.labels, tile_size=tile_size, **case.sides, **options)
    assert_same(found, oracles.triplet(case.embeddings, case.labels, **case.sides, **options).value, *case.leaves)


@quick
@given(case=case(pairs=True), select=selections, soft=st.booleans(), mean_over=means)
def test_measure_counts_what_the_mean_divides_by(case: Case, **options):
    outcome = TripletLoss(**options).measure(case.embeddings, case.labels, **case.sides)
    truth = oracles.triplet(case.embeddings, case.labels, **case.sides, **options)
    assert outcome.count.item() == pytest.approx(truth.count, abs=1e-12)
    assert_same(outcome.value, truth.value, *case.leaves)


@quick
@given(case=case(), margin=st.sampled_from([0.0, 0.25, 1.0]), hard_offset=st.sampled_from([None, 0.25]))
def test_every_triplet_is_easy_or_semihard_or_hard(case: Case, margin, hard_offset):
    sides = {name: side for name, side in case.sides.items() if name != "weights"}
    stats = TripletLoss(margin, hard_offset=hard_offset).measure(case.embeddings, case.labels, **sides).stats
    for kind in ("semihard", "hard"):
        truth = oracles.triplet(case.embeddings, case.labels, **sides, margin=margin, select=kind, soft=True)
        assert stats[kind].item() == truth.counts["active"]
    assert sum(stats[kind].item() for kind in ("easy", "semihard", "hard")) == stats["triplets"].item()


@pytest.mark.parametrize("geometry", ["euclidean", "squared_euclidean"])
def test_a_collapsed_model_has_hard_triplets_alone(geometry):
    """All distances equal: every triplet is a tie, its loss the margin, and no other kind counts it."""
    x, labels = torch.zeros(6, 2, dtype=torch.float64, requires_grad=True), torch.tensor([0, 0, 0, 1, 1, 1])
    outcome = TripletLoss(0.3, "hard", geometry=geometry).measure(x, labels)
    assert outcome.value.item() == pytest.approx(0.3)
    assert outcome.count.item() == 36
    assert (gradients(outcome.value, x)[0] == 0).all()
    found = {kind: outcome.stats[kind].item() for kind in ("easy", "semihard", "hard")}
    assert found == {"easy": 0, "semihard": 0, "hard": 36}
    assert TripletLoss(0.3, "semihard", geometry=geometry)(x, labels).item() == 0
    assert TripletLoss(0.3, "hard", hard_offset=0.0, geometry=geometry)(x, labels).item() == 0


def test_large_differences_stay_finite_in_the_smooth_form():
    x = torch.tensor([[0.0], [1e3], [1.0]], dtype=torch.float64, requires_grad=True)
    value = triplet(x, torch.tensor([0, 0, 1]), soft=True)
    assert_same(value, oracles.triplet(x, torch.tensor([0, 0, 1]), soft=True).value, x)


def test_a_distance_far_from_the_origin_keeps_its_digits():
    x = torch.randn(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    here = triplet(x, labels)
    there = triplet((x + 1000).float(), labels)  # float32 keeps 1e-4 of the coordinates
    torch.testing.assert_close(there.double(), here, rtol=1e-3, atol=0)


@pytest.mark.parametrize("select", ["all", "semihard", "hard"])
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("grid", [True, False])
def test_many_positives_of_an_anchor_are_searched_for_the_same_sums(select, power, grid):
    x = torch.randn(44, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = ((x * 2).round() / 2 if grid else x).requires_grad_()  # on the grid, distances tie exactly
    labels = torch.arange(44) % 5 // 2  # classes of 18, 17 and 9
    options = {"select": select, "power": power, "margin": 0.5, "hard_offset": 0.25}
    truth = oracles.triplet(x, labels, **options)
    assert_same(triplet(x, labels, **options), truth.value, x)
    assert TripletLoss(**options).measure(x, labels).stats["active"] == truth.counts["active"]

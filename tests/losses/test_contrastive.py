import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.comparison import assert_same, quick, thorough
from oracles.problems import Case, case
from tuplet.losses import ContrastiveLoss, contrastive

conventions = st.sampled_from(["sohn", "hadsell", "note"])
tile_sizes = st.sampled_from([1, 7, None])


@thorough
@given(
    case=case(pairs=True),
    tile_size=tile_sizes,
    convention=conventions,
    geometry=st.sampled_from([None, "euclidean", "squared_euclidean"]),
    margin=st.sampled_from([0.25, 1.0, 3.3]),
    mean_over=st.sampled_from(["all", "active", "anchors"]),
)
def test_value_and_gradient_equal_the_oracle_for_every_tiling(case: Case, tile_size, **options):
    found = contrastive(case.embeddings, case.labels, tile_size=tile_size, **case.sides, **options)
    assert_same(found, oracles.contrastive(case.embeddings, case.labels, **case.sides, **options).value, *case.leaves)


@quick
@given(
    case=case(
        dims=(2, 5), pairs=True, copies=False, grid=False
    ),  # 1 - s of equal rows is 0 or a rounding: not compared
    tile_size=tile_sizes,
    convention=conventions,
    mean_over=st.sampled_from(["all", "active", "anchors"]),
    margin=st.sampled_from([0.3, 1.0]),
)
def test_one_minus_cosine_takes_the_place_of_the_distance(case: Case, tile_size, **options):
    found = contrastive(case.embeddings, case.labels, geometry="cosine", tile_size=tile_size, **case.sides, **options)
    truth = oracles.contrastive(case.embeddings, case.labels, geometry="cosine", **case.sides, **options)
    assert_same(found, truth.value, *case.leaves)


@quick
@given(case=case(pairs=True), convention=conventions, mean_over=st.sampled_from(["all", "active", "anchors"]))
def test_measure_counts_what_the_mean_divides_by(case: Case, **options):
    outcome = ContrastiveLoss(**options).measure(case.embeddings, case.labels, **case.sides)
    truth = oracles.contrastive(case.embeddings, case.labels, **case.sides, **options)
    assert outcome.count.item() == pytest.approx(truth.count, abs=1e-12)
    assert_same(outcome.value, truth.value, *case.leaves)


def test_equal_rows_of_two_classes_are_counted_but_not_given_a_gradient():
    x = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    value = contrastive(x, torch.tensor([0, 1]), margin=2.0)
    assert value.item() == 4.0
    assert (torch.autograd.grad(value, x)[0] == 0).all()

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.judge import assert_same, quick, thorough
from oracles.problems import Posed, posed
from tuplet.losses import ContrastiveLoss, contrastive

conventions = st.sampled_from(["sohn", "hadsell", "note"])
tile_sizes = st.sampled_from([1, 7, None])


@thorough
@given(
    posed=posed(pairs=True),
    tile_size=tile_sizes,
    convention=conventions,
    geometry=st.sampled_from([None, "euclidean", "squared_euclidean"]),
    margin=st.sampled_from([0.25, 1.0, 3.3]),
    mean_over=st.sampled_from(["all", "active", "anchors"]),
)
def test_value_and_gradient_equal_the_oracle_for_every_tiling(posed: Posed, tile_size, **options):
    found = contrastive(posed.embeddings, posed.labels, tile_size=tile_size, **posed.sides, **options)
    assert_same(
        found, oracles.contrastive(posed.embeddings, posed.labels, **posed.sides, **options).value, *posed.leaves
    )


@quick
@given(
    posed=posed(
        dims=(2, 5), pairs=True, copies=False, grid=False
    ),  # 1 - s of equal rows is 0 or a rounding: not judged
    tile_size=tile_sizes,
    convention=conventions,
    mean_over=st.sampled_from(["all", "active", "anchors"]),
    margin=st.sampled_from([0.3, 1.0]),
)
def test_one_minus_cosine_takes_the_place_of_the_distance(posed: Posed, tile_size, **options):
    found = contrastive(
        posed.embeddings, posed.labels, geometry="cosine", tile_size=tile_size, **posed.sides, **options
    )
    truth = oracles.contrastive(posed.embeddings, posed.labels, geometry="cosine", **posed.sides, **options)
    assert_same(found, truth.value, *posed.leaves)


@quick
@given(posed=posed(pairs=True), convention=conventions, mean_over=st.sampled_from(["all", "active", "anchors"]))
def test_measure_counts_what_the_mean_divides_by(posed: Posed, **options):
    outcome = ContrastiveLoss(**options).measure(posed.embeddings, posed.labels, **posed.sides)
    truth = oracles.contrastive(posed.embeddings, posed.labels, **posed.sides, **options)
    assert outcome.count.item() == pytest.approx(truth.count, abs=1e-12)
    assert_same(outcome.value, truth.value, *posed.leaves)


def test_equal_rows_of_two_classes_are_counted_but_not_pulled():
    x = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    value = contrastive(x, torch.tensor([0, 1]), margin=2.0)
    assert value.item() == 4.0
    assert (torch.autograd.grad(value, x)[0] == 0).all()

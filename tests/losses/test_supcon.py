import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.comparison import assert_same, gradients, quick, thorough
from oracles.problems import Case, case
from tuplet.losses import SupConLoss, supcon

temperatures = st.sampled_from([0.01, 0.07, 1.0])
tile_sizes = st.sampled_from([1, 7, None])


@pytest.mark.shows("oracle", "supcon")
@thorough
@given(
    case=case(pairs=True),
    tile_size=tile_sizes,
    temperature=temperatures,
    where=st.sampled_from(["out", "in"]),
    geometry=st.sampled_from(["cosine", "dot", "euclidean", "squared_euclidean"]),
)
def test_value_and_gradient_equal_the_oracle_for_every_tiling(case: Case, tile_size, **options):
    found = supcon(case.embeddings, case.labels, tile_size=tile_size, **case.sides, **options)
    assert_same(found, oracles.supcon(case.embeddings, case.labels, **case.sides, **options).value, *case.leaves)


@quick
@given(
    case=case(),
    tile_size=st.sampled_from([7, None]),
    temperature=temperatures,
    where=st.sampled_from(["out", "in"]),
    geometry=st.sampled_from(["cosine", "dot", "squared_euclidean"]),
)
def test_the_temperature_has_its_gradient(case: Case, tile_size, temperature, **options):
    tau = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    found = supcon(case.embeddings, case.labels, temperature=tau, tile_size=tile_size, **case.sides, **options)
    truth = oracles.supcon(case.embeddings, case.labels, temperature=tau, **case.sides, **options)
    assert_same(found, truth.value, *case.leaves, tau)


@quick
@given(case=case())
def test_measure_counts_the_anchors_with_a_positive(case: Case):
    outcome = SupConLoss().measure(case.embeddings, case.labels, **case.sides)
    truth = oracles.supcon(case.embeddings, case.labels, **case.sides)
    assert outcome.count.item() == pytest.approx(truth.count, abs=1e-12)


@pytest.mark.parametrize("tile_size", [7, None])
def test_the_hardest_row_is_given_a_gradient_at_temperature_one_hundredth(tile_size):
    angles = torch.tensor([0.0, 3.1, 0.1, 3.0])  # both positives lie opposite of their anchors
    x = torch.stack([angles.cos(), angles.sin()], 1).requires_grad_()
    value = supcon(x, torch.tensor([0, 0, 1, 1]), temperature=0.01, tile_size=tile_size)
    assert torch.isfinite(value)
    assert gradients(value, x)[0].norm(dim=1).min() > 1


def test_references_that_are_the_same_tensor_have_labels_of_their_own():
    """Whether references were given decides who is compared, and not whether they are the same tensor."""
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(6, 3, generator=generator, dtype=torch.float64).requires_grad_()
    labels, others = torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([2, 1, 0, 2, 1, 0])
    truth = oracles.supcon(x, labels, references=x, reference_labels=others).value
    for found in (
        supcon(x, labels, references=x, reference_labels=others),
        SupConLoss()(x, labels, references=x, reference_labels=others),
    ):
        assert_same(found, truth, x)
    assert not torch.isclose(truth, supcon(x, labels))

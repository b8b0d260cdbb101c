import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.comparison import assert_same, quick, thorough
from oracles.problems import rows, weights
from tuplet.errors import TupletError
from tuplet.losses import LogRatioLoss, log_ratio


@st.composite
def graded(draw: st.DrawFn):
    """Embeddings, values (some equal), and both kinds of weights."""
    count = draw(st.integers(1, 7))
    f = draw(rows(count, draw(st.integers(1, 4)))).requires_grad_()
    y = draw(rows(count, draw(st.integers(1, 2))))
    sides = {"weights": draw(weights(count)), "reference_weights": draw(weights(count))}
    return f, y[:, 0] if draw(st.booleans()) else y, {name: w for name, w in sides.items() if w is not None}


@pytest.mark.shows("oracle", "log_ratio")
@thorough
@given(
    graded=graded(),
    tile_size=st.sampled_from([1, 7, None]),
    geometry=st.sampled_from(["squared_euclidean", "euclidean"]),
    anchors=st.sampled_from(["all", "first"]),
    mask_zero_label=st.booleans(),
    eps=st.sampled_from([1e-6, 0.1]),
)
def test_value_and_gradient_equal_the_oracle_for_every_tiling(graded, tile_size, **options):
    f, y, sides = graded
    found = log_ratio(f, y, tile_size=tile_size, **sides, **options)
    # 1 / (d + eps) is up to 1e6, and so is what it makes of the last digit of d
    assert_same(found, oracles.log_ratio(f, y, **sides, **options).value, f, tolerance=1e-9)


def around(mine: torch.Tensor, theirs: torch.Tensor) -> torch.Tensor:
    """Squared distance of angles in eighths of a circle, summed over the values of a label."""
    apart = (mine[:, None] - theirs).abs() % 8
    return torch.minimum(apart, 8 - apart).square().sum(2)


@thorough
@given(
    graded=graded(),
    tile_size=st.sampled_from([1, 7, None]),
    anchors=st.sampled_from(["all", "first"]),
    mask_zero_label=st.booleans(),
)
def test_any_distance_of_labels_takes_the_place_of_their_difference(graded, tile_size, **options):
    f, y, sides = graded
    options |= sides | {"label_distance": around}
    truth = oracles.log_ratio(f, y, **options)
    assert_same(log_ratio(f, y, tile_size=tile_size, **options), truth.value, f, tolerance=1e-9)
    module = LogRatioLoss(anchors=options["anchors"], mask_zero_label=options["mask_zero_label"], label_distance=around)
    assert_same(module(f, y, **sides), truth.value, f, tolerance=1e-9)


@pytest.mark.parametrize("wrong", [lambda a, b: a - b.T, lambda a, b: a + 0 * b[:1], lambda a, b: a / 0 - b.T])
def test_what_is_no_distance_of_labels_is_refused(wrong):
    with pytest.raises(TupletError, match="label distance returned") as error:
        LogRatioLoss(label_distance=wrong)(torch.randn(4, 2), torch.arange(4.0))
    assert error.value.reference == "label-distance"


@pytest.mark.parametrize("geometry", ["cosine", "dot"])
def test_a_similarity_is_refused(geometry):
    """Its negative has no logarithm."""
    loss = LogRatioLoss()
    loss.geometry = geometry  # the annotation of the constructor refuses it where types are checked
    with pytest.raises(TupletError, match=geometry) as error:
        loss(torch.randn(4, 2), torch.arange(4.0))
    assert error.value.reference == "log-ratio-geometry"


@quick
@given(graded=graded(), anchors=st.sampled_from(["all", "first"]))
def test_the_module_counts_the_pairs_of_all_anchors(graded, anchors):
    f, y, sides = graded
    outcome = LogRatioLoss(anchors=anchors).measure(f, y, **sides)
    truth = oracles.log_ratio(f, y, anchors=anchors, **sides)
    torch.testing.assert_close(outcome.count.item(), truth.count)
    assert_same(outcome.value, truth.value, f, tolerance=1e-9)


def test_large_label_values_keep_their_digits():
    f = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    years = torch.tensor([1990.0, 1991.0, 1991.5, 1993.0, 1996.0, 2000.0])
    shifted = years.double() + 1e9
    torch.testing.assert_close(log_ratio(f, shifted), log_ratio(f, years), rtol=1e-6, atol=0)


def test_close_rows_in_float32_are_not_lost():
    f = torch.tensor([[1000.0, 0.0], [1000.001, 0.0], [1000.0, 0.002], [999.9, 0.0]])
    y = torch.tensor([0.0, 1.0, 2.0, 4.0])
    truth = oracles.log_ratio(f.double(), y.double()).value
    torch.testing.assert_close(log_ratio(f, y).double(), truth, rtol=1e-4, atol=0)


def test_a_logarithm_without_eps_is_refused():
    with pytest.raises(TupletError, match="eps is 0") as error:
        LogRatioLoss(eps=0.0)(torch.randn(3, 2), torch.rand(3))
    assert error.value.reference == "log-ratio-eps"

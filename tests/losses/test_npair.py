import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.comparison import assert_same, gradients, quick, thorough
from oracles.problems import Case, case, rows, weights
from tuplet.errors import TupletError
from tuplet.losses import NPairLoss, npair

tile_sizes = st.sampled_from([1, 7, None])
sizes = st.sampled_from([1.0, 300.0])  # unnormalised embeddings may be large


@st.composite
def pairs(draw: st.DrawFn, negatives: int = 0):
    """Anchors, positives, and negatives for each anchor, as leaves."""
    count, dim, size = draw(st.integers(1, 6)), draw(st.integers(1, 4)), draw(sizes)
    parts = (draw(rows((2 + negatives) * count, dim)) * size).split([count, count, negatives * count])
    anchors, positives, others = (part.clone() for part in parts)
    others = others.reshape(count, negatives, dim)
    return [x.requires_grad_() for x in (anchors, positives, others)], draw(weights(count))


@pytest.mark.shows("oracle", "npair")
@thorough
@given(pairs=pairs(), tile_size=tile_sizes, one_vs_one=st.booleans(), norm_penalty=st.sampled_from([0.0, 0.05]))
def test_pairs_equal_the_oracle_for_every_tiling(pairs, tile_size, **options):
    (f, positives, _), w = pairs
    found = npair(f, references=positives, weights=w, tile_size=tile_size, **options)
    assert_same(found, oracles.npair_mc(f, positives, weights=w, **options).value, f, positives)


@pytest.mark.shows("oracle", "npair")
@thorough
@given(case=case(), tile_size=tile_sizes, size=sizes)
def test_labels_equal_the_oracle_for_every_tiling(case: Case, tile_size, size):
    for leaf in case.leaves:
        leaf.data *= size
    found = npair(case.embeddings, case.labels, tile_size=tile_size, **case.sides)
    assert_same(found, oracles.npair_per_pair(case.embeddings, case.labels, **case.sides).value, *case.leaves)


@quick
@given(pairs=pairs(negatives=3), norm_penalty=st.sampled_from([0.0, 0.05]))
def test_given_negatives_equal_the_oracle(pairs, norm_penalty):
    (f, positives, negatives), w = pairs
    given_weights = {} if w is None else {"weights": w}
    found = NPairLoss(norm_penalty)(f, references=positives, negatives=negatives, **given_weights)
    truth = oracles.tuplet(f, positives, negatives, norm_penalty=norm_penalty, weights=w)
    assert_same(found, truth.value, f, positives, negatives)


def test_the_norm_penalty_leaves_unknown_rows_alone():
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([0, 0, 1, -1, 1])
    known = labels != -1
    value = npair(x, labels, norm_penalty=0.5)
    assert_same(value, npair(x[known], labels[known], norm_penalty=0.5), x)
    assert (gradients(value, x)[0][3] == 0).all()


@pytest.mark.parametrize("given_labels", [True, False])
def test_one_against_one_is_for_pairs_only(given_labels):
    x = torch.randn(4, 3)
    sides = {"labels": torch.tensor([0, 0, 1, 1])} if given_labels else {"references": x, "negatives": x[:, None]}
    with pytest.raises(TupletError, match="one-vs-one"):
        npair(x, one_vs_one=True, **sides)


def test_negatives_without_positives_are_refused():
    x = torch.randn(4, 3)
    with pytest.raises(TupletError):
        npair(x, torch.tensor([0, 0, 1, 1]), negatives=x[:, None])

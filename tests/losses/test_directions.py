"""InfoNCE in several directions, with own negatives and without false ones, against its oracle."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import oracles
from oracles.comparison import assert_same, quick
from oracles.problems import rows
from oracles.problems import weights as weights_of
from tuplet.errors import LabelError, ShapeError
from tuplet.losses import FeatureQueue, InfoNCELoss, info_nce
from tuplet.relation import SameLabel

ALL = ("query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc")
SUBSETS = [ALL, *((ALL[0], name) for name in ALL[1:]), ALL[:1]]


@quick
@given(
    data=st.data(),
    counts=st.tuples(st.integers(1, 5), st.integers(0, 2), st.integers(0, 2), st.integers(1, 4)),
    tile_size=st.sampled_from([1, 7, None]),
    directions=st.sampled_from(SUBSETS),
    margin=st.sampled_from([None, -0.1, 0.0, 0.3]),
    kind=st.sampled_from(["plain", "guided"]),
    geometry=st.sampled_from(["cosine", "dot"]),
)
def test_value_and_gradient_equal_the_oracle_for_every_tiling(
    data, counts, tile_size, directions, margin, kind, geometry
):
    """Off the grid and without copies: at the margin itself rounding would decide."""
    count, more, n, dim = counts
    x, y, others = (
        data.draw(rows(each, dim, grid=False, copies=False)).requires_grad_()
        for each in (count, count + more, max(1, count * n))
    )
    negatives = others[: count * n].reshape(count, n, dim) if n else None
    guides, sides = None, {}
    if kind == "guided":
        sizes = count, count + more, max(1, count * n)
        parts = [data.draw(rows(each, 3, grid=False, copies=False)) for each in sizes]
        guides = (parts[0], parts[1], parts[2][: count * n].reshape(count, n, 3) if n else None)
        sides = dict(zip(("guide", "reference_guide", "negative_guide"), guides, strict=True))
    options = {"directions": directions, "geometry": geometry, "weights": data.draw(weights_of(count))}
    truth = oracles.directed_info_nce(x, y, negatives, margin=margin, guides=guides, temperature=0.2, **options)
    options |= {"false_negative_margin": margin, "tile_size": tile_size, "negatives": negatives}
    found = info_nce(x, y, temperature=0.2, **sides, **options)
    assert_same(found, truth.value, x, y, others)


def pairs(count=6, dim=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, dim, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2)]


def test_symmetric_with_own_negatives_is_the_mean_of_both_ways():
    x, y = pairs()
    negatives = torch.randn(6, 2, 4, dtype=torch.float64)
    forth = oracles.directed_info_nce(x, y, negatives).value
    back = oracles.directed_info_nce(y, x).value
    assert_same(info_nce(x, y, symmetric=True, negatives=negatives), (forth + back) / 2, x, y)
    guides = torch.randn(2, 6, 3, dtype=torch.float64)
    forth, back = (
        oracles.directed_info_nce(a, b, guides=(g, h, None)).value
        for a, b, g, h in ((x, y, *guides), (y, x, *guides.flip(0)))
    )
    found = InfoNCELoss(symmetric=True)(x, references=y, guide=guides[0], reference_guide=guides[1])
    assert_same(found, (forth + back) / 2, x, y)


def test_a_queue_and_a_learned_temperature_go_with_directions():
    x, y = pairs()
    queue = FeatureQueue(8, 4)
    stored = torch.randn(5, 4)
    queue.push(stored)
    loss = InfoNCELoss("learned", directions=ALL, queue=queue).double()
    scale = loss.temperature.log_scale
    more = torch.cat([y, stored.double()])
    # rows of a queue are documents of no pair
    truth = oracles.directed_info_nce(x, more, directions=ALL, temperature=1 / scale.exp())
    assert_same(loss(x, references=y), truth.value, x, y, scale)


def test_what_directions_are_not_for_is_refused():
    x, y = pairs()
    ids, guide = torch.arange(6), torch.randn(6, 3)
    with pytest.raises(LabelError):
        InfoNCELoss(directions=ALL)(x, ids)
    with pytest.raises(LabelError):
        info_nce(x, y, SameLabel(ids, ids), false_negative_margin=0.1)
    with pytest.raises(LabelError):
        info_nce(x, y, guide=guide)
    for options in ({"directions": ALL, "symmetric": True}, {"directions": ALL[1:]}):
        with pytest.raises(ShapeError):
            info_nce(x, y, **options)
    with pytest.raises(ShapeError):
        info_nce(x, y, directions=ALL, geometry="euclidean")
    with pytest.raises(ShapeError):
        InfoNCELoss()(x, references=y, negatives=torch.randn(6, 2, 5))
    with pytest.raises(ShapeError):
        InfoNCELoss(directions=("query_to_doc", "doc_to_dog"))

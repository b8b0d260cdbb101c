import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shapes import unchecked
from tuplet.engine.topk import TopK, pair_scores, topk
from tuplet.errors import ShapeError

GEOMETRIES = ["cosine", "dot", "euclidean", "squared_euclidean"]


def rows(count: int, dim: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def twinned(count: int, dim: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rows with copies at odd places, a run of copies, a zero row, and an offset that cancels badly in products."""
    x = rows(count, dim, dtype=dtype) + 3
    x[count // 2 : count // 2 + count // 4] = x[1]
    x[count - 1] = x[0]
    x[5] = 0
    return x


def brute(queries: Tensor, gallery: Tensor, geometry: str, top: int, hidden: Tensor) -> TopK:
    """Every pair by the scores of `pair_scores`, sorted whole."""
    shape = (len(queries), len(gallery), queries.shape[1])
    scores = pair_scores(queries[:, None].expand(shape), gallery[None].expand(shape), geometry)
    keys = (scores if geometry in {"cosine", "dot"} else -scores).masked_fill(hidden, -torch.inf)
    keys, order = keys.sort(dim=1, descending=True, stable=True)
    keys, order = keys[:, :top], order[:, :top]
    return TopK(keys if geometry in {"cosine", "dot"} else -keys, order.masked_fill(keys == -torch.inf, -1))


def assert_same(found: TopK, expected: TopK) -> None:
    assert torch.equal(found.positions, expected.positions)
    assert torch.equal(found.scores, expected.scores)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("tile_size", [1, 7, 1000, 1 << 22])
def test_every_tile_size_finds_what_sorting_all_pairs_finds_bit_for_bit(geometry, dtype, tile_size):
    x = twinned(40, 9, dtype)
    own = torch.arange(40)
    found = topk(x, x, 4, geometry, exclude=own, tile_size=tile_size)
    assert_same(found, brute(x, x, geometry, 4, torch.eye(40, dtype=torch.bool)))


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize(("count", "dim"), [(1, 1), (2, 3), (211, 31), (500, 128)])
def test_shapes_that_fit_no_panel(geometry, count, dim):
    queries, gallery = rows(7, dim, 1), torch.cat([rows(count, dim, 2), rows(count, dim, 2)])
    expected = brute(queries, gallery, geometry, 6, torch.zeros(7, 2 * count, dtype=torch.bool))
    for tile_size in (97, 1 << 22):
        assert_same(topk(queries, gallery, 6, geometry, tile_size=tile_size), expected)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("tile_size", [500, 1 << 22])
def test_equal_rows_tie_exactly_wherever_they_lie(geometry, tile_size):
    x = rows(403, 24, dtype=torch.float32)
    copies = torch.tensor([0, 3, 17, 18, 101, 102, 103, 250, 402])
    x[copies] = x[3].clone()
    found = topk(x, x, 30, geometry, tile_size=tile_size)
    for query in range(0, 403, 7):
        scores = found.scores[query][torch.isin(found.positions[query], copies)]
        assert len(scores.unique()) <= 1
    assert found.positions[3, :9].tolist() == copies.tolist()  # nearest to itself are its copies, lowest first


def ties(found: TopK) -> Tensor:
    """Whether each rank ties with the one before it."""
    return (found.scores[:, 1:] == found.scores[:, :-1]) & (found.positions[:, 1:] >= 0)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("shift", [0.0, 3.0, 300.0])  # 300: products tell nothing apart
@pytest.mark.parametrize("tile_size", [5000, 1 << 22])
def test_order_and_ties_are_exact_without_exact_scores(geometry, shift, tile_size):
    x = twinned(403, 24) + shift
    own = torch.arange(403)
    groups = (own % 5, own % 5)
    found = topk(x, x, 30, geometry, exclude=own, groups=groups, tile_size=tile_size, exact_scores=False)
    expected = brute(x, x, geometry, 30, groups[0][:, None] == groups[1])
    assert torch.equal(found.positions, expected.positions)
    assert torch.equal(ties(found), ties(expected))


@settings(max_examples=60)
@given(
    st.integers(0, 1000),
    st.sampled_from(GEOMETRIES),
    st.integers(1, 12),
    st.sampled_from([1.0, 1e-3, 1e-6, 1e-7]),
)
def test_rows_as_near_as_roundings_are_ordered_exactly(seed, geometry, top, spread):
    x = torch.cat([rows(1, 6, seed) + spread * rows(40, 6, seed + 1), rows(20, 6, seed + 2)])
    expected = topk(x, x, top, geometry)
    found = topk(x, x, top, geometry, exact_scores=False)
    assert torch.equal(found.positions, expected.positions)
    assert torch.equal(ties(found), ties(expected))


def test_equal_queries_get_equal_lists():
    x = rows(90, 16)
    queries = x[torch.tensor([4, 8, 4, 15, 4])]
    found = topk(queries, x, 11, tile_size=333)
    assert torch.equal(found.scores[0], found.scores[2])
    assert torch.equal(found.positions[0], found.positions[4])


def test_a_collapsed_gallery_is_listed_by_position():
    x = torch.full((700, 8), 0.3)
    found = topk(x, x, 5, exclude=torch.arange(700), tile_size=1 << 12)
    assert found.positions[0].tolist() == [1, 2, 3, 4, 5]
    assert found.positions[3].tolist() == [0, 1, 2, 4, 5]
    assert found.positions[699].tolist() == [0, 1, 2, 3, 4]


def test_differences_below_float32_products_decide():
    x = 1 + 1e-7 * rows(400, 6)
    hidden = torch.eye(400, dtype=torch.bool)
    for geometry in GEOMETRIES:
        found = topk(x, x, 3, geometry, exclude=torch.arange(400))
        assert_same(found, brute(x, x, geometry, 3, hidden))


def test_distances_are_right_where_the_gram_form_is_not():
    x = rows(300, 5, dtype=torch.float64) * 1e-3 + 1e4
    found = topk(x.float(), x.float(), 1, "euclidean", exclude=torch.arange(300))
    exact = torch.cdist(x.float().double(), x.float().double(), compute_mode="donot_use_mm_for_euclid_dist")
    exact.fill_diagonal_(torch.inf)
    torch.testing.assert_close(found.scores[:, 0], exact.min(1).values, rtol=1e-12, atol=0)


def test_an_outlier_in_the_gallery_costs_no_accuracy():
    x = rows(300, 12)
    x[77] *= 1e6
    for geometry in GEOMETRIES:
        expected = brute(x, x, geometry, 5, torch.eye(300, dtype=torch.bool))
        assert_same(topk(x, x, 5, geometry, exclude=torch.arange(300)), expected)


@pytest.fixture(params=["torch", "backend", "autocast"])
def coarse_products(request):
    """Every way to ask for float32 products of fewer bits."""
    matmul = torch.backends.mkldnn.matmul
    before = torch.get_float32_matmul_precision(), matmul.fp32_precision
    if request.param == "torch":
        torch.set_float32_matmul_precision("medium")
    elif request.param == "backend":
        matmul.fp32_precision = "bf16"
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=request.param == "autocast"):
        yield
    matmul.fp32_precision = before[1]
    torch.set_float32_matmul_precision(before[0])


def test_coarse_float32_products_are_not_used(coarse_products):
    x = rows(500, 64)
    assert_same(topk(x, x, 5), topk(x.double(), x.double(), 5))


@settings(max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    geometry=st.sampled_from(GEOMETRIES),
    top=st.integers(1, 12),
    tile_size=st.sampled_from([3, 50, 10**6]),
)
def test_own_group_and_own_position_are_left_out(seed, geometry, top, tile_size):
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randint(-1, 2, (6, 2), generator=generator).float()  # a grid: nearly everything ties
    gallery = torch.randint(-1, 2, (30, 2), generator=generator).float()
    mine, theirs = (torch.randint(0, 3, (count,), generator=generator) for count in (6, 30))
    exclude = torch.randint(-1, 30, (6,), generator=generator)
    hidden = (mine[:, None] == theirs) | (exclude[:, None] == torch.arange(30))
    found = topk(queries, gallery, top, geometry, exclude=exclude, groups=(mine, theirs), tile_size=tile_size)
    assert_same(found, brute(queries, gallery, geometry, top, hidden))


def test_too_few_neighbours_are_marked():
    x = rows(3, 2)
    found = topk(x, x, 10, "euclidean", exclude=torch.tensor([0, -1, 2]))
    assert found.positions.shape == (3, 3)
    assert (found.positions == -1).sum(1).tolist() == [1, 0, 1]
    assert found.scores[0, 2] == torch.inf
    assert topk(x, x, 10, exclude=torch.arange(3)).scores[0, 2] == -torch.inf


def test_a_memory_mapped_gallery_answers_as_one_in_memory(tmp_path):
    x = rows(1000, 20)
    x[40] = x[900]
    np.save(tmp_path / "gallery.npy", x.numpy())
    mapped = np.load(tmp_path / "gallery.npy", mmap_mode="r")
    for geometry in GEOMETRIES:
        assert_same(topk(x[:50], mapped, 7, geometry, tile_size=3000), topk(x[:50], x, 7, geometry))


def test_half_precision_embeddings_are_compared_as_the_numbers_they_are():
    x = rows(200, 16)
    for dtype in (torch.float16, torch.bfloat16):
        assert_same(topk(x.to(dtype), x.to(dtype), 5), topk(x.to(dtype).float(), x.to(dtype).float(), 5))


def test_embeddings_with_a_gradient_are_only_read():
    x = rows(40, 4).requires_grad_()
    before = x.detach().clone()
    found = topk(x, x, 3)
    assert not found.scores.requires_grad
    assert torch.equal(x.detach(), before)


def test_pair_scores_do_not_depend_on_the_shape_of_the_call():
    first, second = rows(257, 100, 1), rows(257, 100, 2)
    for geometry in GEOMETRIES:
        whole = pair_scores(first, second, geometry)
        assert torch.equal(
            whole, torch.stack([pair_scores(a, b, geometry) for a, b in zip(first, second, strict=True)])
        )
        assert torch.equal(whole, pair_scores(second, first, geometry))
        assert torch.equal(whole[3::5], pair_scores(first[3::5], second[3::5], geometry))
    exact = torch.nn.functional.cosine_similarity(first.double(), second.double())
    torch.testing.assert_close(pair_scores(first, second), exact, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_broken_rows_are_named(value, geometry):
    x, broken = rows(30, 4), rows(30, 4)
    broken[[7, 21], 2] = value
    with pytest.raises(ShapeError, match=r"gallery.* 2 rows: 7, 21\.") as error:
        topk(x, broken, 2, geometry, tile_size=60)
    assert error.value.reference == "non-finite-embeddings"
    with pytest.raises(ShapeError, match=r"queries.* 2 rows: 7, 21\."):
        topk(broken, x, 2, geometry)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gallery": torch.zeros(4, 3)}, r"\(5, 2\).*\(4, 3\)"),
        ({"gallery": torch.zeros(0, 2)}, "the gallery is empty"),
        ({"top": 0}, "top is 0"),
        ({"tile_size": 0}, "tile_size is 0"),
        ({"exclude": torch.zeros(3, dtype=torch.int64)}, "for 5 queries"),
        ({"groups": (torch.zeros(5, dtype=torch.int64), torch.zeros(3, dtype=torch.int64))}, "5 and 3 groups"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(change, message):
    arguments = {"queries": torch.zeros(5, 2), "gallery": torch.ones(4, 2), "top": 1} | change
    with unchecked(), pytest.raises(ShapeError, match=message):
        topk(**arguments)


@pytest.mark.parametrize("gallery", [5, 50])
def test_no_queries_have_no_neighbours(gallery):
    assert topk(torch.zeros(0, 3), rows(gallery, 3), 2).positions.shape == (0, 2)

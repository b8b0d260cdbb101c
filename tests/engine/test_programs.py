"""Row programs: every plan gives the numbers of the whole matrix, eagerly and compiled, and reads nothing back."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tuplet.engine import reference, stream
from tuplet.engine.execution import Execution
from tuplet.engine.program import Mean, Program, count, largest, lse, smallest, total
from tuplet.heads import NearestCenter
from tuplet.margin import Combined
from tuplet.reductions import (
    HardestTriplet,
    Hinge,
    Logistic,
    LogRatio,
    NearestBeyond,
    Softmax,
    SoftmaxEach,
    Triplet,
)
from tuplet.relation import Graded, Paired, SameLabel, SharedLabel

TILES = Execution(engine="tiles")
HOST_READS = {"aten._local_scalar_dense", "aten.nonzero", "aten._unique2", "aten.unique_dim", "aten.item"}
EVERY_PLAN = [1, 7, 40, 10**6]

REDUCTIONS = {
    "softmax": (Softmax(), ("cosine", "dot", "euclidean")),
    "softmax-in": (Softmax("in"), ("cosine",)),
    "each": (SoftmaxEach(), ("dot",)),
    "logistic": (Logistic(), ("cosine",)),
    "hinge-2": (Hinge(1.0, 2, 1.0, "all", 17), ("euclidean", "cosine")),
    "hinge-1": (Hinge(1.0, 1, 0.5, "active", 17), ("squared_euclidean",)),
    "hardest": (HardestTriplet(0.3, mean_over="anchors"), ("euclidean", "squared_euclidean", "cosine")),
    "all": (Triplet(0.5), ("squared_euclidean", "euclidean")),
    "semihard": (Triplet(0.5, "semihard", power=2), ("squared_euclidean",)),
    "hard": (Triplet(0.5, "hard"), ("cosine",)),
    "facenet": (NearestBeyond(0.5, mean_over="all"), ("squared_euclidean",)),
}


def case(two_sets, dtype=torch.float64, *, known=False):
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(17, 5, dtype=dtype, generator=generator).requires_grad_()
    y = torch.randint(0, 4, (17,), generator=generator)
    y[3] = 0 if known else -1
    if not two_sets:
        return x, x, SameLabel(y), [x]
    other = torch.randn(13, 5, dtype=dtype, generator=generator).requires_grad_()
    return x, other, SameLabel(y, torch.randint(0, 4, (13,), generator=generator)), [x, other]


def gradients(value, leaves):
    return torch.autograd.grad(value, leaves, materialize_grads=True)


def assert_equal(found, truth, leaves, tolerance=1e-10):
    torch.testing.assert_close(found.value, truth.value, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(found.count, truth.count, rtol=tolerance, atol=0, check_dtype=False)
    for ours, theirs in zip(gradients(found.value, leaves), gradients(truth.value, leaves), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance * max(1.0, theirs.abs().max().item()))


@pytest.mark.parametrize("tile_size", EVERY_PLAN)
@pytest.mark.parametrize("two_sets", [False, True])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_every_plan_gives_the_numbers_of_the_whole_matrix(name, two_sets, tile_size):
    reduction, geometries = REDUCTIONS[name]
    weights = torch.rand(17, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    for geometry in geometries[: 1 if tile_size == 1 else None]:  # tiles of one entry take long, and see no geometry
        x, r, relation, leaves = case(two_sets)
        for w in (None, weights) if tile_size == 7 else (weights,):
            truth = reference(reduction, x, r, relation, geometry, scale=3.0, weights=w)
            found = stream(
                reduction, x, r, relation, geometry, scale=3.0, weights=w, tile_size=tile_size, execution=TILES
            )
            assert_equal(found, truth, leaves)


@pytest.mark.parametrize("tile_size", EVERY_PLAN)
def test_shared_labels_and_graded_ones(tile_size):
    x, _, _, leaves = case(two_sets=False)
    hot = torch.rand(17, 6, generator=torch.Generator().manual_seed(5)) < 0.3
    for reduction in (Softmax(), Triplet(0.5)):
        truth = reference(reduction, x, x, SharedLabel(hot), "squared_euclidean")
        found = stream(reduction, x, x, SharedLabel(hot), "squared_euclidean", tile_size=tile_size, execution=TILES)
        assert_equal(found, truth, leaves)
    values = torch.randn(17, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    for relation in (Graded(values), Graded(values, geometry=lambda a, b: (a[:, None] - b).abs().sum(2))):
        truth = reference(LogRatio(), x, x, relation, "squared_euclidean")
        found = stream(LogRatio(), x, x, relation, "squared_euclidean", tile_size=tile_size, execution=TILES)
        assert_equal(found, truth, leaves)


@pytest.mark.parametrize("centers", [1, 3])
@pytest.mark.parametrize("tile_size", EVERY_PLAN)
def test_class_heads_with_margins_scales_and_offsets(tile_size, centers):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(11, 5, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(7, centers, 5, dtype=torch.float64, generator=generator).requires_grad_()
    offset = torch.randn(7, dtype=torch.float64, generator=generator).requires_grad_()
    scale = (torch.rand(11, dtype=torch.float64, generator=generator) + 1).requires_grad_()
    relation = Paired(torch.tensor([0, 1, 2, 3, 4, 5, 6, 0, 0, -1, 2]), 7)
    given = {"margin": Combined(1, 0.5, 0.1), "scale": scale, "offset": offset}
    truth = stream(Softmax(), x, weight, relation, NearestCenter(), **given)
    found = stream(Softmax(), x, weight, relation, NearestCenter(), **given, tile_size=tile_size, execution=TILES)
    assert_equal(found, truth, [x, weight, offset, scale])


@pytest.mark.parametrize("two_sets", [False, True])
def test_statistics_are_those_of_panels(two_sets):
    for reduction, geometries in REDUCTIONS.values():
        x, r, relation, _ = case(two_sets, known=True)
        truth = stream(reduction, x, r, relation, geometries[0], scale=2.0, stats=True)
        found = stream(reduction, x, r, relation, geometries[0], scale=2.0, stats=True, execution=TILES)
        for name, value in truth.stats.items():
            torch.testing.assert_close(found.stats[name].double(), value.double(), rtol=1e-9, atol=1e-9, msg=name)


@dataclasses.dataclass(frozen=True)
class BothWays(Program):
    """Cross-entropy of rows and of columns, two means of one pass: symmetric InfoNCE."""

    means = 2

    def terms(self, score, pair):
        candidates = torch.where(pair.positive | pair.negative, score, -torch.inf)
        wanted = torch.where(pair.positive, score, 0.0)
        return {
            "row": lse(candidates),
            "column": lse(candidates, "column"),
            "row_wanted": total(wanted),
            "column_wanted": total(wanted, "column"),
            "row_count": count(pair.positive),
            "column_count": count(pair.positive, "column"),
        }

    def finish(self, found):
        rows, columns = found["row"] - found["row_wanted"], found["column"] - found["column_wanted"]
        return (
            Mean(torch.where(found["row_count"] > 0, rows, 0.0), found["row_count"] > 0, share=0.5),
            Mean(torch.where(found["column_count"] > 0, columns, 0.0), found["column_count"] > 0, "column", share=0.5),
        )


@pytest.mark.parametrize("tile_size", EVERY_PLAN)
def test_terms_over_columns_and_several_means(tile_size):
    x, r, _, leaves = case(two_sets=True)
    x, leaves = x[:13], [leaves[0], r]
    found = stream(BothWays(), x, r, Paired.diagonal(13), "dot", scale=0.7, tile_size=tile_size)
    scores = 0.7 * x @ r.T
    rows = torch.nn.functional.cross_entropy(scores, torch.arange(13))
    truth = (rows + torch.nn.functional.cross_entropy(scores.T, torch.arange(13))) / 2
    torch.testing.assert_close(found.value, truth)
    for ours, theirs in zip(gradients(found.value, leaves), gradients(truth, leaves), strict=True):
        torch.testing.assert_close(ours, theirs)


@dataclasses.dataclass(frozen=True)
class Spread(Program):
    """One mean, whose rows are compared with the mean of the whole matrix."""

    def terms(self, score, pair):
        counted = pair.positive | pair.negative
        shown = torch.where(counted, score, 0.0)
        return {
            "mine": total(shown),
            "number": count(counted),
            "all": total(shown, "all"),
            "every": count(counted, "all"),
        }

    def finish(self, found):
        loss = (found["mine"] / found["number"].clamp_min(1) - found["all"] / found["every"].clamp_min(1)).square()
        return Mean(loss, found["number"] > 0)


@pytest.mark.parametrize("tile_size", EVERY_PLAN)
def test_a_term_over_the_whole_matrix_is_not_that_of_a_strip(tile_size):
    x, r, _, leaves = case(two_sets=True)
    relation = SameLabel(torch.arange(17) % 3, torch.arange(13) % 3)
    truth = reference(Spread(), x, r, relation, "dot")
    assert_equal(stream(Spread(), x, r, relation, "dot", tile_size=tile_size), truth, leaves)


@dataclasses.dataclass(frozen=True)
class Unmasked(Program):
    """Terms that are not 0 where a pair is ignored, and say nothing of it; or the same with a mask."""

    form: str = "crossing"
    careful: bool = False

    def __post_init__(self):
        for name, value in {
            "local": self.form == "local",
            "extremes": self.form == "extremes",
            "means": 2 if self.form == "crossing" else 1,
        }.items():
            object.__setattr__(self, name, value)

    def terms(self, score, pair):
        where = pair.positive | pair.negative if self.careful else None
        number = count(torch.ones_like(pair.positive) if where is None else where)
        if self.form == "local":
            return {"loss": total(score.square() + 1, where=where), "number": number}
        if self.form == "extremes":
            return {"best": largest(score, where=where), "worst": smallest(score, where=where), "number": number}
        if self.form == "vectors":
            each = torch.stack([score, score.square() + 1], -1)
            return {"each": total(each, where=None if where is None else where[..., None]), "number": number}
        rows = {"mine": lse(score, where=where), "squares": total(score.square() + 1, where=where), "number": number}
        if self.form == "rows":
            return rows
        return {
            **rows,
            "theirs": lse(score, "column", where=where),
            "their_number": dataclasses.replace(number, over="column"),
            "all": total((0.1 * score).exp(), "all", where=where),
        }

    def finish(self, found):
        if self.form == "local":
            return Mean(found["loss"], found["number"])
        met = found["number"] > 0
        if self.form == "extremes":
            return Mean(torch.where(met, found["best"], 0.0) - 2 * torch.where(met, found["worst"], 0.0), met)
        if self.form == "vectors":
            return Mean(found["each"].prod(1), met)
        mine = torch.where(met, found["mine"], 0.0) * found["squares"]
        if self.form == "rows":
            return Mean(mine, found["number"])
        seen = found["their_number"] > 0
        theirs = torch.where(seen, found["theirs"], 0.0) * found["all"]
        return Mean(mine, found["number"]), Mean(theirs, found["their_number"], "column")


@pytest.mark.slow
@pytest.mark.parametrize("execution", [None, TILES], ids=["panels", "tiles"])
@pytest.mark.parametrize("two_sets", [False, True])
@pytest.mark.parametrize("form", ["rows", "vectors", "crossing", "local", "extremes"])
def test_a_term_that_says_nothing_of_ignored_pairs_is_not_counted_where_tiles_are_filled_up(form, two_sets, execution):
    x, r, relation, leaves = case(two_sets)
    sets = x, r, relation, "dot"
    given = {"scale": 0.3, "execution": execution}
    streamed = [stream(Unmasked(form), *sets, tile_size=size, **given) for size in (1, 7, 40, 90, 150, 10**6)]
    for each in (reference(Unmasked(form), *sets, scale=0.3), *streamed):
        assert_equal(each, reference(Unmasked(form, careful=True), *sets, scale=0.3), leaves)


def test_ties_stay_ties_and_duplicates_have_no_direction():
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(8)).repeat(4, 1).requires_grad_()
    labels = torch.arange(12) // 3  # every row has its copies in other classes
    for select, geometry in (("all", "euclidean"), ("semihard", "squared_euclidean"), ("hard", "euclidean")):
        truth = stream(Triplet(0.2, select), x, x, SameLabel(labels), geometry)
        found = stream(Triplet(0.2, select), x, x, SameLabel(labels), geometry, execution=TILES)
        assert found.count == truth.count
        torch.testing.assert_close(found.value, truth.value)
    value = stream(Hinge(1.0, 2, 1.0, "all", 12), x, x, SameLabel(labels), "euclidean", execution=TILES).value
    assert torch.isfinite(gradients(value, [x])[0]).all()


class _HostReads(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().replace("::", ".").rpartition(".")[0] if func.name().count(".") else func.name()
        if func.name().replace("::", ".").split(".")[1] in {each.split(".")[1] for each in HOST_READS}:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", REDUCTIONS)
def test_no_value_is_read_back(name):
    reduction, geometries = REDUCTIONS[name]
    most = 1 if name in {"all", "semihard", "hard", "facenet"} else 0  # the largest number of positives of an anchor
    for tile_size in (40, 10**6):
        x, r, relation, leaves = case(two_sets=False)
        with _HostReads() as reads:
            value = stream(reduction, x, r, relation, geometries[0], tile_size=tile_size, execution=TILES).value
            value.backward(inputs=leaves)
        assert len(reads.found) <= most, reads.found


def test_the_trace_notices_a_read():
    with _HostReads() as reads:
        bool(torch.ones(2).any())
        torch.ones(2).nonzero()
    assert len(reads.found) == 2


@pytest.mark.slow
def test_compiled_tile_code_gives_the_same_and_steady_calls_compile_nothing(starter, tmp_path):
    # in a process of its own: what checks shapes in tests cannot be traced
    done = starter(["python", Path(__file__).with_name("compiled_programs.py")], tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.split()[-2:] == ["0", "recompiled"]

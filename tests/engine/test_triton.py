"""Triton's kernels, run by its interpreter on a CPU, against the oracles and the whole matrix.

Where Triton is not installed they are skipped; `.ci/triton` runs them in an environment of its own.
"""

import dataclasses
import importlib.util
import inspect
import os
import subprocess
import sys

import pytest
import torch

import oracles
from battery.setups import batch, build
from battery.test_battery import assert_equal, every_loss, value_and_gradients
from battery.test_oracles import function, has_oracle
from engine import test_programs
from engine.test_programs import REDUCTIONS, BothWays, Spread, Unmasked, case
from tuplet.engine import Execution, reference, stream, tritonpasses
from tuplet.engine.program import Mean, Program, largest, total
from tuplet.errors import MissingExtraError
from tuplet.heads import NearestCenter
from tuplet.losses import PairLoss, ProxyLoss, TargetHeadLoss, registry
from tuplet.losses.head import HeadLoss
from tuplet.margin import Combined
from tuplet.reductions import Hinge, Softmax
from tuplet.relation import Graded, Paired, SameLabel, SharedLabel

KERNELS = Execution(engine="triton")
INTERPRETED = importlib.util.find_spec("triton") is not None and os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETED, reason="no Triton with TRITON_INTERPRET=1 here; see .ci/triton")

pytestmark = pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
"""NumPy says what no other device says: that inf - inf is no number, where it is chosen by no `where`."""

WITHOUT = {
    **dict.fromkeys(
        ["angle", "barlow_twins", "vicreg", "cosent", "dynamic_soft_margin", "histogram"], "no row program"
    ),
    **dict.fromkeys(["cpc", "instance_discrimination", "nce", "soft_triple"], "no matrix of anchors and references"),
    **dict.fromkeys(["pnp", "smooth_ap", "triplet"], "scores of the anchor's positives beside each pair"),
    **dict.fromkeys(["centroid_triplet", "log_ratio", "npair", "nt_xent", "tuplet_margin"], "terms of terms"),
}
"""Losses that take another path with their defaults, and what they ask for that a kernel has not."""


@pytest.fixture
def launched(monkeypatch):
    """Kernels that were called."""
    found, call = [], tritonpasses.Kernels.call

    def noted(self, kernel, *given):
        found.append(kernel)
        return call(self, kernel, *given)

    monkeypatch.setattr(tritonpasses.Kernels, "call", noted)
    return found


def on_kernels(name, dtype=torch.float64, **options):
    loss = build(name, dtype)
    loss.execution = Execution(engine="triton", **options)
    return loss


@interpreted
@every_loss
def test_unknown_rows_and_weights_are_as_on_panels_by_kernels_where_there_are(name, launched):
    given = batch(name)
    labels = given.given.get("labels")
    if labels is not None and not labels.is_floating_point():
        given = given.changed(labels=labels.clone().index_fill_(0, torch.tensor([2, 9]), -1))
    given = given.changed(weights=torch.arange(12).double())
    truth = value_and_gradients(build(name), given)
    assert not launched
    assert_equal(value_and_gradients(on_kernels(name), given), truth)
    assert bool(launched) == (name not in WITHOUT)


ODD = [(1, 3, True), (7, 17, False), (33, 64, True), (65, 3, False)]
TAKEN = [name for name in REDUCTIONS if name not in {"each", "all", "semihard", "hard", "facenet"}]


@interpreted
@pytest.mark.parametrize(("rows", "dim", "two_sets"), ODD)
@pytest.mark.parametrize("name", TAKEN)
def test_odd_sizes_give_the_numbers_of_the_whole_matrix(name, rows, dim, two_sets, launched):
    reduction, geometries = REDUCTIONS[name]
    generator = torch.Generator().manual_seed(rows)
    x = torch.randn(rows, dim, dtype=torch.float64, generator=generator).requires_grad_()
    y = torch.randint(-1, 4, (rows,), generator=generator)
    r, relation = x, SameLabel(y)
    if two_sets:
        r = torch.randn(40, dim, dtype=torch.float64, generator=generator).requires_grad_()
        relation = SameLabel(y, torch.randint(0, 4, (40,), generator=generator))
    weights = torch.rand(rows, dtype=torch.float64, generator=generator)
    truth = reference(reduction, x, r, relation, geometries[0], scale=3.0, weights=weights)
    found = stream(reduction, x, r, relation, geometries[0], scale=3.0, weights=weights, execution=KERNELS)
    test_programs.assert_equal(found, truth, [x, r] if two_sets else [x])
    assert launched


def with_oracle(*bases):
    return [name for name in registry if has_oracle(name, bases) and name not in WITHOUT]


def options(name):
    """The options that the oracle has, as it has them by default: numbers where a module would learn one."""
    loss, known = registry[name], inspect.signature(getattr(oracles, name)).parameters
    return {key: known[key].default for key in loss.options if key not in loss.of_module}


PRECISIONS = {  # type of the embeddings, how products are taken, and what value and gradient may be off by
    "float64": (torch.float64, KERNELS, 1e-9),
    "float32": (torch.float32, KERNELS, 2e-5),
    "bfloat16 embeddings": (torch.bfloat16, KERNELS, 1e-2),
    "bfloat16 products": (torch.float32, Execution(engine="triton", precision="bfloat16"), 3e-2),
}


@interpreted
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", with_oracle(PairLoss))
def test_pairs_equal_the_oracle(name, precision, launched):
    dtype, execution, tolerance = PRECISIONS[precision]
    rows, dim = (18, 17) if dtype == torch.float64 else (7, 64)
    x = torch.randn(rows, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(dim)).to(dtype)
    y = torch.arange(rows) % 5
    exact, leaf = x.double().requires_grad_(), x.requires_grad_()
    truth = getattr(oracles, name)(exact, y, **options(name))
    found = function(name)(leaf, y, execution=execution, **options(name))
    assert launched
    assert_near(found, truth.value, [leaf], [exact], tolerance)


@interpreted
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", with_oracle(ProxyLoss, HeadLoss, TargetHeadLoss))
def test_proxies_equal_the_oracle(name, precision, launched):
    dtype, execution, tolerance = PRECISIONS[precision]
    generator = torch.Generator().manual_seed(2)
    given = [torch.randn(rows, 17, dtype=torch.float64, generator=generator).to(dtype) for rows in (9, 35)]
    y = torch.tensor([0, 34, 3, 3, -1, 20, 31, 32, 33])
    exact, leaves = ([x.to(kind).requires_grad_() for x in given] for kind in (torch.float64, dtype))
    truth = getattr(oracles, name)(*exact, y, **options(name))
    found = function(name)(*leaves, y, execution=execution, **options(name))
    assert launched
    assert_near(found, truth.value, leaves, exact, tolerance)


def assert_near(value, truth, leaves, exact, tolerance):
    assert abs(value.item() - truth.item()) <= tolerance * max(1.0, abs(truth.item()))
    for ours, theirs in zip(*(torch.autograd.grad(*each) for each in ((value, leaves), (truth, exact))), strict=True):
        assert torch.linalg.vector_norm(ours.double() - theirs) <= tolerance * torch.linalg.vector_norm(theirs)


@interpreted
@pytest.mark.parametrize("name", ["softmax", "hinge-2", "hardest"])
def test_ties_duplicates_one_class_and_an_empty_relation(name):
    reduction, geometries = REDUCTIONS[name]
    x = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(8)).repeat(7, 1).requires_grad_()
    for labels in (torch.arange(35) // 7, torch.zeros(35, dtype=torch.int64), torch.full((35,), -1), torch.arange(35)):
        truth = stream(reduction, x, x, SameLabel(labels), geometries[0], scale=2.0)
        found = stream(reduction, x, x, SameLabel(labels), geometries[0], scale=2.0, execution=KERNELS)
        test_programs.assert_equal(found, truth, [x])


@interpreted
@pytest.mark.parametrize("two_sets", [False, True])
def test_terms_over_columns_and_over_the_whole_matrix(two_sets, launched):
    x, r, _, leaves = case(two_sets=True)
    anchors = x[:13]
    truth = stream(BothWays(), anchors, r, Paired.diagonal(13), "dot", scale=0.7)
    found = stream(BothWays(), anchors, r, Paired.diagonal(13), "dot", scale=0.7, execution=KERNELS)
    test_programs.assert_equal(found, truth, leaves)
    r, relation = (
        (r, SameLabel(torch.arange(17) % 3, torch.arange(13) % 3)) if two_sets else (x, SameLabel(torch.arange(17) % 3))
    )
    truth = reference(Spread(), x, r, relation, "dot")
    test_programs.assert_equal(
        stream(Spread(), x, r, relation, "dot", execution=KERNELS), truth, leaves[: 1 + two_sets]
    )
    assert {kernel.owner for kernel in launched} == {"row", "col"}


@interpreted
@pytest.mark.parametrize("two_sets", [False, True])
@pytest.mark.parametrize("form", ["rows", "crossing", "local", "extremes"])
def test_a_term_that_says_nothing_of_ignored_pairs_is_not_counted_beyond_the_last_row(form, two_sets, launched):
    x, r, relation, leaves = case(two_sets)
    truth = reference(Unmasked(form, careful=True), x, r, relation, "dot", scale=0.3)
    test_programs.assert_equal(
        stream(Unmasked(form), x, r, relation, "dot", scale=0.3, execution=KERNELS), truth, leaves
    )
    assert launched


@interpreted
@pytest.mark.parametrize("centers", [1, 3])
def test_class_heads_with_margins_scales_and_offsets(centers, launched):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(20, 5, dtype=torch.float64, generator=generator).requires_grad_()
    weight = torch.randn(37, centers, 5, dtype=torch.float64, generator=generator).requires_grad_()
    offset = torch.randn(37, dtype=torch.float64, generator=generator).requires_grad_()
    scale = (torch.rand(20, dtype=torch.float64, generator=generator) + 1).requires_grad_()
    relation = Paired(torch.arange(-1, 19), 37)
    given = {"margin": Combined(1, 0.5, 0.1), "scale": scale, "offset": offset, "stats": True}
    truth = stream(Softmax(), x, weight, relation, NearestCenter(), **given)
    found = stream(Softmax(), x, weight, relation, NearestCenter(), **given, execution=KERNELS)
    test_programs.assert_equal(found, truth, [x, weight, offset, scale])
    for name, value in truth.stats.items():
        torch.testing.assert_close(found.stats[name].double(), value.double(), rtol=1e-9, atol=1e-9, msg=name)
    assert bool(launched) == (centers == 1)


@interpreted
def test_labels_that_are_multiplied_and_graded_ones(launched):
    x, _, _, leaves = case(two_sets=False)
    hot = torch.rand(17, 6, generator=torch.Generator().manual_seed(5)) < 0.3
    truth = reference(Softmax(), x, x, SharedLabel(hot), "cosine")
    test_programs.assert_equal(stream(Softmax(), x, x, SharedLabel(hot), "cosine", execution=KERNELS), truth, leaves)
    assert not launched  # a product of labels is none of pairs
    values = torch.randn(17, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(6))
    for geometry in ("euclidean", "squared_euclidean"):
        truth = reference(Apart(), x, x, Graded(values, geometry=geometry), "cosine")
        found = stream(Apart(), x, x, Graded(values, geometry=geometry), "cosine", execution=KERNELS)
        test_programs.assert_equal(found, truth, leaves)
    assert launched


@dataclasses.dataclass(frozen=True)
class Apart(Program):
    """The mean of scores weighted by label distances, a power of them, and the largest score of the row."""

    power: float = 2

    def terms(self, score, pair):
        shown = torch.where(pair.negative, score, 0.0)
        return {
            "sum": total(pair.distance * shown.sigmoid() - shown.abs() ** self.power, where=pair.negative),
            "best": largest(score, where=pair.negative),
        }

    def finish(self, found):
        best = torch.where(found["best"] > -torch.inf, found["best"], 0.0)
        return Mean(found["sum"] / 10 + best, torch.ones_like(best))


@interpreted
def test_an_operator_that_is_not_known_runs_as_tile_code(launched):
    x, _, _, leaves = case(two_sets=False)
    graded = Graded(torch.randn(17, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(6)))
    truth = reference(Apart(power=2.5), x, x, graded, "cosine")
    found = stream(Apart(power=2.5), x, x, graded, "cosine", execution=KERNELS)
    test_programs.assert_equal(found, truth, leaves)
    assert not launched


@interpreted
@pytest.mark.parametrize("side", [0, 1])
def test_only_the_gradients_that_are_asked_for(side):
    x, r, relation, leaves = case(two_sets=True)
    sides = [each.detach() for each in (x, r)]
    sides[side] = leaves[side]
    for reduction, geometry in ((Softmax(), "cosine"), (Hinge(1.0, 2, 1.0, "all", 17), "euclidean")):
        truth = reference(reduction, *sides, relation, geometry)
        found = stream(reduction, *sides, relation, geometry, execution=KERNELS)
        test_programs.assert_equal(found, truth, [leaves[side]])
    value = stream(Softmax(), x.detach(), r.detach(), relation, "cosine", execution=KERNELS).value
    torch.testing.assert_close(value, reference(Softmax(), x, r, relation, "cosine").value.detach())


@interpreted
@pytest.mark.parametrize("name", ["supcon", "contrastive", "arcface"])
def test_the_same_inputs_give_the_same_bytes(name):
    given = batch(name, 40).to(torch.float32)
    first, second = (value_and_gradients(on_kernels(name, torch.float32), given) for _ in range(2))
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(*each) for each in zip(first[1], second[1], strict=True))


@pytest.mark.skipif(importlib.util.find_spec("triton") is not None, reason="Triton is installed")
def test_without_triton_the_hint_installs_it():
    x, r, relation, _ = case(two_sets=True)
    with pytest.raises(MissingExtraError) as refused:
        stream(Softmax(), x, r, relation, execution=KERNELS)
    assert "pip install triton" in refused.value.hint


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="no Triton here; see .ci/triton")
def test_without_an_accelerator_it_is_refused():
    code = """
import torch
from tuplet.engine import Execution, stream
from tuplet.reductions import Softmax
from tuplet.relation import SameLabel
x = torch.randn(4, 3)
try:
    stream(Softmax(), x, x, SameLabel(torch.arange(4)), execution=Execution(engine="triton"))
except Exception as error:
    print(type(error).__name__, error.reference)
"""
    plain = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=plain)
    assert done.stdout.split() == ["TupletError", "triton-on-a-cpu"], done.stderr

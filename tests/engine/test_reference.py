"""The slow twin and the pass give the same numbers for every reduction, and the twin can be differentiated twice."""

import pytest
import torch

from tuplet.engine import reference, stream
from tuplet.errors import TupletError
from tuplet.reductions import HardestTriplet, Hinge, Logistic, LogRatio, NearestBeyond, Softmax, SoftmaxEach, Triplet
from tuplet.relation import Graded, SameLabel

LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 0, 5, 2, 1, 9])

REDUCTIONS = {
    "softmax": Softmax(),
    "softmax in": Softmax("in"),
    "each": SoftmaxEach(),
    "hinge": Hinge(1.5, 2, 1.0, "all", num_in_batch=11),
    "hinge note": Hinge(1.5, 1, 1.0, "anchors", num_in_batch=4),
    "logistic": Logistic(),
    **{
        f"{kind}, soft {soft}": Triplet(0.7, kind, soft=soft)
        for kind in ("all", "easy", "semihard", "hard")
        for soft in (False, True)
    },
    "hardest": HardestTriplet(0.7, mean_over="anchors"),
    "nearest": NearestBeyond(0.7, mean_over="all", power=2),
}


@pytest.fixture
def embeddings():
    x = torch.randn(11, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    x[3], x[7] = x[2], x[1]
    return x.requires_grad_()


@pytest.mark.parametrize("geometry", ["cosine", "euclidean", "squared_euclidean", "dot"])
@pytest.mark.parametrize("name", REDUCTIONS)
def test_stream_equals_the_whole_matrix(name, geometry, embeddings):
    found = stream(REDUCTIONS[name], embeddings, embeddings, SameLabel(LABELS), geometry, tile_size=7)
    expected = reference(REDUCTIONS[name], embeddings, embeddings, SameLabel(LABELS), geometry)
    torch.testing.assert_close(found.value, expected.value, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(found.count, expected.count)
    ours, theirs = (torch.autograd.grad(outcome.value, embeddings)[0] for outcome in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("margin", [0.5, 4.0], ids=["few pulls", "many pulls"])
@pytest.mark.parametrize("geometry", ["euclidean", "squared_euclidean"])
@pytest.mark.parametrize("sets", [1, 2])
def test_few_pairs_act_as_many_do(margin, geometry, sets):
    x = torch.randn(280, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    labels = torch.arange(len(x)) // 2
    anchors, relation = (x, SameLabel(labels)) if sets == 1 else (x[:40], SameLabel(labels[:40], labels))
    hinge = Hinge(margin, 2, 1.0, "active", num_in_batch=280 if sets == 1 else 0)
    for reduction in (hinge,) if sets == 1 else (hinge, HardestTriplet(margin)):
        found = stream(reduction, anchors, x, relation, geometry, tile_size=140**2)
        expected = reference(reduction, anchors, x, relation, geometry)
        torch.testing.assert_close(found.value, expected.value, rtol=1e-11, atol=1e-11)
        torch.testing.assert_close(found.count, expected.count)
        ours, theirs = (torch.autograd.grad(outcome.value, x)[0] for outcome in (found, expected))
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def test_active_pairs_are_counted_alike(embeddings):
    reduction = Hinge(1.5, 2, 1.0, "active", num_in_batch=11)
    found = stream(reduction, embeddings, embeddings, SameLabel(LABELS), "euclidean", tile_size=7)
    expected = reference(reduction, embeddings, embeddings, SameLabel(LABELS), "euclidean")
    torch.testing.assert_close(found.count, expected.count)


def test_log_ratio_equals_the_whole_matrix(embeddings):
    graded = Graded(LABELS.double())
    found = stream(LogRatio(), embeddings, embeddings, graded, "squared_euclidean", tile_size=7)
    expected = reference(LogRatio(), embeddings, embeddings, graded, "squared_euclidean")
    torch.testing.assert_close(found.value, expected.value)
    ours, theirs = (torch.autograd.grad(outcome.value, embeddings)[0] for outcome in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("scale", ["number", "tensor", "per anchor"])
@pytest.mark.parametrize("geometry", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("name", ["softmax", "hinge", "all, soft True"])
def test_learned_scales_offsets_and_weights_have_gradients(name, geometry, scale, embeddings):
    generator = torch.Generator().manual_seed(5)
    scales = {
        "number": 1.7,
        "tensor": torch.tensor(1.7, dtype=torch.float64, requires_grad=True),
        "per anchor": torch.rand(11, dtype=torch.float64, generator=generator).add(0.5).requires_grad_(),
    }
    offset = torch.randn(11, dtype=torch.float64, generator=generator).requires_grad_()
    weights = torch.rand(11, dtype=torch.float64, generator=generator)
    leaves = [leaf for leaf in (embeddings, scales[scale], offset) if isinstance(leaf, torch.Tensor)]
    outcomes = [
        computed(
            REDUCTIONS[name],
            embeddings,
            embeddings,
            SameLabel(LABELS),
            geometry,
            scale=scales[scale],
            offset=offset,
            weights=weights,
            tile_size=7,
        )
        for computed in (stream, reference)
    ]
    torch.testing.assert_close(outcomes[0].value, outcomes[1].value)
    for ours, theirs in zip(*(torch.autograd.grad(outcome.value, leaves) for outcome in outcomes), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-10)


def test_the_second_derivative_is_refused_with_a_hint_and_the_twin_has_it(embeddings):
    arguments = (Softmax(), embeddings, embeddings, SameLabel(LABELS), "cosine")
    (first,) = torch.autograd.grad(stream(*arguments).value, embeddings, create_graph=True)
    with pytest.raises(TupletError, match=r"engine\.reference"):
        first.square().sum().backward()
    (first,) = torch.autograd.grad(reference(*arguments).value, embeddings, create_graph=True)
    first.square().sum().backward()
    assert torch.isfinite(embeddings.grad).all()

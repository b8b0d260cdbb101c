"""Value and gradient of losses that the battery holds to their oracles, beside those of pytorch-metric-learning."""

import pytest
import torch

from oracles.comparison import assert_same
from tuplet import losses

peers = pytest.importorskip("pytorch_metric_learning.losses")
distances = pytest.importorskip("pytorch_metric_learning.distances")


def examples(rows=24, classes=6):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 5, dtype=torch.float64, generator=generator).requires_grad_()
    return x, torch.arange(rows) % classes


def test_generalised_lifted_is_that_of_pytorch_metric_learning():
    x, labels = examples()
    distance = distances.LpDistance(normalize_embeddings=False)
    truth = peers.GeneralizedLiftedStructureLoss(neg_margin=2, distance=distance)(x, labels)
    assert_same(losses.generalized_lifted(x, labels, margin=2.0), truth, x, tolerance=1e-9)


@pytest.mark.parametrize("bins", [4, 10])
def test_fast_ap_is_that_of_pytorch_metric_learning(bins):
    x, labels = examples()
    labels[:4] = torch.arange(10, 14)  # alone in their classes
    assert_same(losses.fast_ap(x, labels, bins=bins), peers.FastAPLoss(num_bins=bins)(x, labels), x, tolerance=1e-9)


def test_proxy_nca_is_that_of_pytorch_metric_learning():
    x, labels = examples()
    loss, theirs = losses.ProxyNCALoss(9, 5, scale=3.0).double(), peers.ProxyNCALoss(9, 5, softmax_scale=3)
    theirs.proxies.data = loss.weight.detach().clone()
    found, truth = loss(x, labels), theirs(x, labels)
    assert_same(found, truth, x, tolerance=1e-9)
    (mine,) = torch.autograd.grad(found, loss.weight)
    torch.testing.assert_close(mine, torch.autograd.grad(truth, theirs.proxies)[0], rtol=0, atol=1e-9)


def test_soft_triple_is_that_of_pytorch_metric_learning():
    x, labels = examples()
    loss, theirs = losses.SoftTripleLoss(9, 5, centers=3, penalty=0.0).double(), peers.SoftTripleLoss(9, 5, 3)
    theirs.fc.data = loss.weight.detach().clone().T.contiguous()
    found, truth = loss(x, labels), theirs(x, labels)
    assert_same(found, truth, x, tolerance=1e-9)
    (mine,) = torch.autograd.grad(found, loss.weight)
    torch.testing.assert_close(mine.T, torch.autograd.grad(truth, theirs.fc)[0], rtol=0, atol=1e-9)


def test_p2sgrad_is_that_of_pytorch_metric_learning():
    x, labels = examples()
    loss, theirs = losses.P2SGradLoss(9, 5).double(), peers.P2SGradLoss(5, 9)
    theirs.weight.data = torch.nn.functional.normalize(loss.weight.detach()).T.contiguous()
    # its mean is over rows and classes; it scales its weights by a norm that is 1 to 1e-7 only
    assert_same(loss(x, labels) / 9, theirs(x, labels), x, tolerance=1e-6)


@pytest.fixture(scope="module")
def sentences():
    """The losses of sentence-transformers, which take embeddings here and no model."""
    return pytest.importorskip("sentence_transformers.sentence_transformer.losses")


def pairs(rows=9, dim=6):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(rows, dim, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2)]


@pytest.mark.parametrize(("name", "theirs"), [("cosent", "CoSENTLoss"), ("angle", "AnglELoss")])
def test_scored_pairs_are_those_of_sentence_transformers(sentences, name, theirs):
    x, y = pairs()
    scores = torch.arange(9) % 4 / 3
    truth = getattr(sentences, theirs)(None).compute_loss_from_embeddings([x, y], scores)
    assert_same(getattr(losses, name)(x, y, scores), truth, x, y, tolerance=1e-9)


@pytest.mark.parametrize("directions", [1, 2, 4])
@pytest.mark.parametrize("hard", [0, 2])
def test_directions_are_those_of_sentence_transformers(sentences, directions, hard):
    x, y = pairs()
    names = ("query_to_doc", "doc_to_query", "query_to_query", "doc_to_doc")[:directions]
    negatives = torch.randn(9, 2, 6, dtype=torch.float64)
    columns = [x, y, *negatives.unbind(1)][: 2 + hard]
    theirs = sentences.MultipleNegativesRankingLoss(None, scale=20.0, directions=names)
    truth = theirs.compute_loss_from_embeddings(columns, None)
    own = {"negatives": negatives} if hard else {}
    assert_same(losses.info_nce(x, y, temperature=0.05, directions=names, **own), truth, x, y, tolerance=1e-9)

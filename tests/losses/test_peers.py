"""Value and gradient of losses that the battery holds to their oracles, beside those of pytorch-metric-learning."""

import math

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


@pytest.mark.shows("pytorch-metric-learning", "generalized_lifted")
def test_generalised_lifted_is_that_of_pytorch_metric_learning():
    x, labels = examples()
    distance = distances.LpDistance(normalize_embeddings=False)
    truth = peers.GeneralizedLiftedStructureLoss(neg_margin=2, distance=distance)(x, labels)
    assert_same(losses.generalized_lifted(x, labels, margin=2.0), truth, x, tolerance=1e-9)


@pytest.mark.shows("pytorch-metric-learning", "fast_ap")
@pytest.mark.parametrize("bins", [4, 10])
def test_fast_ap_is_that_of_pytorch_metric_learning(bins):
    x, labels = examples()
    labels[:4] = torch.arange(10, 14)  # alone in their classes
    assert_same(losses.fast_ap(x, labels, bins=bins), peers.FastAPLoss(num_bins=bins)(x, labels), x, tolerance=1e-9)


@pytest.mark.shows("pytorch-metric-learning", "proxy_nca")
def test_proxy_nca_is_that_of_pytorch_metric_learning():
    x, labels = examples()
    loss, theirs = losses.ProxyNCALoss(9, 5, scale=3.0).double(), peers.ProxyNCALoss(9, 5, softmax_scale=3)
    theirs.proxies.data = loss.weight.detach().clone()
    found, truth = loss(x, labels), theirs(x, labels)
    assert_same(found, truth, x, tolerance=1e-9)
    (mine,) = torch.autograd.grad(found, loss.weight)
    torch.testing.assert_close(mine, torch.autograd.grad(truth, theirs.proxies)[0], rtol=0, atol=1e-9)


@pytest.mark.shows("pytorch-metric-learning", "soft_triple")
def test_soft_triple_is_that_of_pytorch_metric_learning():
    x, labels = examples()
    loss, theirs = losses.SoftTripleLoss(9, 5, centers=3, penalty=0.0).double(), peers.SoftTripleLoss(9, 5, 3)
    theirs.fc.data = loss.weight.detach().clone().T.contiguous()
    found, truth = loss(x, labels), theirs(x, labels)
    assert_same(found, truth, x, tolerance=1e-9)
    (mine,) = torch.autograd.grad(found, loss.weight)
    torch.testing.assert_close(mine.T, torch.autograd.grad(truth, theirs.fc)[0], rtol=0, atol=1e-9)


@pytest.mark.shows("pytorch-metric-learning", "p2sgrad")
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


@pytest.mark.shows("sentence-transformers")
@pytest.mark.parametrize(("name", "theirs"), [("cosent", "CoSENTLoss"), ("angle", "AnglELoss")])
def test_scored_pairs_are_those_of_sentence_transformers(sentences, name, theirs):
    x, y = pairs()
    scores = torch.arange(9) % 4 / 3
    truth = getattr(sentences, theirs)(None).compute_loss_from_embeddings([x, y], scores)
    assert_same(getattr(losses, name)(x, y, scores), truth, x, y, tolerance=1e-9)


@pytest.mark.shows("sentence-transformers", "info_nce")
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


@pytest.mark.shows("pytorch-metric-learning", "margin")
@pytest.mark.parametrize("nu", [0.0, 0.3])
def test_margin_is_that_of_pytorch_metric_learning(nu):
    x, labels = examples()
    theirs = peers.MarginLoss(margin=0.1, nu=nu, beta=1.3, learn_beta=True)
    beta = torch.tensor(1.3, dtype=torch.float64, requires_grad=True)
    theirs.beta.data = theirs.beta.data.double().fill_(1.3)
    found, truth = losses.margin(x, labels, margin=0.1, beta=beta, nu=nu), theirs(x, labels)
    assert_same(found, truth, x, tolerance=1e-9)
    (mine,), (yours,) = torch.autograd.grad(found, beta), torch.autograd.grad(truth, theirs.beta)
    torch.testing.assert_close(mine, yours[0], rtol=0, atol=1e-9)


@pytest.mark.shows("pytorch-metric-learning", "margin")
def test_margin_per_class_is_that_of_pytorch_metric_learning():
    x, labels = examples()
    theirs = peers.MarginLoss(learn_beta=True, num_classes=6)
    theirs.beta.data = torch.linspace(0.9, 1.4, 6, dtype=torch.float64)
    loss = losses.MarginLoss(beta="per-class", num_classes=6).double()
    loss.boundary.data = theirs.beta.detach().clone()
    found, truth = loss(x, labels), theirs(x, labels)
    assert_same(found, truth, x, tolerance=1e-9)
    (mine,), (yours,) = torch.autograd.grad(found, loss.boundary), torch.autograd.grad(truth, theirs.beta)
    torch.testing.assert_close(mine, yours, rtol=0, atol=1e-9)


@pytest.mark.shows("pytorch-metric-learning", "tuplet_margin")
def test_tuplet_margin_is_that_of_pytorch_metric_learning():
    x, labels = examples()
    truth = peers.TupletMarginLoss(margin=math.degrees(0.1), scale=16)(x, labels)
    assert_same(losses.tuplet_margin(x, labels, scale=16.0), truth, x, tolerance=1e-9)


@pytest.mark.shows("pytorch-metric-learning", "ranked_list")
def test_ranked_list_is_that_of_pytorch_metric_learning():
    x, labels = examples()
    labels[:4] = torch.arange(10, 14)
    # with weights from e^15 on, the 1e-5 that it adds to each of them below the line is nothing
    with pytest.warns(UserWarning, match="temperature"):
        theirs = peers.RankedListLoss(margin=4, alpha=3, Tn=15, Tp=15, imbalance=0.3)
    found = losses.ranked_list(x, labels, margin=4.0, alpha=3.0, positive_scale=15.0, negative_scale=15.0, balance=0.3)
    assert_same(found, theirs(x, labels), x, tolerance=1e-9)


@pytest.mark.shows("pytorch-metric-learning", "lifted_structure")
def test_lifted_structure_is_that_of_pytorch_metric_learning():
    x, labels = examples()
    distance = distances.LpDistance(normalize_embeddings=False)
    truth = peers.LiftedStructureLoss(neg_margin=1.5, distance=distance)(x, labels)
    assert_same(losses.lifted_structure(x, labels, margin=1.5), truth, x, tolerance=1e-9)


@pytest.mark.shows("pytorch-metric-learning", "angular")
def test_angular_is_that_of_pytorch_metric_learning():
    x, labels = examples()
    theirs = peers.AngularLoss(alpha=40)
    theirs.alpha = theirs.alpha.double()
    units = torch.nn.functional.normalize(x)  # it scales anchors and positives to length one, but no negatives
    assert_same(losses.angular(x, labels, angle=theirs.alpha.item()), theirs(units, labels), x, tolerance=1e-9)


@pytest.mark.shows("pytorch-metric-learning", "snr_contrastive")
def test_snr_contrastive_is_that_of_pytorch_metric_learning():
    x, labels = examples()
    distance = distances.SNRDistance(normalize_embeddings=False)
    truth = peers.SignalToNoiseRatioContrastiveLoss(pos_margin=0, neg_margin=2, distance=distance)(x, labels)
    assert_same(losses.snr_contrastive(x, labels, margin=2.0), truth, x, tolerance=1e-9)


@pytest.mark.shows("pytorch-metric-learning", "histogram")
@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")  # of theirs, once in a process
def test_histogram_is_that_of_pytorch_metric_learning():
    x, labels = examples()
    truth = peers.HistogramLoss(n_bins=16)(x, labels)  # it looks nodes up in float32, which 1/8 is exact in
    assert_same(losses.histogram(x, labels, bins=16), truth, x, tolerance=1e-9)


@pytest.mark.shows("pytorch-metric-learning", "pnp")
@pytest.mark.parametrize("variant", ["O", "Iu", "Ib", "Ds", "Dq"])
def test_pnp_is_that_of_pytorch_metric_learning_where_an_anchor_is_its_own_positive(variant):
    x, labels = examples()
    truth = peers.PNPLoss(b=2, alpha=4, anneal=0.1, variant=variant)(x, labels)
    options = {"variant": variant, "temperature": 0.1, "references": x, "reference_labels": labels}  # has itself in it
    assert_same(losses.pnp(x, labels, **options), truth, x, tolerance=1e-9)


@pytest.mark.shows("pytorch-metric-learning", "smooth_ap")
def test_smooth_ap_is_that_of_pytorch_metric_learning_where_an_anchor_is_its_own_positive():
    """There a class is a run of rows, and right only where there are as many classes as rows of each."""
    x, labels = examples(rows=25, classes=5)
    labels = labels.sort().values
    truth = peers.SmoothAPLoss(temperature=0.05)(x, labels).double()  # of float32
    sides = {"references": x, "reference_labels": labels}
    assert_same(losses.smooth_ap(x, labels, temperature=0.05, **sides), truth, x, tolerance=1e-6)


@pytest.mark.shows("pytorch-metric-learning", "arcface")
def test_arcface_is_that_of_pytorch_metric_learning_while_no_angle_passes_a_half_turn():
    x, labels = examples()
    loss, theirs = losses.ArcFaceLoss(9, 5, margin=0.1).double(), peers.ArcFaceLoss(9, 5, margin=math.degrees(0.1))
    theirs.W.data = loss.weight.detach().clone().T.contiguous()
    found, truth = loss(x, labels), theirs(x, labels)
    assert_same(found, truth, x, tolerance=1e-9)
    (mine,) = torch.autograd.grad(found, loss.weight)
    torch.testing.assert_close(mine.T, torch.autograd.grad(truth, theirs.W)[0], rtol=0, atol=1e-9)


@pytest.mark.shows("pytorch-metric-learning", "intra_pair_variance")
def test_intra_pair_variance_is_that_of_pytorch_metric_learning():
    x, labels = examples()
    truth = peers.IntraPairVarianceLoss(pos_eps=0.05, neg_eps=0.2)(x, labels)
    found = losses.intra_pair_variance(x, labels, positive_slack=0.05, negative_slack=0.2)
    assert_same(found, truth, x, tolerance=1e-9)


@pytest.mark.shows("pytorch-metric-learning", "threshold_consistent_margin")
def test_threshold_consistent_margin_is_that_of_pytorch_metric_learning():
    x, labels = examples()
    truth = peers.ThresholdConsistentMarginLoss(lambda_plus=2.0, margin_plus=0.6, margin_minus=0.1)(x, labels)
    options = {"positive_weight": 2.0, "positive_margin": 0.6, "negative_margin": 0.1}
    assert_same(losses.threshold_consistent_margin(x, labels, **options), truth, x, tolerance=1e-9)


def test_dynamic_soft_margin_has_the_value_of_pytorch_metric_learning():
    """There the weights have a gradient too, and momentum multiplies sums over a batch, not means."""
    x, _ = examples()
    momentum = 0.01 * 24 / (0.99 + 0.01 * 24)
    theirs, loss = peers.DynamicSoftMarginLoss(num_bins=40), losses.DynamicSoftMarginLoss(40, momentum).double()
    for step in range(3):
        y = x + torch.randn(24, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(step))
        truth = theirs(x, ref_emb=y)
        assert_same(loss(x, references=y).detach(), truth.detach(), tolerance=1e-9)
        loss.advance()

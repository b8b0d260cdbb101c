"""Losses under the names of pytorch-metric-learning beside its own: value and gradient of the same call.

A row of `EQUAL` is a row of the guide "Coming from another library".
"""

import inspect

import pytest
import torch

from oracles.comparison import assert_same
from tuplet.errors import TupletError
from tuplet.interop import pml
from tuplet.interop.heads import HeadShim

peers = pytest.importorskip("pytorch_metric_learning.losses")
distances = pytest.importorskip("pytorch_metric_learning.distances")
reducers = pytest.importorskip("pytorch_metric_learning.reducers")
miners = pytest.importorskip("pytorch_metric_learning.miners")

pytestmark = [  # of theirs
    pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Using a non-tuple sequence"),
    pytest.mark.filterwarnings("ignore:Values of Tp or Tn"),
]

ROWS, CLASSES, DIM = 24, 6, 5
LP, COSINE, DOT = distances.LpDistance, distances.CosineSimilarity, distances.DotProductSimilarity

EQUAL = [
    ("TripletMarginLoss", {}),
    ("TripletMarginLoss", {"margin": 0.3, "swap": True}),
    ("TripletMarginLoss", {"smooth_loss": True}),
    ("TripletMarginLoss", {"swap": True, "smooth_loss": True, "distance": LP(power=2)}),
    ("TripletMarginLoss", {"distance": COSINE(), "reducer": reducers.MeanReducer()}),
    ("TripletMarginLoss", {"distance": LP(normalize_embeddings=False), "margin": 1.0}),
    ("ContrastiveLoss", {}),
    ("ContrastiveLoss", {"pos_margin": 0.2, "neg_margin": 1.2}),
    ("ContrastiveLoss", {"pos_margin": 0.9, "neg_margin": 0.1, "distance": COSINE()}),
    ("SupConLoss", {}),
    ("SupConLoss", {"temperature": 0.5, "distance": DOT(normalize_embeddings=False)}),
    ("NTXentLoss", {}),
    ("MultiSimilarityLoss", {}),
    ("CircleLoss", {}),
    ("NCALoss", {}),
    ("NCALoss", {"softmax_scale": 2.0, "distance": LP(power=2, normalize_embeddings=False)}),
    ("GeneralizedLiftedStructureLoss", {"neg_margin": 1.3, "pos_margin": 0.2}),
    ("FastAPLoss", {}),
    ("NPairsLoss", {}),
    ("NPairsLoss", {"distance": DOT(normalize_embeddings=False)}),
    ("ArcFaceLoss", {}),
    ("ArcFaceLoss", {"margin": 120.0, "scale": 8.0}),
    ("SubCenterArcFaceLoss", {"sub_centers": 2}),
    ("CosFaceLoss", {}),
    ("SphereFaceLoss", {}),
    ("NormalizedSoftmaxLoss", {}),
    ("ProxyNCALoss", {}),
    ("ProxyAnchorLoss", {}),
    ("SoftTripleLoss", {}),
    ("SoftTripleLoss", {"centers_per_class": 3, "la": 5, "gamma": 0.5, "margin": 0.1}),
    ("HistogramLoss", {"n_bins": 16}),  # nodes that float32 is exact in, in which theirs are looked up
    ("HistogramLoss", {"delta": 0.25}),
    ("IntraPairVarianceLoss", {}),
    ("IntraPairVarianceLoss", {"pos_eps": 0.1, "neg_eps": 0.3}),
    ("LiftedStructureLoss", {}),
    ("LiftedStructureLoss", {"neg_margin": 1.5, "pos_margin": 0.2, "distance": LP(normalize_embeddings=False)}),
    ("LiftedStructureLoss", {"distance": LP(power=2)}),
    ("MarginLoss", {}),
    ("MarginLoss", {"margin": 0.1, "beta": 1.0, "nu": 0.3, "learn_beta": True}),
    ("MarginLoss", {"learn_beta": True, "num_classes": CLASSES}),
    ("PNPLoss", {}),
    ("PNPLoss", {"variant": "Dq", "alpha": 4, "anneal": 0.1}),
    ("RankedListLoss", {"margin": 4, "alpha": 3, "Tn": 15, "Tp": 15, "imbalance": 0.3}),  # beside e^15, 1e-5 is nothing
    ("SignalToNoiseRatioContrastiveLoss", {}),
    (
        "SignalToNoiseRatioContrastiveLoss",
        {"neg_margin": 2, "distance": distances.SNRDistance(normalize_embeddings=False)},
    ),
    ("ThresholdConsistentMarginLoss", {}),
    ("ThresholdConsistentMarginLoss", {"lambda_plus": 2.0, "margin_plus": 0.6, "margin_minus": 0.1}),
    ("TupletMarginLoss", {}),
    ("TupletMarginLoss", {"margin": 20.0, "scale": 8}),
]
LISTED = [
    "TripletMarginLoss",
    "ContrastiveLoss",
    "SupConLoss",
    "NTXentLoss",
    "MultiSimilarityLoss",
    "CircleLoss",
    "IntraPairVarianceLoss",
    "SignalToNoiseRatioContrastiveLoss",
]
ONCE = {"NTXentLoss", "IntraPairVarianceLoss", "SignalToNoiseRatioContrastiveLoss"}
SECOND_SETS = [*LISTED, "MarginLoss", "TupletMarginLoss"]


def examples(seed=0, rows=ROWS):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, DIM, dtype=torch.float64, generator=generator).requires_grad_()
    return x, torch.randint(CLASSES, (rows,), generator=generator)


def titled(row):
    return f"{row[0]}-{','.join(map(str, row[1]))}"


def both(name, settings):
    """The loss of each library; class weights are the same."""
    kind = pml.LOSSES[name]
    sizes = {"num_classes": CLASSES, "embedding_size": DIM} if issubclass(kind, HeadShim) else {}
    ours, theirs = kind(**sizes, **settings).double(), getattr(peers, name)(**sizes, **settings)
    if name == "MarginLoss":
        theirs.beta.data = theirs.beta.data.double()
        if not theirs.learn_beta:
            theirs.beta.fill_(1.2)  # in float64, as here
    if sizes:
        weight = ours.loss.proxies if name == "ProxyAnchorLoss" else ours.loss.weight
        own = next(p for p in theirs.parameters())
        own.data = weight.detach().clone() if own.shape == weight.shape else weight.detach().T.clone()
    return ours, theirs


def marked(row):
    """A row of `EQUAL` shows something of the loss that it became."""
    became = pml.become(row[0], **row[1]).name
    return pytest.param(row, id=titled(row), marks=pytest.mark.shows("pytorch-metric-learning", became))


@pytest.mark.parametrize("row", [marked(row) for row in EQUAL])
def test_a_call_has_the_value_and_the_gradient_that_it_has_there(row):
    ours, theirs = both(*row)
    x, labels = examples()
    labels = torch.arange(ROWS) % CLASSES if "Lifted" in row[0] else labels
    assert_same(ours(x, labels), theirs(x, labels), x, tolerance=1e-9)


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("miner", ["TripletMarginMiner", "MultiSimilarityMiner", "BatchHardMiner"])
def test_what_a_miner_chose_is_compared_and_nothing_else(name, miner):
    ours, theirs = both(name, {})
    x, labels = examples()
    mined = getattr(miners, miner)()(x, labels)
    if name in ONCE and len(mined) == 3:  # a pair counts as often as triplets have it there
        with pytest.raises(TupletError) as caught:
            ours(x, labels, mined)
        assert caught.value.reference == "no-equal"
        return
    found, truth = ours(x, labels, mined), theirs(x, labels, mined)
    assert_same(found, truth, x, tolerance=1e-9)
    assert truth.item() > 0


@pytest.mark.parametrize("name", SECOND_SETS)
def test_a_second_set_is_compared_as_there(name):
    ours, theirs = both(name, {})
    (x, labels), (others, their_labels) = examples(0), examples(1, 15)
    call = {"ref_emb": others, "ref_labels": their_labels}
    assert_same(ours(x, labels, **call), theirs(x, labels, **call), x, others, tolerance=1e-9)


@pytest.mark.shows("pytorch-metric-learning", "angular")
@pytest.mark.parametrize("alpha", [40, 20])
def test_an_angular_loss_of_unit_vectors_has_the_value_and_the_gradient_that_it_has_there(alpha):
    """Anchors and positives are scaled to length one there, and negatives are not."""
    ours, theirs = both("AngularLoss", {"alpha": alpha})
    x, labels = examples()
    units = torch.nn.functional.normalize(x)
    theirs.alpha = theirs.alpha.double()
    assert_same(ours(units, labels), theirs(units, labels), x, tolerance=1e-9)
    call = {"ref_emb": units.flip(0)[:20], "ref_labels": labels.flip(0)[:20]}
    assert_same(ours(units, labels, **call), theirs(units, labels, **call), x, tolerance=1e-9)


@pytest.mark.shows("pytorch-metric-learning", "p2sgrad")
def test_p2sgrad_takes_its_sizes_as_there():
    ours, theirs = pml.P2SGradLoss(DIM, CLASSES).double(), peers.P2SGradLoss(DIM, CLASSES)
    theirs.weight.data = torch.nn.functional.normalize(ours.loss.weight.detach()).T.contiguous()
    x, labels = examples()
    assert_same(ours(x, labels), theirs(x, labels), x, tolerance=1e-6)  # its weights are of length one to 1e-7 only


@pytest.mark.shows("pytorch-metric-learning", "vicreg")
@pytest.mark.parametrize("settings", [{}, {"invariance_lambda": 2, "variance_mu": 3, "covariance_v": 4, "eps": 1e-2}])
def test_two_views_without_negatives_are_compared_as_there(settings):
    (x, _), (y, _) = examples(0), examples(1)
    ours, theirs = both("VICRegLoss", settings)
    assert_same(ours(x, ref_emb=y), theirs(x, ref_emb=y), x, y, tolerance=1e-9)


MEMORIES = [
    ("TripletMarginLoss", {"margin": 0.3}),
    ("ContrastiveLoss", {}),
    ("SupConLoss", {}),
    ("NTXentLoss", {}),
    ("MultiSimilarityLoss", {}),
    ("CircleLoss", {}),
    ("IntraPairVarianceLoss", {}),
    ("SignalToNoiseRatioContrastiveLoss", {}),
    ("GeneralizedLiftedStructureLoss", {}),
]


@pytest.mark.parametrize(("row", "mined"), [(row, mined) for row in MEMORIES for mined in (False, True)][:-1])
def test_a_memory_has_the_values_and_the_gradients_that_it_has_there(row, mined):
    """Without the last: rows without a positive count there in a lifted loss, so do rows of which nothing is chosen."""
    is_lifted = row[0] == "GeneralizedLiftedStructureLoss"
    ours, theirs = both(*row)
    miner = miners.MultiSimilarityMiner() if mined else None
    mine, other = pml.CrossBatchMemory(ours, DIM, 30, miner=miner), peers.CrossBatchMemory(theirs, DIM, 30, miner=miner)
    for step in range(4):  # the third wraps round
        x, labels = examples(step, 12)
        labels = torch.arange(12) % 6 if is_lifted else labels
        assert_same(mine(x, labels), other(x, labels), x, tolerance=1e-9)
    torch.testing.assert_close(mine.embedding_memory, other.embedding_memory)


def test_rows_that_are_only_remembered_are_compared_with_the_others():
    ours, theirs = both("ContrastiveLoss", {})
    mine, other = pml.CrossBatchMemory(ours, DIM, 30), peers.CrossBatchMemory(theirs, DIM, 30)
    for step in range(3):
        x, labels = examples(step, 20)
        kept = torch.arange(20) % 2 == 0
        assert_same(mine(x, labels, enqueue_mask=kept), other(x, labels, enqueue_mask=kept), x, tolerance=1e-9)


def test_a_label_below_zero_is_a_class_as_there():
    ours, theirs = both("SupConLoss", {})
    x, labels = examples()
    assert_same(ours(x, labels - 2), theirs(x, labels - 2), x, tolerance=1e-9)


@pytest.mark.parametrize("name", ["SupConLoss", "NTXentLoss", "TripletMarginLoss", "CircleLoss"])
def test_a_batch_of_one_class_has_no_loss_as_there(name):
    ours, theirs = both(name, {})
    x, labels = examples()
    assert_same(ours(x, labels * 0), theirs(x, labels * 0), x)


@pytest.mark.parametrize("symmetric", [True, False])
def test_two_views_are_pairs(symmetric):
    (first, _), (second, _) = examples(0), examples(1)
    ours, theirs = (library.SelfSupervisedLoss(library.NTXentLoss(), symmetric=symmetric) for library in (pml, peers))
    assert_same(ours(first, second), theirs(first, second), first, second, tolerance=1e-9)


@pytest.mark.parametrize(
    "name", ["ArcFaceLoss", "SubCenterArcFaceLoss", "CosFaceLoss", "SphereFaceLoss", "ProxyAnchorLoss"]
)
def test_scores_of_classes_are_those_of_a_prediction(name):
    ours, theirs = both(name, {})
    x, _ = examples()
    torch.testing.assert_close(ours.get_logits(x), theirs.get_logits(x))


def test_outliers_are_those_far_from_the_main_center():
    ours, theirs = both("SubCenterArcFaceLoss", {})
    x, labels = examples(rows=60)
    outliers, _ = theirs.get_outliers(x, labels)
    assert 0 < len(outliers) < len(x)
    assert set(ours.get_outliers(x, labels).tolist()) == set(outliers.tolist())


@pytest.mark.parametrize("name", pml.LOSSES)
def test_defaults_are_those_of_the_other_library(name):
    """Nobody's defaults move without being noticed here."""
    ours = inspect.signature(pml.LOSSES[name].become).parameters
    theirs = {}
    for kind in reversed(getattr(peers, name).__mro__):
        if "__init__" in vars(kind):
            theirs |= inspect.signature(kind.__init__).parameters
    for key, parameter in ours.items():
        if key not in {"how", "mean"} and parameter.default is not None:
            assert parameter.default == theirs[key].default, key


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("TripletMarginLoss", {"triplets_per_anchor": 100}),
        ("TripletMarginLoss", {"distance": LP(p=1)}),
        ("TripletMarginLoss", {"distance": distances.SNRDistance()}),
        ("TripletMarginLoss", {"embedding_regularizer": object()}),
        ("ContrastiveLoss", {"distance": COSINE(), "neg_margin": 1.5}),
        ("SupConLoss", {"distance": LP()}),
        ("SupConLoss", {"reducer": reducers.SumReducer()}),
        ("SphereFaceLoss", {"scale": 2.0}),
        ("MarginLoss", {"triplets_per_anchor": 100}),
        ("MarginLoss", {"learn_beta": True, "num_classes": 3, "nu": 0.1}),
        ("HistogramLoss", {"delta": 0.3}),
        ("SignalToNoiseRatioContrastiveLoss", {"pos_margin": 0.1}),
        ("LiftedStructureLoss", {"distance": LP(p=1)}),
        ("AngularLoss", {"distance": COSINE()}),
        *((name, {}) for name in pml.REFUSED),
        ("LossOfNobody", {}),
    ],
)
def test_what_has_no_equal_is_refused(name, settings):
    with pytest.raises(TupletError) as caught:
        pml.become(name, **settings)
    assert caught.value.reference == "no-equal"


def test_every_loss_of_the_other_library_is_taken_or_refused():
    bases = {"BaseMetricLossFunction", "BaseLossWrapper", "EmbeddingRegularizerMixin", "WeightRegularizerMixin"}
    theirs = {name for name in vars(peers) if name[0].isupper()} - bases
    assert theirs <= {*pml.LOSSES, *pml.REFUSED, "SelfSupervisedLoss"}


def test_what_a_loss_makes_nothing_of_is_refused():
    x, labels = examples()
    triplets = (torch.tensor([0]), torch.tensor([1]), torch.tensor([2]))
    calls = [
        lambda: pml.FastAPLoss()(x, labels, triplets),
        lambda: pml.NTXentLoss()(x, labels, triplets),
        lambda: pml.NPairsLoss()(x, labels, ref_emb=x, ref_labels=labels),
        lambda: pml.ArcFaceLoss(CLASSES, DIM)(x, labels, ref_emb=x, ref_labels=labels),
        lambda: pml.ThresholdConsistentMarginLoss()(x, labels, ref_emb=x, ref_labels=labels),
        lambda: pml.VICRegLoss()(x, labels, ref_emb=x),
        lambda: pml.VICRegLoss()(x),
        lambda: pml.CrossBatchMemory(pml.FastAPLoss(), DIM),
        lambda: pml.CrossBatchMemory(pml.SupConLoss(), DIM)(x, labels, triplets),
    ]
    for call in calls:
        with pytest.raises(TupletError) as caught:
            call()
        assert caught.value.reference == "no-equal"

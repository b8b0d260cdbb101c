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

pytestmark = pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # of SphereFace there

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
]
LISTED = ["TripletMarginLoss", "ContrastiveLoss", "SupConLoss", "NTXentLoss", "MultiSimilarityLoss", "CircleLoss"]
SECOND_SETS = ["TripletMarginLoss", "ContrastiveLoss", "SupConLoss", "NTXentLoss", "MultiSimilarityLoss", "CircleLoss"]


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
    if sizes:
        weight = ours.loss.proxies if name == "ProxyAnchorLoss" else ours.loss.weight
        own = next(p for p in theirs.parameters())
        own.data = weight.detach().clone() if own.shape == weight.shape else weight.detach().T.clone()
    return ours, theirs


@pytest.mark.parametrize("row", EQUAL, ids=titled)
def test_a_call_has_the_value_and_the_gradient_that_it_has_there(row):
    ours, theirs = both(*row)
    x, labels = examples()
    labels = torch.arange(ROWS) % CLASSES if "Lifted" in row[0] else labels
    assert_same(ours(x, labels), theirs(x, labels), x, tolerance=1e-8)


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("miner", ["TripletMarginMiner", "MultiSimilarityMiner", "BatchHardMiner"])
def test_what_a_miner_chose_is_compared_and_nothing_else(name, miner):
    ours, theirs = both(name, {})
    x, labels = examples()
    mined = getattr(miners, miner)()(x, labels)
    if name == "NTXentLoss" and len(mined) == 3:
        pytest.skip("a pair counts as often as triplets have it there")
    found, truth = ours(x, labels, mined), theirs(x, labels, mined)
    assert_same(found, truth, x, tolerance=1e-8)
    assert truth.item() > 0


@pytest.mark.parametrize("name", SECOND_SETS)
def test_a_second_set_is_compared_as_there(name):
    ours, theirs = both(name, {})
    (x, labels), (others, their_labels) = examples(0), examples(1, 15)
    call = {"ref_emb": others, "ref_labels": their_labels}
    assert_same(ours(x, labels, **call), theirs(x, labels, **call), x, others, tolerance=1e-8)


def test_a_label_below_zero_is_a_class_as_there():
    ours, theirs = both("SupConLoss", {})
    x, labels = examples()
    assert_same(ours(x, labels - 2), theirs(x, labels - 2), x, tolerance=1e-8)


@pytest.mark.parametrize("name", ["SupConLoss", "NTXentLoss", "TripletMarginLoss", "CircleLoss"])
def test_a_batch_of_one_class_has_no_loss_as_there(name):
    ours, theirs = both(name, {})
    x, labels = examples()
    assert_same(ours(x, labels * 0), theirs(x, labels * 0), x)


@pytest.mark.parametrize("symmetric", [True, False])
def test_two_views_are_pairs(symmetric):
    (first, _), (second, _) = examples(0), examples(1)
    ours, theirs = (library.SelfSupervisedLoss(library.NTXentLoss(), symmetric=symmetric) for library in (pml, peers))
    assert_same(ours(first, second), theirs(first, second), first, second, tolerance=1e-8)


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
        if key not in {"distance", "reducer"} and parameter.default is not None:
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
        ("VICRegLoss", {}),
    ],
)
def test_what_has_no_equal_is_refused(name, settings):
    with pytest.raises(TupletError) as caught:
        pml.become(name, **settings)
    assert caught.value.reference == "no-equal"


def test_what_a_loss_makes_nothing_of_is_refused():
    x, labels = examples()
    triplets = (torch.tensor([0]), torch.tensor([1]), torch.tensor([2]))
    calls = [
        lambda: pml.FastAPLoss()(x, labels, triplets),
        lambda: pml.NTXentLoss()(x, labels, triplets),
        lambda: pml.NPairsLoss()(x, labels, ref_emb=x, ref_labels=labels),
        lambda: pml.ArcFaceLoss(CLASSES, DIM)(x, labels, ref_emb=x, ref_labels=labels),
    ]
    for call in calls:
        with pytest.raises(TupletError) as caught:
            call()
        assert caught.value.reference == "no-equal"

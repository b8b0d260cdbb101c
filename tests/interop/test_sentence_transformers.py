"""Calls of the losses of sentence-transformers beside their equals here: value and gradient."""

import pytest
import torch

from oracles.comparison import assert_same
from tuplet.losses import contrastive, info_nce, triplet


def baseline(name):
    """A loss of theirs; imported where it is used, since it takes seconds that only one of the workers must spend."""
    return getattr(pytest.importorskip("sentence_transformers.losses"), name)


def columns(count=2, rows=10):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(rows, 5, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(count)]


def theirs(name, embeddings, labels=None, **settings):
    """The loss of embeddings, which a model would have made of texts."""
    return baseline(name)(None, **settings).compute_loss_from_embeddings(embeddings, labels)


def test_multiple_negatives_ranking_is_info_nce():
    query, positive, negative = columns(3)
    found = info_nce(query, torch.cat([positive, negative]), temperature=1 / 20)
    truth = theirs("MultipleNegativesRankingLoss", [query, positive, negative], scale=20.0)
    assert_same(found, truth, query, positive, negative)


def test_the_symmetric_one_is_symmetric_info_nce():
    query, positive = columns()
    found = info_nce(query, positive, temperature=1 / 20, symmetric=True)
    settings = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
    truth = theirs("MultipleNegativesRankingLoss", [query, positive], **settings)
    assert_same(found, truth, query, positive)


def test_contrastive_of_pairs_with_zeros_and_ones_is_hadsells():
    first, second = columns()
    same = torch.arange(10) % 2
    truth = theirs("ContrastiveLoss", [first, second], same, margin=0.5)
    found = contrastive(first, references=second, same=same, convention="hadsell", geometry="cosine", margin=0.5)
    assert_same(found, truth, first, second, tolerance=1e-7)  # there in float32


def test_triplets_are_listed_ones():
    anchor, positive, negative = columns(3)
    truth = theirs("TripletLoss", [anchor, positive, negative], triplet_margin=5)
    call = {"positives": positive, "negatives": negative, "geometry": "euclidean", "mean_over": "all"}
    assert_same(triplet(anchor, margin=5.0, **call), truth, anchor, positive, negative, tolerance=1e-5)  # adds 1e-6


@pytest.mark.parametrize(
    ("name", "select"),
    [("BatchAllTripletLoss", "all"), ("BatchHardTripletLoss", "batch_hard"), ("BatchSemiHardTripletLoss", "facenet")],
)
def test_triplets_of_a_batch_are_selected_as_there(name, select):
    (x,) = columns(1)
    labels = torch.arange(10) % 3
    truth = baseline(name)(None, margin=5)
    found = triplet(x, labels, margin=5.0, geometry="euclidean", select=select)
    assert_same(found, truth.compute_loss_from_embeddings([x], labels), x, tolerance=1e-6)


def test_soft_batch_hard_is_soft():
    (x,) = columns(1)
    labels = torch.arange(10) % 3
    found = triplet(x, labels, geometry="euclidean", select="batch_hard", soft=True)
    assert_same(found, theirs("BatchHardSoftMarginTripletLoss", [x], labels), x, tolerance=1e-6)

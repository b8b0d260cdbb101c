"""Pairs and triplets that a person lists: each row is one, and rows do not meet each other."""

import pytest
import torch

from oracles.comparison import assert_same
from shapes import unchecked
from tuplet.errors import TupletError
from tuplet.losses import ContrastiveLoss, NTXentLoss, TripletLoss, contrastive, nt_xent, supcon, triplet

GEOMETRIES = ["euclidean", "squared_euclidean", "cosine", "dot"]


def rows(count: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(7, 3, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(count)]


def distance(a, b, geometry):
    if geometry == "dot":
        return -(a @ b)
    if geometry == "cosine":
        return 1 - (a @ b) / (a.norm() * b.norm())
    squared = ((a - b) ** 2).sum()
    return squared if geometry == "squared_euclidean" else squared.sqrt()


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("power", [1, 2])
def test_listed_triplets_are_the_sum_over_rows(geometry, power):
    a, p, n = rows(3)
    terms = [
        (distance(x, y, geometry) - distance(x, z, geometry) + 0.7).clamp_min(0) ** power
        for x, y, z in zip(a, p, n, strict=True)
    ]
    truth = torch.stack(terms).mean()
    options = {"margin": 0.7, "geometry": geometry, "power": power, "mean_over": "all"}
    assert_same(triplet(a, positives=p, negatives=n, **options), truth, a, p, n)
    outcome = TripletLoss(**options).measure(a, positives=p, negatives=n)
    assert_same(outcome.value, truth, a, p, n)
    assert outcome.count.item() == 7
    found = {kind: outcome.stats[kind].item() for kind in ("easy", "semihard", "hard")}
    assert sum(found.values()) == 7


def test_the_value_is_that_of_torch():
    a, p, n = rows(3)
    torch_says = torch.nn.functional.triplet_margin_loss(a, p, n, margin=1.0, eps=0.0)
    ours = triplet(a, positives=p, negatives=n, margin=1.0, geometry="euclidean", mean_over="all")
    assert_same(ours, torch_says, a, p, n)


def test_several_negatives_of_each_anchor_and_their_hardest():
    a, p = rows(2)
    n = torch.stack(rows(4, seed=1), 1).detach().requires_grad_()
    near = (a - p).square().sum(1)
    far = (a[:, None] - n).square().sum(2)
    every = (near[:, None] - far + 0.5).clamp_min(0)
    options = {"margin": 0.5, "positives": p, "negatives": n}
    assert_same(triplet(a, mean_over="all", **options), every.mean(), a, p, n)
    hardest = (near - far.amin(1) + 0.5).clamp_min(0).mean()
    assert_same(triplet(a, select="batch_hard", **options), hardest, a, p, n)


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("convention", ["sohn", "hadsell", "note"])
def test_listed_pairs_with_zero_and_one(geometry, convention):
    a, b = rows(2)
    same = torch.tensor([1, 0, 0, 1, 1, 0, 0])
    power, factor = {"sohn": (2, 1.0), "hadsell": (2, 0.5), "note": (1, 1.0)}[convention]
    apart = torch.stack([distance(x, y, geometry) for x, y in zip(a, b, strict=True)])
    terms = torch.where(same == 1, apart**power, (1.5 - apart).clamp_min(0) ** power)
    truth = factor * terms.mean()
    options = {"margin": 1.5, "convention": convention, "geometry": geometry}
    for reported in (same, same.bool(), same.tolist(), same.to(torch.uint8)):
        assert_same(ContrastiveLoss(**options)(a, references=b, same=reported), truth, a, b)
    assert_same(contrastive(a, references=b, same=same, **options), truth, a, b)


def test_weights_and_equal_rows():
    a, p, n = rows(3)
    p.data[0], n.data[1] = a.data[0], a.data[1]
    w = torch.tensor([1.0, 2.0, 0.0, 1.0, 0.5, 3.0, 1.0], dtype=torch.float64)
    apart, beyond = (a - p).square().sum(1), (a - n).square().sum(1)
    terms = (
        apart.clamp_min(1e-300).sqrt() * (apart > 0) - beyond.clamp_min(1e-300).sqrt() * (beyond > 0) + 1
    ).clamp_min(0)
    value = triplet(a, positives=p, negatives=n, margin=1.0, geometry="euclidean", mean_over="all", weights=w)
    assert value.item() == pytest.approx(((terms * w).sum() / w.sum()).item())
    value.backward()
    assert all(torch.isfinite(x.grad).all() for x in (a, p, n))
    assert (a.grad[2] == 0).all()


A, P, N = rows(3)
REFUSED = {
    "Row i of all three": lambda: triplet(A, positives=P[:3], negatives=N),
    "positives=..., negatives": lambda: triplet(A, positives=P),
    "row i of each is one triplet": lambda: TripletLoss()(A, negatives=N),
    "Leave labels out": lambda: TripletLoss()(A, torch.arange(7) // 2, positives=P, negatives=N),
    "references=second": lambda: ContrastiveLoss()(A, same=torch.ones(7)),
    "0 (or False)": lambda: ContrastiveLoss()(A, references=P, same=torch.full((7,), -1)),
    "of embeddings is references=": lambda: TripletLoss()(A, P),
}


@pytest.mark.parametrize("said", REFUSED)
def test_calls_that_do_not_say_who_belongs_to_whom_are_refused(said):
    with unchecked(), pytest.raises(TupletError) as error:
        REFUSED[said]()
    assert said in error.value.hint


def _published(x, labels, tau):
    """Each ordered pair of one label by itself: its own partner and the negatives in the sum, other positives not."""
    unit = x / x.norm(dim=1, keepdim=True)
    s, losses = unit @ unit.T / tau, []
    for i in range(len(x)):
        others = [j for j in range(len(x)) if labels[j] != labels[i]]
        partners = [j for j in range(len(x)) if labels[j] == labels[i] and j != i]
        each = [torch.logsumexp(torch.stack([s[i, p], *(s[i, j] for j in others)]), 0) - s[i, p] for p in partners]
        if each:
            losses.append(torch.stack(each).mean())
    return torch.stack(losses).mean()


@pytest.mark.parametrize("labels", [[0, 0, 0, 1, 1, 1, 2], [0, 0, 1, 1, 2, 2, 3], [0, 0, 0, 0, 1, 1, 2]])
def test_nt_xent_leaves_other_positives_out_of_the_sum(labels):
    (x,), ids = rows(1), torch.tensor(labels)
    truth = _published(x, labels, 0.2)
    assert_same(nt_xent(x, ids, temperature=0.2), truth, x)
    assert_same(NTXentLoss(0.2)(x, ids), truth, x)
    has_pairs = max(labels.count(label) for label in labels) <= 2
    assert torch.isclose(truth, supcon(x, ids, temperature=0.2)).item() is has_pairs

"""Equations between losses, in value and in gradient."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy, normalize, softplus

from oracles.comparison import assert_same, gradients, quick
from oracles.problems import Case, Problem, case, problems
from tuplet import losses
from tuplet.engine import stream
from tuplet.losses import (
    TripletLoss,
    a_softmax,
    combined_margin,
    contrastive,
    info_nce,
    log_ratio,
    npair,
    nt_xent,
    supcon,
    triplet,
)
from tuplet.reductions import Softmax
from tuplet.relation import Paired

NOTHING = 1e-300  # as eps: too small to be seen, and its logarithm is finite


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


@quick
@given(case=case(pairs=True), margin=st.sampled_from([0.5, 2.0]))
def test_sohns_contrastive_loss_is_twice_hadsells(case: Case, margin):
    one, two = (
        contrastive(case.embeddings, case.labels, margin=margin, convention=convention, **case.sides)
        for convention in ("hadsell", "sohn")
    )
    assert_same(two, 2 * one, *case.leaves)


@quick
@given(problem=problems(grid=False, copies=False))
def test_for_unit_rows_the_cosine_note_is_half_the_euclidean_one(problem: Problem):
    x = problem.anchors
    cosine = contrastive(x, problem.labels, margin=0.4, convention="note", geometry="cosine")
    euclidean = contrastive(normalize(x), problem.labels, margin=0.8, convention="note")
    assert_same(2 * cosine, euclidean, x)


@quick
@given(problem=problems(least=4, most=4), tau=st.sampled_from([0.05, 1.0]))
def test_nt_xent_is_supcon_of_both_views_together(problem: Problem, tau):
    a, b = problem.anchors, problem.references
    ids = torch.arange(4).repeat(2)
    together = supcon(torch.cat([a, b]), ids, temperature=tau)
    assert_same(nt_xent(a, references=b, temperature=tau), together, a, b)


@quick
@given(case=case())
def test_supcons_forms_agree_for_one_positive_and_are_ordered_for_more(case: Case):
    inside, outside = (supcon(case.embeddings, case.labels, where=where, **case.sides) for where in ("in", "out"))
    assert inside <= outside + 1e-12
    a, b = normal(5, 3), normal(5, 3, seed=1)
    ids = torch.arange(5)
    sides = {"references": b, "reference_labels": ids}
    assert_same(supcon(a, ids, where="in", **sides), supcon(a, ids, where="out", **sides), a, b)


def test_a_tuplet_with_one_negative_is_a_smooth_triplet():
    f, positive, negative = normal(4, 3), normal(4, 3, seed=1), normal(4, 1, 3, seed=2)
    found = npair(f, references=positive, negatives=negative)
    expected = softplus((f * negative[:, 0]).sum(1) - (f * positive).sum(1)).mean()
    assert_same(found, expected, f, positive, negative)


def test_n_pair_of_two_pairs_is_two_smooth_triplets_and_the_one_vs_one_form():
    f, positive = normal(2, 3), normal(2, 3, seed=1)
    scores = f @ positive.T
    expected = (softplus(scores[0, 1] - scores[0, 0]) + softplus(scores[1, 0] - scores[1, 1])) / 2
    assert_same(npair(f, references=positive), expected, f, positive)
    assert_same(npair(f, references=positive, one_vs_one=True), expected, f, positive)


@quick
@given(problem=problems(least=5, most=5))
def test_n_pair_is_cross_entropy_and_info_nce_without_normalising(problem: Problem):
    f, positive = problem.anchors, problem.references
    found = npair(f, references=positive)
    assert_same(found, cross_entropy(f @ positive.T, torch.arange(5)), f, positive)
    assert_same(found, info_nce(f, positive, temperature=1.0, geometry="dot"), f, positive)
    assert found <= npair(f, references=positive, one_vs_one=True) + 1e-12


@quick
@given(problem=problems(least=4, grid=False, copies=False, unknown=False))
def test_log_ratio_is_twice_the_variance_of_the_log_ratios(problem: Problem):
    f = problem.anchors
    y = normal(len(f), 2).detach()
    rows = []
    for a in range(len(f)):
        others = [i for i in range(len(f)) if i != a]
        d_f, d_y = (f[others] - f[a]).square().sum(1), (y[others] - y[a]).square().sum(1)
        rows.append(2 * ((d_f + 1e-6).log() - (d_y + 1e-6).log()).var())
    assert_same(log_ratio(f, y), torch.stack(rows).mean(), f, tolerance=1e-8)


def test_log_ratio_does_not_feel_the_scale_of_embeddings_or_labels():
    f, y = normal(6, 3), normal(6, 2, seed=1).detach()
    torch.testing.assert_close(log_ratio(3 * f, y, eps=NOTHING), log_ratio(f, y, eps=NOTHING))
    torch.testing.assert_close(log_ratio(f, 7 * y, eps=NOTHING), log_ratio(f, y, eps=NOTHING))


def test_squared_log_ratio_is_four_times_the_plain_one_without_eps():
    f, y = normal(6, 3), normal(6, 2, seed=1).detach()
    assert_same(log_ratio(f, y, eps=NOTHING), 4 * log_ratio(f, y, eps=NOTHING, geometry="euclidean"), f)


@quick
@given(
    case=case(grid=True),
    margin=st.sampled_from([0.25, 1.0]),
    geometry=st.sampled_from(["euclidean", "squared_euclidean"]),
)
def test_all_triplets_are_the_semihard_and_the_hard(case: Case, margin, geometry):
    options = {"margin": margin, "geometry": geometry}

    def total(select: str, **more: float):
        return TripletLoss(select=select, **options, **more).measure(case.embeddings, case.labels, **case.sides)

    found = {select: total(select) for select in ("all", "semihard", "hard")}
    assert found["all"].count == found["semihard"].count + found["hard"].count
    torch.testing.assert_close(
        found["all"].total, found["semihard"].total + found["hard"].total, rtol=1e-10, atol=1e-10
    )
    # where ties are left out they are nobody's; the loss of each is the margin
    strict = total("hard", hard_offset=0.0)
    ties = found["hard"].count - strict.count
    assert ties >= 0
    torch.testing.assert_close(found["hard"].total, strict.total + margin * ties, rtol=1e-10, atol=1e-10)


@quick
@given(case=case(grid=False, copies=False), margin=st.sampled_from([0.25, 1.0]), power=st.sampled_from([1, 2]))
def test_without_ties_all_triplets_have_the_gradient_of_the_semihard_and_the_hard(case: Case, margin, power):
    found = {
        select: TripletLoss(margin, select, power=power).measure(case.embeddings, case.labels, **case.sides).total
        for select in ("all", "semihard", "hard")
    }
    assert_same(found["all"], found["semihard"] + found["hard"], *case.leaves, tolerance=1e-9)


@quick
@given(problem=problems(least=5, most=5, dims=(2, 4), grid=False, copies=False))
def test_a_softmax_with_one_as_margin_is_cross_entropy_without_bias(problem: Problem):
    x, w, labels = problem.anchors, problem.references, torch.arange(5).flip(0)
    expected = cross_entropy(x @ normalize(w).T, labels)
    assert_same(a_softmax(x, w, labels, margin=1, annealing=0.0), expected, x, w)


@quick
@given(problem=problems(least=5, most=5, dims=(2, 4), grid=False, copies=False), m=st.sampled_from([1, 2, 3, 4]))
def test_a_softmax_is_a_reflected_multiple_of_the_angle_scaled_by_the_length(problem: Problem, m):
    x, w, labels = problem.anchors, problem.references, torch.arange(5).flip(0)
    length = x.detach().norm(dim=1)
    rows = [  # one row at a time, since a scale is one number
        combined_margin(x[i : i + 1], w, labels[i : i + 1], m1=float(m), m2=0.0, m3=0.0, scale=length[i].item())
        for i in range(5)
    ]
    found = a_softmax(x, w, labels, margin=m, annealing=0.0)
    (of_weights,), (expected,) = gradients(found, w), gradients(torch.stack(rows).mean(), w)
    torch.testing.assert_close(found, torch.stack(rows).mean())
    torch.testing.assert_close(of_weights, expected, rtol=1e-9, atol=1e-9)
    # the features' gradient is that of the directions, and along each feature what its length adds
    mine, theirs = gradients(found, x)[0], gradients(torch.stack(rows).mean(), x)[0]
    across = mine - normalize(x) * (mine * normalize(x)).sum(1, keepdim=True)
    torch.testing.assert_close(across, theirs, rtol=1e-9, atol=1e-9)


@quick
@given(problem=problems(least=5, most=5, dims=(2, 4), grid=False, copies=False), scale=st.sampled_from([2.0, 30.0]))
def test_a_head_without_margin_is_info_nce_with_one_proxy_for_each_sample(problem: Problem, scale):
    x, w = problem.anchors, problem.references
    found = combined_margin(x, w, torch.arange(5), m1=1.0, m2=0.0, m3=0.0, scale=scale)
    assert_same(found, info_nce(x, w, temperature=1 / scale), x, w)


def test_instance_discrimination_is_info_nce_onto_a_constant_bank():
    f, bank = normal(4, 3), normalize(normal(7, 3, seed=1)).detach()
    positions = torch.tensor([3, 0, 6, 3])
    found = losses.instance_discrimination(f, bank, positions, temperature=0.2)
    assert_same(found, info_nce(f, bank, Paired(positions, 7), temperature=0.2), f)
    assert_same(found, cross_entropy(normalize(f) @ bank.T / 0.2, positions), f)


def test_equal_embeddings_give_the_log_of_the_candidates_and_no_gradient():
    x = torch.ones(5, 3, dtype=torch.float64, requires_grad=True)
    y = torch.ones(5, 3, dtype=torch.float64, requires_grad=True)
    value = info_nce(x, y)
    assert value.item() == pytest.approx(math.log(5))
    for gradient in gradients(value, x, y):
        assert gradient.abs().max() < 1e-14


CENTERS = normal(3, 4, seed=6).detach()
NORMALISED = {
    "cosface": lambda x: losses.cosface(x, CENTERS, torch.arange(8) % 3, scale=8.0),
    "arcface": lambda x: losses.arcface(x, CENTERS, torch.arange(8) % 3, scale=8.0),
    "supcon": lambda x: supcon(x, torch.arange(8) % 3),
    "nt_xent": lambda x: nt_xent(x[:4], references=x[4:]),
    "info_nce": lambda x: info_nce(x[:4], x[4:], symmetric=True),
    "contrastive": lambda x: contrastive(x, torch.arange(8) % 3, geometry="cosine"),
    "triplet": lambda x: triplet(x, torch.arange(8) % 3, geometry="cosine"),
    "instance_discrimination": lambda x: losses.instance_discrimination(
        x, normalize(normal(9, 4, seed=5)).detach(), torch.arange(8)
    ),
}
TABLES = {"instance_discrimination", "cosface", "arcface"}  # which would have to be turned too
FREE = {
    "npair": lambda x: npair(x, torch.arange(8) % 3),
    "contrastive-euclidean": lambda x: contrastive(x, torch.arange(8) % 3, margin=3.0),
    "triplet-euclidean": lambda x: triplet(x, torch.arange(8) % 3, geometry="euclidean"),
    "log_ratio": lambda x: log_ratio(x, torch.arange(8.0) ** 1.5),
}


@pytest.mark.parametrize("name", NORMALISED)
def test_the_scale_of_the_embeddings_divides_the_gradient_of_normalised_losses(name):
    x = normal(8, 4)
    value, larger = NORMALISED[name](x), NORMALISED[name](3 * x.detach().requires_grad_())
    torch.testing.assert_close(larger, value)
    scaled = (3 * x).detach().requires_grad_()
    (one,), (third,) = gradients(value, x), gradients(NORMALISED[name](scaled), scaled)
    torch.testing.assert_close(third, one / 3)
    torch.testing.assert_close((one * x).sum(1), torch.zeros(8).double(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", sorted((NORMALISED | FREE).keys() - TABLES))
def test_turning_the_embeddings_turns_the_gradient(name):
    loss, x = (NORMALISED | FREE)[name], normal(8, 4)
    rotation = torch.linalg.qr(normal(4, 4, seed=9))[0].detach()
    turned = (x @ rotation).detach().requires_grad_()
    value, same = loss(x), loss(turned)
    torch.testing.assert_close(same, value)
    torch.testing.assert_close(gradients(same, turned)[0], gradients(value, x)[0] @ rotation)


@pytest.mark.parametrize("name", ["contrastive-euclidean", "triplet-euclidean", "log_ratio"])
def test_moving_the_embeddings_changes_nothing_for_distances(name):
    x = normal(8, 4)
    moved = (x + 5).detach().requires_grad_()
    torch.testing.assert_close(FREE[name](moved), FREE[name](x))
    torch.testing.assert_close(gradients(FREE[name](moved), moved)[0], gradients(FREE[name](x), x)[0])


def test_cross_entropy_is_the_sum_of_its_shards():
    """The log of the mass over all references is the log of the summed masses of two halves."""
    a, r = normal(5, 3), normal(8, 3, seed=1)
    labels = torch.tensor([0, 7, 3, 4, 5])
    whole = stream(Softmax(), a, r, Paired(labels, 8), "dot").value
    scores = a @ r.T
    masses = torch.stack([scores[:, :4].logsumexp(1), scores[:, 4:].logsumexp(1)], 1).logsumexp(1)
    assert_same(whole, (masses - scores[torch.arange(5), labels]).mean(), a, r)

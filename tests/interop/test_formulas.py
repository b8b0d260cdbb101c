"""Losses of libraries that are not installed here, written from their formulas, beside their equals here."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy, logsigmoid, normalize

from oracles.comparison import assert_same
from tuplet.losses import combined_margin, cosface, info_nce, nt_xent, siglip, triplet

ROWS, CLASSES, DIM = 12, 5, 6


@pytest.fixture
def views():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(ROWS, DIM, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(2)]


@pytest.mark.shows("formula of open_clip", "info_nce")
def test_open_clip_with_its_scale_is_symmetric_info_nce(views):
    image, text = views
    scale = torch.tensor(14.0, dtype=torch.float64, requires_grad=True)
    scores, own = scale * normalize(image) @ normalize(text).T, torch.arange(ROWS)
    truth = (cross_entropy(scores, own) + cross_entropy(scores.T, own)) / 2
    assert_same(info_nce(image, text, temperature=1 / scale, symmetric=True), truth, image, text, scale)


@pytest.mark.shows("formula of open_clip", "siglip")
def test_open_clip_sigmoid_is_siglip(views):
    image, text = views
    signs = 2 * torch.eye(ROWS, dtype=torch.float64) - 1
    scores = 10 * normalize(image) @ normalize(text).T - 10
    truth = -logsigmoid(signs * scores).sum() / ROWS
    assert_same(siglip(image, references=text, scale=10.0, bias=-10.0), truth, image, text)


@pytest.mark.shows("formula of lightly", "nt_xent")
def test_lightly_nt_xent_is_that_of_two_views(views):
    first, second = views
    both = normalize(torch.cat([first, second]))
    scores = (both @ both.T / 0.5).masked_fill(torch.eye(2 * ROWS, dtype=torch.bool), -math.inf)
    truth = cross_entropy(scores, torch.arange(2 * ROWS).roll(ROWS))
    assert_same(nt_xent(first, references=second, temperature=0.5), truth, first, second)


def test_lightly_with_a_memory_bank_is_info_nce_whose_negatives_are_the_queue_alone(views):
    first, second = views
    bank = torch.randn(7, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    near = (normalize(first) * normalize(second)).sum(1, keepdim=True)
    truth = cross_entropy(torch.cat([near, normalize(first) @ normalize(bank).T], 1) / 0.5, torch.zeros(ROWS).long())
    per_row = [info_nce(first[[i]], torch.cat([second[[i]], bank]), temperature=0.5) for i in range(ROWS)]
    assert_same(torch.stack(per_row).mean(), truth, first, second)


@pytest.mark.shows("formula of insightface", "combined_margin")
@pytest.mark.parametrize("margin", [0.5, 2.5])
def test_arcface_of_insightface_and_of_open_metric_learning_goes_on_as_a_line(views, margin):
    x, weight = views
    labels = torch.arange(ROWS) % CLASSES
    cosines = normalize(x) @ normalize(weight[:CLASSES]).T
    angle = cosines.gather(1, labels[:, None]).acos()
    beyond = angle.cos() - margin * math.sin(margin)
    target = torch.where(angle < math.pi - margin, (angle + margin).cos(), beyond)
    truth = cross_entropy(64 * cosines.scatter(1, labels[:, None], target), labels)
    options = {"m1": 1.0, "m2": margin, "m3": 0.0, "extension": "linear", "scale": 64.0}
    assert_same(combined_margin(x, weight[:CLASSES], labels, **options), truth, x, weight, tolerance=1e-9)


@pytest.mark.shows("formula of insightface", "cosface")
def test_cosface_of_insightface_has_another_margin(views):
    x, weight = views
    labels = torch.arange(ROWS) % CLASSES
    cosines = normalize(x) @ normalize(weight[:CLASSES]).T
    own = torch.nn.functional.one_hot(labels, CLASSES).double()
    truth = cross_entropy(64 * (cosines - 0.4 * own), labels)
    assert_same(cosface(x, weight[:CLASSES], labels, margin=0.4, scale=64.0), truth, x, weight)


@pytest.mark.shows("formula of open-metric-learning", "triplet")
@pytest.mark.parametrize("margin", [0.2, None])
def test_triplets_of_open_metric_learning_are_all_of_a_batch(views, margin):
    x, labels = views[0], torch.arange(ROWS) % CLASSES
    distances = (x[:, None] - x).square().sum(2).add(1e-300).sqrt()
    same = labels[:, None] == labels
    valid = (same & ~torch.eye(ROWS, dtype=torch.bool))[:, :, None] & ~same[:, None, :]
    excess = (distances[:, :, None] - distances[:, None, :])[valid]
    truth = torch.log1p(excess.exp()).mean() if margin is None else torch.relu(margin + excess).mean()
    form = {"soft": True} if margin is None else {"margin": margin}
    assert_same(triplet(x, labels, geometry="euclidean", mean_over="all", **form), truth, x, tolerance=1e-9)

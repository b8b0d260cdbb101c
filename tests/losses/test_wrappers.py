"""Losses around a loss: every prefix by itself, and the terms that are added, against plain sums."""

import copy

import pytest
import torch

import oracles
from oracles.comparison import assert_same
from oracles.rules import unit
from tuplet import losses
from tuplet.errors import ShapeError
from tuplet.losses import FeatureQueue, MatryoshkaLoss, RegularisedLoss

IDS = torch.arange(12) % 4


def rows(dim=6, count=12, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, dim, dtype=torch.float64, generator=generator).requires_grad_()


def test_prefixes_of_a_loss_of_pairs_add_up():
    x = rows()
    found = MatryoshkaLoss(losses.SupConLoss(), [2, 4, 6], [1.0, 0.5, 2.0])(x, IDS)
    truth = sum(w * oracles.supcon(x[:, :d], IDS).value for d, w in ((2, 1.0), (4, 0.5), (6, 2.0)))
    assert_same(found, truth, x)
    y, loss = rows(seed=1), losses.InfoNCELoss("learned", symmetric=True).double()
    scale = loss.temperature.log_scale
    truth = sum(oracles.info_nce(x[:, :d], y[:, :d], temperature=1 / scale.exp(), symmetric=True).value for d in (3, 5))
    assert_same(MatryoshkaLoss(loss, [3, 5])(x, references=y), truth, x, y, scale)


def test_class_weights_proxies_and_centers_are_cut_too():
    x = rows()
    head = losses.ArcFaceLoss(4, 6, scale=8.0, sub_centers=2).double()
    truth = sum(
        oracles.combined_margin(x[:, :d], head.weight[:, :d], IDS, scale=8.0, m2=0.5, m3=0.0, sub_centers=2).value
        for d in (3, 6)
    )
    assert_same(MatryoshkaLoss(head, [3, 6])(x, IDS), truth, x, head.weight)
    anchors = losses.ProxyAnchorLoss(4, 6).double()
    truth = sum(oracles.proxy_anchor(x[:, :d], anchors.proxies[:, :d], IDS).value for d in (2, 6))
    assert_same(MatryoshkaLoss(anchors, [2, 6])(x, IDS), truth, x, anchors.proxies)
    united = losses.UniFaceLoss(4, 6).double()
    truth = oracles.uniface(x[:, :2], united.weight[:, :2], IDS, united.threshold).value
    assert_same(MatryoshkaLoss(united, [2])(x, IDS), truth, x, united.weight, united.threshold)


def test_what_a_wrapped_loss_keeps_moves_by_its_advance():
    x, loss = rows(), losses.SupConLoss(queue=FeatureQueue(24, 6)).double()
    wrapped, plain = MatryoshkaLoss(loss, [6]), copy.deepcopy(loss)
    for each in (wrapped, plain):
        each(x, IDS)
        each.advance()
    assert torch.equal(loss.queue.filled()[0], plain.queue.filled()[0])
    again = wrapped(x, IDS)
    assert_same(again, plain(x, IDS), x)
    both = MatryoshkaLoss(loss, [2, 6])(x, IDS)
    queue, labels = loss.queue.filled()
    short = losses.supcon(x[:, :2], IDS, queue=queue[:, :2], queue_labels=labels)
    assert_same(both, short + again, x)
    progress = losses.CurricularFaceLoss(4, 6).double()
    around = RegularisedLoss(progress, norm_penalty=0.1)
    around(x, IDS)
    around.advance()
    assert progress.progress != 0


def test_terms_are_added_to_the_mean():
    x, y = rows(), rows(seed=1)

    def spread(z):
        apart = (unit(z)[:, None] - unit(z)).square().sum(2)
        return torch.exp(-2 * apart[~torch.eye(12, dtype=torch.bool)]).mean().log()

    plain = losses.SupConLoss()
    truth = plain(x, IDS) + 0.5 * spread(x) + 0.1 * x.square().sum(1).mean()
    assert_same(RegularisedLoss(plain, 0.5, 0.1)(x, IDS), truth, x)
    pairs = losses.InfoNCELoss()
    truth = pairs(x, references=y) + 0.5 * (spread(x) + spread(y)) / 2
    assert_same(RegularisedLoss(pairs, 0.5)(x, references=y), truth, x, y)
    assert_same(RegularisedLoss(pairs)(x, references=y), pairs(x, references=y), x, y)
    assert RegularisedLoss(plain, 0.5)(x[:1], IDS[:1]) == 0


def test_wrappers_stand_around_wrappers_and_are_saved():
    x = rows()
    loss, other = (
        RegularisedLoss(MatryoshkaLoss(losses.CosFaceLoss(4, 6, scale=8.0, seed=seed), [3, 6]), uniformity=0.2).double()
        for seed in (0, 1)
    )
    other.load_state_dict(loss.state_dict())
    assert torch.equal(loss(x, IDS), other(x, IDS))
    assert loss.measure(x, IDS).count == 12
    assert loss.geometry == "cosine"
    with pytest.raises(TypeError):
        loss(x, IDS, wieghts=torch.ones(12))


def test_prefixes_that_cannot_be_are_refused():
    supcon = losses.SupConLoss()
    for dims, weights in (([4, 2], None), ([], None), ([2, 4], [1.0])):
        with pytest.raises(ShapeError):
            MatryoshkaLoss(supcon, dims, weights)
    with pytest.raises(ShapeError):
        MatryoshkaLoss(supcon, [8])(rows(), IDS)
    for loss in (losses.ElasticFaceLoss(4, 6), losses.ArcFaceLoss(4, 6, sample_rate=0.5)):
        with pytest.raises(ShapeError):
            MatryoshkaLoss(loss.double(), [2])(rows(), IDS)

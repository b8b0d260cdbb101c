"""A queue around any loss that has references: value and gradient, when it moves, and that it is saved."""

import copy

import pytest
import torch

from battery.setups import DIM, batch, build
from battery.test_battery import call
from battery.test_oracles import function
from oracles.comparison import assert_same
from tuplet.errors import ShapeError
from tuplet.losses import FeatureQueue, MatryoshkaLoss, QueuedLoss, SupConLoss, registry

WITH = [name for name in registry if "queue" in registry[name].takes]


def queued(name, size=20):
    return QueuedLoss(build(name), FeatureQueue(size, DIM)).double()


@pytest.mark.parametrize("name", WITH)
def test_value_and_gradient_are_those_of_the_batches_before_as_references(name):
    loss, plain, rows, labels = queued(name), build(name), [], []
    for step in range(3):
        given = batch(name, seed=step)
        kept = torch.cat(rows)[-20:] if rows else torch.zeros(0, DIM).double()
        ids = torch.cat(labels)[-20:] if labels else torch.zeros(0, dtype=torch.int64)
        order = torch.arange(len(kept)) if step < 2 else torch.arange(len(kept)).roll(4)  # slots, oldest replaced first
        sides = {"queue": kept[order], "queue_labels": ids[order]}
        assert_same(call(loss, given), call(plain, given.changed(**sides)), *given.leaves())
        for each in (loss, plain):
            each.advance()
        second = given.given.get("references")
        rows.append((given.tensors[0] if second is None else second).detach())
        labels.append(given.given.get("labels", torch.zeros(12, dtype=torch.int64)))


@pytest.mark.parametrize("name", WITH)
def test_it_is_what_the_own_queue_of_a_loss_is_and_goes_on_where_it_was_saved(name):
    loss, own, other = queued(name), build(name, queue=FeatureQueue(20, DIM)), queued(name)
    for step in range(2):
        call(loss, batch(name, seed=step))
        call(own, batch(name, seed=step))
        assert_same(call(loss, batch(name, seed=step)), call(own, batch(name, seed=step)))  # a call moves nothing
        loss.advance()
        own.advance()
    other.load_state_dict(copy.deepcopy(loss.state_dict()))
    given = batch(name, seed=9)
    assert_same(call(loss, given), call(own, given), *given.leaves())
    assert_same(call(other, given), call(loss, given), *given.leaves())
    for each in (loss, own):
        each.advance()
    loss.eval()
    call(loss, batch(name, seed=5))
    loss.advance()
    assert torch.equal(loss.queue.embeddings, own.queue.embeddings)


def test_prefixes_are_cut_of_the_queue_too():
    x, ids = batch("supcon").tensors[0], torch.arange(12) % 4
    loss = MatryoshkaLoss(QueuedLoss(SupConLoss(), FeatureQueue(24, DIM)).double(), [2, DIM])
    loss(x, ids)
    loss.advance()
    rows, labels = loss.loss.queue.filled()
    short = function("supcon")(x[:, :2], ids, queue=rows[:, :2], queue_labels=labels)
    whole = function("supcon")(x, ids, queue=rows, queue_labels=labels)
    assert_same(loss(x, ids), short + whole, x)


@pytest.mark.parametrize("name", [name for name in registry if name not in WITH])
def test_a_loss_without_references_has_no_place_for_it(name):
    with pytest.raises(ShapeError) as caught:
        queued(name)
    assert caught.value.reference == "no-queue"


def test_two_queues_are_refused():
    with pytest.raises(ShapeError) as caught:
        QueuedLoss(build("supcon", queue=FeatureQueue(4, DIM)), FeatureQueue(4, DIM))
    assert caught.value.reference == "no-queue"

"""The latest batches as further references: what is in the queue, when it moves, and that it is saved."""

import copy

import pytest
import torch

import oracles
from oracles.comparison import assert_same
from tuplet.errors import TupletError
from tuplet.losses import ContrastiveLoss, InfoNCELoss, NPairLoss, NTXentLoss, SupConLoss, TripletLoss, nt_xent, supcon
from tuplet.memory import FeatureQueue

LOSSES = {
    "contrastive": (ContrastiveLoss, oracles.contrastive),
    "triplet": (TripletLoss, oracles.triplet),
    "supcon": (SupConLoss, oracles.supcon),
    "npair": (NPairLoss, oracles.npair_per_pair),
}


def batches(count: int, rows: int = 4):
    generator = torch.Generator().manual_seed(0)
    for _ in range(count):
        x = torch.randn(rows, 3, generator=generator, dtype=torch.float64).requires_grad_()
        yield x, torch.randint(-1, 3, (rows,), generator=generator)


def queue(size: int) -> FeatureQueue:
    return FeatureQueue(size, 3).double()


@pytest.mark.parametrize("name", LOSSES)
def test_each_step_sees_the_batches_before_it(name):
    module, oracle = LOSSES[name]
    loss, before = module(queue=queue(5)), []
    for x, labels in batches(4):
        seen = [(row, label) for row, label in before if label != -1][-5:]
        rows = torch.stack([row for row, _ in seen]) if seen else torch.zeros(0, 3).double()
        known = torch.tensor([label for _, label in seen], dtype=torch.int64)
        assert_same(loss(x, labels), oracle(x, labels, queue=rows, queue_labels=known).value, x)
        loss.advance()
        before += zip(x.detach(), labels.tolist(), strict=True)


def test_second_views_are_what_later_pairs_are_compared_with():
    loss, (first, second) = InfoNCELoss(queue=queue(4)), list(batches(2))
    loss(first[0], references=second[0])
    loss.advance()
    x, y = (part.detach().flip(0).requires_grad_() for part in (first[0], second[0]))
    truth = oracles.info_nce(x, torch.cat([y, second[0].detach()]))
    assert_same(loss(x, references=y), truth.value, x, y)


def test_pairs_that_are_numbered_anew_are_not_those_of_the_queue():
    """Rows of the queue are negatives of every view, whatever number their pair had."""
    loss, (first, second) = NTXentLoss(queue=queue(6)), list(batches(2))
    loss(first[0], references=second[0])
    loss.advance()
    earlier = second[0].detach()
    x, y = (part.detach().flip(0).requires_grad_() for part in (first[0], second[0]))
    ids, others = torch.arange(4).repeat(2), torch.arange(10, 14)
    truth = oracles.supcon(torch.cat([x, y]), ids, queue=earlier, queue_labels=others)
    assert_same(loss.eval()(x, references=y), truth.value, x, y)
    assert_same(nt_xent(x, references=y, queue=earlier), truth.value, x, y)


def test_labels_without_those_of_the_queue_are_refused():
    x, labels = next(batches(1))
    with pytest.raises(TupletError, match="without queue_labels"):
        supcon(x, labels, queue=x.detach())
    with pytest.raises(TupletError, match="queue_labels have shape"):
        supcon(x, labels, queue=x.detach(), queue_labels=labels[:2])


def test_the_oldest_rows_are_replaced():
    kept = queue(5)
    for begin in (0, 3, 6):
        rows = torch.arange(begin, begin + 3).double()[:, None].expand(3, 3)
        kept.push(rows, torch.arange(begin, begin + 3))
    rows, labels = kept.filled()
    assert sorted(labels.tolist()) == [4, 5, 6, 7, 8]
    assert torch.equal(rows[:, 0].long(), labels)


def test_a_batch_larger_than_the_queue_leaves_its_last_rows():
    kept = queue(2)
    kept.push(torch.arange(5.0).double()[:, None].expand(5, 3), torch.arange(5))
    assert sorted(kept.filled()[1].tolist()) == [3, 4]


def test_unknown_rows_are_not_stored():
    kept = queue(4)
    kept.push(torch.zeros(3, 3).double(), torch.tensor([1, -1, 2]))
    assert kept.filled()[1].tolist() == [1, 2]


def test_nothing_is_pushed_in_eval_mode():
    loss = SupConLoss(queue=queue(5)).eval()
    for x, labels in batches(2):
        loss(x, labels)
        loss.advance()
    assert len(loss.queue.filled()[0]) == 0


def test_a_loaded_queue_goes_on_where_the_saved_one_stood():
    loss, other = SupConLoss(queue=queue(5)), SupConLoss(queue=queue(5))
    *earlier, (x, labels) = batches(4)
    for one in earlier:
        loss(*one)
        loss.advance()
    other.load_state_dict(copy.deepcopy(loss.state_dict()))
    for _ in range(2):
        assert_same(other(x, labels), loss(x, labels), x)
        other.advance()
        loss.advance()


def test_the_gradient_of_a_step_is_not_changed_by_what_it_pushes():
    loss, (x, labels) = SupConLoss(queue=queue(4)), next(batches(1))
    value = loss(x, labels)
    assert_same(value, oracles.supcon(x, labels).value, x)


def test_a_queue_without_slots_is_refused():
    with pytest.raises(TupletError, match="size is 0"):
        FeatureQueue(0, 3)

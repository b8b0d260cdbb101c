"""What a loss keeps moves by `advance`, once a step, and never by looking at the loss."""

import copy
import logging

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from battery.setups import batch, build
from tuplet.losses import (
    ArcFaceLoss,
    ASoftmaxLoss,
    InfoNCELoss,
    InstanceDiscriminationLoss,
    NCELoss,
    SupConLoss,
    registry,
)
from tuplet.memory import FeatureQueue

REMEMBERING = {
    "queue": lambda: SupConLoss(queue=FeatureQueue(16, 6)).double(),
    "bank": lambda: InstanceDiscriminationLoss(40, 6, noise_samples=5).double(),
    "annealing": lambda: ASoftmaxLoss(4, 6).double(),
    "noise": lambda: NCELoss([9, 5, 3, 1], 6, noise_samples=3).double(),
    "drawn classes": lambda: ArcFaceLoss(4, 6, sample_rate=0.5).double(),
}
every_memory = pytest.mark.parametrize("kind", REMEMBERING)


def batches(count: int, rows: int = 4) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(3)
    return [
        (
            torch.randn(rows, 6, generator=generator, dtype=torch.float64).requires_grad_(),
            torch.randint(4, (rows,), generator=generator),
        )
        for _ in range(count)
    ]


def state(loss: torch.nn.Module) -> dict[str, torch.Tensor]:
    return copy.deepcopy(loss.state_dict())


def assert_same_state(found: dict[str, torch.Tensor], truth: dict[str, torch.Tensor]) -> None:
    for name, value in truth.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, equal_nan=True, msg=name)


def moved(loss: torch.nn.Module, before: dict[str, torch.Tensor]) -> bool:
    return any(
        not torch.equal(value.nan_to_num(9e9), before[name].nan_to_num(9e9)) for name, value in state(loss).items()
    )


@every_memory
def test_neither_calls_nor_measure_move_anything_and_advance_does(kind):
    loss, ((x, labels),) = REMEMBERING[kind](), batches(1)
    before = state(loss)
    for _ in range(10):
        loss.measure(x, labels)
    first, second = loss(x, labels), loss(x, labels)
    assert torch.equal(first, second)
    assert_same_state(state(loss), before)
    loss.advance()
    assert moved(loss, before)


@every_memory
def test_calls_without_gradients_are_not_remembered(kind):
    loss, ((x, labels), (y, others)) = REMEMBERING[kind](), batches(2)
    before = state(loss)
    with torch.no_grad():
        loss(x, labels)
    loss.advance()
    assert_same_state(state(loss), before)
    twin = REMEMBERING[kind]()
    twin(y, others)
    twin.advance()
    loss(y, others)
    with torch.no_grad():
        loss(x, labels)
        loss.measure(x, labels)
    loss.advance()
    assert_same_state(state(loss), state(twin))


@every_memory
def test_a_second_advance_moves_nothing(kind):
    loss, ((x, labels),) = REMEMBERING[kind](), batches(1)
    loss(x, labels)
    loss.advance()
    before = state(loss)
    loss.advance()
    assert_same_state(state(loss), before)


@every_memory
@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_changes_neither_gradient_nor_memory(kind, reentrant):
    """Computed twice, remembered once; a full queue and a bank that moved are the same both times."""
    plain, again = REMEMBERING[kind](), REMEMBERING[kind]()
    weight = torch.randn(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for x, labels in batches(6, rows=8):
        found = []
        for loss, is_checkpointed in ((plain, False), (again, True)):
            w = weight.clone().requires_grad_()

            def run(x, labels, loss=loss, w=w):
                return loss(x @ w, labels)

            value = checkpoint(run, x, labels, use_reentrant=reentrant) if is_checkpointed else run(x, labels)
            value.backward()
            found.append((value.detach(), w.grad))
            loss.advance()
        assert torch.equal(found[0][0], found[1][0])
        assert torch.equal(found[0][1], found[1][1])
        assert_same_state(state(again), state(plain))


@every_memory
def test_micro_batches_are_one_step(kind):
    """Eight parts, one advance: the memory of the whole batch, and the counter of one step."""
    whole, parts, ((x, labels),) = REMEMBERING[kind](), REMEMBERING[kind](), batches(1, rows=16)
    labels = torch.arange(16) % 4
    whole(x, labels)
    whole.advance()
    for part, theirs in zip(x.chunk(8), labels.chunk(8), strict=True):
        (parts(part, theirs) / 8).backward()
    parts.advance()
    for name, value in state(whole).items():
        if name != "log_z":  # each part draws the noise of the first rows
            torch.testing.assert_close(state(parts)[name], value, rtol=1e-12, atol=1e-12, msg=name)


def test_annealing_counts_steps_and_not_looks():
    loss, ((x, labels),) = ASoftmaxLoss(4, 6).double(), batches(1)
    for _ in range(10):
        loss.measure(x, labels)
    for part, theirs in zip(x.chunk(4), labels.chunk(4), strict=True):
        loss(part, theirs)
    assert loss.present_annealing() == 1000
    loss.advance()
    assert int(loss.steps) == 1
    assert loss.present_annealing() == pytest.approx(1000 / 1.12)


def test_a_queue_takes_second_sides_where_pairs_have_no_labels():
    loss, ((x, _), (y, _)) = InfoNCELoss(queue=FeatureQueue(8, 6)).double(), batches(2)
    loss(x, references=y)
    loss.advance()
    assert torch.equal(loss.queue.filled()[0], y.detach())


def test_more_micro_batches_than_a_queue_holds_leave_its_last_rows():
    loss, reported = SupConLoss(queue=FeatureQueue(6, 6)).double(), batches(9)
    for x, labels in reported:
        loss(x, labels)
    loss.advance()
    assert int(loss.queue.written) <= 8
    kept = torch.cat([x.detach() for x, _ in reported])[-6:]
    found = loss.queue.filled()[0]
    assert sorted(found[:, 0].tolist()) == sorted(kept[:, 0].tolist())


def _loop(loss, reported, *, advances: bool, parts: int = 1) -> None:
    weight = torch.eye(6, dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.SGD([weight], lr=0.01)
    for x, labels in reported:
        for part, theirs in zip(x.chunk(parts), labels.chunk(parts), strict=True):
            loss(part.detach() @ weight, theirs).backward()
        optimizer.step()
        optimizer.zero_grad()
        if advances:
            loss.advance()


@every_memory
def test_a_loop_that_forgets_to_advance_is_reported_once(kind, caplog):
    with caplog.at_level(logging.WARNING, "tuplet"):
        _loop(REMEMBERING[kind](), batches(5), advances=False)
    assert len(caplog.records) == 1
    assert "advance()" in caplog.text


@every_memory
@pytest.mark.parametrize("parts", [1, 4])
def test_a_loop_that_advances_is_not_warned(kind, parts, caplog):
    with caplog.at_level(logging.WARNING, "tuplet"):
        _loop(REMEMBERING[kind](), batches(4), advances=True, parts=parts)
    assert not caplog.records


def test_a_loop_with_a_loss_that_remembers_nothing_is_not_warned(caplog):
    with caplog.at_level(logging.WARNING, "tuplet"):
        _loop(SupConLoss(), batches(4), advances=False)
    assert not caplog.records


@every_memory
def test_a_saved_state_goes_on_bit_for_bit(kind):
    loss, other, reported = REMEMBERING[kind](), REMEMBERING[kind](), batches(6)
    for x, labels in reported[:3]:
        loss(x, labels)
        loss.advance()
    other.load_state_dict(state(loss))
    for x, labels in reported[3:]:
        assert torch.equal(loss(x, labels), other(x, labels))
        loss.advance()
        other.advance()
    assert_same_state(state(other), state(loss))


@pytest.mark.parametrize("name", list(registry))
def test_every_loss_can_advance_and_says_whether_it_moves(name):
    loss = build(name)
    given = batch(name)
    loss(*given.tensors, **given.given)
    before = state(loss)
    loss.advance()
    assert moved(loss, before) == loss.has_state

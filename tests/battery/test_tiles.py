"""What every registered loss must do on an accelerator, run here on the CPU by the same tile code."""

import inspect

import pytest
import torch

from battery.setups import DIM, batch, build
from battery.test_battery import assert_equal, call, every_loss, every_replayed, value_and_gradients
from engine.test_programs import _HostReads
from tuplet.engine import Execution
from tuplet.engine.recording import Recording, recorded
from tuplet.errors import TupletError
from tuplet.losses import registry
from tuplet.memory import FeatureQueue

TILES = Execution(engine="tiles")


def on_tiles(name, dtype=torch.float64, **options):
    loss = build(name, dtype)
    loss.execution = Execution(engine="tiles", **options)
    return loss


@every_loss
@pytest.mark.parametrize("entries", [2**20, 30, 5])
def test_value_and_gradient_are_those_of_panels(name, entries):
    given = batch(name)
    truth = value_and_gradients(build(name), given)
    assert_equal(value_and_gradients(on_tiles(name, memory=16 * entries), given), truth)


@every_loss
def test_unknown_rows_and_weights_are_as_on_panels(name):
    given = batch(name)
    labels = given.given.get("labels")
    if labels is not None and not labels.is_floating_point() and labels.ndim == 1:
        given = given.changed(labels=labels.clone().index_fill_(0, torch.tensor([2, 9]), -1))
    given = given.changed(weights=torch.arange(12).double())
    assert_equal(value_and_gradients(on_tiles(name), given), value_and_gradients(build(name), given))


@pytest.mark.shows("one read")
@every_loss
def test_a_value_is_read_back_once_per_call(name):
    given, loss = batch(name), on_tiles(name)
    for _ in range(2):  # the first call looks whether anything counts, and estimates constants
        call(loss, given).backward()
        loss.advance()
    with _HostReads() as reads:
        call(loss, given).backward()
    assert len(reads.found) <= 1, reads.found


def reads_unchecked(name):
    given, loss = batch(name), on_tiles(name, check="off")
    for _ in range(2):
        call(loss, given).backward()
        loss.advance()
    with _HostReads() as reads:
        call(loss, given).backward()
    return reads.found


@pytest.mark.shows("no read")
@pytest.mark.parametrize("name", [name for name in registry if name != "triplet"])
def test_nothing_is_read_back_where_checks_are_off(name):
    assert not reads_unchecked(name)


def test_how_many_positives_an_anchor_has_is_read_back_since_it_decides_a_shape():
    assert len(reads_unchecked("triplet")) <= 1


@pytest.mark.parametrize("name", [name for name in registry if "queue" in inspect.signature(registry[name]).parameters])
def test_empty_slots_of_a_queue_are_left_out_without_a_read(name):
    found = []
    for execution in (Execution(engine="panels"), TILES):
        loss = build(name, queue=FeatureQueue(20, DIM).double())
        loss.execution = execution
        call(loss, batch(name)).backward()
        loss.advance()  # fills 12 of 20
        given = batch(name, seed=1)
        with _HostReads() as reads:
            value = call(loss, given)
            value.backward()
        found.append((value.detach(), [x.grad for x in given.leaves()]))
    assert len(reads.found) <= 1, reads.found
    assert_equal(*found)


@pytest.mark.parametrize("negatives", ["batch", "all"])
def test_times_after_the_end_of_a_sequence_are_left_out_without_a_read(negatives):
    found = []
    for execution in (Execution(engine="panels"), TILES, Execution(engine="tiles", memory=16 * 30)):
        loss, given = build("cpc", negatives=negatives), batch("cpc")
        loss.execution = execution
        given = given.changed(lengths=torch.tensor([4, 0, 2, 3, 1, 4] * 2), weights=torch.arange(12).double())
        with _HostReads() as reads:
            outcome = loss.measure(*given.tensors, **given.given)
            outcome.value.backward()
        stats = [outcome.stats[name] for name in sorted(outcome.stats)]
        found.append((outcome.value.detach(), [*(x.grad for x in given.leaves()), *stats]))
        assert execution.engine == "panels" or len(reads.found) <= 1, reads.found
    for other in found[1:]:
        assert_equal(other, found[0])


@every_loss
def test_rows_that_are_no_numbers_are_reported_now_or_at_the_next_call(name):
    given = batch(name)
    given.tensors[0].data[7, ..., 1] = torch.nan
    with pytest.raises(TupletError, match="7"):
        call(on_tiles(name), given)
    if name == "instance_discrimination":
        pytest.skip("its first call estimates a constant from the embeddings")
    late = on_tiles(name, check="deferred")
    call(late, given)
    with pytest.raises(TupletError) as refused:
        call(late, batch(name))
    assert refused.value.reference == "non-finite-embeddings"


@every_replayed
def test_a_recorded_call_asks_for_nothing_and_says_when_it_does_not_stand(name):
    given, loss, held = batch(name), on_tiles(name), Recording()
    sides = given.given | dict(zip(["labels"], given.tensors[1:], strict=False))
    expected = call(loss, given)
    with recorded(held):
        loss.recorded_value(given.tensors[0], sides)  # finds room
        held.conditions.clear()
        with _HostReads() as reads:
            value = loss.recorded_value(given.tensors[0], sides)
            value.backward()
            stands = held.stands()
    assert not reads.found
    torch.testing.assert_close(value, expected)
    assert stands.item()
    given.tensors[0].data[3, 1] = torch.inf
    held.conditions.clear()
    with recorded(held):
        loss.recorded_value(given.tensors[0], sides)
    assert not held.stands().item()


def test_more_positives_than_there_is_room_for_do_not_stand():
    loss, x, held = on_tiles("triplet", check="off"), torch.randn(12, 4), Recording()
    with recorded(held):
        loss.recorded_value(x, {"labels": torch.arange(12) // 2})
        held.conditions.clear()
        loss.recorded_value(x, {"labels": torch.arange(12) // 2})
        assert held.stands().item()
        loss.recorded_value(x, {"labels": torch.arange(12) // 6})
    assert not held.stands().item()

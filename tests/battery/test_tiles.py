"""What every registered loss must do on an accelerator, run here on the CPU by the same tile code."""

import pytest
import torch

from battery.setups import batch, build
from battery.test_battery import assert_equal, call, every_loss, value_and_gradients
from engine.test_programs import _HostReads
from tuplet.engine import Execution
from tuplet.errors import TupletError

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


READS = {"triplet": 2}  # the largest number of positives of an anchor too


@every_loss
def test_a_value_is_read_back_once_per_call(name):
    given, loss = batch(name), on_tiles(name)
    for _ in range(2):  # the first call looks whether anything counts, and estimates constants
        call(loss, given).backward()
        loss.advance()
    with _HostReads() as reads:
        call(loss, given).backward()
    assert len(reads.found) <= READS.get(name, 1), reads.found


@every_loss
def test_nothing_is_read_back_where_checks_are_off(name):
    given, loss = batch(name), on_tiles(name, check="off")
    for _ in range(2):
        call(loss, given).backward()
        loss.advance()
    with _HostReads() as reads:
        call(loss, given).backward()
    assert len(reads.found) <= READS.get(name, 1) - 1, reads.found


@every_loss
def test_rows_that_are_no_numbers_are_told_now_or_at_the_next_call(name):
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

"""Replayed calls of every registered loss, with a tape of operators in the place of a graph of launches."""

import contextlib
import types

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from battery.setups import batch, build
from battery.test_battery import assert_equal, every_replayed, value_and_gradients
from engine.test_programs import HOST_READS
from tuplet.engine import Execution
from tuplet.errors import TupletError
from tuplet.losses import replay


class Tape(TorchDispatchMode):
    """What `torch.cuda.CUDAGraph` promises, on the CPU: operators run again, on the same tensors, whatever they hold.

    As under a capture, nothing may be read by the host. Results are written where those of the recording lie.
    """

    def __init__(self):
        super().__init__()
        self.steps = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if str(func.name()).replace("::", ".") in HOST_READS:
            raise RuntimeError(f"{func} asks the host for a number while launches are recorded")
        found = func(*args, **(kwargs or {}))
        self.steps.append((func, args, kwargs or {}, found))
        return found

    def replay(self):
        with torch.no_grad():
            for func, args, kwargs, found in self.steps:
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(found), tree_leaves(again), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


@pytest.fixture(autouse=True)
def tapes(monkeypatch):
    """Tapes stand in for CUDA's graphs, and the CPU for a device that has them."""
    stream = types.SimpleNamespace(wait_stream=lambda _: None, cuda_stream=0)
    monkeypatch.setattr(replay, "DEVICES", ("cpu",))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Tape)
    monkeypatch.setattr(torch.cuda, "graph", lambda tape, **_: tape)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: 0)
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: stream)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())


def recorded(name, **options):
    loss = build(name, **options)
    loss.execution = Execution(engine="tiles")
    return loss


def plain(name, **options):
    loss = build(name, **options)
    loss.execution = Execution(engine="tiles", graphs=False)
    return loss


@pytest.mark.shows("replayed")
@every_replayed
def test_a_replayed_call_is_the_call_for_other_inputs_of_the_same_shapes(name):
    loss, each = recorded(name), plain(name)
    for seed in range(replay.AFTER + 3):
        given = batch(name, seed=seed)
        assert_equal(value_and_gradients(loss, given), value_and_gradients(each, given))
    assert len(loss._replays.graphs) == 1
    assert not loss._replays.refused


def test_gradients_of_two_calls_do_not_mix():
    loss, each = recorded("supcon"), plain("supcon")
    for _ in range(replay.AFTER + 1):
        value_and_gradients(loss, batch("supcon"))
    first, second = (batch("supcon", seed=seed) for seed in (1, 2))
    values = [loss(*given.tensors, **given.given) for given in (first, second)]
    for value, given in zip(values, (first, second), strict=True):
        truth = each(*given.tensors, **given.given)
        torch.testing.assert_close(
            torch.autograd.grad(value, given.leaves()), torch.autograd.grad(truth, given.leaves())
        )


def test_what_a_call_refuses_is_refused_and_more_positives_find_room():
    loss, each = recorded("triplet"), plain("triplet")
    x, two, six = torch.randn(12, 4, requires_grad=True), torch.arange(12) // 2, torch.arange(12) // 6
    for _ in range(replay.AFTER + 2):
        loss(x, two).backward()
    torch.testing.assert_close(loss(x, six), each(x, six))
    for _ in range(replay.AFTER + 2):
        loss(x, six).backward()
    x.data[7, 1] = torch.nan
    with pytest.raises(TupletError, match="7"):
        loss(x, six)


def test_an_option_that_changes_is_no_replay_of_the_old_one():
    given, loss = batch("contrastive"), recorded("contrastive")
    for _ in range(replay.AFTER + 2):
        before = loss(*given.tensors, **given.given)
    loss.margin *= 3
    each = plain("contrastive", margin=loss.margin)
    assert loss(*given.tensors, **given.given) != before
    torch.testing.assert_close(loss(*given.tensors, **given.given), each(*given.tensors, **given.given))


def test_a_step_that_moves_parameters_is_seen_by_the_next_replay():
    loss, each = recorded("cosface"), plain("cosface")
    each.load_state_dict(loss.state_dict())
    steps = [torch.optim.SGD(module.parameters(), 0.1) for module in (loss, each)]
    for seed in range(replay.AFTER + 4):
        given = batch("cosface", seed=seed)
        for module, step in zip((loss, each), steps, strict=True):
            step.zero_grad()
            module(*given.tensors, **given.given).backward()
            step.step()
    assert loss._replays.graphs
    for mine, theirs in zip(loss.parameters(), each.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)

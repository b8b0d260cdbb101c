"""Coverage, evenness and resumption of class-balanced batches."""

import json
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tuplet.errors import CheckpointError, DataError
from tuplet.sampling import PerClassSampler, registry


def uneven_labels(*counts: int) -> torch.Tensor:
    """Classes 0, 1, ... with so many examples each, mixed."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]


def epoch_of(sampler: PerClassSampler, batches: int | None = None) -> torch.Tensor:
    return torch.stack([sampler.next_batch() for _ in range(batches or sampler.batches_per_epoch)])


@given(
    counts=st.lists(st.integers(0, 30), min_size=1, max_size=20),
    classes=st.integers(1, 12),
    per_class=st.integers(1, 6),
    with_groups=st.booleans(),
)
def test_each_batch_holds_p_classes_with_k_examples_and_each_epoch_every_class(counts, classes, per_class, with_groups):
    labels = uneven_labels(*counts)
    usable = {label for label, count in enumerate(counts) if count >= min(2, per_class)}
    if len(usable) < classes:
        with pytest.raises(DataError):
            PerClassSampler(labels, classes, per_class, seed=0)
        return
    groups = torch.arange(len(labels)) % 3 if with_groups else None
    sampler = PerClassSampler(labels, classes, per_class, seed=0, groups=groups)
    for _ in range(3):
        batches = epoch_of(sampler)
        assert batches.shape == (sampler.batches_per_epoch, classes * per_class)
        sampled = labels[batches].view(-1, classes, per_class)
        assert (sampled == sampled[:, :, :1]).all()
        assert all(len(set(batch)) == classes for batch in sampled[:, :, 0].tolist())
        assert set(sampled.flatten().tolist()) == usable
        times = Counter(sampled[:, :, 0].flatten().tolist()).values()
        assert max(times) - min(times) <= 1
        for batch in batches.view(-1, per_class).tolist():
            size = counts[labels[batch[0]]]
            assert len(set(batch)) == min(size, per_class)
            assert max(Counter(batch).values()) == -(-per_class // size)


def test_small_classes_are_left_out_with_a_warning(caplog):
    labels = torch.tensor([0, 0, 1, 2, 2, -1, -1, -1])
    sampler = PerClassSampler(labels, 2, 2, seed=0)
    assert sampler.left_out == [1]
    assert "1 class with a single example is left out" in caplog.text
    assert set(epoch_of(sampler, 20).flatten().tolist()) == {0, 1, 3, 4}


def test_every_example_of_big_classes_is_used_over_epochs():
    labels = uneven_labels(3, 5, 400, 7, 2, 9, 2, 2, 2, 2)
    sampler = PerClassSampler(labels, 5, 4, seed=1)
    draws = Counter()
    for _ in range(30):
        draws.update(epoch_of(sampler).flatten().tolist())
    assert set(draws) == set(range(len(labels)))
    big = [draws[i] for i in (labels == 2).nonzero().flatten().tolist()]
    assert max(big) - min(big) <= 2  # complete laps, plus the places that fill up last batches


def test_cycles_go_on_from_epoch_to_epoch():
    labels = uneven_labels(4, 4, 4, 40)
    sampler = PerClassSampler(labels, 4, 4, seed=0)
    cycles = epoch_of(sampler, 10 * 3).view(-1, 4)  # a lap of the big class takes ten draws
    draws = cycles[labels[cycles[:, 0]] == 3]
    for cycle in draws.view(3, -1):
        assert sorted(cycle.tolist()) == (labels == 3).nonzero().flatten().tolist()
    assert draws[:10].tolist() != draws[10:20].tolist()


def test_the_examples_of_a_draw_come_from_different_groups():
    labels = torch.arange(50).repeat_interleave(16)
    groups = torch.arange(4).repeat(200)
    spread = epoch_of(PerClassSampler(labels, 10, 4, seed=0, groups=groups), 20).view(-1, 4)
    assert all(len(set(groups[draw].tolist())) == 4 for draw in spread)
    plain = epoch_of(PerClassSampler(labels, 10, 4, seed=0), 20).view(-1, 4)
    assert not all(len(set(groups[draw].tolist())) == 4 for draw in plain)


def test_positions_of_a_class_are_sampled_evenly():
    labels = uneven_labels(*[7] * 20)
    sampler = PerClassSampler(labels, 8, 4, seed=3)
    draws = np.bincount(torch.cat([sampler.next_batch() for _ in range(3000)]).numpy(), minlength=140)
    assert draws.sum() == 3000 * 32
    # each count is a sum of about 685 independent laps of 4 out of 7
    assert np.abs(draws / draws.mean() - 1).max() < 0.1


def test_same_seed_same_batches_and_other_seeds_and_epochs_differ():
    labels = uneven_labels(*[10] * 30)
    first, second = (PerClassSampler(labels, 6, 4, seed=5) for _ in range(2))
    epochs = [epoch_of(first) for _ in range(3)]
    assert torch.equal(epochs[0], epoch_of(second))
    assert not torch.equal(epochs[0], epochs[1])
    assert not torch.equal(epochs[0], epoch_of(PerClassSampler(labels, 6, 4, seed=6)))


@pytest.mark.parametrize("done", [0, 1, 6, 7, 8, 40])
def test_a_loaded_state_yields_exactly_the_remaining_batches(done):
    labels = uneven_labels(*range(2, 14))
    whole = PerClassSampler(labels, 5, 3, seed=2)
    for _ in range(done):
        whole.next_batch()
    state = json.loads(json.dumps(whole.state_dict()))
    resumed = PerClassSampler(labels, 5, 3, seed=2)
    resumed.load_state_dict(state)
    for _ in range(25):
        assert torch.equal(whole.next_batch(), resumed.next_batch())


def test_a_state_of_another_sampler_is_refused():
    labels = uneven_labels(4, 4, 4)
    state = PerClassSampler(labels, 2, 2, seed=0).state_dict()
    for other in (PerClassSampler(labels, 2, 2, seed=1), PerClassSampler(labels, 1, 2, seed=0)):
        with pytest.raises(CheckpointError, match="does not belong") as error:
            other.load_state_dict(state)
        assert error.value.reference == "sampler-state"
    with pytest.raises(CheckpointError):
        PerClassSampler(labels, 2, 2, seed=0).load_state_dict({"epoch": 1})


def test_impossible_batches_are_explained():
    with pytest.raises(DataError, match="No class has two examples") as error:
        PerClassSampler(torch.arange(9), 2, 2, seed=0)
    assert error.value.exit_code == 3
    with pytest.raises(DataError, match="asks for 4 classes, but only 3 have 2 examples") as error:
        PerClassSampler(uneven_labels(2, 3, 1, 4), 4, 2, seed=0)
    assert "3 or fewer" in error.value.hint


def test_labels_above_two_to_the_24_stay_apart():
    labels = torch.tensor([2**24, 2**24 + 1]).repeat_interleave(4)
    batch = PerClassSampler(labels, 2, 4, seed=0).next_batch()
    assert sorted(labels[batch].tolist()) == labels.tolist()


def test_the_registry_knows_the_samplers():
    assert list(registry) == ["hard-classes", "neighbours", "paired", "per-class", "related", "uniform", "windows"]

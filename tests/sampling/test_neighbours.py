"""An anchor, its nearest by label and others."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tuplet.errors import DataError, LabelError
from tuplet.sampling import NeighbourSampler


def batches(sampler, count=None):
    return torch.stack([sampler.next_batch() for _ in range(count or sampler.batches_per_epoch)])


@given(
    seed=st.integers(0, 10**6),
    count=st.integers(3, 25),
    size=st.integers(2, 12),
    neighbours=st.integers(0, 11),
    values=st.integers(0, 3),
    whole=st.booleans(),
)
def test_each_batch_is_an_anchor_its_nearest_by_brute_force_and_others(seed, count, size, neighbours, values, whole):
    size = min(size, count)
    neighbours = min(neighbours, size - 1)
    shape = (count, values) if values else (count,)
    targets = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    targets = targets.round() if whole else targets  # many ties
    sampler = NeighbourSampler(targets, size, neighbours, seed=seed)
    sampled = batches(sampler)
    assert sampled.shape == (count, sampler.batch_size)
    assert sorted(sampled[:, 0].tolist()) == list(range(count))
    rows = targets.view(count, -1).tolist()
    for anchor, *rest in sampled.tolist():
        distance = {k: sum((a - b) ** 2 for a, b in zip(rows[k], rows[anchor], strict=True)) for k in range(count)}
        del distance[anchor]
        assert rest[:neighbours] == sorted(distance, key=lambda k: (distance[k], k))[:neighbours]
        assert len({anchor, *rest}) == size


def test_others_are_sampled_evenly_from_all_that_are_not_near():
    sampler = NeighbourSampler(torch.arange(20).double(), 8, 3, seed=0)
    sampled = batches(sampler, 400 * 20)
    of_first = sampled[sampled[:, 0] == 0]
    assert of_first[:, 1:4].unique(dim=0).tolist() == [[1, 2, 3]]
    times = np.bincount(of_first[:, 4:].flatten().numpy(), minlength=20)
    assert times[:4].tolist() == [0] * 4
    assert np.abs(times[4:] / 100 - 1).max() < 0.35  # 400 draws of 4 out of 16


def test_same_seed_same_batches_and_epochs_differ():
    targets = torch.randn(30, generator=torch.Generator().manual_seed(0))
    first, second, other = (NeighbourSampler(targets, 9, seed=seed) for seed in (0, 0, 1))
    one = batches(first)
    assert torch.equal(one, batches(second))
    assert not torch.equal(one, batches(first))
    assert not torch.equal(one, batches(other))


@pytest.mark.parametrize("done", [0, 7, 30, 44])
def test_a_loaded_state_yields_exactly_the_remaining_batches(done):
    targets = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    whole, resumed = (NeighbourSampler(targets, 9, seed=4) for _ in range(2))
    for _ in range(done):
        whole.next_batch()
    resumed.load_state_dict(whole.state_dict())
    assert torch.equal(batches(whole), batches(resumed))


def test_what_cannot_be_sampled_is_explained():
    with pytest.raises(DataError, match="130 examples cannot be sampled from 9") as caught:
        NeighbourSampler(torch.arange(9.0), seed=0)
    assert "from 6 to 9" in caught.value.hint
    with pytest.raises(ValueError, match="neighbours=5"):
        NeighbourSampler(torch.arange(9.0), 5, seed=0)
    with pytest.raises(LabelError, match="graded labels"):
        NeighbourSampler(None, seed=0)


@pytest.mark.parametrize("values", [1, 2])
def test_a_batch_looks_at_few_of_many_labels(values):
    targets = torch.rand(200_000, values, generator=torch.Generator().manual_seed(0))
    sampler = NeighbourSampler(targets, 16, seed=0)
    sampler.next_batch()
    tracemalloc.start()
    sampled = batches(sampler, 20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * len(targets) / 4  # bytes; one look at all labels would take four times as much
    anchor, *rest = sampled[-1].tolist()
    distance = (targets.double() - targets[anchor].double()).square().sum(1)
    distance[anchor] = torch.inf
    assert rest[:5] == distance.argsort()[:5].tolist()


def test_graded_labels_that_repeat_name_the_lowest_positions_first():
    targets = torch.arange(5).repeat(100).double()  # as ratings from 1 to 5 do
    for anchor, *rest in batches(NeighbourSampler(targets, 16, 8, seed=0)).tolist():
        twins = [row for row in range(anchor % 5, 500, 5) if row != anchor]
        assert rest[:8] == twins[:8]

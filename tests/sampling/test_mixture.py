"""Batches of several sources: their proportion, their places, and how they go on."""

import pytest
import torch

from tuplet.errors import CheckpointError
from tuplet.sampling import MixtureSampler, PerClassSampler, UniformSampler

PLACES = [torch.arange(0, 12), torch.arange(12, 32), torch.tensor([40, 41, 42, 43])]


def mixture(weights, seed=3):
    parts = [UniformSampler(len(own), 4, seed=seed) for own in PLACES]
    return MixtureSampler(parts, PLACES, weights)


def source_of(batch):
    found = [number for number, own in enumerate(PLACES) if set(batch.tolist()) <= set(own.tolist())]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("weights", [(1, 1, 1), (3, 1, 2), (0.7, 0.2, 0.1)])
def test_each_batch_is_of_one_source_in_the_proportion_of_the_weights(weights):
    sampler, counts = mixture(weights), [0, 0, 0]
    for step in range(1, 61):
        counts[source_of(sampler.next_batch())] += 1
        shares = [weight / sum(weights) * step for weight in weights]
        assert all(abs(count - share) < 2 for count, share in zip(counts, shares, strict=True))
    assert counts == [round(weight / sum(weights) * 60) for weight in weights]


def test_each_source_goes_through_its_own_epochs():
    sampler = mixture((1, 1, 1))
    batches = [sampler.next_batch() for _ in range(30)]
    own = [batch for batch in batches if source_of(batch) == 0]
    for start in (0, 3, 6):
        assert sorted(torch.cat(own[start : start + 3]).tolist()) == list(range(12))


def test_it_goes_on_where_another_stood():
    one, other = mixture((3, 1, 2)), mixture((3, 1, 2))
    for _ in range(7):
        one.next_batch()
    other.load_state_dict(one.state_dict())
    assert [one.next_batch().tolist() for _ in range(9)] == [other.next_batch().tolist() for _ in range(9)]
    with pytest.raises(CheckpointError):
        MixtureSampler(one._parts[:2], PLACES[:2], (1, 1)).load_state_dict(one.state_dict())
    with pytest.raises(CheckpointError):
        mixture((3, 1, 2), seed=4).load_state_dict(one.state_dict())


def test_batches_by_class_stay_whole():
    labels = torch.arange(12) % 3
    parts = [PerClassSampler(labels, 2, 2, seed=0) for _ in range(2)]
    sampler = MixtureSampler(parts, [torch.arange(12), torch.arange(12, 24)], (1, 1))
    assert sampler.batch_size == 4
    batch = sampler.next_batch()
    assert len(set((batch % 3).tolist())) == 2

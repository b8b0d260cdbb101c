"""Batches without regard to classes: every example once per epoch."""

from collections import Counter
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tuplet.errors import DataError
from tuplet.sampling import PairedSampler, UniformSampler


def batches(sampler, count=None):
    return torch.stack([sampler.next_batch() for _ in range(count or sampler.batches_per_epoch)])


@given(count=st.integers(1, 60), size=st.integers(1, 60))
def test_uniform_batches_cover_every_example_and_repeat_none_within_a_batch(count, size):
    if size > count:
        with pytest.raises(DataError):
            UniformSampler(count, size, seed=0)
        return
    sampler = UniformSampler(count, size, seed=0)
    first, second = batches(sampler), batches(sampler)
    assert set(first.flatten().tolist()) == set(range(count))
    assert all(len(set(batch)) == size for batch in first.tolist())
    assert set(Counter(first.flatten().tolist()).values()) <= {1, 2}
    assert count < 10 or not torch.equal(first, second)


@pytest.mark.parametrize(
    "make",
    [
        lambda: UniformSampler(50, 7, seed=4),
        lambda: PairedSampler(torch.arange(100).view(50, 2) // 4, 7, seed=4),
    ],
    ids=["uniform", "paired"],
)
def test_a_loaded_state_yields_exactly_the_remaining_batches(make):
    for done in (0, 3, 8, 20):
        whole, resumed = make(), make()
        for _ in range(done):
            whole.next_batch()
        resumed.load_state_dict(whole.state_dict())
        assert torch.equal(batches(whole, 12), batches(resumed, 12))


@given(seed=st.integers(0, 99), size=st.integers(2, 12))
def test_no_batch_holds_two_pairs_that_share_a_side(seed, size):
    generator = torch.Generator().manual_seed(seed)
    queries = torch.randint(40, (120,), generator=generator)
    answers = torch.randint(50, (120,), generator=generator)
    contents = torch.stack([queries, answers], 1)
    sampler = PairedSampler(contents, size, seed=seed)
    sampled = batches(sampler)
    for batch in sampled:
        assert all(len(set(side.tolist())) == size for side in contents[batch].T)
    assert len(set(sampled.flatten().tolist())) > 120 - 2 * size  # twins that met no free batch are left out
    assert set(batches(sampler, 4 * len(sampled)).flatten().tolist()) == set(range(120))


def test_distinct_pairs_are_all_used_once_per_epoch():
    contents = torch.arange(64).view(32, 2)
    sampled = batches(PairedSampler(contents, 8, seed=0))
    assert sorted(sampled.flatten().tolist()) == list(range(32))


def test_twins_wait_for_a_later_batch():
    contents = torch.tensor([[0, 0], [0, 1], [1, 2], [1, 3], [2, 4], [2, 5]])
    for seed in range(20):
        sampled = batches(PairedSampler(contents, 3, seed=seed))
        assert sorted(sampled.flatten().tolist()) == list(range(6))


STAR = [[0, 0], [0, 1], [0, 2], [1, 0], [2, 0]]  # every pair holds one of two contents: no three fit together


def test_a_batch_that_would_hold_false_negatives_is_refused():
    with pytest.raises(DataError) as error:
        PairedSampler(torch.tensor(STAR), 3, seed=0)
    assert error.value.reference == "batch-too-large"
    assert "1 to 2" in error.value.hint
    for seed in range(20):
        for batch in batches(PairedSampler(torch.tensor(STAR), 2, seed=seed), 9):
            assert all(len(set(side.tolist())) == 2 for side in torch.tensor(STAR)[batch].T)


@given(
    pairs=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=14),
    size=st.integers(1, 5),
    seed=st.integers(0, 9),
)
def test_entangled_contents_are_kept_apart_or_refused(pairs, size, seed):
    contents = torch.tensor(pairs)
    possible = max(
        size
        for size in range(1, 6)
        for chosen in combinations(pairs, min(size, len(pairs)))
        if all(len(set(side)) == size for side in zip(*chosen, strict=True))
    )
    try:
        sampler = PairedSampler(contents, size, seed=seed)
    except DataError as error:
        assert size > possible / 2
        assert error.reference == "batch-too-large"  # noqa: PT017
        return
    assert size <= possible
    for batch in batches(sampler, 3 * sampler.batches_per_epoch):
        assert all(len(set(side.tolist())) == size for side in contents[batch].T)


def test_most_pairs_with_one_content_leave_the_batches_clean():
    hub = torch.tensor([[0, row] for row in range(60)] + [[row, 60 + row] for row in range(1, 41)])
    sampler = PairedSampler(hub, 20, seed=3)
    sampled = batches(sampler, 30 * sampler.batches_per_epoch)
    for batch in sampled:
        assert all(len(set(side.tolist())) == 20 for side in hub[batch].T)
    assert (sampled < 60).any(1).float().mean() > 0.9  # one of the sixty in nearly every batch, never two
    assert len(set(sampled.flatten().tolist())) > 90


def test_copies_among_single_examples_are_kept_apart():
    contents = torch.tensor([0, 0, 0, 1, 2, 3, 3, 4])[:, None]  # two views of one example would meet those of its copy
    sampled = batches(PairedSampler(contents, 3, seed=0), 30)
    assert all(len(set(contents[batch, 0].tolist())) == 3 for batch in sampled)
    assert set(sampled.flatten().tolist()) == set(range(8))


def test_impossible_batches_are_explained():
    with pytest.raises(DataError, match="6 examples cannot be sampled from 5") as error:
        UniformSampler(5, 6, seed=0)
    assert "1 to 5" in error.value.hint
    with pytest.raises(DataError, match="cannot be sampled from 0"):
        UniformSampler(0, 1, seed=0)
    with pytest.raises(DataError, match="the largest that was found has 2"):
        PairedSampler(torch.tensor([[0, 0], [1, 1], [1, 2]]), 3, seed=0)

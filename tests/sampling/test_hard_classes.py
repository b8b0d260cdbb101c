"""Classes that are hard to tell apart: the greedy choice, its running embeddings, coverage and resumption."""

from collections import Counter

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st

from tuplet.errors import CheckpointError, DataError, TupletError
from tuplet.sampling import HardClassSampler
from tuplet.sampling.npair import choose

DIM = 4


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def labels_of(*counts):
    """Classes 0, 1, ... with so many examples each, mixed."""
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    return labels[torch.randperm(len(labels), generator=seeded())]


def hardest(means, positives, candidates, chosen, size, score):
    """The paper's greedy choice by plain loops over every pair of classes."""
    batch, rest = list(chosen), sorted(candidates)
    reduce = {"max": max, "sum": sum}[score]

    def hardness(c):
        return reduce([float(means[i].double() @ means[c].double()) - float(positives[i]) for i in batch])

    while len(batch) < size:
        best = max(rest, key=hardness)  # the first of equals, which is the lowest id
        batch.append(best)
        rest.remove(best)
    return batch


@given(
    seed=st.integers(0, 10**6),
    classes=st.integers(2, 12),
    begun=st.integers(1, 3),
    score=st.sampled_from(["max", "sum"]),
    whole=st.booleans(),
)
def test_the_choice_is_that_of_brute_force_ties_included(seed, classes, begun, score, whole):
    means, positives = torch.randn(classes, DIM, generator=seeded(seed)), torch.randn(classes, generator=seeded(seed))
    if whole:  # numbers so few that most candidates tie
        means, positives = means.sign(), positives.round()
    order = torch.randperm(classes, generator=seeded(seed)).numpy()
    begun = min(begun, classes - 1)
    chosen, candidates = order[:begun], order[begun:]
    size = begun + 1 + seed % (classes - begun)
    seen = torch.ones(classes, dtype=torch.bool)
    found = choose(means, positives, seen, candidates, chosen, size, score=score, generator=seeded(seed))
    assert found.tolist() == hardest(means, positives, candidates, chosen, size, score)


@pytest.mark.parametrize("score", ["max", "sum"])
def test_equal_classes_tie_to_the_lowest_id_or_at_random(score):
    means = torch.randn(1, DIM, generator=seeded()).repeat(9, 1)
    arguments = means, torch.zeros(9), torch.ones(9, dtype=torch.bool), np.array([7, 3, 5, 8]), np.array([6]), 3
    lowest = {tuple(choose(*arguments, score=score, generator=seeded(k)).tolist()) for k in range(9)}
    assert lowest == {(6, 3, 5)}
    sampled = [choose(*arguments, score=score, ties="random", generator=seeded(k)).tolist() for k in range(200)]
    assert {second for _, second, _ in sampled} == {3, 5, 7, 8}
    assert sampled == [choose(*arguments, score=score, ties="random", generator=seeded(k)).tolist() for k in range(200)]


def test_the_first_class_is_sampled_evenly_and_so_are_classes_that_were_never_seen():
    means = torch.randn(10, DIM, generator=seeded())
    seen = torch.arange(10) < 6
    candidates, none = np.arange(10), np.array([], np.int64)
    sampled = [choose(means, torch.zeros(10), seen, candidates, none, 2, generator=seeded(k)) for k in range(4000)]
    first = np.bincount([batch[0] for batch in sampled], minlength=10)
    assert np.abs(first - 400).max() < 80  # four standard deviations
    second = Counter(int(batch[1]) for batch in sampled if batch[0] == 0)
    rival = hardest(means, torch.zeros(10), range(1, 6), [0], 2, "max")[1]
    assert set(second) == {rival, 6, 7, 8, 9}
    assert abs(second[rival] / first[0] - 5 / 9) < 0.1  # four of nine rivals were never seen


@given(
    counts=st.lists(st.integers(0, 12), min_size=1, max_size=14),
    classes=st.integers(1, 6),
    candidates=st.integers(0, 12),
    per_class=st.integers(2, 3),
)
def test_every_epoch_holds_every_class_and_no_batch_holds_one_twice(counts, classes, candidates, per_class):
    labels = labels_of(*counts)
    usable = {label for label, count in enumerate(counts) if count > 1}
    candidates = candidates if candidates >= classes else 0
    if len(usable) < classes:
        with pytest.raises(DataError):
            HardClassSampler(labels, DIM, classes, candidates, per_class, seed=0)
        return
    sampler = HardClassSampler(labels, DIM, classes, candidates, per_class, seed=0)
    rounds = max(1, sum(counts[label] for label in usable) // (len(usable) * per_class))
    for _ in range(3):
        times = Counter()
        for _ in range(sampler.batches_per_epoch):
            batch = sampler.next_batch()
            assert len(batch) == sampler.batch_size == classes * per_class
            parts = labels[batch].view(classes, per_class)
            assert (parts == parts[:, :1]).all()
            assert len(set(parts[:, 0].tolist())) == classes
            for part in batch.view(classes, per_class).tolist():
                assert len(set(part)) == min(per_class, counts[labels[part[0]]])
            times.update(parts[:, 0].tolist())
            sampler.observe(batch, embedding_of(batch))
        assert set(times) == usable
        assert set(times.values()) <= {rounds, rounds + 1}


def embedding_of(positions):
    """A fixed embedding for each example, as if the network stood still."""
    return torch.stack([torch.randn(DIM, generator=seeded(int(position))) for position in positions])


@pytest.mark.parametrize("geometry", ["dot", "cosine"])
def test_running_means_and_positives_are_those_of_the_steps(geometry):
    labels = labels_of(5, 5, 5)
    sampler = HardClassSampler(labels, DIM, 2, per_class=3, momentum=0.25, geometry=geometry, seed=0)
    means, positives = {}, {}
    for step in range(9):
        batch = sampler.next_batch()
        x = torch.randn(6, DIM, dtype=torch.float64, generator=seeded(step))
        sampler.observe(batch, x)
        x = x / x.norm(dim=1, keepdim=True) if geometry == "cosine" else x
        for k in (0, 3):
            label, (a, b, c) = int(labels[batch[k]]), x[k : k + 3]
            mean, positive = (a + b + c) / 3, (a @ b + a @ c + b @ c) / 3
            means[label] = 0.25 * means.get(label, mean) + 0.75 * mean
            positives[label] = 0.25 * positives.get(label, positive) + 0.75 * positive
    memory = sampler.memory()
    assert memory["seen"].tolist() == [True] * 3
    torch.testing.assert_close(memory["means"].double(), torch.stack([means[k] for k in range(3)]), rtol=0, atol=1e-6)
    for label, positive in positives.items():
        assert float(memory["positives"][label]) == pytest.approx(float(positive), abs=1e-6)


def trained(sampler, steps):
    """The batches of some steps of a network that stands still."""
    sampled = []
    for _ in range(steps):
        sampled.append(sampler.next_batch())
        sampler.observe(sampled[-1], embedding_of(sampled[-1]))
    return torch.stack(sampled)


@pytest.mark.parametrize("done", [0, 1, 4, 5, 6, 23])
def test_a_sampler_with_position_and_memory_of_another_goes_on_bit_for_bit(done):
    def make():
        return HardClassSampler(labels_of(*range(2, 14)), DIM, 4, 6, seed=2)

    whole, resumed = make(), make()
    _ = [trained(whole, 1) for _ in range(done)]
    resumed.load_state_dict(whole.state_dict())
    resumed.load_memory(safetensors.torch.load(safetensors.torch.save(whole.memory())))
    assert torch.equal(trained(whole, 30), trained(resumed, 30))


def test_batches_depend_on_the_seed_and_on_what_was_observed():
    first, second, other, blind = (HardClassSampler(labels_of(*[6] * 20), DIM, 4, seed=seed) for seed in (0, 0, 1, 0))
    sampled = trained(first, 20)
    assert torch.equal(sampled, trained(second, 20))
    assert not torch.equal(sampled, trained(other, 20))
    assert not torch.equal(sampled, torch.stack([blind.next_batch() for _ in range(20)]))


def test_neighbours_meet_while_there_is_a_choice():
    """Classes in six groups of ten that point the same way; a batch of five comes from one group."""
    labels = torch.arange(60).repeat_interleave(20)
    group = torch.arange(60) % 6
    sampler = HardClassSampler(labels, 6, 5, candidates=60, seed=0)
    towards = torch.eye(6)[group]
    mixed = []
    for step in range(3 * sampler.batches_per_epoch):
        batch = sampler.next_batch()
        sampler.observe(batch, towards[labels[batch]])
        if step >= sampler.batches_per_epoch:
            mixed.append(len(set(group[labels[batch]].tolist())))
    assert np.mean(mixed) < 1.2  # 3.9 if drawn at random
    assert min(mixed) == 1


def test_as_many_candidates_as_classes_are_no_choice():
    still, moving = (HardClassSampler(labels_of(*[4] * 9), DIM, 3, candidates=3, seed=0) for _ in range(2))
    blind = torch.stack([still.next_batch() for _ in range(12)])
    watched = trained(moving, 12)
    classes = labels_of(*[4] * 9)
    for one, two in zip(blind.view(12, 3, 2), watched.view(12, 3, 2), strict=True):
        assert set(classes[one[:, 0]].tolist()) == set(classes[two[:, 0]].tolist())


def test_a_memory_of_another_sampler_is_refused():
    sampler = HardClassSampler(labels_of(4, 4, 4), DIM, 2, seed=0)
    longer = HardClassSampler(labels_of(4, 4, 4), DIM + 1, 2, seed=0)
    for memory in (longer.memory(), {}):
        with pytest.raises(CheckpointError, match="memory of the sampler") as caught:
            sampler.load_memory(memory)
        assert caught.value.reference == "sampler-state"


@pytest.mark.parametrize(
    ("options", "words"),
    [({"per_class": 1}, "per_class is 1"), ({"momentum": 1.0}, "momentum is 1"), ({"candidates": 1}, "candidates=1")],
)
def test_options_out_of_bounds_are_named(options, words):
    with pytest.raises((TupletError, ValueError), match=words):
        HardClassSampler(labels_of(4, 4, 4), DIM, 2, seed=0, **options)

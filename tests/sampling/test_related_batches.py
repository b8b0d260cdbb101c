"""Anchors with their positives under a relation, against loops over pairs."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tuplet.data import Manifest
from tuplet.data.related import relate
from tuplet.data.statement import parse
from tuplet.errors import DataError, LabelError
from tuplet.sampling import RelatedSampler


def related(text, count, seed):
    random = np.random.default_rng(seed)
    columns = {"kind": random.integers(0, 4, count), "coarse": random.integers(0, 2, count), "time": np.arange(count)}
    cells = {name: tuple(map(str, one)) for name, one in columns.items()}
    found = Manifest("vector", tuple(map(str, range(count))), np.zeros((count, 1)), metadata=cells)
    return relate(found, parse(text), {}).related, columns


@given(seed=st.integers(0, 10**6), count=st.integers(4, 30), size=st.integers(2, 16), positives=st.integers(1, 3))
def test_positives_stand_behind_their_anchor_and_no_batch_repeats_an_example(seed, count, size, positives):
    size = min(size, count)
    positives = min(positives, size - 1)
    about, columns = related("same_class(kind) & within(time, 5)", count, seed)
    sampler = RelatedSampler(about, size, positives, seed=seed)

    def is_positive(i, j):
        return i != j and columns["kind"][i] == columns["kind"][j] and abs(i - j) <= 5

    anchors = set()
    for _ in range(sampler.batches_per_epoch):
        batch = sampler.next_batch().tolist()
        assert len(batch) == len({*batch}) == size == sampler.batch_size
        at = 0
        for _ in range(size // (1 + positives)):
            if at >= len(batch):
                break
            anchor, behind = batch[at], 0
            while behind < positives and at + behind + 1 < size and is_positive(anchor, batch[at + behind + 1]):
                behind += 1
            anchors.add(anchor)
            taken = batch[: at + behind + 1]
            left = [k for k in range(count) if is_positive(anchor, k) and k not in taken]
            if behind < positives and left:  # it was taken before as a positive of another: the rest is of others
                break
            at += behind + 1
    assert anchors


def test_every_example_is_an_anchor_once_an_epoch_and_state_goes_on():
    about, _ = related("within(time, 1)", 24, 0)
    sampler, twin = (RelatedSampler(about, 6, 2, seed=3) for _ in range(2))
    assert sampler.batches_per_epoch == 12
    for _ in range(5):
        sampler.next_batch()
    twin.load_state_dict(sampler.state_dict())
    for _ in range(20):
        assert torch.equal(sampler.next_batch(), twin.next_batch())


def test_a_positive_is_one_of_the_finest_level_that_has_any():
    cells = {"coarse": ("a",) * 6, "fine": ("u", "u", "v", "w", "w", "x")}
    found = Manifest("vector", tuple("012345"), np.zeros((6, 1)), metadata=cells)
    about = relate(found, parse("hierarchy(coarse, fine)"), {}).related
    mates = {0: {1}, 1: {0}, 2: {0, 1, 3, 4, 5}, 3: {4}, 4: {3}, 5: {0, 1, 2, 3, 4}}
    sampler = RelatedSampler(about, 2, 1, seed=0)
    for _ in range(60):
        anchor, mate = sampler.next_batch().tolist()
        assert mate in mates[anchor]


def test_what_cannot_be_sampled_is_refused():
    about, _ = related("within(time, 1)", 8, 0)
    with pytest.raises(DataError) as caught:
        RelatedSampler(about, 9, seed=0)
    assert caught.value.reference == "batch-too-large"
    with pytest.raises(ValueError):  # noqa: PT011  its text is for a person
        RelatedSampler(about, 4, 4, seed=0)
    distance, _ = related("tree_distance(coarse, kind)", 8, 0)
    for none in (None, distance):
        with pytest.raises(LabelError) as refused:
            RelatedSampler(none, 4, seed=0)
        assert refused.value.reference == "missing-labels"

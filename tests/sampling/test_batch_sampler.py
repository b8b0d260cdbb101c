"""Every sampler of examples is a `batch_sampler` of torch's DataLoader: lists of ints, a length, an end."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from tuplet.data import Manifest
from tuplet.data.related import relate
from tuplet.data.statement import parse
from tuplet.errors import TupletError
from tuplet.sampling import (
    HardClassSampler,
    NeighbourSampler,
    PairedSampler,
    PerClassSampler,
    RelatedSampler,
    UniformSampler,
    registry,
)

LABELS = torch.arange(30) % 6
TABLE = Manifest(
    "vector", tuple(map(str, range(30))), np.zeros((30, 1)), metadata={"kind": tuple(map(str, LABELS.tolist()))}
)
RELATED = relate(TABLE, parse("same_class(kind)"), {}).related
SAMPLERS = {
    "uniform": lambda: UniformSampler(30, 8, seed=0),
    "per-class": lambda: PerClassSampler(LABELS, 3, 2, seed=0),
    "paired": lambda: PairedSampler(torch.stack([torch.arange(30), torch.arange(30) + 30], 1), 7, seed=0),
    "neighbours": lambda: NeighbourSampler(torch.arange(30.0), 6, 2, seed=0),
    "hard-classes": lambda: HardClassSampler(LABELS, 4, 3, seed=0),
    "related": lambda: RelatedSampler(RELATED, 8, 1, seed=0),
}
every_sampler = pytest.mark.parametrize("name", SAMPLERS)


def test_no_sampler_of_examples_is_left_out():
    assert {*registry} == {*SAMPLERS, "windows"}


@every_sampler
def test_an_iteration_is_an_epoch_of_lists_of_ints(name):
    sampler, twin = SAMPLERS[name](), SAMPLERS[name]()
    for _ in range(2):
        epoch = list(sampler)
        assert len(epoch) == len(sampler) == sampler.batches_per_epoch
        assert all(type(position) is int for batch in epoch for position in batch)
        assert epoch == [twin.next_batch().tolist() for _ in range(len(twin))]


@every_sampler
@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_takes_its_batches_from_it(name, workers):
    sampler, twin = SAMPLERS[name](), SAMPLERS[name]()
    rows = torch.arange(30.0)[:, None]
    loader = DataLoader(TensorDataset(rows), batch_sampler=sampler, num_workers=workers)
    assert len(loader) == len(twin)
    for _ in range(2):
        found = [batch[:, 0].long().tolist() for (batch,) in loader]
        assert found == list(twin)


@every_sampler
def test_an_iteration_that_was_broken_off_goes_on_and_so_does_a_resumed_one(name):
    sampler, whole, resumed = (SAMPLERS[name]() for _ in range(3))
    expected = list(whole)
    for begun in sampler:
        assert begun == expected[0]
        break
    resumed.load_state_dict(sampler.state_dict())
    resumed.load_memory(sampler.memory())
    assert list(sampler) == expected[1:]
    assert list(resumed) == expected[1:]


@pytest.mark.parametrize(
    "made",
    [
        lambda: UniformSampler(30, -1, seed=0),
        lambda: UniformSampler(30, 0, seed=0),
        lambda: PerClassSampler(LABELS, 0, 2, seed=0),
        lambda: PerClassSampler(LABELS, 3, -2, seed=0),
        lambda: NeighbourSampler(torch.arange(9.0), 4, -1, seed=0),
        lambda: HardClassSampler(LABELS, 4, 3, per_class=1, seed=0),
        lambda: RelatedSampler(RELATED, 0, 1, seed=0),
        lambda: RelatedSampler(RELATED, 8, 0, seed=0),
        lambda: HardClassSampler(LABELS, 4, 3, momentum=1.0, seed=0),
        lambda: HardClassSampler(LABELS, 4, 3, candidates=-2, seed=0),
    ],
)
def test_numbers_that_cannot_be_meant_are_refused(made):
    with pytest.raises(TupletError) as error:
        made()
    assert error.value.reference == "option-range"

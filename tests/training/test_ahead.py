"""Batches made ready one step ahead: the same batches, the same states."""

import pytest
import torch

from tuplet.data import Dataset, Labels, take_batch
from tuplet.sampling import HardClassSampler, PerClassSampler, UniformSampler
from tuplet.training.ahead import LEAST, Ahead


def images(count=24, side=256):
    labels = torch.arange(count) % 4
    pixels = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 3, side, side).clone()
    return Dataset("image", pixels, tuple(map(str, range(count))), Labels("class", labels), classes=labels)


SAMPLERS = {
    "uniform": lambda data: UniformSampler(len(data), 24, seed=1),
    "per-class": lambda data: PerClassSampler(data.classes, 4, 6, seed=1),
    "hard": lambda data: HardClassSampler(data.classes, 2, 3, seed=1),
}


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("side", [16, 256])
def test_batches_and_states_are_those_without_it(name, side):
    data = images(side=side)
    plain, sampler = SAMPLERS[name](data), SAMPLERS[name](data)
    ahead = Ahead(data, sampler, lambda count: slice(0, count // 2), pin=False)
    for _ in range(9):
        expected = plain.next_batch()
        positions, batch = ahead.take()
        assert positions.tolist() == expected.tolist()
        half = take_batch(data, expected[: len(expected) // 2])
        torch.testing.assert_close(batch.inputs, half.inputs)
        torch.testing.assert_close(batch.labels, half.labels)
        assert sampler.state_dict() == plain.state_dict()


def test_what_was_made_ready_is_thrown_away_when_the_sampler_goes_elsewhere():
    data = images()
    assert data.inputs[0].nbytes * 24 >= LEAST
    one, other = (UniformSampler(len(data), 24, seed=1) for _ in range(2))
    ahead = Ahead(data, one, lambda count: slice(0, count), pin=False)
    ahead.take()
    for _ in range(5):
        other.next_batch()
    one.load_state_dict(other.state_dict())
    positions, batch = ahead.take()
    assert positions.tolist() == other.next_batch().tolist() == batch.inputs[:, 0, 0, 0].tolist()

"""Processes exchange tensors where their backend reaches them."""

import pytest
import torch
import torch.distributed as dist

from tuplet.engine import Processes
from tuplet.engine.gather import all_reduce_sum, place_of


@pytest.fixture
def meet():
    """Starts a process group of one."""

    def start(backend):
        dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
        return Processes(0, 2, dist.group.WORLD)  # as if there were another one: alone, nobody exchanges anything

    yield start
    dist.destroy_process_group()


def test_a_backend_for_accelerators_alone_gets_numbers_of_the_processor_there(meet):
    processes, number = meet("cuda:gloo"), torch.ones(1)
    with pytest.raises(RuntimeError, match="No backend type associated with device type cpu"):
        dist.all_reduce(number)
    assert place_of(number, processes) == torch.device("cuda")


def test_where_the_backend_reaches_a_tensor_it_stays(meet):
    processes, numbers = meet("gloo"), torch.arange(3)
    assert place_of(numbers, processes) == torch.device("cpu")
    seen = all_reduce_sum(numbers, processes)
    seen += 1
    assert numbers.tolist() == [0, 1, 2], "the sum is another tensor"

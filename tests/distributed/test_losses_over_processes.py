"""On any number of processes a loss has one value, one gradient and one memory."""

import pytest
from torch.testing import assert_close

from distributed.cases import CASES, play
from distributed.launch import launch
from distributed.sharded_by_torch import Model, step
from tuplet import losses

pytestmark = pytest.mark.distributed

SMALL = [
    "supcon-weighted-temperature=learned",
    "contrastive-weighted-queue=20",
    "instance_discrimination-examples-num_instances=10,proximal=0.5,noise_samples=4",
]


@pytest.fixture(scope="module")
def alone():
    return play()


@pytest.fixture(scope="module", params=[2, 3])
def together(request, tmp_path_factory):
    """What each of several processes saw of every case."""
    return launch("distributed.cases:play", request.param, tmp_path_factory.mktemp("losses"))


def assert_same(seen, alone):
    """Values, gradients of encoder and loss, final weights, state and statistics."""
    assert_close(seen, alone, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.shows("processes")
@pytest.mark.parametrize("name", CASES)
def test_values_gradients_and_memory_equal_those_of_one_process(name, alone, together):
    assert alone[name]["gradients"].abs().sum() > 0
    for seen in together:
        assert_same(seen[name], alone[name])


@pytest.mark.parametrize(("processes", "exchange"), [(2, "gather"), (3, "ring"), (4, "ring")])
def test_tile_code_gives_the_same_on_any_number_of_processes(processes, exchange, alone, tmp_path):
    names = [*CASES][:: 3 if processes == 4 else 1]  # a ring of four differs from one of three by another turn
    how = {"engine": "tiles", "exchange": exchange, "memory": 16 * 400}  # tiles of 400 entries
    for seen in launch("distributed.cases:play", processes, tmp_path, names=names, **how):
        for name in names:
            assert_close(seen[name], alone[name], rtol=1e-11, atol=1e-11, equal_nan=True)


def test_some_of_the_processes_make_a_group(alone, tmp_path):
    bystander, *members = launch("distributed.cases:play_in_group", 3, tmp_path, names=SMALL)
    assert bystander == {}
    for seen in members:
        assert_same(seen, {name: alone[name] for name in SMALL})


@pytest.mark.parametrize("way", ["by_fsdp", "as_distributed_tensor"])
def test_a_head_that_torch_shards_is_the_whole_head(way, tmp_path):
    expected = step(Model())
    for seen in launch(f"distributed.sharded_by_torch:{way}", 2, tmp_path):
        assert_same(seen, expected)


def test_every_registered_loss_is_among_the_cases():
    assert {case.name for case in CASES.values()} >= {*losses.registry}

"""On any number of processes a loss has one value, one gradient and one memory."""

import functools

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
PLAYED = {2: [*CASES][::4], 3: [*CASES]}
"""Three processes, of which one has no rows, are harder than two: with two a part of the cases is enough."""


@pytest.fixture(scope="module")
def alone():
    return play()


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    """By number of processes: what each of them saw of their cases."""
    place = tmp_path_factory.mktemp("losses")
    return functools.cache(lambda size: launch("distributed.cases:play", size, place, names=PLAYED[size]))


def assert_same(seen, alone):
    """Values, gradients of encoder and loss, final weights, state and statistics."""
    assert_close(seen, alone, rtol=1e-12, atol=1e-12, equal_nan=True)


@pytest.mark.shows("processes")
@pytest.mark.parametrize(("name", "size"), [(name, size) for size in PLAYED for name in PLAYED[size]])
def test_values_gradients_and_memory_equal_those_of_one_process(name, size, alone, together):
    assert alone[name]["gradients"].abs().sum() > 0
    for seen in together(size):
        assert_same(seen[name], alone[name])


# Tiles of every loss are tried in the battery, and every case over processes above: here a part of them meets.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("processes", "exchange", "every"),
    [
        (2, "gather", 4),
        (3, "ring", 2),
        (4, "ring", 6),
        *(
            pytest.param(size, how, 1, marks=pytest.mark.weekly)
            for size, how in ((2, "gather"), (3, "ring"), (4, "ring"))
        ),
    ],
)
def test_tile_code_gives_the_same_on_any_number_of_processes(processes, exchange, every, alone, tmp_path):
    names = [*CASES][::every]
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

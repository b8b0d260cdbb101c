"""What a step of each loss asks of an accelerator: at most one host read, and a number of operators that is bounded."""

import json
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import bench_gpu  # noqa: E402  # of the benchmarks
import every  # noqa: E402
from counting import MOST_LAUNCHES, MOST_READS, traced  # noqa: E402
from gpu_rows import OnCard, executing, step  # noqa: E402

NAMES = (*every.names(), *bench_gpu.QUEUED)
LIKE = torch.device("cpu")


def trace(given, execution=None):
    """Of the third step, by tiles as an accelerator has them."""
    one = step(given.value, given.leaves)
    with executing(execution or OnCard(), compiled=False):
        for _ in range(2):  # the second reads what the first has estimated
            one()
            given.loss.advance()
        return traced(one)


@pytest.mark.parametrize("name", [*NAMES, "triplet queue"])
def test_a_step_reads_one_value_and_launches_as_much_for_every_number_of_rows(name):
    few, more = (trace(every.case(name, rows, 16, LIKE)) for rows in (32, 96))
    assert more.reads.total() <= MOST_READS, more.reads
    assert more.launches <= MOST_LAUNCHES
    assert few.operators == more.operators


def sequences(steps, times, **options):
    generator = torch.Generator().manual_seed(0)
    latents, contexts = (torch.randn(6, times, 5, generator=generator).requires_grad_() for _ in range(2))
    given = every.case("cpc", 16, 5, LIKE, steps=steps, **options)
    return every.make(given.loss, (latents, contexts), {"lengths": torch.tensor([times, 1, 3, 2, 0, times])})


@pytest.mark.parametrize("negatives", ["batch", "all"])
def test_horizons_and_lengths_of_sequences_change_nothing_but_numbers(negatives):
    few, more = (trace(sequences(*sizes, negatives=negatives)) for sizes in ((2, 4), (6, 8)))
    assert few.operators == more.operators
    assert more.reads.total() <= MOST_READS, more.reads


VARIED = {
    "soft_triple": ({"centers": 2}, {"centers": 7}),
    "nce": ({"noise_samples": 3}, {"noise_samples": 40}),
    "instance_discrimination": ({"noise_samples": 3}, {"noise_samples": 30}),
}


@pytest.mark.parametrize("name", VARIED)
def test_options_that_are_sizes_change_nothing_but_numbers(name):
    few, more = (trace(every.case(name, 32, 16, LIKE, **options)) for options in VARIED[name])
    assert few.operators == more.operators


def test_positives_of_an_anchor_change_nothing_but_numbers():
    def of(per_class):
        given = every.case("angular", 24, 8, LIKE)
        return every.make(given.loss, given.tensors, {"labels": torch.arange(24) // per_class})

    assert trace(of(2)).operators == trace(of(6)).operators


def test_more_tiles_take_more():
    given = every.case("supcon", 32, 16, LIKE)
    assert trace(given, OnCard(memory=4096)).operators > trace(given).operators


def test_the_record_is_of_every_loss_and_within_the_bounds():
    record = json.loads((BENCHMARKS / "counts.json").read_text())
    assert record["bounds"] == {"reads": MOST_READS, "launches": MOST_LAUNCHES}
    assert [one["loss"] for one in record["losses"]] == list(NAMES)
    least = str(min(record["rows"]))
    for one in record["losses"]:
        assert all(size["reads"] <= MOST_READS for size in one["counts"].values()), one
        assert one["counts"][least]["launches"] <= MOST_LAUNCHES, one

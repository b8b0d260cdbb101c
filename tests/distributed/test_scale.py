"""The page on cost says what is counted, and the model is as near to it as the page says."""

import csv
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize(("processes", "least"), [(2, 20), pytest.param(1, 8, marks=pytest.mark.weekly)])
def test_counted_again_products_and_bytes_are_those_of_the_page(processes, least, starter, tmp_path):
    done = starter(["python", BENCHMARKS / "bench_scale.py", "--check", "--processes", processes], tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= least


def test_the_model_is_exact_but_for_the_bank_and_memory():
    with (BENCHMARKS / "scale.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["processes"] for row in rows} == {"1", "2", "4"}
    for row in rows:
        is_estimate = row["case"] == "memory bank, sharded" and row["what"] == "products"
        bound = 0.2 if row["what"] == "memory" else 0.02 if is_estimate else 5e-4
        assert float(row["error"]) <= bound, row

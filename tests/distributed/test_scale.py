"""The page on cost says what is counted, and the model is as near to it as the page says."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.distributed
def test_counted_again_products_and_bytes_are_those_of_the_page():
    command = [sys.executable, BENCHMARKS / "bench_scale.py", "--check", "--processes", "1", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 20


def test_the_model_is_exact_but_for_the_bank_and_memory():
    with (BENCHMARKS / "scale.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["processes"] for row in rows} == {"1", "2", "4"}
    for row in rows:
        is_estimate = row["case"] == "memory bank, sharded" and row["what"] == "products"
        bound = 0.2 if row["what"] == "memory" else 0.02 if is_estimate else 5e-4
        assert float(row["error"]) <= bound, row

"""The accelerator benchmark runs everywhere: tiny sizes of every row, by the accelerator's passes on a CPU."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "bench_gpu.py"
sys.path.insert(0, str(SCRIPT.parent))

import counting  # noqa: E402  # of the benchmarks


@pytest.fixture(scope="module")
def run(starter):
    return lambda *arguments: starter(["python", SCRIPT, *arguments], ROOT)


@pytest.fixture(scope="module")
def report(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "rows.json"
    done = run("--device", "cpu", "--small", "--seconds", "3000", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.read_text())


def test_every_row_has_numbers(report):
    names = [row["row"] for row in report["rows"]]
    assert len(names) == len(set(names))
    assert {"supcon", "info_nce bfloat16", "batch-hard", "arcface 1,000,000", "retrieval", "topk"} <= set(names)
    for row in report["rows"]:
        assert "note" not in row, row
        for name, own in row["contestants"].items():
            assert own.get("ms", 0) > 0, (row["row"], name, own)
        assert all(one["found"] is not None for one in row["promises"] if one["what"] in {"ms", "reads", "x limit"})


@pytest.mark.slow
def test_errors_are_those_of_the_precision(report):
    measured = 0
    for row in report["rows"]:
        most = 2e-2 if "bfloat16" in row["row"] else 1e-5
        for name, own in row["contestants"].items():
            for error in (own.get("value_error"), own.get("gradient_error")):
                if error is not None:
                    measured += 1
                    assert math.isfinite(error), (row["row"], name)
                    assert error < most, (row["row"], name, error)
    assert measured > 100


def test_host_reads_are_within_the_bound(report):
    for row in report["rows"]:
        if any(one["what"] == "reads" for one in row["promises"]):
            assert row["contestants"]["tuplet"]["reads"] <= counting.MOST_READS, row["row"]


@pytest.mark.slow
def test_a_bare_machine_gets_stand_ins():
    code = f"""
import sys
class Bare:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {{"jaxtyping", "safetensors", "pydantic", "yaml", "scipy", "pytorch_metric_learning"}}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Bare())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name in ("jaxtyping", "safetensors") else found(name, *more)
sys.path.insert(0, {str(SCRIPT.parent)!r})
import bench_gpu
sys.exit(bench_gpu.main(sys.argv[1:]))
"""
    command = [sys.executable, "-c", code, "--device", "cpu", "--small", "--rows", "supcon,training step"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "jaxtyping and safetensors" in done.stdout
    assert done.stdout.count("tuplet  ") == 3


def test_no_card_and_unknown_rows_are_said(run):
    assert run("--device", "cpu", "--small", "--rows", "supkon").returncode == 2
    if not torch.cuda.is_available():
        assert run("--device", "cuda").returncode == 2
        assert run().returncode == 0


def test_the_trace_counts_reads_of_every_kind():
    x = torch.arange(4.0)
    x.requires_grad_()
    y = torch.arange(4)
    for read in (
        y.max().item,
        lambda: bool(y.any()),
        y.nonzero,
        lambda: y[y > 1],
        y.tolist,
        y.numpy,
        y.unique,
        y.bincount,
        lambda: torch.equal(y, y),
        lambda: y.repeat_interleave(y),
        lambda: y.masked_select(y > 1),
    ):
        assert counting.traced(read).reads.total() == 1, read
    quiet = counting.traced(lambda: (x[y] * 2).sum().backward())
    assert quiet.reads.total() == 0
    assert quiet.operators > 5
    seen = counting.traced(lambda: (y[1:], y.view(2, 2), y[None], torch.empty(3)))
    assert (seen.operators > 3, seen.launches) == (True, 0)
    assert counting.traced(lambda: y[1:].add_(1)).launches == 1

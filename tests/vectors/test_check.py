"""The command that checks vectors: passes on tuplet's, fails on wrong ones, and says where."""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from check import Tolerance, _differences  # noqa: E402  # the command beside this test
from routes import Answer  # noqa: E402  # the same


@pytest.fixture(scope="module")
def check(starter) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Start the command with some arguments."""
    return lambda *arguments: starter(["python", HERE / "check.py", *arguments], HERE)


@pytest.fixture(scope="module")
def ours(check) -> dict:
    """What the command says about our own files."""
    done = check(HERE / "data", "--json")
    assert done.returncode in {0, 1}, done.stderr
    return json.loads(done.stdout)


def test_every_case_passes(ours):
    assert ours["mismatches"] == []
    assert ours["failed"] == 0
    cases = sum(len(json.loads(path.read_text())["cases"]) for path in (HERE / "data").glob("*.json"))
    assert ours["passed"] == cases


def test_no_file_is_left_out(ours):
    assert ours["not_yet"] == []


def test_float32_stays_within_its_tolerance(check):
    done = check(HERE / "data", "--float32")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].endswith(" passed, 0 failed")


def test_wrong_numbers_are_found_and_named(check, tmp_path):
    wrong = {name: json.loads((HERE / "data" / f"{name}.json").read_text()) for name in ("supcon", "triplet_all")}
    for name, file in wrong.items():
        del file["cases"][3:]
        if name == "supcon":
            file["cases"][0]["expected"]["loss"] += 1e-6
            file["cases"][2]["expected"]["grads"]["x"]["data"][7] = 0.25
        else:
            file["cases"][0]["expected"]["aux"]["active"] += 1
        (tmp_path / f"{name}.json").write_text(json.dumps(file))
    done = check(tmp_path)
    assert done.returncode == 1
    *lines, last = done.stdout.splitlines()
    assert last == "3 passed, 3 failed"
    assert any(line.startswith("supcon · out · function · loss: found 7.97") for line in lines)
    assert any(
        "unique-labels · function · gradient of x: found 0, expected 0.25; worst: [1, 2]" in line for line in lines
    )
    assert any("triplet_all · all-sq-mean_active · count · active: found 39, expected 40" in line for line in lines)


def test_counts_are_compared_in_float64(check, tmp_path):
    file = json.loads((HERE / "data" / "triplet_all.json").read_text())
    file["cases"] = file["cases"][:1]
    aux = file["cases"][0]["expected"]["aux"]
    for off, code in ((1e-12, 0), (1e-7, 1)):  # 1e-7 of 39 is below one float32 step
        aux["active"] = 39 + 39 * off
        (tmp_path / "triplet_all.json").write_text(json.dumps(file))
        assert check(tmp_path).returncode == code
    case = {"expected": {"aux": {"mean": 18.8}}}
    answer = Answer("function", None, {}, {"mean": torch.tensor(18.8, dtype=torch.float64)})
    assert not list(_differences(answer, case, Tolerance(1e-9, 1e-10)))


def test_closed_forms_are_known_by_their_arguments(check, tmp_path):
    file = json.loads((HERE / "data" / "metrics.json").read_text())
    (case,) = (case for case in file["cases"] if case["kind"] == "scalars")
    case["expected"] = {
        "mi_gaussian(d=2,rho=0.25)": -math.log1p(-0.0625),
        "npair_floor_unit_norm(N=3)": math.log1p(2 * math.exp(-2)),
        "cosface_s(C=11,P=0.5)": 10 / 11 * math.log(10),
        "asoftmax_lambda(iter=200)": 1000 / 25,
        "subsample_keep_paper(f=0.25,t=0.01)": 0.2,
        "subsample_keep_word2vec_c(f=0.25,t=0.01)": 0.24,
    }
    file["cases"] = [case]
    (tmp_path / "metrics.json").write_text(json.dumps(file))
    assert check(tmp_path).stdout == "1 passed, 0 failed\n"
    case["expected"] = {"npair_ceiling(N=3)": 1.0}
    (tmp_path / "metrics.json").write_text(json.dumps(file))
    done = check(tmp_path)
    assert done.returncode == 1
    assert "no such closed form" in done.stdout


def test_a_folder_without_vectors_is_refused(check, tmp_path):
    done = check(tmp_path)
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr

"""The command that checks vectors: passes on ours, fails on wrong ones, and says where."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def check(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, HERE / "check.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def ours() -> dict:
    """What the command says about our own files."""
    done = check(HERE / "data", "--json")
    assert done.returncode in {0, 1}, done.stderr
    return json.loads(done.stdout)


def test_every_case_passes(ours):
    assert ours["faults"] == []
    assert ours["failed"] == 0
    cases = sum(len(json.loads(path.read_text())["cases"]) for path in (HERE / "data").glob("*.json"))
    assert ours["passed"] == cases


def test_no_file_is_left_out(ours):
    assert ours["not_yet"] == []


def test_float32_stays_within_its_tolerance():
    done = check(HERE / "data", "--float32")
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].endswith(" passed, 0 failed")


def test_wrong_numbers_are_found_and_named(tmp_path):
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


def test_a_folder_without_vectors_is_refused(tmp_path):
    done = check(tmp_path)
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr

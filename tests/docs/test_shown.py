"""The table of all losses says what tests have shown, and nothing else."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "docs"))  # scripts beside their pages, not a package
import generate  # noqa: E402
import overview  # noqa: E402

TESTS = """
import pytest

@pytest.mark.shows("oracle")
@pytest.mark.parametrize("name", ["nca-first", "nca-second", "circle", "supcon"])
def test_by_name(name):
    if name == "circle":
        pytest.skip("not here")
    assert name != "nca-second"

@pytest.mark.shows("library", "nca", "triplet")
def test_named():
    pass
"""


def record(place: Path, *arguments: str) -> dict[str, dict[str, list[str]]]:
    """What pytest takes down."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--shown", place]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])}
    subprocess.run([*command, *arguments], cwd=ROOT, env=environment, capture_output=True, check=False)
    return json.loads(place.read_text(encoding="utf-8"))


def test_what_passes_is_taken_down_what_fails_is_struck_out_and_what_is_skipped_stays(tmp_path):
    place, tests = tmp_path / "shown.json", tmp_path / "test_some.py"
    tests.write_text(TESTS)
    before = {"oracle": {"nca": ["a::b"], "circle": ["c::d"]}}
    place.write_text(json.dumps(before))
    found = record(place, "-p", "shown", "--rootdir", str(tmp_path), str(tests))
    assert found == {
        "oracle": {"circle": ["c::d"], "nca": ["a::b"], "supcon": ["test_some.py::test_by_name"]},
        "library": {name: ["test_some.py::test_named"] for name in ("nca", "triplet")},
    }


def test_every_cell_has_a_test_or_a_reason_and_none_has_both():
    names = generate.own_losses()
    assert overview.unexplained(names, generate.SHARED_PAGES) == []
    found = json.loads(overview.RECORD.read_text(encoding="utf-8"))
    for what, reasons in overview.REASONS.items():
        explained = [name for losses in reasons.values() for name in losses.split()]
        assert sorted(set(explained)) == sorted(explained)
        assert {*explained} <= {*names}
        assert not {*explained} & {*found.get(what, {})}


@pytest.mark.slow
def test_every_test_of_the_record_is_there_for_its_loss(tmp_path):
    pytest.importorskip("pytorch_metric_learning")
    kept = json.loads(overview.RECORD.read_text(encoding="utf-8"))
    files = sorted({test.partition("::")[0] for losses in kept.values() for tests in losses.values() for test in tests})
    there = record(tmp_path / "claims.json", "--collect-only", "-m", "shows", *files)
    for what, losses in kept.items():
        for loss, tests in losses.items():
            assert {*tests} <= {*there[what].get(loss, [])}, (what, loss)

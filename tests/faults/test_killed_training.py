"""A training that is killed at any moment ends, once resumed, with the bytes of one that never was."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tiny
from tuplet.training import checkpoint, run

HERE = Path(__file__).parent
DEATHS = 30
MOMENTS = [
    "recipe.toml",
    "checkpoints/.step-000010.partial",
    "checkpoints/.step-000010.partial/model.safetensors",
    "checkpoints/step-000010",
    "checkpoints/.LATEST.partial",
    "checkpoints/step-000040",
    "model",
    ".gallery.partial",
    "evaluation.json",
]


def suffer(recipe, deaths):
    """Train into folders, and kill each training at the given moments; exit codes of all lives."""
    orders = {"recipe": str(recipe), "deaths": {str(run): moments for run, moments in deaths.items()}}
    done = subprocess.run(
        [sys.executable, HERE / "victim.py"],
        input=json.dumps(orders) + "\n",
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout)
    strange = [code for codes in ends.values() for code in codes if code not in (0, -signal.SIGKILL)]
    assert strange == [], done.stderr[-500:]
    return {Path(run).name: codes for run, codes in ends.items()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One training that nobody disturbs, one for each moment to die at, and one that dies thirty times."""
    recipe = tiny.write(tmp_path_factory.mktemp("killed"))
    folder = recipe.parent / "runs"
    chance = random.Random(0)  # noqa: S311  # moments to die at are no secret
    deaths = {folder / "undisturbed": [None], folder / "torn": ["checkpoints/step-000020"]}
    deaths |= {folder / f"moment-{k}": [moment, None] for k, moment in enumerate(MOMENTS)}
    deaths[folder / "random"] = [*(chance.uniform(0.0, 0.12) for _ in range(DEATHS)), None]
    ends = suffer(recipe, deaths)
    assert ends["undisturbed"] == [0]
    return folder, ends


def assert_same(folder, undisturbed):
    assert tiny.content(folder) == tiny.content(undisturbed)
    assert tiny.diary(folder) == tiny.diary(undisturbed)


def test_thirty_deaths_at_random_moments_leave_no_trace(runs):
    folder, ends = runs
    assert ends["random"].count(-signal.SIGKILL) >= DEATHS // 3, "killed too late to matter"
    assert ends["random"][-1] == 0
    assert_same(folder / "random", folder / "undisturbed")


@pytest.mark.parametrize("moment", MOMENTS)
def test_death_while_something_is_written_leaves_no_trace(runs, moment):
    folder, ends = runs
    name = f"moment-{MOMENTS.index(moment)}"
    is_last = moment == MOMENTS[-1]  # the process may come to its own end before it is killed
    assert ends[name] == [-signal.SIGKILL, 0] or (is_last and ends[name] == [0, 0])
    assert_same(folder / name, folder / "undisturbed")


@pytest.mark.parametrize("victim", ["model.safetensors", "optimizer.pt", "progress.json"])
def test_a_checkpoint_cut_short_is_passed_over_and_said_so(runs, victim):
    folder = runs[0] / f"cut-{victim}"
    shutil.copytree(runs[0] / "torn", folder)
    last, before = reversed(checkpoint.steps_in(folder / "checkpoints")[-2:])
    torn = folder / "checkpoints" / checkpoint.name_of(last) / victim
    torn.write_bytes(torn.read_bytes()[:-20])
    events = list(run(tiny.job(folder.parents[1] / "tiny.toml"), folder, resume=True))
    notes = [event["text"] for event in events if event["kind"] == "note"]
    assert checkpoint.name_of(last) in notes[0]
    assert notes[1] == f"Going on from step {before}."
    assert_same(folder, runs[0] / "undisturbed")

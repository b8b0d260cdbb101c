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
from tuplet.training.events import read_events

HERE = Path(__file__).parent
DEATHS = 30
BANK = """
[loss]
name = "instance_discrimination"
noise_samples = 16
proximal = 0.1
[batch]
name = "uniform"
batch_size = 12
"""
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


@pytest.fixture(scope="module")
def banked(tmp_path_factory):
    """A training with a memory bank that nobody disturbs, and how many seconds it takes."""
    recipe = tiny.write(tmp_path_factory.mktemp("banked"))
    before, after = tiny.RECIPE.split("[loss]")
    recipe.write_text(before + BANK + after[after.index("[train]") :])
    folder = recipe.parent / "runs"
    assert suffer(recipe, {folder / "undisturbed": [None]}) == {"undisturbed": [0]}
    last = checkpoint.load(folder / "undisturbed" / "checkpoints" / checkpoint.name_of(40))
    assert last.tensors["objective"]["bank.rows"].shape == (len(tiny.job(recipe).train), 8)
    return recipe, folder, read_events(folder / "undisturbed" / "events.jsonl")[-1]["seconds"]


def assert_same(folder, undisturbed):
    assert tiny.content(folder) == tiny.content(undisturbed)
    assert tiny.event_log(folder) == tiny.event_log(undisturbed)


def test_thirty_deaths_at_random_moments_leave_no_trace(runs):
    folder, ends = runs
    assert ends["random"].count(-signal.SIGKILL) >= DEATHS // 3, "killed too late to matter"
    assert ends["random"][-1] == 0
    assert_same(folder / "random", folder / "undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_death_while_something_is_written_leaves_no_trace(runs, moment):
    folder, ends = runs
    name = f"moment-{MOMENTS.index(moment)}"
    is_last = moment == MOMENTS[-1]  # the process may come to its own end before it is killed
    assert ends[name] == [-signal.SIGKILL, 0] or (is_last and ends[name] == [0, 0])
    assert_same(folder / name, folder / "undisturbed")


@pytest.mark.slow
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
    assert notes[1] == f"Resuming from step {before}."
    assert_same(folder, runs[0] / "undisturbed")


@pytest.mark.slow
@pytest.mark.parametrize("deaths", [4, pytest.param(DEATHS, marks=pytest.mark.weekly)])
def test_each_of_many_trainings_with_a_bank_goes_on_from_the_moment_it_was_killed(banked, deaths):
    recipe, folder, seconds = banked
    chance = random.Random(deaths)  # noqa: S311  # moments to die at are no secret
    moments = {folder / f"killed-{deaths}-{k}": [chance.uniform(0, seconds), None] for k in range(deaths)}
    ends = suffer(recipe, moments)
    assert sum(first == -signal.SIGKILL for first, _ in ends.values()) >= deaths * 2 / 3, "killed too late to matter"
    for life in moments:
        assert ends[life.name][-1] == 0
        assert_same(life, folder / "undisturbed")


@pytest.mark.slow
def test_a_torn_bank_is_passed_over_and_said_so(banked):
    recipe, folder, _ = banked
    torn = folder / "torn"
    suffer(recipe, {torn: ["checkpoints/step-000020"]})
    last, before = reversed(checkpoint.steps_in(torn / "checkpoints")[-2:])
    bank = torn / "checkpoints" / checkpoint.name_of(last) / "objective.safetensors"
    bank.write_bytes(bank.read_bytes()[: bank.stat().st_size // 2])
    notes = [event["text"] for event in run(tiny.job(recipe), torn, resume=True) if event["kind"] == "note"]
    assert f"{checkpoint.name_of(last)} is incomplete: objective.safetensors" in notes[0]
    assert notes[1] == f"Resuming from step {before}."
    assert_same(torn, folder / "undisturbed")

"""Ctrl-C saves before it stops; a full disk stops with one message; neither harms what was saved before."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tiny
from tuplet.training import checkpoint, run

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("stopped"))


@pytest.fixture(scope="module")
def undisturbed(recipe):
    folder = recipe.parent / "runs" / "undisturbed"
    list(run(tiny.job(recipe), folder))
    return folder


@pytest.fixture
def start(typist, tmp_path):
    return lambda *arguments: typist.start(["python", HERE / "trainer.py", *arguments], tmp_path)


def limited(*arguments):
    """A training that ends where files have grown to the size it is given last; what it says goes to pipes."""
    paths = os.pathsep.join([str(HERE.parent), *sys.path])
    command = [sys.executable, HERE / "trainer.py", *map(str, arguments)]
    return subprocess.run(command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True, check=False)


def test_ctrl_c_saves_a_checkpoint_from_which_the_training_goes_on(recipe, undisturbed, start):
    folder = undisturbed.parent / "interrupted"
    process = start(recipe, folder)
    for line in process.lines():
        if line == "step 6\n":
            process.send_signal(signal.SIGINT)
            break
    seen, complaints = process.communicate(timeout=120)
    assert (process.returncode, complaints) == (130, "")
    saved = checkpoint.steps_in(folder / "checkpoints")[-1]
    assert 6 <= saved < 40, seen
    list(run(tiny.job(recipe), folder, resume=True))
    assert tiny.event_log(folder) == tiny.event_log(undisturbed)
    left = {name: data for name, data in tiny.content(folder).items() if not name.startswith("checkpoints/")}
    expected = {name: data for name, data in tiny.content(undisturbed).items() if not name.startswith("checkpoints/")}
    assert left == expected


@pytest.mark.slow
@pytest.mark.parametrize("room", [100, 1500])
def test_a_full_disk_stops_with_one_message_and_leaves_nothing_half_written(recipe, undisturbed, start, room):
    folder = undisturbed.parent / f"room-{room}"
    done = limited(recipe, folder, room)
    complaints = done.stderr
    assert complaints.startswith(("CheckpointError: ", "DataError: ")), done.stdout
    assert "File too large" in complaints
    assert complaints.count("\n") == 3, "the message, its hint, and where to read more"
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]
    process = start(recipe, folder, "--resume")
    assert process.communicate(timeout=120)[1] == ""
    assert tiny.content(folder) == tiny.content(undisturbed)
    assert tiny.event_log(folder) == tiny.event_log(undisturbed)


@pytest.mark.slow
def test_a_disk_that_fills_later_keeps_the_checkpoints_before(recipe, undisturbed):
    folder = undisturbed.parent / "later"
    list(run(tiny.job(recipe, "train.steps=10"), folder))
    before = tiny.content(folder / "checkpoints")
    done = limited(recipe, folder, "--resume", "--extend", 7000)  # enough for the event log, not for an optimiser
    assert (done.returncode, done.stderr.startswith("CheckpointError: ")) == (3, True)
    assert "step-000015 could not be written: File too large" in done.stderr
    assert tiny.content(folder / "checkpoints") == before


LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000)); "


def test_a_disk_that_is_full_at_the_report_asks_for_the_report_alone(recipe, typist, tmp_path):
    folder = tmp_path / "tiny"
    program = f"{LIMITED}from tuplet.app.cli import main; main()"
    words = ["train", recipe, "--out", tmp_path, "--set", "train.steps=5"]
    done = typist(["python", "-c", program, *words], tmp_path)
    complaints = done.stderr
    assert done.returncode == 3, complaints
    assert complaints.rstrip().endswith("tuplet explain no-report")
    assert f"tuplet report {folder}" in complaints
    assert (folder / "evaluation.json").is_file()
    assert not [path for path in folder.rglob("*") if path.name.startswith(".") and path.name != ".lock"]
    assert not (folder / "report.html").exists()
    before = tiny.content(folder)
    assert typist(["report", folder], tmp_path).stdout.strip() == str(folder / "report.html")
    after = tiny.content(folder)
    assert after.pop("report.html")
    assert after == before


@pytest.mark.parametrize("signals", [1, 2, 3])
def test_however_often_ctrl_c_is_pressed_what_is_said_is_what_is_saved(recipe, typist, tmp_path, signals):
    folder = tmp_path / "tiny"
    endless = ("--set", "train.steps=100000", "--set", "train.validate_every=50000")
    process = typist.start(["train", recipe, "--out", tmp_path, *endless], tmp_path)
    event_log = folder / "events.jsonl"
    while process.poll() is None and not (event_log.exists() and b'"kind": "step"' in event_log.read_bytes()):
        time.sleep(0.02)
    for _ in range(signals):
        process.send_signal(signal.SIGINT)
        time.sleep(0.001)
    complaints = process.communicate(timeout=120)[1]
    assert process.returncode == 130, complaints
    assert "Traceback" not in complaints
    saved = checkpoint.steps_in(folder / "checkpoints")
    assert (f"--resume {folder}" in complaints) == bool(saved)
    assert not saved or f"step {saved[-1]}." in complaints

"""What TensorBoard shows, read back with its own reader."""

import subprocess
import sys
from pathlib import Path

import pytest

import tiny
from tuplet.training import run

SHORT = ("train.steps=10", "train.tensorboard=true")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("data"))


def scalars(folder):
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard")
    found = reading.EventAccumulator(str(folder)).Reload()
    return {tag: [(entry.step, entry.value) for entry in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


@pytest.mark.filterwarnings("default::DeprecationWarning")  # of packages that TensorBoard brings
def test_event_files_hold_the_numbers_of_the_event_log_and_a_resumed_run_goes_on_in_them(recipe, tmp_path):
    pytest.importorskip("tensorboard")
    events = run(tiny.job(recipe, *SHORT), tmp_path / "run")
    for event in events:  # stops after the checkpoint of step 5 and two more steps
        if event["kind"] == "step" and event["step"] == 8:
            break
    events.close()
    reported = list(run(tiny.job(recipe, *SHORT), tmp_path / "run", resume=True))
    assert reported[0]["text"] == "Resuming from step 5."
    found = scalars(tmp_path / "run" / "tensorboard")
    steps = [event for event in tiny.event_log(tmp_path / "run") if event["kind"] == "step"]
    assert found["train/loss"] == [(event["step"], pytest.approx(event["loss"])) for event in steps]
    assert {"train/learning_rate", "embedding/rank", "embedding/distance"} <= found.keys()
    evaluated = [event for event in tiny.event_log(tmp_path / "run") if event.get("split") == "validation"]
    models = [event for event in evaluated if event["of"] == "model"]
    recalls = [(event["step"], pytest.approx(event["values"]["recall@1"]["value"])) for event in models]
    assert found["validation model/recall@1"] == recalls


MISSING = """
import sys
from pathlib import Path
sys.modules["tensorboard"] = None  # what Python does when a package is not there
import tiny
from tuplet.errors import MissingExtraError
from tuplet.training import run
try:
    next(run(tiny.job(Path(sys.argv[1]), "train.tensorboard=true"), Path(sys.argv[2])))
except MissingExtraError as error:
    print(error.hint)
"""


def test_without_tensorboard_a_run_says_what_to_install(recipe, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", MISSING, recipe, tmp_path / "run"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(tiny.__file__).parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert 'pip install "tuplet[tensorboard] @ git+https://' in done.stdout
    assert not (tmp_path / "run").exists()

"""A recipe trains the same model on any number of processes, and any number of them goes on with it."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image

import tiny
from distributed import trainings
from distributed.launch import launch
from tuplet.engine import Processes
from tuplet.models import Embedder
from tuplet.training.distributed import shard_slice
from tuplet.training.events import read_events

pytestmark = pytest.mark.distributed

NAMES = {2: tuple(trainings.LOSSES), 4: trainings.ON_FOUR}
everywhere = pytest.mark.parametrize(("size", "loss"), [(size, loss) for size in NAMES for loss in NAMES[size]])


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return trainings.write(tmp_path_factory.mktemp("trainings"))


@pytest.fixture(scope="module")
def alone(recipe):
    return trainings.losses(str(recipe), str(recipe.parent / "alone"))


@pytest.fixture(scope="module")
def together(recipe, tmp_path_factory):
    """By number of processes: their runs, and the losses of their steps as each process saw them."""
    runs, place = recipe.parent / "runs", tmp_path_factory.mktemp("together")
    seen = {}
    for size, names in NAMES.items():
        given = {"recipe": str(recipe), "folder": str(runs / str(size)), "names": names}
        seen[size] = runs / str(size), launch("distributed.trainings:losses", size, place, **given)
    return seen


def assert_same(seen, alone):
    torch.testing.assert_close(torch.tensor(seen), torch.tensor(alone), rtol=1e-5, atol=1e-7)


@everywhere
def test_the_first_steps_have_the_losses_of_one_process(size, loss, alone, together):
    assert len(alone[loss]) == trainings.STEPS
    for seen in together[size][1]:
        assert_same(seen[loss], alone[loss])


def _double(numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def test_chunks_on_two_processes_give_the_gradient_of_the_whole_batch_on_one(recipe, tmp_path):
    expected = trainings.every_gradient(str(recipe), chunk=0)
    for found in launch("distributed.trainings:every_gradient", 2, tmp_path, recipe=str(recipe), chunk=3):
        for loss, gradient in expected.items():
            assert any(gradient)
            torch.testing.assert_close(_double(found[loss]), _double(gradient), rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@everywhere
def test_the_run_is_evaluated_and_saved_as_by_one_process(size, loss, recipe, alone, together):
    folders = recipe.parent / "alone" / loss, together[size][0] / loss
    assert tiny.content(folders[0]).keys() == tiny.content(folders[1]).keys()
    mine, theirs = (np.load(folder / "gallery" / "embeddings.npy") for folder in folders)
    mine, theirs = mine - mine.mean(0), theirs - theirs.mean(0)  # distances do not say where the cloud is
    np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-3)
    mine, theirs = map(tiny.event_log, folders)
    assert mine[0] == theirs[0], "the start, with all parameters counted"
    assert [event["kind"] for event in mine] == [event["kind"] for event in theirs]
    for evaluations in zip(mine, theirs, strict=True):
        ours, others = (event.get("spread") or {} for event in evaluations)  # none of a series of latents
        assert ours == pytest.approx(others, rel=1e-3)
        ours, others = (event.get("values", {}) for event in evaluations)
        assert ours.keys() == others.keys()
        assert all(abs(ours[name]["value"] - others[name]["value"]) < 0.02 for name in ours)


@pytest.fixture(scope="module")
def begun(recipe, tmp_path_factory):
    """The first steps of trainings by two processes."""
    given = {"recipe": str(recipe), "folder": str(recipe.parent / "begun"), "names": trainings.RESUMED, "until": 8}
    return launch("distributed.trainings:losses", 2, tmp_path_factory.mktemp("begun"), **given)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 3])
def test_another_number_of_processes_goes_on(recipe, alone, begun, tmp_path, size):
    folder = shutil.copytree(recipe.parent / "begun", tmp_path / "runs")
    given = {"recipe": str(recipe), "folder": str(folder), "names": trainings.RESUMED, "resume": True}
    later = (
        [trainings.losses(**given)] if size == 1 else launch("distributed.trainings:losses", size, tmp_path, **given)
    )
    for loss in trainings.RESUMED:
        for rest in later:
            assert_same(begun[0][loss] + rest[loss], alone[loss])
        event_log = [event["step"] for event in read_events(folder / loss / "events.jsonl") if event["kind"] == "step"]
        assert event_log == list(range(1, trainings.STEPS + 1))


def test_all_processes_choose_the_same_new_folder(tmp_path):
    assert launch("distributed.trainings:taken", 2, tmp_path, folder=str(tmp_path / "run")) == [False, False]


def test_only_the_first_process_notes_on_what_is_built(tmp_path):
    assert launch("distributed.trainings:notes", 2, tmp_path) == [True, False]


def torchrun(size, *arguments, cwd):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={size}",
        "-m",
        "tuplet",
    ]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*command, *arguments], cwd=cwd, text=True, **pipes)


def options(*overrides):
    return [part for override in overrides for part in ("--set", override)]


@pytest.mark.slow
def test_torchrun_trains_is_stopped_and_goes_on(recipe, tmp_path):
    forever = options(*trainings.EXACT[1:-1], "train.steps=100000", "train.validate_every=50000")
    training = torchrun(2, "train", str(recipe), "--out", str(tmp_path), *forever, cwd=tmp_path)
    event_log = tmp_path / "tiny" / "events.jsonl"
    while training.poll() is None and not (event_log.exists() and b'"kind": "step"' in event_log.read_bytes()):
        time.sleep(0.1)
    training.send_signal(signal.SIGINT)
    said = training.communicate(timeout=120)[1]
    assert said.count("tuplet train --resume") == 1, said
    saved = sorted((tmp_path / "tiny" / "checkpoints").glob("step-*"))
    assert saved, said
    steps = int(saved[-1].name.removeprefix("step-"))
    resumed = torchrun(
        2, "train", "--resume", str(tmp_path / "tiny"), "--steps", str(steps + 5), "--json", cwd=tmp_path
    )
    out, said = resumed.communicate(timeout=240)
    assert resumed.returncode == 0, said
    assert json.loads(out)["step"] <= steps + 5
    assert said.count(f"Resuming from step {steps}.") == 1
    happened = [event["step"] for event in read_events(event_log) if event["kind"] == "step"]
    assert happened == list(range(1, steps + 6))
    assert (tmp_path / "tiny" / "report.html").exists()
    assert Embedder.load(tmp_path / "tiny" / "model").state_dict()["encoder.layers.1.running_mean"].abs().sum() > 0


@pytest.mark.parametrize(
    ("change", "reported"),
    [
        pytest.param("train.stepps=3", "stepps", marks=pytest.mark.weekly),
        ("train.chunk=5", "normalises over the batch"),
    ],
)
def test_a_mistake_is_reported_once(recipe, tmp_path, change, reported):
    training = torchrun(2, "train", str(recipe), "--set", change, "--out", str(tmp_path), cwd=tmp_path)
    said = training.communicate(timeout=120)[1]
    assert training.returncode != 0
    assert said.count("error: ") == 1, said
    assert reported in said


def test_normalisation_over_the_batch_takes_the_rows_of_all(recipe, tmp_path):
    alone = trainings.normalised(str(recipe))
    for found in launch("distributed.trainings:normalised", 2, tmp_path, recipe=str(recipe)):
        for name, expected in alone.items():
            torch.testing.assert_close(torch.tensor(found[name]), torch.tensor(expected), rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_the_default_recipe_of_images_trains_under_torchrun(tmp_path):
    random = np.random.default_rng(0)
    for at in range(96):
        file = tmp_path / "photos" / f"class-{at % 24}" / f"{at}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16), dtype=np.uint8)).save(file)
    small = options("model.preprocessing.size=16", "train.steps=3", "evaluate.bootstrap=10")
    training = torchrun(2, "train", "photos", *small, cwd=tmp_path)
    said = training.communicate(timeout=400)[1]
    assert training.returncode == 0, said
    conclusion = json.loads((tmp_path / "runs" / "photos" / "evaluation.json").read_text())
    assert conclusion["protocols"]["all"]["model"]["counts"]["n_queries"] > 0
    assert read_events(tmp_path / "runs" / "photos" / "events.jsonl")[-1]["step"] == 3


@pytest.mark.parametrize("rows", [0, 1, 7, 12])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_shares_are_every_row_once_and_differ_by_one_at_most(rows, size):
    shares = [list(range(rows))[shard_slice(rows, Processes(rank, size))] for rank in range(size)]
    assert sum(shares, []) == list(range(rows))  # noqa: RUF017  # a few rows
    assert max(map(len, shares)) - min(map(len, shares)) <= 1

"""What stands around the loss of a recipe, trained from the command line."""

import json
import shutil
import tomllib

import numpy as np
import pytest
import torch

import tiny
from tuplet.data.dataset import take_batch
from tuplet.errors import RecipeError, TupletError
from tuplet.losses import DistilledLoss, MatryoshkaLoss, QueuedLoss, RegularisedLoss
from tuplet.models import Embedder
from tuplet.recipes import build, load_recipe
from tuplet.recipes.around import Teacher


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("data"))


def test_prefixes_and_terms_are_built_around_the_loss(recipe):
    job = tiny.job(recipe, "loss.queue=none", "objective.matryoshka=[4,8]", "objective.uniformity=0.1")
    assert isinstance(job.loss, RegularisedLoss)
    assert isinstance(job.loss.loss, MatryoshkaLoss)
    assert (job.loss.loss.dims, job.loss.uniformity) == ((4, 8), 0.1)
    x, labels = torch.randn(8, job.embedder.dim), torch.arange(8) // 2
    within = job.loss.loss.loss
    assert job.loss.loss(x, labels) == pytest.approx((within(x[:, :4], labels) + within(x, labels)).item(), rel=1e-6)
    assert type(tiny.job(recipe).loss) is type(within)


def test_a_queue_is_built_around_the_loss_or_refused(recipe):
    job = tiny.job(recipe, "loss.queue=none", "objective.queue=48", "objective.matryoshka=[4,8]")
    assert isinstance(job.loss.loss, QueuedLoss)
    assert job.loss.loss.queue.size == 48
    for changes in (["loss.queue=8"], ["loss=arcface"], ["loss=instance_discrimination"]):
        with pytest.raises(RecipeError) as caught:
            tiny.job(recipe, "objective.queue=48", *changes)
        assert caught.value.reference == "no-queue"


def test_a_teacher_is_followed_from_the_command_line(typed, recipe, tmp_path):
    small = ["loss.queue=none", "evaluate.bootstrap=0"]
    changes = [word for change in small for word in ("--set", change)]
    typed("train", recipe, "--steps", 20, *changes, "--set", "name=large")
    teacher = tmp_path / "runs" / "large" / "model"
    asked = [*changes, "--set", f"objective.teacher={teacher}", "--set", "model.dim=4"]
    told = ["--set", "objective.teacher_weight=3.0", "--set", "train.augment=none"]
    told += ["--set", "objective.teacher_distances=2.0", "--set", "objective.teacher_angles=0.5"]
    typed("train", recipe, "--steps", 20, *asked, *told, "--set", "name=small")
    run = tmp_path / "runs" / "small"
    kept = tomllib.loads((run / "recipe.toml").read_text())["objective"]
    assert (run / kept["teacher"]).resolve() == teacher.resolve()
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert events[-1]["kind"] == "end"
    typed("train", "--resume", run, "--steps", 25)
    assert (kept["teacher_distances"], kept["teacher_angles"]) == (2.0, 0.5)
    relational = ["objective.teacher_distances=2.0", "objective.teacher_angles=0.5"]
    job = tiny.job(recipe, *small, f"objective.teacher={teacher}", "model.dim=4", *relational)
    assert isinstance(job.loss, DistilledLoss)
    assert (job.loss.distances, job.loss.angles) == (2.0, 0.5)
    batch = take_batch(job.train, torch.arange(12))
    given = job.task.arguments(Teacher(job.embedder), batch)
    expected = Embedder.load(teacher).eval()(batch.inputs)
    torch.testing.assert_close(given["teacher"], expected)
    assert not given["teacher"].requires_grad
    truth = job.loss.loss(given["embeddings"], given["labels"])
    assert job.loss(**given) > truth


def test_a_run_goes_on_with_the_teacher_that_it_had(typed, recipe, tmp_path):
    for seed in (0, 1):
        typed("train", recipe, "--steps", 4, "--set", f"seed={seed}", "--set", "loss.queue=none", "--out", f"{seed}")
    [one, other] = [next((tmp_path / f"{seed}").iterdir()) / "model" for seed in (0, 1)]
    teacher = tmp_path / "teacher"
    shutil.copytree(one, teacher)
    asked = ["--set", "loss.queue=none", "--set", f"objective.teacher={teacher}"]
    typed("train", recipe, "--steps", 4, *asked, "--set", "name=taught")
    run = tmp_path / "runs" / "taught"
    before = (run / "events.jsonl").read_bytes()
    shutil.rmtree(teacher)
    shutil.copytree(other, teacher)
    assert "run-changed" in typed("train", "--resume", run, "--steps", 6, code=4).stderr
    assert (run / "events.jsonl").read_bytes() == before
    shutil.rmtree(teacher)
    shutil.copytree(one, teacher)
    typed("train", "--resume", run, "--steps", 6)


def test_a_teacher_of_other_inputs_is_refused(typed, recipe, tmp_path):
    np.save(tmp_path / "wide.npy", np.random.default_rng(0).normal(size=(90, 9)).astype(np.float32))
    np.save(tmp_path / "wide.labels.npy", np.repeat(np.arange(10), 9))
    changes = ["loss.queue=none", f"data.source={tmp_path / 'wide.npy'}", "evaluate.bootstrap=0", "name=wide"]
    typed("train", recipe, "--steps", 3, *(word for change in changes for word in ("--set", change)))
    with pytest.raises(RecipeError) as caught:
        tiny.job(recipe, "loss.queue=none", f"objective.teacher={tmp_path / 'runs' / 'wide' / 'model'}")
    assert caught.value.reference == "teacher"
    with pytest.raises(TupletError):
        tiny.job(recipe, "loss.queue=none", f"objective.teacher={tmp_path}")


@pytest.mark.parametrize(
    "changes",
    [
        ["objective.matryoshka=[8,4]"],
        ["objective.matryoshka=[4,16]"],
        ["objective.matryoshka_weights=[1.0]"],
    ],
)
def test_prefixes_that_do_not_fit_are_refused(recipe, changes):
    with pytest.raises(RecipeError) as caught:
        tiny.job(recipe, "model.dim=8", *changes)
    assert caught.value.reference == "matryoshka"


def test_word_vectors_have_no_objective(recipe, tmp_path):
    (tmp_path / "corpus.txt").write_text("a b c d " * 100)
    words = load_recipe("words", [f"data.source='{tmp_path / 'corpus.txt'}'", "objective.uniformity=0.1"])
    with pytest.raises(RecipeError) as caught:
        build(words, cache=tmp_path)
    assert caught.value.reference == "words-recipe"


def test_a_head_is_trained_on_prefixes_from_the_command_line(typed, recipe, tmp_path):
    changes = ["loss=arcface", "loss.scale=16.0", "objective.matryoshka=[4,8]", "objective.norm_penalty=0.01"]
    asked = [word for change in [*changes, "model.dim=8", "evaluate.bootstrap=0"] for word in ("--set", change)]
    typed("train", recipe, "--steps", 3, *asked, "--set", "name=short")
    run = tmp_path / "runs" / "short"
    assert tomllib.loads((run / "recipe.toml").read_text())["objective"]["matryoshka"] == [4, 8]
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert events[-1]["kind"] == "end"

"""A run is decided by its recipe: the same one gives the same bytes; its folder is complete and can be moved."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

import tiny
from tuplet import index
from tuplet.app.history import read_runs
from tuplet.errors import DataError, DivergedError
from tuplet.models import Embedder
from tuplet.recipes import load_recipe
from tuplet.training import checkpoint, run


def ran(recipe, folder, *overrides):
    return list(run(tiny.job(recipe, *overrides), folder))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(recipe):
    folder = recipe.parent / "runs" / "finished"
    ran(recipe, folder)
    return folder


def test_the_same_recipe_gives_the_same_bytes(recipe, finished, tmp_path):
    torch.manual_seed(5)  # what the caller did to the global generator does not matter
    ran(recipe, recipe.parent / "runs" / "again")
    again, first = tiny.content(recipe.parent / "runs" / "again"), tiny.content(finished)
    assert again == first
    assert tiny.event_log(recipe.parent / "runs" / "again") == tiny.event_log(finished)


def test_another_seed_gives_another_model(recipe, finished, tmp_path):
    ran(recipe, tmp_path / "run", "seed=1", "train.steps=5")
    weights = "model/weights.safetensors"
    assert (tmp_path / "run" / weights).read_bytes() != (finished / weights).read_bytes()


def test_the_event_log_tells_the_whole_story(finished):
    events = tiny.event_log(finished)
    assert [event["kind"] for event in events[:2]] == ["start", "evaluation"]
    assert [event["step"] for event in events if event["kind"] == "step"] == list(range(2, 41, 2))
    evaluated = [event for event in events if event["kind"] == "evaluation" and event["split"] == "validation"]
    assert [(event["of"], event["step"]) for event in evaluated] == [("raw", 0)] + [
        ("model", k) for k in range(5, 41, 5)
    ]
    assert [event["step"] for event in events if event["kind"] == "checkpoint"] == list(range(5, 41, 5))
    assert [event.get("of") for event in events[-3:]] == ["raw", "model", None]
    assert (events[-1]["kind"], events[-1]["step"]) == ("end", 40)


def test_the_best_step_is_kept_evaluated_and_saved(finished):
    events = tiny.event_log(finished)
    evaluated = [event for event in events if event.get("split") == "validation" and event["of"] == "model"]
    best = max(evaluated, key=lambda event: event["values"]["map@r"]["value"])["step"]  # the first of equals
    assert best == events[-1]["best_step"] == [event["step"] for event in evaluated if event["best"]][-1]
    assert best in checkpoint.steps_in(finished / "checkpoints")
    kept = checkpoint.load(finished / "checkpoints" / checkpoint.name_of(best)).tensors["averaged"]
    saved = Embedder.load(finished / "model").state_dict()
    assert all(torch.equal(saved[name], kept[name]) for name in saved)


def test_the_last_two_checkpoints_stay_and_the_best(finished):
    steps = checkpoint.steps_in(finished / "checkpoints")
    assert set(steps) == {35, 40, tiny.event_log(finished)[-1]["best_step"]}


def test_the_evaluation_stands_beside_that_of_the_raw_input(finished):
    conclusion = json.loads((finished / "evaluation.json").read_text())
    assert (conclusion["split"], conclusion["format"]) == ("test", 1)
    evaluated = conclusion["protocols"]["all"]
    assert set(evaluated) == {"model", "raw", "comparison"}
    assert conclusion["data"]["splits"]["test"] == {"examples": 72, "classes": 8}
    end = [event for event in tiny.event_log(finished) if event["kind"] == "evaluation"][-1]
    assert evaluated["model"]["values"]["recall@1"] == end["values"]["recall@1"]["value"]


def test_thresholds_come_from_validation_and_travel_with_the_model(finished):
    thresholds = Embedder.load(finished / "model").thresholds
    assert {"best", "far=0.1"} <= set(thresholds)
    assert all(-1 <= threshold <= 1 for threshold in thresholds.values())


def test_a_run_can_be_moved_and_still_answers(finished, tmp_path):
    moved = tmp_path / "elsewhere" / "moved"
    shutil.copytree(finished, moved)
    gallery = index.open(moved / "gallery")
    rows = torch.randn(2, 6).numpy()
    hits = gallery.search(gallery.embedder.embed(rows), top=3)
    assert len(hits.ids[0]) == 3
    assert str(finished.parent) not in (moved / "evaluation.json").read_text() + (moved / "recipe.toml").read_text()


def test_the_recipe_of_a_run_is_the_recipe(recipe, finished):
    again = load_recipe(finished / "recipe.toml")
    assert again.model_dump() == load_recipe(recipe).model_dump()


def test_resuming_a_finished_run_changes_nothing(recipe, finished, tmp_path):
    folder = finished.parent / "copy"
    shutil.copytree(finished, folder)
    list(run(tiny.job(folder / "recipe.toml"), folder, resume=True))
    assert tiny.content(folder) == tiny.content(finished)
    assert tiny.event_log(folder) == tiny.event_log(finished)


def test_without_validation_the_last_step_counts(recipe, tmp_path):
    events = ran(recipe, tmp_path / "run", "data.split.validation=0.0", "train.steps=7")
    assert (events[-1]["best_step"], events[-1]["step"]) == (7, 7)
    assert not [event for event in events if event.get("split") == "validation"]


def test_without_test_examples_the_validation_examples_evaluate(recipe, tmp_path):
    ran(recipe, tmp_path / "run", "data.split.test=0.0", "train.steps=5")
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["split"] == "validation"


def test_patience_ends_a_training_that_does_not_get_better(recipe, tmp_path):
    still = ["train.learning_rate=1e-30", "train.ema=0.0", "model.encoder.norm=none"]
    events = ran(recipe, tmp_path / "run", "train.patience=2", *still)
    end = events[-1]
    assert (end["stopped_early"], end["best_step"], end["step"]) == (True, 5, 15)


def test_averaged_weights_lag_behind(recipe, tmp_path):
    ran(recipe, tmp_path / "run", "train.steps=10", "train.validate_every=10")
    tensors = checkpoint.load(tmp_path / "run" / "checkpoints" / "step-000010").tensors
    name = "encoder.layers.0.weight"
    assert not torch.equal(tensors["model"][name], tensors["averaged"][name])


def test_a_folder_that_holds_something_is_left_alone(recipe, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(DataError) as caught:
        ran(recipe, tmp_path)
    assert caught.value.reference == "run-exists"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_weights_that_overflow_stop_the_run_with_step_examples_and_cause(recipe, tmp_path):
    with pytest.raises(DivergedError) as caught:
        ran(recipe, tmp_path / "run", "train.learning_rate=1e30", "train.warmup=0.0", "model.encoder.norm=none")
    message = caught.value.message
    assert "at step 2" in message
    assert "train.learning_rate = 1e+30 is too large" in message
    assert "The batch was" in message
    assert "--set train.learning_rate=1e+29" in caught.value.hint
    assert not (tmp_path / "run" / "model").exists()
    assert [row["state"] for row in read_runs(tmp_path)] == ["diverged at step 2"]
    last = tiny.event_log(tmp_path / "run")[-1]
    assert last == {"kind": "diverged", "step": 2, "text": message}


def test_a_batch_larger_than_the_data_is_remarked_on_and_trains(recipe, tmp_path):
    events = ran(recipe, tmp_path / "run", "batch.per_class=40", "train.steps=1")
    assert len(tiny.job(recipe).train) < 160
    assert events[0]["text"].startswith("A batch takes 160 examples, and there are ")
    assert events[-1]["kind"] == "end"
    assert not any("A batch takes" in event.get("text", "") for event in ran(recipe, tmp_path / "2", "train.steps=1"))


def test_inputs_that_are_not_finite_are_named(recipe, tmp_path):
    job = tiny.job(recipe)
    job.train.inputs[17, 3] = float("nan")
    with pytest.raises(DivergedError) as caught:
        list(run(job, tmp_path / "run"))
    assert f"the inputs of {job.train.ids[17]} hold NaN" in caught.value.message


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_low_precision_is_the_encoders_alone(recipe, tmp_path, precision):
    job = tiny.job(recipe, f"train.precision={precision}", "train.steps=2")
    seen = set()
    job.embedder.encoder.layers[-1].register_forward_hook(lambda layer, _, out: seen.add((layer.training, out.dtype)))
    read = set()

    def arguments(embed, batch):
        found = job.task.arguments(embed, batch)
        read.add(found["embeddings"].dtype)
        return found

    list(run(replace(job, task=replace(job.task, arguments=arguments)), tmp_path / "run"))
    assert read == {torch.float32}
    assert (True, getattr(torch, precision)) in seen
    assert {tensor.dtype for tensor in job.loss.state_dict().values()} == {torch.float32, torch.int64}
    assert job.embedder.encoder.layers[-1].weight.dtype == torch.float32

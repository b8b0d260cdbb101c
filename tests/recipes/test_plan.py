"""The cost of a training is estimated before it, with whatever may be wrong: each note on files that earn it."""

import csv
import json
from dataclasses import asdict

import numpy as np
import pytest

from tuplet.errors import DataError
from tuplet.recipes import build, load_recipe, plan
from tuplet.training import checkpoint, run

RECIPE = """
[data]
source = "{source}"
split = {{ by = "{by}", test = 0.3, validation = 0.2 }}
[model]
encoder = {{ name = "mlp", hidden = [16] }}
dim = 4
[loss]
name = "supcon"
[batch]
name = "per-class"
classes_per_batch = 4
per_class = 3
[train]
steps = 30
[evaluate]
bootstrap = 5
"""


def write(folder, rows, header=("label", "x0", "x1"), by="class"):
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    (folder / "recipe.toml").write_text(RECIPE.format(source="table.csv", by=by))
    return folder / "recipe.toml"


def rows_of(sizes, seed=0):
    """Numbers that no two rows share, for classes of given sizes."""
    random = np.random.default_rng(seed)
    return [[f"c{label:02}", *random.normal(size=2).round(6)] for label, size in enumerate(sizes) for _ in range(size)]


def planned(recipe, *overrides):
    return plan(load_recipe(recipe, overrides), cache=recipe.parent / "cache")


def test_a_plan_agrees_with_the_training_it_foretells(tmp_path):
    recipe = write(tmp_path, rows_of([6, 7] * 12))
    made = planned(recipe, "train.validate_every=4")
    assert made.warnings == ()
    assert made.data["train"] == {"examples": made.data["train"]["examples"], "classes": 14} | {
        "smallest": 6,
        "median": made.data["train"]["median"],
        "largest": 7,
    }
    assert sum(part["examples"] for part in made.data.values()) == 12 * 13
    assert (made.steps["batch"], made.steps["steps"]) == (12, 30)
    assert made.steps["validations"] == 8  # the last one after two steps
    assert made.steps["epochs"] == pytest.approx(30 / made.steps["batches_per_epoch"])
    assert 0 < made.seconds["loading"] < made.seconds["step_high"]
    assert made.seconds["step_low"] <= made.seconds["step"] <= made.seconds["step_high"]
    assert made.seconds["in_all"] >= 30 * made.seconds["step"]
    assert {path.name for path in tmp_path.iterdir()} == {"table.csv", "recipe.toml"}, "nothing is written"

    list(run(build(load_recipe(recipe), cache=tmp_path / "cache"), tmp_path / "run"))
    latest = max((tmp_path / "run" / "checkpoints").glob("step-*"))
    written = sum(file.stat().st_size for file in latest.iterdir() if file.name in checkpoint.FILES)
    assert 0.2 * written < made.memory["checkpoint"] <= written, "headers and names come on top"


def test_what_the_loss_holds_is_distinguished(tmp_path):
    recipe = write(tmp_path, rows_of([6] * 20))
    head = planned(recipe, "loss=cosface", "batch={name='uniform', batch_size=16}")
    assert head.memory["head"] == head.data["train"]["classes"] * 4 * 4
    bank = planned(
        recipe, "loss={name='instance_discrimination', noise_samples='none'}", "batch={name='uniform', batch_size=16}"
    )
    assert bank.memory["bank"] >= bank.data["train"]["examples"] * 4 * 4
    assert planned(recipe, "train.ema=0.9").memory["averaged"] == planned(recipe).memory["weights"]


def test_a_plan_of_word_vectors_counts_words(tmp_path):
    (tmp_path / "corpus.txt").write_text("the house is a home and the home is a house " * 100)
    made = plan(load_recipe("words", [f"data.source='{tmp_path / 'corpus.txt'}'"]), cache=tmp_path / "cache")
    assert made.data == {"train": {"examples": 1100, "classes": 6}}
    assert made.steps["epochs"] == 4
    json.dumps(asdict(made))


def warned(recipe, *overrides):
    return "\n".join(planned(recipe, *overrides).warnings)


def test_a_class_with_one_example_is_named(tmp_path):
    said = warned(
        write(tmp_path, rows_of([1] + [6] * 20), by="row"), "data.split.test=0.0", "data.split.validation=0.0"
    )
    assert "1 class has a single training example, and is left out of batches of pairs: 'c00'." in said


def test_more_examples_asked_of_a_class_than_it_has(tmp_path):
    said = warned(write(tmp_path, rows_of([6] * 20)), "batch.per_class=8")
    assert "11 classes have fewer than the 8 examples" in said
    assert "--set batch.per_class=6" in said


def test_few_training_classes_for_an_evaluation_on_unseen_ones(tmp_path):
    recipe = write(tmp_path, rows_of([9] * 12))
    assert "Training has 6 classes, but tests unseen ones" in warned(recipe)
    assert "Training has" not in warned(recipe, "data.split.by=row")


def test_copies_across_splits_are_found_by_their_content(tmp_path):
    rows = rows_of([6] * 20)
    assert "in two splits" not in warned(write(tmp_path, rows))
    copies = [["c00", *row[1:]] for row in rows[6:]]  # of every class into the first one, whatever its split
    said = warned(write(tmp_path, [*rows, *copies]), "data.split.seed=3")
    assert "examples appear in two splits:" in said


def test_a_class_in_two_splits_that_should_share_none_is_refused(tmp_path):
    rows = [[*row, "test" if number % 3 == 0 else "train"] for number, row in enumerate(rows_of([6] * 20))]
    recipe = write(tmp_path, rows, header=("label", "x0", "x1", "split"))
    with pytest.raises(DataError, match="20 classes into more than one split"):
        planned(recipe)


def test_classes_that_only_the_test_split_holds_where_it_shares_others(tmp_path):
    rows = [[*row, "test" if number >= 60 or number == 0 else "train"] for number, row in enumerate(rows_of([6] * 20))]
    recipe = write(tmp_path, rows, by="row", header=("label", "x0", "x1", "split"))
    said = "The test split shares 'c00' with training, and 10 of its 11 classes are unseen there: 'c10', 'c11', 'c12'"
    without = "data.split.validation=0.0"
    assert said in warned(recipe, without)
    job = build(load_recipe(recipe, [without]), cache=tmp_path)
    assert job.facts["splits"]["test"] == {"examples": 61, "classes": 11, "unseen": 10}
    assert "unseen" not in job.facts["splits"]["train"]


def test_a_plan_tells_what_is_left_out_once(tmp_path, capfd):
    recipe = write(tmp_path, rows_of([1] + [6] * 20), by="row")
    assert "left out of batches" in warned(recipe, "data.split.test=0.0", "data.split.validation=0.0")
    assert "left out" not in capfd.readouterr().err


def test_measurements_used_as_classes(tmp_path):
    rows = [[f"{number % 40 / 8}", *row[1:]] for number, row in enumerate(rows_of([6] * 40))]
    assert "The 40 classes look like measurements" in warned(write(tmp_path, rows))
    whole = [[number % 40, *row[1:]] for number, row in enumerate(rows_of([6] * 40))]
    assert "measurements" not in warned(write(tmp_path, whole)), "whole numbers that come again are names"


def test_a_batch_larger_than_the_data(tmp_path):
    said = warned(write(tmp_path, rows_of([4] * 20)), "batch.classes_per_batch=11", "batch.per_class=8")
    assert "A batch takes 88 examples, and there are 44 to train on" in said


def test_a_training_that_ends_before_its_first_epoch(tmp_path):
    said = warned(write(tmp_path, rows_of([4] * 20)), "train.steps=1")
    assert "train.steps = 1 is 0.33 epochs: some examples are never seen. One epoch: --set train.steps=3" in said


def test_a_scale_that_is_too_small_for_its_classes(tmp_path):
    uniform = "batch={name='uniform', batch_size=16}"
    recipe = write(tmp_path, rows_of([6] * 20))
    assert "With scale 1 not all of the 11 classes" in warned(recipe, "loss={name='arcface', scale=1.0}", uniform)
    assert "scale" not in warned(recipe, "loss={name='arcface', margin=0.2}", uniform)


def test_a_plan_names_a_protocol_that_will_be_left_out(tmp_path):
    rows = [[label, f"genus{int(label[1:]) // 2}", *numbers] for label, *numbers in rows_of([6] * 24)]
    recipe = write(tmp_path, rows, ("label", "group", "x0", "x1"))
    assert [said for said in planned(recipe).warnings if "other_groups" in said]
    assert not [said for said in planned(recipe, "data.columns.group=none").warnings if "other_groups" in said]
    mixed = [[label, f"camera{at % 3}", *numbers] for at, (label, _, *numbers) in enumerate(rows)]
    recipe = write(tmp_path, mixed, ("label", "group", "x0", "x1"))
    assert not [said for said in planned(recipe).warnings if "other_groups" in said]


def test_a_plan_takes_its_steps_where_it_is_reported(tmp_path):
    recipe = write(tmp_path, rows_of([6] * 24))
    made = plan(load_recipe(recipe), cache=tmp_path / "cache", device="cpu")
    assert made.seconds["step"] > 0
    with pytest.raises((RuntimeError, AssertionError, NotImplementedError), match=r"[Mm]eta"):
        plan(load_recipe(recipe), cache=tmp_path / "cache", device="meta")

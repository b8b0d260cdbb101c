"""Data that nobody wrote a recipe for gets one that trains."""

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_wine

from tuplet.errors import DataError, RecipeError
from tuplet.recipes import build, recipe_for
from tuplet.training import run

QUICK = ["train.steps=3", "evaluate.bootstrap=5"]


def trains(recipe, folder):
    events = list(run(build(recipe, cache=folder / "cache"), folder / "run"))
    assert events[-1]["kind"] == "end"


def test_a_folder_of_small_grey_images_is_read_at_its_own_size(tmp_path):
    digits = load_digits()
    for number, (image, label) in enumerate(zip(digits.images[:200], digits.target, strict=False)):
        (tmp_path / "digits" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15).astype(np.uint8)).save(tmp_path / "digits" / str(label) / f"{number}.png")
    recipe = recipe_for(tmp_path / "digits", QUICK)
    assert (recipe.name, recipe.model.preprocessing.size, recipe.model.preprocessing.channels) == ("digits", 16, 1)
    assert recipe.data.split.by == "row", "ten classes are too few to learn what makes unseen ones differ"
    assert recipe.batch.classes_per_batch == 10
    trains(recipe, tmp_path)


def test_a_table_of_numbers_is_split_by_row_where_classes_are_few(tmp_path):
    wine = load_wine()
    header = ",".join(["label", *(f"x{k}" for k in range(13))])
    rows = [",".join(map(str, [label, *row])) for row, label in zip(wine.data, wine.target, strict=True)]
    (tmp_path / "wine.csv").write_text("\n".join([header, *rows]))
    recipe = recipe_for(tmp_path / "wine.csv", QUICK)
    assert (recipe.model.encoder.name, recipe.data.split.by, recipe.batch.classes_per_batch) == ("mlp", "row", 3)
    trains(recipe, tmp_path)


def test_many_classes_are_split_by_class(tmp_path):
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(150, 4)).astype(np.float32))
    np.save(tmp_path / "rows.labels.npy", np.repeat(np.arange(50), 3))
    recipe = recipe_for(tmp_path / "rows.npy", QUICK)
    assert (recipe.data.split.by, recipe.batch.per_class) == ("class", 3)
    trains(recipe, tmp_path)


def test_texts_and_series_get_encoders_of_their_own(tmp_path):
    rows = [f"{k % 4},note {k} of kind {'ab' * (k % 4)}\n" for k in range(80)]
    (tmp_path / "texts.csv").write_text("label,text\n" + "".join(rows))
    trains(recipe_for(tmp_path / "texts.csv", QUICK), tmp_path / "text")
    np.save(tmp_path / "waves.npy", np.random.default_rng(0).normal(size=(80, 2, 24)).astype(np.float32))
    np.save(tmp_path / "waves.labels.npy", np.arange(80) % 4)
    assert recipe_for(tmp_path / "texts.csv").model.encoder.name == "bag-of-words"
    trains(recipe_for(tmp_path / "waves.npy", QUICK), tmp_path / "series")


def test_splits_that_the_data_names_decide_whether_classes_are_shared(tmp_path):
    def table(name, split_of):
        rows = [f"{split_of(label, k)},{label},{k}\n" for label in range(6) for k in range(10)]
        (tmp_path / name).write_text("split,label,x0\n" + "".join(rows))
        return recipe_for(tmp_path / name).data.split.by

    assert table("open.csv", lambda label, _: "test" if label > 2 else "train") == "class"
    assert table("closed.csv", lambda _, k: "test" if k > 5 else "train") == "row"


def test_a_handful_of_examples_is_judged_without_validation(tmp_path):
    np.save(tmp_path / "few.npy", np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32))
    np.save(tmp_path / "few.labels.npy", np.repeat(np.arange(3), 4))
    recipe = recipe_for(tmp_path / "few.npy", QUICK)
    assert recipe.data.split.validation == 0
    trains(recipe, tmp_path)


def test_overrides_come_last(tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((40, 4), np.float32))
    np.save(tmp_path / "rows.labels.npy", np.repeat(np.arange(4), 10))
    assert recipe_for(tmp_path / "rows.npy", ["batch.per_class=5", "name=mine"]).batch.per_class == 5
    with pytest.raises(RecipeError, match=r"train\.stpes"):
        recipe_for(tmp_path / "rows.npy", ["train.stpes=5"])


def test_data_without_classes_is_refused(tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((40, 4), np.float32))
    with pytest.raises(DataError) as caught:
        recipe_for(tmp_path / "rows.npy")
    assert caught.value.reference == "missing-labels"

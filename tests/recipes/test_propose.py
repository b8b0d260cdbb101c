"""Data that nobody wrote a recipe for gets one that trains, with reasons."""

import os
import re

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits, load_wine

from tuplet.errors import DataError, RecipeError
from tuplet.recipes import build, dump_recipe, load_recipe, plan, propose, recipe_for
from tuplet.training import run

QUICK = ["train.steps=3", "evaluate.bootstrap=5"]


def trains(recipe, folder):
    events = list(run(build(recipe, cache=folder / "cache"), folder / "run"))
    assert events[-1]["kind"] == "end"


def test_what_a_system_leaves_beside_texts_is_no_text(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "one.txt").write_text("the house is a home and the home is a house " * 100)
    for name in (".DS_Store", ".hidden.txt", "Thumbs.db", "desktop.ini"):
        (folder / name).write_bytes(bytes(9))
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.txt")
    made = propose(folder, ["train.epochs=1"])
    assert made.kind == "words"
    assert build(made.recipe, cache=tmp_path / "cache").facts["files"] == 1


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


def test_a_batch_takes_as_many_of_a_class_as_nine_of_ten_have(tmp_path):
    sizes = [5] * 38 + [3, 3] + [40] * 20
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(sum(sizes), 4)).astype(np.float32))
    np.save(tmp_path / "rows.labels.npy", np.repeat(np.arange(60), sizes))
    assert recipe_for(tmp_path / "rows.npy").batch.per_class == 5


@pytest.mark.parametrize(
    ("kind", "rows", "hidden", "steps", "ema"),
    [
        ("targets", 499, (128,), 500, 0.0),
        ("targets", 500, (256, 256), 2000, 0.99),
        ("labels", 60, (256, 256), 2000, 0.99),
    ],
)
def test_few_graded_rows_get_a_small_network_and_a_short_training(tmp_path, kind, rows, hidden, steps, ema):
    np.save(tmp_path / "rows.npy", np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32))
    np.save(tmp_path / f"rows.{kind}.npy", np.arange(rows) % 5)
    made = propose(tmp_path / "rows.npy")
    recipe = made.recipe
    assert (recipe.model.encoder.hidden, recipe.train.steps, recipe.train.ema) == (hidden, steps, ema)
    assert recipe.train.patience == 5
    assert "docs/defaults.md" in made.reasons["model", "encoder"]
    assert "training ends early" in made.reasons[("train",)]


@pytest.mark.parametrize(("classes", "wanted"), [(60, (32, 4, 0.003)), (400, (96, 4, 0.01))])
def test_pictures_of_many_classes_get_a_batch_of_many_and_a_larger_rate(tmp_path, classes, wanted):
    pixels = np.random.default_rng(0).integers(0, 256, (classes * 4, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "pictures.npy", pixels)
    np.save(tmp_path / "pictures.labels.npy", np.repeat(np.arange(classes), 4))
    recipe = recipe_for(tmp_path / "pictures.npy", ["data.kind=image"])
    assert (recipe.batch.classes_per_batch, recipe.batch.per_class, recipe.train.learning_rate) == wanted
    assert (recipe.train.ema, recipe.train.patience) == (0.99, 5)


def test_plain_text_is_proposed_for_words(tmp_path):
    (tmp_path / "corpus.txt").write_text("the house is a home and the home is a house " * 100)
    made = propose(tmp_path / "corpus.txt", ["train.epochs=1"])
    (tmp_path / "corpus.toml").write_text(made.text(tmp_path))
    recipe = load_recipe(tmp_path / "corpus.toml")
    assert (recipe.data.kind, recipe.loss.name, recipe.train.epochs) == ("words", "nce", 1)
    assert plan(recipe, cache=tmp_path / "cache").warnings == ()
    events = list(run(build(recipe, cache=tmp_path / "cache"), tmp_path / "run"))
    assert events[-1]["kind"] == "end"


@pytest.mark.slow
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

    named = [f"{'test' if k % 10 > 6 or k > 70 else 'train'},{k // 10},{k}\n" for k in range(100)]
    (tmp_path / "mixed.csv").write_text("split,label,x0\n" + "".join(named))
    reason = propose(tmp_path / "mixed.csv").reasons["data", "split"]
    assert "8 classes of 10 stand in more than one of them: '0', '1', '2', ..." in reason
    assert table("open.csv", lambda label, _: "test" if label > 2 else "train") == "class"
    assert table("closed.csv", lambda _, k: "test" if k > 5 else "train") == "row"


def test_a_handful_of_examples_is_evaluated_without_validation(tmp_path):
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


def write_table(path, header, rows):
    path.write_text("\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n")
    return path


def graded(folder):
    """Rows whose target is a sum of two of their numbers."""
    random = np.random.default_rng(0)
    rows = [[*numbers, numbers[0] + numbers[1]] for numbers in random.normal(size=(90, 3)).round(3)]
    return write_table(folder / "graded.csv", ["x0", "x1", "x2", "target_sum"], rows)


def paired(folder):
    rows = [[f"word {k} {'abcdefg'[k % 7]}", f"meaning {k} of it"] for k in range(60)]
    return write_table(folder / "paired.csv", ["text", "pair"], rows)


def bare_rows(folder):
    np.save(folder / "bare.npy", np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32))
    return folder / "bare.npy"


def bare_texts(folder):
    return write_table(folder / "texts.csv", ["text"], [[f"text {k} on {'abcdefg'[k % 7]}"] for k in range(60)])


def bare_series(folder):
    np.save(folder / "waves.npy", np.random.default_rng(0).normal(size=(60, 2, 24)).astype(np.float32))
    return folder / "waves.npy"


def graded_series(folder):
    np.save(folder / "waves.targets.npy", np.arange(60) / 7)
    return bare_series(folder)


def unlabelled_images(folder):
    random = np.random.default_rng(0)
    (folder / "photos").mkdir()
    for k in range(40):
        Image.fromarray(random.integers(0, 256, (18, 20, 3), dtype=np.uint8)).save(folder / "photos" / f"{k}.png")
    return folder / "photos"


def labelled_series(folder):
    random = np.random.default_rng(0)
    lines = [f"{','.join(f'{value:.3f}' for value in random.normal(k % 3, 1, 20))}:{'abc'[k % 3]}" for k in range(60)]
    (folder / "waves.ts").write_text("\n".join(["@classLabel true a b c", "@data", *lines]))
    return folder / "waves.ts"


def named_images(folder):
    """Images that a table names, of 20 classes."""
    images = unlabelled_images(folder)
    rows = [[f"photos/{path.name}", int(path.stem) % 20] for path in sorted(images.iterdir())]
    return write_table(folder / "named.csv", ["path", "label"], rows)


def asked(folder):
    """Pairs under the names that others give them, and a column that says nothing."""
    rows = [[f"word {k} {'abcdefg'[k % 7]}", f"meaning {k} of it", "dictionary"] for k in range(60)]
    return write_table(folder / "asked.csv", ["query", "positive", "source"], rows)


def named_otherwise(folder):
    """Numbers whose class stands in a column that nothing says is one."""
    random = np.random.default_rng(0)
    rows = [["abc"[k % 3], *random.normal(size=2).round(3)] for k in range(60)]
    return write_table(folder / "cultivars.csv", ["cultivar", "height", "width"], rows)


def test_a_class_under_another_name_is_asked_for(tmp_path):
    with pytest.raises(DataError) as error:
        propose(named_otherwise(tmp_path), QUICK)
    assert error.value.reference == "unclear-columns"
    assert "data.columns.label='cultivar'" in error.value.hint
    made = propose(tmp_path / "cultivars.csv", [*QUICK, "data.columns.label=cultivar"])
    assert (made.recipe.loss.name, made.manifest.class_names) == ("supcon", ("a", "b", "c"))
    made = propose(tmp_path / "cultivars.csv", [*QUICK, "data.columns.label=none"])
    assert (made.recipe.loss.name, made.manifest.unread) == ("nt_xent", ("cultivar",))


KINDS = [
    (asked, "info_nce", "paired", "row", "that each have a partner. Not read: 'source'."),
    (graded, "log_ratio", "uniform", "row", "distances of embeddings follow distances of labels"),
    (graded_series, "log_ratio", "uniform", "row", "60 series with 1 graded label."),
    (paired, "info_nce", "paired", "row", "60 texts that each have a partner."),
    (bare_rows, "nt_xent", "uniform", "row", "Without labels, two augmented views"),
    (bare_texts, "nt_xent", "uniform", "row", "60 texts without labels."),
    (bare_series, "nt_xent", "uniform", "row", "60 series without labels."),
    (unlabelled_images, "nt_xent", "uniform", "row", "18 pixels"),
    (labelled_series, "supcon", "per-class", "row", "3 classes are too few"),
    (named_images, "supcon", "per-class", "class", "20 classes are enough"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("write", "loss", "batch", "by", "reason"), KINDS, ids=[kind[0].__name__ for kind in KINDS])
def test_every_kind_of_data_gets_a_recipe_with_reasons_that_trains(tmp_path, write, loss, batch, by, reason):
    made = propose(write(tmp_path), QUICK)
    assert (made.recipe.loss.name, made.recipe.batch.name, made.recipe.data.split.by) == (loss, batch, by)
    assert reason in " ".join(made.reasons.values())
    (tmp_path / "here").mkdir()
    file = tmp_path / "here" / f"{made.recipe.name}.toml"
    file.write_text(made.text(file.parent))
    assert dump_recipe(load_recipe(file)) == dump_recipe(made.recipe), "what is written is what was proposed"
    assert str(tmp_path) not in file.read_text(), "the folder of data and recipe can be moved"
    assert plan(load_recipe(file), cache=tmp_path / "cache").warnings == (), "what is proposed has no doubts"
    trains(load_recipe(file), tmp_path)


def test_reasons_stand_above_the_tables_they_explain(tmp_path):
    text = propose(graded(tmp_path), ["loss.eps=1e-4"]).text(tmp_path)
    assert "# graded.csv holds 90 rows of numbers with 1 graded label.\n[data]" in text
    assert "# As asked for.\n[loss]" in text
    headings = re.findall(r"(# .*\n)?^\[.*\]\n", text, re.MULTILINE)
    assert len(headings) == 6
    assert all(headings), "each table has a reason"


def test_data_that_teaches_nothing_is_refused_with_what_is_missing(tmp_path):
    def refused(name, header, rows):
        with pytest.raises(DataError) as caught:
            propose(write_table(tmp_path / name, header, rows))
        return caught.value

    alone = refused("alone.csv", ["x0", "label"], [[k, f"class {k}"] for k in range(40)])
    assert alone.reference == "no-class-has-two"
    assert "No class of" in alone.message
    assert "--set data.columns.label=NAME" in alone.hint


def test_classes_that_are_measurements_are_pointed_at(tmp_path):
    rows = [[k, k % 7, f"{k % 30 / 3:.2f}"] for k in range(90)]
    made = propose(write_table(tmp_path / "measured.csv", ["x0", "x1", "label"], rows))
    assert "look like measurements" in made.reasons["data", "split"]


def test_captions_and_pictures_get_an_encoder_each(tmp_path):
    lines = ["text,path"]
    for row in range(40):
        Image.new("RGB", (20, 20), (6 * row, 90, 30)).save(tmp_path / f"{row}.png")
        lines.append(f"picture {row},{row}.png")
    (tmp_path / "captions.csv").write_text("\n".join(lines))
    recipe = recipe_for(tmp_path / "captions.csv", QUICK)
    assert (recipe.model.encoder.name, recipe.model.partner_encoder.name) == ("conv-small", "bag-of-words")
    trains(recipe, tmp_path)
    turned = recipe_for(tmp_path / "captions.csv", [*QUICK, "data.kind=text"]).model
    assert (turned.encoder.name, turned.partner_encoder.name) == ("bag-of-words", "conv-small")
    assert turned.partner_preprocessing.size == 20


@pytest.mark.parametrize("write", [bare_series, labelled_series])
def test_prediction_along_series_takes_what_it_needs(tmp_path, write):
    made = propose(write(tmp_path), [*QUICK, "loss=cpc", "loss.steps=2"])
    assert (made.recipe.model.encoder.name, made.recipe.loss.steps, made.recipe.batch.name) == (
        "series-context",
        2,
        "uniform",
    )
    trains(made.recipe, tmp_path)

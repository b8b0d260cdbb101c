"""Every kind of data trains from the command line, with files as people have them."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import pretrained

QUICK = """
[train]
steps = 6
validate_every = 3
log_every = 3
[evaluate]
bootstrap = 20
"""


def write_recipe(folder, text):
    (folder / "recipe.toml").write_text(text + QUICK)


def events(folder, kind, name="recipe"):
    lines = (folder / "runs" / name / "events.jsonl").read_text().splitlines()
    return [event for line in lines if (event := json.loads(line))["kind"] == kind]


def waves(count=60, steps=48):
    """Sines of four periods, and which one each has."""
    random = np.random.default_rng(0)
    period = np.arange(count) % 4
    time = np.arange(steps) / steps
    phase = random.uniform(0, 2 * np.pi, (count, 1))
    series = np.sin(2 * np.pi * (3 + 2 * period[:, None]) * time + phase) + 0.1 * random.normal(size=(count, steps))
    return series.astype(np.float32)[:, None], period


PREDICT = """
extends = "cpc-2018-small"
[data]
source = "{source}"
split = {{ by = "row", test = 0.4, validation = 0.3 }}
[model]
dim = 8
encoder = {{ latent_dim = 6, width = [8] }}
[loss]
steps = 2
"""


def test_series_without_classes_train_by_prediction_and_keep_the_last_step(typed, tmp_path):
    np.save(tmp_path / "waves.npy", waves()[0])
    write_recipe(tmp_path, PREDICT.format(source="waves.npy"))
    typed("train", "recipe.toml")
    losses = [event["loss"] for event in events(tmp_path, "step")]
    assert len(losses) == 2
    assert 0 < losses[-1] < 4
    assert events(tmp_path, "end")[0]["step"] == 6
    assert len(typed("search", "runs/recipe", "waves.npy", "-k", 1, "--json").stdout.splitlines()) == 60


def test_series_of_unequal_length_train_by_prediction_and_their_classes_evaluate(typed, tmp_path):
    lengths = np.random.default_rng(1).integers(20, 48, 60)
    lines = [
        f"{','.join(f'{value:.4f}' for value in one[0, :length])}:{'abcd'[label]}"
        for one, label, length in zip(*waves(), lengths, strict=True)
    ]
    (tmp_path / "waves.ts").write_text("\n".join(["@classLabel true a b c d", "@data", *lines]))
    write_recipe(tmp_path, PREDICT.format(source="waves.ts"))
    typed("train", "recipe.toml")
    validations = [event for event in events(tmp_path, "evaluation") if event["split"] == "validation"]
    assert [(event["of"], event["step"]) for event in validations] == [("raw", 0), ("model", 3), ("model", 6)]
    evaluated = json.loads((tmp_path / "runs" / "recipe" / "evaluation.json").read_text())
    assert evaluated["data"]["splits"]["test"]["classes"] == 4


def test_prediction_asks_for_an_encoder_with_contexts_and_says_which(typed, tmp_path):
    np.save(tmp_path / "waves.npy", waves()[0])
    write_recipe(tmp_path, PREDICT.format(source="waves.npy"))
    said = typed("train", "recipe.toml", "--set", "model.encoder=series-conv", code=4)
    assert "--set model.encoder=series-context" in said.stderr
    assert not (tmp_path / "runs").exists()


VIEWS = """
[data]
source = "{source}"
split = {{ by = "row", test = 0.4, validation = 0.3 }}
[model]
encoder = "{encoder}"
dim = 8
[loss]
name = "{loss}"
[batch]
name = "uniform"
batch_size = 12
[train.augment]
{augment}
"""


def write_rows(folder):
    random = np.random.default_rng(0)
    labels = np.arange(60) % 4
    np.save(folder / "rows.npy", (2 * random.normal(size=(4, 6))[labels] + random.normal(size=(60, 6))).astype("f4"))
    return "rows.npy", labels, "mlp", 'name = "noise"'


def write_waves(folder):
    series, labels = waves()
    np.save(folder / "waves.npy", series)
    return "waves.npy", labels, "series-conv", 'name = "series"\ncrop = 0.5\nnoise = 0.1\nhide = 0.2'


def write_images(folder):
    random = np.random.default_rng(0)
    labels = np.arange(60) % 4
    images = random.integers(0, 120, (60, 3, 16, 16)) + 40 * (np.arange(4)[labels] == np.arange(60)[:, None] % 4).any()
    np.save(folder / "pixels.npy", images.astype(np.uint8))
    return "pixels.npy", labels, "conv-small", 'name = "affine"\ncrop = 0.4\nchannel = 0.3\ngrey = 0.2'


def write_texts(folder):
    labels = np.arange(60) % 4
    rows = [f"note {row} on the subject of {'abcd'[label] * 5}\n" for row, label in enumerate(labels)]
    (folder / "texts.csv").write_text("text\n" + "".join(rows))
    return "texts.csv", labels, "bag-of-words", 'name = "tokens"'


@pytest.mark.parametrize(
    ("write", "loss"),
    [
        (write_rows, "info_nce"),
        (write_waves, "nt_xent"),
        (write_images, "nt_xent"),
        (write_texts, "instance_discrimination"),
    ],
)
def test_what_has_no_labels_trains_on_changed_views_of_itself(typed, tmp_path, write, loss):
    source, _, encoder, augment = write(tmp_path)
    write_recipe(tmp_path, VIEWS.format(source=source, encoder=encoder, loss=loss, augment=augment))
    typed("train", "recipe.toml")
    assert np.isfinite([event["loss"] for event in events(tmp_path, "step")]).all()
    assert events(tmp_path, "end")[0]["step"] == 6


def test_labels_that_training_does_not_use_choose_the_step_and_evaluate(typed, tmp_path):
    source, labels, encoder, augment = write_rows(tmp_path)
    np.save(tmp_path / "rows.labels.npy", labels)
    write_recipe(tmp_path, VIEWS.format(source=source, encoder=encoder, loss="nt_xent", augment=augment))
    assert "recall@1" in typed("train", "recipe.toml").stdout
    assert [event["step"] for event in events(tmp_path, "evaluation") if event["split"] == "validation"] == [0, 3, 6]


def test_two_views_that_would_be_the_same_are_refused(typed, tmp_path):
    source, _, encoder, augment = write_texts(tmp_path)
    write_recipe(tmp_path, VIEWS.format(source=source, encoder=encoder, loss="info_nce", augment=augment))
    assert "--set train.augment=tokens" in typed("train", "recipe.toml", "--set", "train.augment=none", code=4).stderr
    assert "kind text" in typed("train", "recipe.toml", "--set", "train.augment=affine", code=4).stderr


PAIRS = """
[data]
source = "pairs.csv"
split = {{ by = "row", test = 0.3, validation = 0.2 }}
[model]
encoder = {{ name = "bag-of-words" }}
preprocessing = {{ name = "text", buckets = 512 }}
dim = 8
{partner}
[loss]
name = "{loss}"
[batch]
name = "paired"
batch_size = 8
"""
COLOURS = ["red", "green", "blue", "teal", "pink", "lime"]
ANIMALS = ["cat", "dog", "owl", "fox", "bee", "ant", "hen", "cow"]


def write_pairs(folder, second="pair"):
    """Headwords and glosses, or captions and pictures."""
    random = np.random.default_rng(0)
    lines = [f"text,{second}"]
    for colour in COLOURS:
        for animal in ANIMALS:
            answer = f"{animal}s that are {colour}"
            if second == "path":
                answer = f"{colour}-{animal}.png"
                Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=np.uint8)).save(folder / answer)
            lines.append(f"a {colour} {animal},{answer}")
    (folder / "pairs.csv").write_text("\n".join(lines))


@pytest.mark.parametrize("loss", ["info_nce", "npair", "contrastive"])
def test_pairs_of_a_table_train_one_encoder(typed, tmp_path, loss):
    write_pairs(tmp_path)
    write_recipe(tmp_path, PAIRS.format(loss=loss, partner=""))
    typed("train", "recipe.toml", "--set", "train.learning_rate=0.01")
    losses = [event["loss"] for event in events(tmp_path, "step")]
    assert losses[-1] < losses[0]
    first, second = (typed("embed", "runs/recipe", "a red cat", "--json", "--side", side).stdout for side in SIDES)
    assert first == second


SIDES = ["query", "partner"]


def test_each_side_of_pairs_can_have_an_encoder_of_its_own(typed, tmp_path):
    write_pairs(tmp_path)
    partner = 'partner_encoder = { name = "bag-of-words", hidden = [8] }'
    write_recipe(tmp_path, PAIRS.format(loss="info_nce", partner=partner))
    typed("train", "recipe.toml")
    first, second = (typed("embed", "runs/recipe", "a red cat", "--json", "--side", side).stdout for side in SIDES)
    assert json.loads(first)["embedding"] != json.loads(second)["embedding"]
    found = [
        json.loads(line) for line in typed("search", "runs/recipe", "a red cat", "-k", 3, "--json").stdout.splitlines()
    ]
    assert all(" that are " in hit["text"] for hit in found), "questions find answers"
    assert len(found) == 3
    assert 'partner_encoder]\nname = "bag-of-words"' in (tmp_path / "runs" / "recipe" / "recipe.toml").read_text()
    typed("train", "--resume", "runs/recipe")


def test_texts_and_pictures_are_embedded_into_one_space(typed, tmp_path):
    write_pairs(tmp_path, "path")
    partner = 'partner_encoder = "conv-small"\npartner_preprocessing = { name = "image", size = 12 }'
    write_recipe(tmp_path, PAIRS.format(loss="info_nce", partner=partner).replace("[data]", '[data]\nkind = "text"'))
    typed("train", "recipe.toml", "--set", "train.augment=tokens")
    picture = typed("embed", "runs/recipe", "red-cat.png", "--json", "--side", "partner").stdout
    text = typed("embed", "runs/recipe", "a red cat", "--json").stdout
    assert [len(json.loads(line)["embedding"]) for line in (picture, text)] == [8, 8]


def test_encoders_that_do_not_fit_the_pairs_are_refused(typed, tmp_path):
    write_pairs(tmp_path, "path")
    write_recipe(tmp_path, PAIRS.format(loss="info_nce", partner="").replace("[data]", '[data]\nkind = "text"'))
    assert "--set model.partner_encoder=NAME" in typed("train", "recipe.toml", code=4).stderr
    write_texts(tmp_path)
    own = ["--set", "model.partner_encoder=bag-of-words", "--set", "train.augment=tokens"]
    assert "has none that the loss uses" in typed("train", "recipe.toml", "--data", "texts.csv", *own, code=4).stderr
    write_pairs(tmp_path)
    assert (
        "changes nothing" in typed("train", "recipe.toml", "--set", "model.partner_preprocessing=text", code=4).stderr
    )
    said = typed("train", "recipe.toml", "--set", "batch.batch_size=40", code=3)
    assert "largest that was found has 27" in said.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of other people's packages
def test_a_pretrained_model_of_text_is_tuned_from_its_folder(typed, tmp_path):
    pretrained.write(tmp_path)
    write_pairs(tmp_path)
    recipe = PAIRS.format(loss="info_nce", partner="")
    recipe = recipe.replace('{ name = "bag-of-words" }', '{ name = "sentence-transformers", folder = "pretrained" }')
    write_recipe(tmp_path, recipe.replace('preprocessing = { name = "text", buckets = 512 }\n', ""))
    typed("train", "recipe.toml")
    assert 'folder = "../../pretrained"' in (tmp_path / "runs" / "recipe" / "recipe.toml").read_text()
    (tmp_path / "pretrained").rename(tmp_path / "gone")
    said = typed("embed", "runs/recipe", "a red cat", "--json").stdout
    assert len(json.loads(said)["embedding"]) == 16, "the length is that of the model, whatever model.dim says"
    assert "modules.json is missing" in typed("train", "recipe.toml", "--name", "again", code=3).stderr


GRADED = """
[data]
source = "{source}"
split = {{ by = "row", test = 0.3, validation = 0.2 }}
[model]
encoder = "{encoder}"
dim = 4
[loss]
name = "log_ratio"
[batch]
name = "uniform"
batch_size = 12
"""


def test_rows_with_several_graded_labels_train(typed, tmp_path):
    rows = np.random.default_rng(0).normal(size=(60, 4))
    lines = [",".join(f"{value:.4f}" for value in (*row, row[0] + row[1], row[2])) for row in rows]
    (tmp_path / "graded.csv").write_text("\n".join(["x0,x1,x2,x3,target_sum,target_third", *lines]))
    write_recipe(tmp_path, GRADED.format(source="graded.csv", encoder="mlp"))
    typed("train", "recipe.toml", "--steps", 30, "--set", "train.learning_rate=0.01")
    losses = [event["loss"] for event in events(tmp_path, "step")]
    assert losses[-1] < 0.8 * losses[0]
    typed("train", "recipe.toml", "--name", "one", "--set", 'data.columns.targets=["target_third"]')
    columns = json.loads((tmp_path / "runs" / "one" / "evaluation.json").read_text())["data"]["columns"]
    assert columns["target"] == ["target_third"]
    assert columns["unread"] == ["target_sum"]
    assert columns["input"] == ["x0", "x1", "x2", "x3"]


def test_series_with_graded_labels_beside_them_train(typed, tmp_path):
    series, period = waves()
    np.save(tmp_path / "waves.npy", series)
    np.save(tmp_path / "waves.targets.npy", 3.0 + 2 * period)
    write_recipe(tmp_path, GRADED.format(source="waves.npy", encoder="series-conv"))
    typed("train", "recipe.toml")
    assert np.isfinite([event["loss"] for event in events(tmp_path, "step")]).all()


def test_graded_labels_that_are_missing_are_asked_for(typed, tmp_path):
    write_rows(tmp_path)
    write_recipe(tmp_path, GRADED.format(source="rows.npy", encoder="mlp"))
    said = typed("train", "recipe.toml", code=3)
    assert "needs labels of kind 'graded'" in said.stderr
    np.save(tmp_path / "rows.targets.npy", np.full((60, 1), np.nan))
    assert "row 0, column 0 of rows.targets.npy is nan" in typed("train", "recipe.toml", code=3).stderr


TAGS = """
[data]
source = "tags.csv"
columns = { several = "|" }
split = { by = "row", test = 0.4, validation = 0.3 }
[model]
encoder = "mlp"
dim = 8
[loss]
name = "supcon"
[batch]
name = "uniform"
batch_size = 16
"""


def test_examples_with_several_labels_train_on_shared_ones(typed, tmp_path):
    random = np.random.default_rng(0)
    lines = ["label,x0,x1,x2"]
    for row in range(80):
        has = [row % 2 == 0, row % 4 < 2, row % 8 < 4]
        tags = "|".join(name for name, is_there in zip(("warm", "wet", "dark"), has, strict=True) if is_there)
        lines.append(",".join([tags, *(f"{number + random.normal() / 4:.3f}" for number in has)]))
    (tmp_path / "tags.csv").write_text("\n".join(lines))
    write_recipe(tmp_path, TAGS)
    typed("train", "recipe.toml", "--steps", 40, "--set", "train.learning_rate=0.01")
    losses = [event["loss"] for event in events(tmp_path, "step")]
    assert losses[-1] < losses[0]
    per_class = "batch={name='per-class', classes_per_batch=4, per_class=2}"
    typed("train", "recipe.toml", "--name", "per-class", "--set", per_class)
    said = typed("train", "recipe.toml", "--set", "loss=arcface", code=4)
    assert "knows one class per example" in said.stderr


def test_a_word_that_was_never_read_is_refused_with_one_like_it(typed, tmp_path):
    (tmp_path / "animals.txt").write_text("a cat and a kitten and a dog\n" * 200)
    typed("train", "animals.txt", "--set", "train.epochs=1", "--set", "model.dim=4", "--set", "batch.block=64")
    assert typed("search", "runs/animals", "a kitten", "-k", 1, "--json").stdout
    refused = typed("search", "runs/animals", "zzzz", "kiten", code=3)
    assert "No word of 'zzzz', 'kiten' is among the 5 words" in refused.stderr
    assert "'kitten'" in typed("search", "runs/animals", "kiten", code=3).stderr


def test_a_run_that_was_moved_goes_on_if_given_where_its_data_is(typed, tmp_path):
    np.save(tmp_path / "waves.npy", waves()[0])
    write_recipe(tmp_path, PREDICT.format(source="waves.npy"))
    typed("train", "recipe.toml")
    whole = events(tmp_path, "step")
    shutil.rmtree(tmp_path / "runs" / "recipe" / "checkpoints" / "step-000006")
    (tmp_path / "runs" / "recipe" / "evaluation.json").unlink()  # as if it had been killed at step 6
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs").rename(tmp_path / "elsewhere" / "runs")
    (tmp_path / "waves.npy").rename(tmp_path / "elsewhere" / "ripples.npy")
    refused = typed("train", "--resume", "elsewhere/runs/recipe", code=3)
    assert "tuplet train --resume elsewhere/runs/recipe --data PATH" in refused.stderr
    typed("train", "--resume", "elsewhere/runs/recipe", "--data", "elsewhere/ripples.npy")
    assert [event["loss"] for event in events(tmp_path / "elsewhere", "step")] == [event["loss"] for event in whole]

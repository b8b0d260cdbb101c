"""From recipe and data to everything a training needs, or to one message that says why not."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from shapes import unchecked
from tuplet.data.images import find_levels
from tuplet.errors import DataError, RecipeError
from tuplet.models import Embedder
from tuplet.recipes import build, load_recipe
from tuplet.sampling.paired import sharing
from tuplet.training import run

RECIPE = """
[data]
source = "{source}"
split = {{ by = "{by}", test = 0.4, validation = 0.4 }}
[model]
encoder = "{encoder}"
dim = 8
[loss]
name = "supcon"
[batch]
name = "per-class"
classes_per_batch = 2
per_class = 2
[train]
steps = 2
[evaluate]
bootstrap = 5
"""


def write_vectors(folder, classes=10, each=12):
    labels = np.repeat(np.arange(classes), each)
    np.save(folder / "rows.npy", np.random.default_rng(0).normal(size=(len(labels), 5)).astype(np.float32) * 3 + 7)
    np.save(folder / "rows.labels.npy", labels)
    return "rows.npy", "mlp"


def write_images(folder, classes=8, each=12):
    random = np.random.default_rng(0)
    for label in range(classes):
        (folder / "photos" / f"kind {label}").mkdir(parents=True)
        for k in range(each):
            pixels = random.integers(0, 256, (9, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / f"kind {label}" / f"{k}.png")
    return "photos", "conv-small"


def write_table(folder, classes=8, each=12):
    random = np.random.default_rng(0)
    with (folder / "table.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["label", "height", "weight", "group"])
        for label in range(classes):
            for k in range(each):
                table.writerow([f"class {label}", *random.normal(label, 1, 2).round(3), f"g{k % 2}"])
    return "table.csv", "mlp"


def write_series(folder, classes=8, each=12):
    labels = np.repeat(np.arange(classes), each)
    np.save(folder / "waves.npy", np.random.default_rng(0).normal(size=(len(labels), 2, 32)).astype(np.float32))
    np.save(folder / "waves.labels.npy", labels)
    return "waves.npy", "series-conv"


def write_texts(folder, classes=8, each=12):
    rows = [f"{label},number {k} of the kind {label * 'ab'}\n" for label in range(classes) for k in range(each)]
    (folder / "texts.csv").write_text("label,text\n" + "".join(rows))
    return "texts.csv", "bag-of-words"


WRITERS = [write_vectors, write_images, write_table, write_series, write_texts]


def job(folder, writer=write_vectors, *overrides, by="class", trust=False):
    source, encoder = writer(folder)
    (folder / "recipe.toml").write_text(RECIPE.format(source=source, encoder=encoder, by=by))
    return build(load_recipe(folder / "recipe.toml", overrides), cache=folder / "cache", trust=trust)


def written_table(_folder):
    return "table.csv", "mlp"


@pytest.mark.slow
@pytest.mark.parametrize("by", ["class", "row"])
@pytest.mark.parametrize("writer", WRITERS)
def test_every_kind_of_data_trains_from_a_few_lines(tmp_path, writer, by):
    made = job(tmp_path, writer, by=by)
    events = list(run(made, tmp_path / "run"))
    assert events[-1]["kind"] == "end"
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["data"]["kind"] == made.train.kind


def test_a_split_by_class_keeps_the_classes_of_each_part_to_itself(tmp_path):
    made = job(tmp_path)
    names = [
        {part.class_names[label] for label in part.classes.tolist()}
        for part in (made.train, made.validation, made.test)
    ]
    assert [len(part) for part in names] == [4, 2, 4]
    assert len(set.union(*names)) == 10


def test_a_split_by_row_gives_every_part_every_class(tmp_path):
    made = job(tmp_path, by="row")
    for part in (made.train, made.validation, made.test):
        assert {part.class_names[label] for label in part.classes.tolist()} == {str(k) for k in range(10)}


def test_labels_of_training_classes_are_numbered_from_zero_and_classes_keep_their_names(tmp_path):
    made = job(tmp_path)
    values = made.train.labels.values
    assert sorted(set(values.tolist())) == list(range(4))
    original = [int(name) // 12 for name in made.train.ids]
    assert [int(made.train.class_names[label]) for label in made.train.classes.tolist()] == original
    assert len(set(zip(values.tolist(), original, strict=True))) == 4


def test_the_split_of_the_test_classes_does_not_hang_on_validation_or_on_the_seed_of_the_run(tmp_path):
    first = job(tmp_path).test.ids
    assert job(tmp_path, write_vectors, "data.split.validation=0.0", "seed=3").test.ids == first
    assert job(tmp_path, write_vectors, "data.split.seed=1").test.ids != first


def test_preprocessing_is_fitted_to_the_training_examples_alone(tmp_path):
    made = job(tmp_path)
    inputs = made.embedder.preprocessing(made.train.inputs)
    assert inputs.mean(0).abs().max() < 1e-5
    assert (inputs.std(0, correction=0) - 1).abs().max() < 1e-5
    assert made.embedder.preprocessing(made.test.inputs).mean(0).abs().max() > 1e-3


def test_initial_weights_depend_on_the_seed_alone(tmp_path):
    def weights(made):
        return torch.cat([p.detach().flatten() for p in made.embedder.parameters()])

    torch.manual_seed(1)
    first = weights(job(tmp_path))
    state = torch.random.get_rng_state()
    torch.manual_seed(2)
    assert torch.equal(weights(job(tmp_path)), first)
    assert not torch.equal(weights(job(tmp_path, write_vectors, "seed=1")), first)
    torch.manual_seed(1)
    job(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), state), "the caller's generator is left alone"


def test_arrays_tell_auto_preprocessing_their_shape(tmp_path):
    made = job(tmp_path, write_series)
    config = made.embedder.preprocessing.to_config()
    assert (config["kind"], config["channels"], config["length"]) == ("series", 2, 32)


def test_a_split_that_the_data_names_is_used_and_validation_is_sampled_from_training(tmp_path):
    rows = [
        f"{split},{label},{label + k}\n" for label, split in enumerate(["train"] * 4 + ["test"] * 2) for k in range(4)
    ]
    (tmp_path / "table.csv").write_text("split,label,x0\n" + "".join(rows))
    made = job(tmp_path, written_table)
    assert {made.test.class_names[label] for label in made.test.classes.tolist()} == {"4", "5"}
    assert (len(made.train), len(made.validation)) == (8, 8)


def test_a_class_in_two_splits_is_a_leak_unless_the_split_is_by_row(tmp_path):
    rows = [f"{'train' if k < 6 else 'test'},{label},{k}\n" for label in range(4) for k in range(8)]
    (tmp_path / "table.csv").write_text("split,label,x0\n" + "".join(rows))
    with pytest.raises(DataError) as caught:
        job(tmp_path, written_table)
    assert "puts 4 classes into more than one split: '0' (test and train)" in caught.value.message
    assert "data.split.by=row" in caught.value.hint
    made = job(tmp_path, written_table, by="row")
    assert len(made.test) == 8


def test_preprocessing_for_another_kind_of_data_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="for the kind image"):
        job(tmp_path, write_vectors, "model.preprocessing=image")


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("loss.temperature=-1.0", "temperature"),
        ("batch.per_class=0", "per_class"),
        ("model.encoder.dropout=2.0", "dropout"),
    ],
)
def test_options_that_a_constructor_refuses_are_a_mistake_of_the_recipe(tmp_path, override, words):
    with pytest.raises(RecipeError) as caught:
        job(tmp_path, write_vectors, override)
    assert words in caught.value.message
    assert caught.value.hint


def test_a_split_too_small_to_evaluate_by_says_what_to_do(tmp_path):
    with pytest.raises(DataError) as caught:
        job(tmp_path, write_vectors, "data.split.validation=0.1")
    assert "holds 12 examples of 1 class;" in caught.value.message
    assert "--set data.split.by=row" in caught.value.hint
    with pytest.raises(DataError) as caught:
        job(tmp_path, write_vectors, "data.split.by=row", "data.split.validation=0.01")
    assert "data.split.by" not in caught.value.hint


def test_a_batch_larger_than_the_data_says_what_would_fit(tmp_path):
    with pytest.raises(DataError, match="only 4 have 2 examples"):
        job(tmp_path, write_vectors, "batch.classes_per_batch=5")


@pytest.mark.parametrize(
    ("override", "named"), [("loss=nce", "loss = 'nce' learns"), ("batch=windows", "batch = 'win")]
)
def test_what_learns_from_running_text_is_refused_for_separate_examples(tmp_path, override, named):
    with pytest.raises(RecipeError, match=r"from running text, and .* holds separate examples") as caught:
        job(tmp_path, write_vectors, override)
    assert caught.value.message.startswith(named)
    assert caught.value.reference == "words-recipe"


def write_pairs(folder):
    rows = [f"question {k // 3},answer number {k}\n" for k in range(120)]
    (folder / "pairs.csv").write_text("text,pair\n" + "".join(rows))
    return "pairs.csv", "bag-of-words"


def test_a_batch_that_lets_false_negatives_in_is_reported(tmp_path, caplog):
    changes = ["loss={name='info_nce'}", "batch={name='uniform',batch_size=8}"]
    job(tmp_path, write_pairs, *changes, by="row")
    assert "--set batch.name=paired" in caplog.text
    assert sharing(torch.tensor([[0, 0], [0, 1], [1, 2], [2, 2], [3, 3]])) == 4
    caplog.clear()
    made = job(tmp_path, write_pairs, changes[0], "batch={name='paired',batch_size=8}", by="row")
    assert not caplog.text
    for _ in range(20):
        positions = made.sampler.next_batch().tolist()
        assert len({made.train.texts[position] for position in positions}) == 8


def write_deep_images(folder):
    source, encoder = write_images(folder)
    for place, file in enumerate(sorted((folder / source).rglob("*.png"))):
        deep = np.asarray(Image.open(file).convert("L")).astype(np.uint16) * (1 + place % 16)
        Image.fromarray(deep).save(file)
    return source, encoder


def test_images_of_sixteen_bits_are_scaled_alike_in_training_and_in_every_later_use(tmp_path):
    made = job(tmp_path, write_deep_images)
    assert made.embedder.preprocessing.levels == find_levels(sorted((tmp_path / "photos").rglob("*.png")))
    made.embedder.save(tmp_path / "model")
    loaded = Embedder.load(tmp_path / "model")
    for place in (0, 7, 30):
        alone = loaded.preprocessing.load([tmp_path / "photos" / made.train.ids[place]])
        assert torch.equal(alone[0], made.train.inputs[place])


def test_a_loss_without_labels_trains_on_two_views_and_is_evaluated_by_classes(tmp_path):
    overrides = ["loss=nt_xent", "batch={name='uniform', batch_size=8}", "train.augment=noise"]
    made = job(tmp_path, write_vectors, *overrides)
    assert made.train.labels.supervision == "example"
    assert made.test.classes is not None
    views = []
    with unchecked():  # a plain function stands for the encoder
        arguments = made.task.arguments(lambda inputs: views.append(inputs) or inputs, _batch(made))
    assert list(arguments) == ["embeddings", "references"]
    assert torch.equal(views[0], views[1])
    events = list(run(made, tmp_path / "run"))
    assert [event["split"] for event in events if event["kind"] == "evaluation"][-1] == "test"


def _batch(made):
    from tuplet.data import take_batch  # noqa: PLC0415

    return take_batch(made.train, made.sampler.next_batch())


def test_embeddings_are_compared_after_training_as_the_loss_compares_them(tmp_path):
    assert job(tmp_path).embedder.geometry == "cosine"
    assert job(tmp_path, write_vectors, "loss={name='triplet', geometry='euclidean'}").embedder.geometry == "euclidean"
    assert job(tmp_path, write_vectors, "loss=triplet", "model.geometry=dot").embedder.geometry == "dot"


def test_a_queue_is_written_as_its_size(tmp_path):
    queue = job(tmp_path, write_vectors, "loss.queue=64").loss.queue
    assert (queue.size, queue.embeddings.shape[1]) == (64, 8)


def test_an_encoder_of_ones_own_is_named_with_its_package(tmp_path):
    encoder = "model.encoder={name='callable', target='torch.nn:Linear', options={in_features=5, out_features=8}}"
    with pytest.raises(RecipeError) as caught:
        job(tmp_path, write_vectors, encoder)
    assert caught.value.reference == "untrusted-code"
    events = list(run(job(tmp_path, write_vectors, encoder, trust=True), tmp_path / "run"))
    assert events[-1]["kind"] == "end"
    again = build(load_recipe(tmp_path / "run" / "recipe.toml"), cache=tmp_path / "cache", trust=True)
    assert type(again.embedder.encoder.module).__name__ == "Linear"

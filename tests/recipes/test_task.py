"""A task is decided once: what a loss uses, how it is called, what evaluates it."""

import numpy as np
import pytest

import tiny
from tuplet.data import Manifest
from tuplet.errors import RecipeError
from tuplet.recipes import load_recipe
from tuplet.recipes.task import class_pairs, examples, labelled, pairs, scored, series, task_of
from tuplet.training import run
from tuplet.training.events import read_events

ROWS = np.arange(24.0).reshape(12, 2)
LABELS = np.repeat(np.arange(4), 3)
KNOWN = {
    "labels": {"labels": LABELS, "class_names": tuple("abcd")},
    "sets": {"labels": LABELS, "class_names": tuple("abcd"), "label_sets": np.eye(4, dtype=bool)[LABELS]},
    "targets": {"targets": ROWS},
    "pairs": {"pairs": ROWS + 1},
}
PER_CLASS = "batch={name='per-class', classes_per_batch=2, per_class=2}"
UNIFORM = "batch={name='uniform', batch_size=4}"
HARD = "batch={name='hard-classes', classes_per_batch=2}"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("data"))


def task(recipe, loss, batch, *known, changes=()):
    parts = {key: value for name in known for key, value in KNOWN[name].items()}
    manifest = Manifest(kind="vector", ids=tuple(map(str, range(12))), items=ROWS, **parts)
    made = f"loss={{name='{loss}', steps=2}}" if loss == "cpc" else f"loss={{name='{loss}'}}"
    return task_of(load_recipe(recipe, [made, batch, *changes]), manifest)


@pytest.mark.parametrize(
    ("loss", "batch", "known", "reported", "called"),
    [
        ("supcon", PER_CLASS, ["labels"], "class", labelled),
        ("supcon", PER_CLASS, ["sets"], "multi", labelled),
        ("supcon", UNIFORM, ["pairs"], "pair", pairs),
        ("supcon", UNIFORM, ["labels", "pairs"], "class", labelled),
        ("arcface", UNIFORM, ["labels", "pairs"], "class", labelled),
        ("npair", PER_CLASS, ["labels"], "class", labelled),
        ("npair", HARD, ["labels"], "class", class_pairs),
        ("info_nce", PER_CLASS, ["labels"], "class", labelled),
        ("nt_xent", PER_CLASS, ["sets"], "multi", labelled),
        ("siglip", PER_CLASS, ["labels", "pairs"], "pair", pairs),
        ("info_nce", UNIFORM, ["labels"], "pair", pairs),
        ("vicreg", PER_CLASS, ["labels"], "pair", pairs),
        ("info_nce", UNIFORM, [], "pair", pairs),
        ("instance_discrimination", UNIFORM, ["labels"], "example", examples),
        ("log_ratio", UNIFORM, ["labels", "targets"], "graded", labelled),
        ("cosent", UNIFORM, ["pairs", "targets"], "scored", scored),
        ("cpc", UNIFORM, ["labels"], "none", series),
    ],
)
def test_loss_batch_and_data_decide_what_is_reported(recipe, loss, batch, known, reported, called):
    found = task(recipe, loss, batch, *known)
    assert (found.supervision, found.arguments) == (reported, called)
    assert found.has_partners == (reported in ("pair", "scored") and "pairs" in known)


def test_a_queue_tells_pairs_of_classes_apart_by_labels_only(recipe):
    assert task(recipe, "npair", HARD, "labels", changes=["loss.queue=8"]).arguments is labelled


@pytest.mark.parametrize(
    ("loss", "batch", "known", "reference"),
    [
        ("instance_discrimination", PER_CLASS, [], "batch-needs-classes"),
        ("info_nce", PER_CLASS, ["pairs"], "batch-needs-classes"),
        ("arcface", UNIFORM, ["sets"], "several-labels"),
        ("nce", UNIFORM, ["labels"], "words-recipe"),
        ("cosent", UNIFORM, ["pairs"], "scored-pairs"),
        ("angle", UNIFORM, ["targets"], "scored-pairs"),
        ("supcon", "batch={name='windows'}", ["labels"], "words-recipe"),
    ],
)
def test_what_the_data_cannot_tell_is_refused(recipe, loss, batch, known, reference):
    with pytest.raises(RecipeError) as caught:
        task(recipe, loss, batch, *known)
    assert caught.value.reference == reference


@pytest.mark.parametrize(
    ("loss", "batch", "known", "changes", "protocols"),
    [
        ("supcon", PER_CLASS, ["labels"], [], ("classes", "views")),
        ("supcon", PER_CLASS, ["labels"], ["train.augment=none"], ("classes",)),
        ("supcon", PER_CLASS, ["labels"], ["data.split.by=row"], ("classes", "train", "views")),
        ("log_ratio", UNIFORM, ["labels", "targets"], ["data.split.by=row"], ("train", "targets", "classes", "views")),
        ("supcon", PER_CLASS, ["labels", "targets"], [], ("classes", "targets", "views")),
        ("info_nce", UNIFORM, ["labels", "pairs"], ["data.split.by=row"], ("train", "pairs", "classes", "views")),
        ("supcon", PER_CLASS, ["labels", "pairs"], [], ("classes", "views")),
        ("cosent", UNIFORM, ["labels", "pairs", "targets"], [], ("scored", "classes", "views")),
        ("nt_xent", UNIFORM, [], [], ("views",)),
    ],
)
def test_protocols_come_most_telling_first(recipe, loss, batch, known, changes, protocols):
    assert task(recipe, loss, batch, *known, changes=changes).protocols == protocols


def test_data_without_classes_is_split_by_row(recipe):
    assert task(recipe, "nt_xent", UNIFORM).split_by == "row"
    assert task(recipe, "supcon", PER_CLASS, "labels").split_by == "class"


@pytest.mark.parametrize("loss", ["info_nce", "nt_xent", "siglip"])
def test_losses_of_pairs_train_on_classes(recipe, loss, tmp_path):
    job = tiny.job(recipe, f"loss={{name='{loss}'}}", "train.steps=30", "train.augment=none", "train.ema=0.0")
    list(run(job, tmp_path / "run"))
    losses = [event["loss"] for event in read_events(tmp_path / "run" / "events.jsonl") if event["kind"] == "step"]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])

"""A training goes on with the data it was given, or not at all: training examples are never evaluated on."""

import json
import shutil

import numpy as np
import pytest

import tiny
from tuplet.data.fingerprint import Fingerprint
from tuplet.errors import DataError, RecipeError
from tuplet.recipes import build, load_recipe
from tuplet.training import run
from tuplet.training.events import read_events
from tuplet.training.record import EXAMPLES, read_fingerprint

HEADER = ["key", "a", "b", "c", "kind", "family", "part"]
RECIPE = """
[data]
source = "rows.csv"
[data.columns]
id = "key"
label = "kind"
group = "family"
inputs = ["a", "b", "c"]
[data.split]
test = 0.4
validation = 0.3
"""


def table():
    """Rows of twenty classes: key, three numbers, class, group."""
    random = np.random.default_rng(3)
    return [
        [f"n{row}", *random.normal(row % 20, 1, 3).round(3).tolist(), f"k{row % 20}", f"f{row % 3}", ""]
        for row in range(120)
    ]


def write(folder, rows, header=HEADER):
    (folder / "rows.csv").write_text("\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n")


def begin(recipe):
    """A run that stops after a checkpoint."""
    folder = recipe.parent / "runs" / "tiny"
    for event in run(tiny.job(recipe), folder):
        if (event["kind"], event.get("step")) == ("checkpoint", 10):
            break
    return folder


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A table, a recipe, and a run of them that stopped."""
    folder = tmp_path_factory.mktemp("desk")
    before, after = tiny.RECIPE.split("[model]")
    (folder / "tiny.toml").write_text('name = "tiny"' + RECIPE + "[model]" + after)
    assert before
    write(folder, table())
    begin(folder / "tiny.toml")
    return folder


@pytest.fixture
def recipe(desk, tmp_path):
    """The recipe beside its table."""
    return shutil.copytree(desk, tmp_path / "desk", ignore=shutil.ignore_patterns("runs")) / "tiny.toml"


@pytest.fixture
def begun(desk, recipe):
    """The run of it that stopped."""
    return shutil.copytree(desk / "runs" / "tiny", recipe.parent / "runs" / "tiny")


def changed(rows, how):
    """The table after something was done to it."""
    rows = [list(row) for row in rows]
    match how:
        case "appended":
            rows.append(["n120", 1.0, 2.0, 3.0, "k0", "f0", ""])
        case "removed":
            del rows[7]
        case "shuffled":
            rows = [rows[at] for at in np.random.default_rng(0).permutation(len(rows))]
        case "relabelled":
            rows[5][4] = "k6"
        case "regrouped":
            rows[5][5] = "f9"
        case "scaled":
            rows = [[row[0], *(1000 * value for value in row[1:4]), *row[4:]] for row in rows]
        case "swapped":
            rows = [[row[0], row[2], row[1], *row[3:]] for row in rows]
        case "one number":
            rows[11][2] += 0.001
        case "renamed":
            rows[11][0] = "other"
    return rows


CHANGES = {
    "appended": "1 example (n120) more",
    "removed": "1 example (n7) fewer",
    "shuffled": "the examples are in another order",
    "relabelled": "1 example (n5) with another class",
    "regrouped": "1 example (n5) with another group",
    "scaled": "120 examples (n0, n1, n2, ...) with another content",
    "swapped": "120 examples (n0, n1, n2, ...) with another content",
    "one number": "1 example (n11) with another content",
    "renamed": "1 example (other) more",
}


def refused(recipe, folder):
    with pytest.raises(DataError) as caught:
        build(load_recipe(recipe), cache=recipe.parent / "cache", begun=folder)
    return caught.value


@pytest.mark.parametrize("how", CHANGES)
def test_a_training_does_not_go_on_with_other_data_and_says_what_differs(recipe, begun, how, survived):
    write(recipe.parent, changed(table(), how))
    found = refused(recipe, begun)
    assert found.reference == "data-changed"
    assert CHANGES[how] in found.message
    assert f"--from {begun}" in found.hint
    with pytest.raises(DataError) as caught:  # and the same of a job that was built without asking
        list(run(tiny.job(recipe), begun, resume=True))
    assert caught.value.reference == "data-changed"
    assert not (begun / "evaluation.json").exists()
    assert not (begun / "model").exists()
    survived("data changed between stop and resume")


def test_a_split_that_the_data_names_is_part_of_it(recipe):
    rows = table()
    for row in rows:
        row[6] = "test" if int(row[4][1:]) % 3 == 0 else "train"
    write(recipe.parent, rows)
    text = recipe.read_text().replace("[data.columns]", '[data.columns]\nsplit = "part"')
    recipe.write_text(text)
    folder = begin(recipe)
    for row in rows:
        row[6] = "train" if row[4] == "k3" else row[6]
    write(recipe.parent, rows)
    assert "6 examples (n3, n23, n43, ...) with another split" in refused(recipe, folder).message


def test_the_same_data_goes_on_and_keeps_its_division(recipe, begun):
    kept = read_fingerprint(begun)
    assert kept.labels[:2] == ("k0", "k1")
    job = build(load_recipe(recipe), cache=recipe.parent / "cache", begun=begun)
    assert [name for name, split in zip(kept.ids, kept.splits, strict=True) if split == "train"] == list(job.train.ids)
    assert [name for name, split in zip(kept.ids, kept.splits, strict=True) if split == "test"] == list(job.test.ids)
    list(run(job, begun, resume=True))
    assert json.loads((begun / "evaluation.json").read_text())["step"] > 0


def test_a_finished_run_stays_as_it_is_whatever_becomes_of_its_data(recipe):
    folder = recipe.parent / "runs" / "done"
    list(run(tiny.job(recipe), folder))
    before = tiny.content(folder)
    write(recipe.parent, changed(table(), "relabelled"))
    events = list(run(tiny.job(recipe), folder, resume=True))
    assert [event["kind"] for event in events] == ["note"]
    assert tiny.content(folder) == before


def test_settings_that_changed_are_named_and_refused(recipe, begun):
    text = (begun / "recipe.toml").read_text()
    (begun / "recipe.toml").write_text(text.replace("steps = 40", "steps = 50").replace("queue = 32", "queue = 16"))
    job = build(load_recipe(begun / "recipe.toml"), cache=recipe.parent / "cache", begun=begun)
    with pytest.raises(RecipeError) as caught:
        list(run(job, begun, resume=True))
    assert caught.value.reference == "run-changed"
    assert "loss.queue = 16, was 32" in caught.value.message
    assert "train.steps = 50, was 40" in caught.value.message


def test_a_new_run_from_the_weights_keeps_what_they_have_seen_out_of_its_evaluation(recipe, begun):
    old = read_fingerprint(begun)
    seen = old.seen().classes
    rows = [row for row in changed(table(), "relabelled") if row[4] != min(seen)]
    rows += [
        [f"m{row}", *np.random.default_rng(row).normal(row % 7, 1, 3).round(3), f"new{row % 7}", "f0", ""]
        for row in range(35)
    ]
    write(recipe.parent, rows)
    job = build(load_recipe(recipe), cache=recipe.parent / "cache", start=begun)
    new = job.fingerprint
    evaluated = {label for label, split in zip(new.labels, new.splits, strict=True) if split in ("validation", "test")}
    assert evaluated & {f"k{k}" for k in range(20)}
    assert evaluated & {f"new{k}" for k in range(7)}
    assert not evaluated & seen
    assert {split for label, split in zip(new.labels, new.splits, strict=True) if label == min(seen)} == {"earlier"}
    assert seen <= new.seen().classes
    best = [event["step"] for event in read_events(begun / "events.jsonl") if event.get("best")][-1]
    assert job.origin == {"run": "tiny", "step": best}
    started = recipe.parent / "runs" / "started"
    events = []
    for event in run(job, started):
        events.append(event["kind"])
        if events.count("step") == 1:
            break
    again = build(load_recipe(recipe), cache=recipe.parent / "cache", begun=started)
    notes = [event["text"] for event in run(again, started, resume=True) if event["kind"] == "note"]
    assert notes == ["Resuming from step 0."]  # from the weights, not from new ones
    assert Fingerprint.read(started / EXAMPLES).seen() == new.seen()


def test_a_new_run_from_the_weights_divides_by_row_as_before(recipe):
    recipe.write_text(recipe.read_text().replace("[data.split]", '[data.split]\nby = "row"'))
    folder = begin(recipe)
    old = read_fingerprint(folder)
    before = dict(zip(old.ids, old.splits, strict=True))
    random = np.random.default_rng(5)
    rows = [row for row in table() if row[0] != "n7"]
    rows[3] = ["renamed", *rows[3][1:]]  # the same content under another name
    rows += [[f"m{at}", *random.normal(at % 20, 1, 3).round(3), f"k{at % 20}", "f0", ""] for at in range(80)]
    write(recipe.parent, rows)
    new = build(load_recipe(recipe), cache=recipe.parent / "cache", start=folder).fingerprint
    after = dict(zip(new.ids, new.splits, strict=True))
    assert {name: after[name] for name in before if name in after and after[name] != "earlier"} == {
        name: split for name, split in before.items() if name not in ("n7", "n3")
    }
    assert after["renamed"] == before["n3"]
    assert after.get("n7", "earlier") == "earlier"
    assert {after[f"m{at}"] for at in range(80)} == {"train", "validation", "test"}
    evaluated = {one for one, split in zip(new.contents, new.splits, strict=True) if split in ("validation", "test")}
    assert not evaluated & old.seen().contents


def test_splits_that_the_data_names_may_not_evaluate_weights_by_what_they_have_seen(recipe, begun):
    rows = table()
    for row in rows:
        row[6] = "test" if row[4] in ("k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8", "k9") else "train"
    write(recipe.parent, rows)
    recipe.write_text(recipe.read_text().replace("[data.columns]", '[data.columns]\nsplit = "part"'))
    with pytest.raises(DataError) as caught:
        build(load_recipe(recipe), cache=recipe.parent / "cache", start=begun)
    assert caught.value.reference == "seen-before"


def test_weights_of_another_network_are_refused(recipe, begun):
    with pytest.raises(RecipeError) as caught:
        build(load_recipe(recipe, ["model.dim=5"]), cache=recipe.parent / "cache", start=begun)
    assert caught.value.reference == "start-does-not-fit"

"""Relations from the command line: handwritten digits on disk, trained, evaluated and searched under each form."""

import json
import tomllib

import numpy as np
import pytest
import torch

import digits
from tuplet.data import read_manifest
from tuplet.data.related import relate
from tuplet.data.statement import parse
from tuplet.evaluation import graded, retrieval
from tuplet.models import Embedder
from tuplet.relations import same_class

COUNT = 240
QUICK = ["train.steps=8", "train.validate_every=4", "evaluate.bootstrap=20", "model.dim=8", "data.split.by=row"]
ARRAYS = ["data.arrays.guide=guide.npy", "data.arrays.said=said.npy", "data.arrays.apart=apart.npy"]
RULES = {
    "same_class(digit).ignoring(same_class(sheet))": "relation",
    "shared_label(marks)": "relation",
    "within(second, 6).ignoring(~within(second, 6) & within(second, 60))": "relation",
    "paired(next)": "relation",
    "matrix(said)": "relation",
    "same_class(digit).ignoring(similar(guide, 0.95) & ~same_class(digit))": "relation",
    "hierarchy(family, digit, weights=(1, 2))": "relation.digit",
    "tree_distance(family, digit, weights=(3, 1))": "targets",
    "distances(apart)": "targets",
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("related")
    digits.table(folder, COUNT)
    return folder


def asked(*changes):
    return [word for change in changes for word in ("--set", change)]


@pytest.mark.slow
@pytest.mark.parametrize("relation", RULES)
def test_a_relation_is_trained_evaluated_and_searched_under(tuplet, desk, relation):
    name = f"run-{[*RULES].index(relation)}"
    said = tuplet(
        "train", "digits.csv", *asked(*QUICK, *ARRAYS, f"data.relation={relation}"), "--name", name, folder=desk
    )
    names = parse(relation).names
    assert f"relation: {', '.join(names)}" in said.stderr
    run = desk / "runs" / name
    evaluation = json.loads(tuplet("evaluate", f"runs/{name}", "--json", folder=desk).stdout)
    assert evaluation["main"]["protocol"] == RULES[relation]
    assert evaluation["data"]["relation"] == relation
    assert evaluation["supervision"] == ("graded" if RULES[relation] == "targets" else "relation")
    assert set(evaluation["data"]["columns"]["input"]) == {f"x{at}" for at in range(64)}
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert any(event.get("split") == "validation" and event["kind"] == "evaluation" for event in events)
    found = tuplet("search", f"runs/{name}", "digits.csv", "-k", 1, "--json", folder=desk).stdout.splitlines()
    assert len(found) == COUNT
    _hold_to_the_library(run, desk, relation, evaluation)


def _hold_to_the_library(run, desk, relation, evaluation):
    """What the run measured is what `tuplet.evaluation` says of the test rows under the same relation."""
    rows = [json.loads(line) for line in (run / "examples.jsonl").read_text().splitlines()][1:]
    test = [at for at, row in enumerate(rows) if row["split"] == "test"]
    embedder = Embedder.load(run / "model")
    manifest = read_manifest(desk / "digits.csv", columns=embedder.columns, keep=parse(relation).names, as_trained=True)
    arrays = {name: str(desk / f"{name}.npy") for name in ("guide", "said", "apart")}
    part = relate(manifest, parse(relation), arrays).take(test)
    embedded, related = embedder.embed(part.items), part.related
    if related.distance is not None:
        how = {"label_distance": related.distance, "geometry": embedder.geometry, "bootstrap": 0}
        expected = graded(embedded, part.targets, **how)
    else:
        expected = retrieval(embedded, relation=related.rules()[-1], geometry=embedder.geometry, bootstrap=0)
    model = evaluation["protocols"][RULES[relation]]["model"]["values"]
    metric = evaluation["main"]["measure"]
    assert model[metric] == pytest.approx(expected.values[metric], abs=1e-6)


def test_other_data_is_evaluated_under_the_relation_of_the_run(tuplet, desk):
    relation = "same_class(digit).ignoring(same_class(sheet))"
    tuplet("train", "digits.csv", *asked(*QUICK, f"data.relation={relation}"), "--name", "own", folder=desk)
    digits.table(desk, 100, ("other.csv", "other-guide.npy", "other-said.npy", "other-apart.npy"))
    found = json.loads(tuplet("evaluate", "runs/own", "--data", "other.csv", "--json", folder=desk).stdout)
    assert found["main"]["protocol"] == "relation"
    embedder = Embedder.load(desk / "runs" / "own" / "model")
    labels, sheets = (digits.load().target[:100], np.arange(100) // digits.SHEET)
    embedded = embedder.embed(digits.load().data[:100].astype(np.float32))
    ids, places = (torch.from_numpy(one) for one in (labels, sheets))
    rule = same_class(ids).ignoring(same_class(places))
    expected = retrieval(embedded, relation=rule, geometry=embedder.geometry, bootstrap=0).values["recall@1"]
    assert found["protocols"]["relation"]["model"]["values"]["recall@1"] == pytest.approx(expected, abs=1e-6)
    text = (desk / "other.csv").read_text().replace("sheet", "page")
    (desk / "other.csv").write_text(text)
    said = tuplet("evaluate", "runs/own", "--data", "other.csv", "--json", folder=desk, code=3)
    assert "tuplet explain no-labels" in said.stderr  # and nothing else is known of these rows
    assert "protocol relation is left out" in said.stderr


@pytest.mark.parametrize(
    ("changes", "code", "reference"),
    [
        (["data.relation=same_klass(digit)"], 4, "bad-recipe"),
        (["data.relation=same_class(digit) and same_class(sheet)"], 4, "bad-recipe"),
        (["data.relation=hierarchy(family, digit) & same_class(sheet)"], 4, "bad-recipe"),
        (["data.relation=same_class(nobody)"], 3, "relation-column"),
        (["data.relation=within(marks, 3)"], 3, "relation-column"),
        (["data.relation=matrix(said)", "data.arrays.said=guide.npy"], 3, "relation-column"),
        (["data.relation=similar(second, 0.5)"], 3, "relation-column"),
        (["data.relation=within(second, 1)"], 3, "relation-without-positives"),
        (
            ["data.relation=same_class(digit)", "loss=arcface", "batch={name='uniform',batch_size=64}"],
            4,
            "relation-of-loss",
        ),
        (["data.relation=same_class(digit)", "loss=log_ratio"], 4, "relation-of-loss"),
        (["data.relation=tree_distance(family, digit)", "loss=supcon"], 4, "relation-of-loss"),
        (["data.relation=tree_distance(family, digit)", "batch=neighbours"], 4, "relation-of-loss"),
        (["data.relation=same_class(digit)", "loss=supcon", "loss.queue=64"], 4, "relation-and-labels"),
        (["data.relation=same_class(digit)", "batch=per-class"], 4, "batch-needs-classes"),
        (["data.relation=same_class(digit)", "loss=centroid_triplet"], 4, "relation-of-loss"),
        (["data.relation=none", "data.columns.label=digit", "batch.name=related", "loss=supcon"], 3, "missing-labels"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_run_is_begun(tuplet, desk, changes, code, reference):
    changes = [*QUICK, *changes]
    said = tuplet("train", "digits.csv", *asked(*changes), "--name", "refused", folder=desk, code=code)
    assert f"tuplet explain {reference}" in said.stderr
    assert not (desk / "runs" / "refused").exists()


def test_a_written_recipe_says_the_relation_and_where_its_arrays_lie(tuplet, desk):
    (desk / "below").mkdir()
    changes = asked("data.relation=matrix(said)", "data.arrays.said=said.npy", "train.steps=4", "evaluate.bootstrap=0")
    tuplet("init", "digits.csv", *changes, "--output", "below/own.toml", folder=desk)
    tuplet("train", "below/own.toml", "--name", "written", folder=desk)
    kept = tomllib.loads((desk / "runs" / "written" / "recipe.toml").read_text())["data"]
    assert kept["relation"] == "matrix(said)"
    assert (desk / "runs" / "written" / kept["arrays"]["said"]).resolve() == desk / "said.npy"


def test_losses_are_compared_under_a_relation(tuplet, desk):
    changes = [*QUICK, "data.relation=same_class(digit).ignoring(same_class(sheet))"]
    how = ["--losses", "supcon,triplet", "--trials", 1, "--seeds", 2, "--jobs", 1, "--steps", 4, "--out", "compared"]
    tuplet("compare", "digits.csv", *how, *asked(*changes), folder=desk)
    trainings = [json.loads(file.read_text()) for file in (desk / "compared").rglob("*.json")]
    assert "relation" in {one.get("protocol") for one in trainings if isinstance(one, dict)}


@pytest.mark.slow
def test_pairs_learn_under_a_relation_of_both_sides(tuplet, tmp_path):
    """Half of the digit as the query and half as its answer; queries of one digit are positives of each other's."""
    rows, labels = digits.load().data[:120], digits.load().target[:120]
    words = [[f"{side}{at}v{int(row[at])}" for at in range(32)] for side, row in zip("a" * 120, rows, strict=True)]
    lines = [
        "text,pair,digit",
        *(f"{' '.join(q[:16])},{' '.join(q[16:])},{k}" for q, k in zip(words, labels, strict=True)),
    ]
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    changes = ["train.steps=4", "evaluate.bootstrap=0", "loss=info_nce", "batch.name=uniform", "batch.batch_size=32"]
    changes += ["data.relation=same_class(digit)", "data.columns.label=none", "data.split.by=row"]
    tuplet("train", "pairs.csv", *asked(*changes), "--name", "both", folder=tmp_path)
    evaluation = json.loads(tuplet("evaluate", "runs/both", "--json", folder=tmp_path).stdout)
    assert (evaluation["supervision"], evaluation["main"]["protocol"]) == ("relation", "pairs")


def test_a_run_goes_on_only_under_the_relation_that_it_had(tuplet, desk, tmp_path):
    digits.table(tmp_path, COUNT)
    changes = asked(*QUICK, "data.relation=within(second, 6)")
    tuplet("train", "digits.csv", *changes, "--name", "own", folder=tmp_path)
    table = tmp_path / "digits.csv"
    lines = table.read_text().splitlines()
    place = lines[0].split(",").index("second")
    cells = lines[5].split(",")
    cells[place] = "100000"
    table.write_text("\n".join([*lines[:5], ",".join(cells), *lines[6:]]))
    said = tuplet("train", "--resume", "runs/own", "--steps", 12, folder=tmp_path, code=3)
    assert "1 example (d4) with other related columns" in said.stderr
    table.write_text("\n".join(lines))
    tuplet("train", "--resume", "runs/own", "--steps", 12, folder=tmp_path)


@pytest.fixture
def people(tmp_path):
    """Forty people of six rows each, whom no column of classes names."""
    random = np.random.default_rng(0)
    person = np.repeat(np.arange(40), 6)
    rows = random.normal(size=(40, 4))[person] + random.normal(size=(240, 4))
    lines = [",".join([*(f"{x:.3f}" for x in row), f"p{who}"]) for row, who in zip(rows, person, strict=True)]
    (tmp_path / "people.csv").write_text("\n".join(["a,b,c,d,person", *lines]) + "\n")
    return tmp_path


PEOPLE = ["--set", "data.relation=same_class(person)", "--set", "evaluate.bootstrap=20", "--steps", "4"]


def splits_of_people(folder, run):
    rows = [json.loads(line) for line in (folder / "runs" / run / "examples.jsonl").read_text().splitlines()][1:]
    people = [line.rsplit(",", 1)[1] for line in (folder / "people.csv").read_text().splitlines()[1:]]
    found = {}
    for row, person in zip(rows, people, strict=True):
        found.setdefault(person, set()).add(row["split"])
    return found


def test_what_belongs_together_is_held_out_whole(tuplet, people):
    said = tuplet("train", "people.csv", *PEOPLE, "--name", "first", folder=people)
    assert "none of which belongs together with a training example" in said.stderr
    before = splits_of_people(people, "first")
    assert {len(splits) for splits in before.values()} == {1}
    assert [sum(splits == {name} for splits in before.values()) for name in ("train", "validation", "test")] == [
        24,
        4,
        12,
    ]
    evaluation = json.loads(tuplet("evaluate", "runs/first", "--json", folder=people).stdout)
    assert (evaluation["data"]["by"], evaluation["data"]["together"]) == ("class", True)
    assert evaluation["protocols"]["relation"]["model"]["settings"]["resample"] == "classes"

    table = (people / "people.csv").read_text()
    new = "".join(f"{at}.5,0,0,{at},p{at}\n" for at in range(40)) + "1,2,3,4,new\n2,2,3,4,new\n"
    (people / "people.csv").write_text(table + new)
    tuplet("train", "people.csv", *PEOPLE, "--from", "runs/first", "--name", "second", folder=people)
    after = splits_of_people(people, "second")
    assert {person: splits for person, splits in after.items() if person != "new"} == before


def test_named_splits_that_part_what_belongs_together_are_refused_or_said_to_be_of_rows(tuplet, people):
    lines = (people / "people.csv").read_text().splitlines()
    named = [f"{line},{('train', 'train', 'test')[at % 3]}" for at, line in enumerate(lines[1:])]
    (people / "people.csv").write_text("\n".join([lines[0] + ",split", *named]) + "\n")
    refused = tuplet("train", "people.csv", *PEOPLE, "--set", "data.split.by=class", folder=people, code=3)
    assert "40 groups of related examples into more than one split: '0' (test and train)" in refused.stderr
    assert "tuplet explain class-in-two-splits" in refused.stderr
    said = tuplet("train", "people.csv", *PEOPLE, "--name", "rows", folder=people)
    assert "none of which belongs together" not in said.stderr
    evaluation = json.loads(tuplet("evaluate", "runs/rows", "--json", folder=people).stdout)
    assert evaluation["data"]["by"] == "row"
    assert evaluation["protocols"]["relation"]["model"]["settings"]["resample"] == "examples"


def test_positives_that_the_split_by_classes_may_part_are_not_said_to_be_unseen(tuplet, people):
    """A column of classes is held out whole, and the matrix may name positives across."""
    lines = (people / "people.csv").read_text().splitlines()
    (people / "people.csv").write_text("\n".join([lines[0].replace("person", "label"), *lines[1:]]) + "\n")
    apart = np.abs(np.subtract.outer(np.arange(240), np.arange(240)))
    np.save(people / "said.npy", apart <= 8)
    asked = ["--set", "data.relation=matrix(said)", "--set", "data.arrays.said=said.npy", "--steps", "4"]
    said = tuplet("train", "people.csv", *asked, "--set", "evaluate.bootstrap=20", "--name", "said", folder=people)
    assert "none of which belongs together" not in said.stderr
    evaluation = json.loads(tuplet("evaluate", "runs/said", "--json", folder=people).stdout)
    assert (evaluation["data"]["by"], evaluation["data"]["together"]) == ("class", False)
    written = tuplet("init", "people.csv", *asked[:4], "-o", "made.toml", folder=people)
    assert written.returncode == 0
    assert "may part it" in (people / "made.toml").read_text()

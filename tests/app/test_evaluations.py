"""Runs of every kind: what the command line shows and requires, and what their report holds."""

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import typer

from tuplet.app.cli.options import check_required, parse_required
from tuplet.app.evaluating import evaluate_on
from tuplet.app.history import read_runs
from tuplet.app.metrics import is_metric, metrics_of, primary_of
from tuplet.app.report import write_report
from tuplet.app.summary import advice, notes, read_evaluation, state_data, state_finding
from tuplet.errors import DataError
from tuplet.recipes import build, recipe_for
from tuplet.results import FILE, Evaluation, Scores, Seen
from tuplet.training import run

STEPS = ("train.steps=6", "train.validate_every=3", "train.log_every=2", "evaluate.bootstrap=50", "train.patience=0")


def finished(source, *overrides):
    """A short run of proposed settings, and its report."""
    folder = source.parent / "runs" / source.stem
    list(run(build(recipe_for(source, [*STEPS, *overrides]), cache=source.parent), folder))
    return folder, write_report(folder).read_text(encoding="utf-8")


def charts_of(page):
    return {chart["name"]: chart for chart in json.loads(re.search(r'id="charts">(.*?)</script>', page, re.DOTALL)[1])}


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("graded"), np.random.default_rng(0)
    rows = random.normal(size=(120, 6)).astype(np.float32)
    np.save(folder / "spectra.npy", rows)
    np.save(folder / "spectra.targets.npy", rows[:, :1].astype(np.float64))
    return finished(folder / "spectra.npy")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("pairs"), np.random.default_rng(0)
    with (folder / "words.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["text", "pair"])
        table.writerows([f"w{i}x w{i}y", f"<i>about</i> w{i}x {random.integers(99)}"] for i in range(200))
    return finished(folder / "words.csv", "batch.batch_size=32")


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("series"), np.random.default_rng(0)
    labels = np.arange(80) % 4
    waves = np.sin(np.linspace(0, 1, 40) * (3 + 4 * labels[:, None])) + 0.1 * random.normal(size=(80, 40))
    np.save(folder / "waves.npy", waves[:, None].astype(np.float32))
    np.save(folder / "waves.labels.npy", labels)
    return finished(folder / "waves.npy", "data.kind=series", "data.split.by=row", "evaluate.probe=true")


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("unlabelled"), np.random.default_rng(0)
    np.save(folder / "spots.npy", random.integers(0, 255, (90, 1, 16, 16), dtype=np.uint8))
    return finished(folder / "spots.npy", "batch.batch_size=32")


def test_targets_stand_in_the_headline_the_list_of_runs_and_requirements(graded):
    folder, page = graded
    evaluation = read_evaluation(folder)
    line = primary_of(evaluation)
    assert (line.key, line.protocol) == ("spearman", "targets")
    assert f"Spearman is {line.model.value:.3f}" in state_finding(evaluation)
    assert [row["measure"] for row in read_runs(folder.parent)] == ["Spearman"]
    check_required({"spearman": line.model.value - 0.01, "label_gap@10": 1.5}, evaluation)
    for wrong in ({"spearman": 1.01}, {"label_gap@10": 0.0}):  # of a gap less is better
        with pytest.raises(typer.Exit):
            check_required(wrong, evaluation)
    with pytest.raises(typer.BadParameter, match="spearman"):
        check_required({"recall@1": 0.5}, evaluation)
    evaluation.protocols["targets"].model.values["spearman"] = None  # all embeddings are one
    with pytest.raises(typer.Exit):
        check_required({"spearman": -1}, evaluation)
    charts = charts_of(page)
    values = [trace["marker"]["color"] for trace in charts["map"]["data"] if isinstance(trace["marker"]["color"], list)]
    items = [json.loads(row) for row in (folder / "gallery" / "items.jsonl").read_text().splitlines()]
    targets = [item["target"][0] for item in items if item["split"] == "test"]
    assert values == [pytest.approx(targets)]
    assert len(charts["targets"]["data"][0]["x"]) == min(3000, len(targets) * (len(targets) - 1) // 2)


def test_pairs_are_asked_and_answered_in_words(pairs):
    folder, page = pairs
    evaluation = read_evaluation(folder)
    assert {line.key for line in metrics_of(evaluation) if line.is_main} == {"recall@1", "recall@10", "mrr"}
    assert "searched among the positives" in state_data(evaluation)
    assert "&lt;i&gt;about&lt;/i&gt;" in page
    assert "<i>about" not in page
    answers = [json.loads(row) for row in (folder / "gallery" / "items.jsonl").read_text().splitlines()]
    questions = [json.loads(row) for row in (folder / "questions" / "items.jsonl").read_text().splitlines()]
    assert all(
        answers[row["answer"]]["text"].split()[1] == row["text"].split()[0] for row in questions
    )  # each points at its own
    assert charts_of(page)["pairs"]["data"][1]["name"] == "own answer"


def test_series_are_sampled_and_evaluated_beside_the_untrained_encoder(series):
    folder, page = series
    lines = {(line.protocol, line.key): line for line in metrics_of(read_evaluation(folder))}
    assert lines["train", "knn@1"].untrained is not None
    assert lines["train", "probe"].untrained is not None
    assert page.count('class="outline"') > 40
    assert page.count('data-of="untrained"') == len(
        [line for line in lines.values() if line.protocol not in ("health", "verification")]
    )
    assert any("before training" in note for note in notes(read_evaluation(folder)))


def test_without_labels_the_page_says_what_nobody_knows(unlabelled):
    folder, page = unlabelled
    assert "nothing can be said of what the embedding is good for" in state_data(read_evaluation(folder))
    assert "Health of the embedding" in page
    assert "see for yourself" in page
    assert "✕" not in page.partition("<script")[0]
    assert json.loads(re.search(r'id="map-data">(.*?)</script>', page, re.DOTALL)[1])["named"] is False


def results(model, raw, *, low, high, classes=5, metric="recall@1", **more):
    """The evaluation of a run on unseen classes."""
    parts = {name: {"examples": 50, "classes": classes} for name in ("train", "test")}
    found = {of: {"values": {metric: value}} for of, value in (("model", model), ("raw", raw))}
    compared = {"values": {metric: model - raw}, "lower": {metric: low}, "upper": {metric: high}}
    content = {
        "name": "run",
        "seed": 0,
        "split": "test",
        "geometry": "cosine",
        "main": {"protocol": "all", "measure": metric},
        "data": {"kind": "image", "by": "class", "splits": parts},
        "protocols": {"all": {**found, "comparison": compared}},
    }
    return Evaluation.model_validate(content | more)


def test_damaged_runs_are_listed_beside_the_others(graded, tmp_path):
    folder, _ = graded
    for name, broken in (("good", None), ("recipe", "recipe.toml"), ("outcome", "evaluation.json")):
        (tmp_path / name).mkdir()
        for file in ("recipe.toml", "evaluation.json"):
            text = "{" if file == broken else (folder / file).read_text(encoding="utf-8")
            (tmp_path / name / file).write_text(text, encoding="utf-8")
    for name, conclusion in (("empty", "{}"), ("later", '{"format": 99}')):
        (tmp_path / name).mkdir()
        shutil.copy(folder / "recipe.toml", tmp_path / name)
        (tmp_path / name / "evaluation.json").write_text(conclusion)
    (tmp_path / "events").mkdir()
    shutil.copy(folder / "recipe.toml", tmp_path / "events")
    (tmp_path / "events" / "events.jsonl").write_text('{"step": 3}\n')
    states = {row["run"].rpartition("/")[2]: row["state"] for row in read_runs(tmp_path)}
    bad = dict.fromkeys(["recipe", "outcome", "events"], "damaged")
    assert states == {"good": "done", **bad, "empty": "unknown format", "later": "unknown format"}


COMPARED = {
    "a": ("rows.npy", "supcon", "temperature = 0.1", "per-class", "per_class = 4", 0.003),
    "b": ("rows.npy", "supcon", "temperature = 0.2", "per-class", "per_class = 4", 0.003),
    "c": ("rows.npy", "arcface", "scale = 16.0", "uniform", "batch_size = 32", 0.001),
    "d": ("waves.npy", "supcon", "temperature = 0.3", "per-class", "per_class = 2", 0.1),
}


def test_runs_differ_from_those_they_can_be_compared_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, (source, loss, option, batch, size, rate) in COMPARED.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        tables = (
            f'name = "{name}"\n[data]\nsource = "../../{source}"\n[loss]\nname = "{loss}"\n{option}\n'
            f'[batch]\nname = "{batch}"\n{size}\n[train]\nsteps = 9\nlearning_rate = {rate}\n'
        )
        (tmp_path / "runs" / name / "recipe.toml").write_text(tables)
    printed = {row["run"].rpartition("/")[2]: row["differs"] for row in read_runs(tmp_path / "runs")}
    first = "data.source=rows.npy loss.name="
    assert printed["a"] == f"{first}supcon batch.name=per-class loss.temperature=0.1 train.learning_rate=0.003"
    assert printed["b"] == f"{first}supcon batch.name=per-class loss.temperature=0.2 train.learning_rate=0.003"
    assert printed["c"] == f"{first}arcface batch.name=uniform train.learning_rate=0.001"
    assert printed["d"] == "data.source=waves.npy loss.name=supcon"


@pytest.mark.parametrize("name", ["recall@5", "map@r", "knn@20", "label_gap@10", "mrr", "auc", "tar@far=0.01"])
def test_what_runs_measure_may_be_required(graded, name):
    assert all(is_metric(line.key) for line in metrics_of(read_evaluation(graded[0])))
    assert is_metric(name)
    assert not is_metric(f"{name}s")


@pytest.mark.parametrize("text", ["recall@1=nan", "recall@1=inf", "tar@far=0.01", "tar@far=x=0.5", "recall@1", "=3"])
def test_a_requirement_without_a_name_or_a_number_is_refused(text):
    with pytest.raises(typer.BadParameter):
        parse_required([text])


def test_what_may_be_required_is_read_to_its_last_equals_sign():
    assert parse_required(["tar@far=0.01=0.9", "Train:kNN@1=0.5", "tar@far=1e-05=0.1"]) == {
        "tar@far=0.01": 0.9,
        "train:knn@1": 0.5,
        "tar@far=1e-05": 0.1,
    }


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.019, -0.010, "worse"),
        (-0.02, 0.04, "undecided"),
        (0.01, 0.08, "better"),
        (0.1, 0.1, "better"),
        (0, 0, "undecided"),
    ],
)
def test_the_paired_interval_decides_between_three_words(low, high, word):
    found = results(0.9 + (low + high) / 2, 0.9, low=low, high=high)
    assert found.conclusion == word
    assert word in state_finding(found)
    assert (advice(found) is None) == (word == "better")
    turned = results(0.9 + (low + high) / 2, 0.9, low=low, high=high, metric="label_gap@10")  # where less is better
    assert turned.conclusion == {"worse": "better", "better": "worse"}.get(word, word)


def test_without_an_interval_nothing_is_decided():
    found = results(0.95, 0.1, low=0, high=0)
    found.protocols["all"].comparison = Scores(values={"recall@1": 0.85})
    assert found.conclusion == "undecided"
    found.protocols["all"].raw = None
    assert found.conclusion is None


@pytest.mark.parametrize(("gain", "word"), [(-0.2, "worse"), (-0.005, "undecided"), (0.1, "better")])
def test_a_model_behind_its_untrained_twin_is_not_called_better(gain, word):
    found = results(0.7, 0.4, low=0.2, high=0.4)
    found.protocols["all"].untrained = Scores(values={"recall@1": 0.7 - gain})
    found.protocols["all"].comparison_untrained = Scores(
        values={"recall@1": gain}, lower={"recall@1": gain - 0.01}, upper={"recall@1": gain + 0.01}
    )
    assert found.conclusion == word
    if word != "better":
        assert f"{0.7 - gain:.3f}" in state_finding(found)
        assert "before training" in advice(found)


def test_advice_fits_what_can_be_changed():
    worse = results(0.8, 0.9, low=-0.2, high=-0.05)
    assert "only 5 classes" in advice(worse)
    assert "use raw input" in advice(worse)
    assert "more classes" in advice(worse)
    assert "more than chance explains" in notes(worse)[0]
    unclear = results(0.91, 0.9, low=-0.02, high=0.04, classes=500)
    assert "within chance" in advice(unclear)
    assert "only 500" not in advice(unclear)
    assert "uses the classes" in advice(worse.model_copy(update={"supervision": "example"}))
    worse.data.by = "row"  # the classes are what they are
    assert "more classes" not in advice(worse)
    assert "more examples of each class" in advice(worse)


def test_how_many_classes_are_new_to_the_model_is_counted(series):
    evaluation = read_evaluation(series[0])
    assert ", all of which it knows from training." in state_data(evaluation)
    evaluation.data.splits[evaluation.split].unseen = 3
    assert " of 4 classes, 3 of which it has not seen in training." in state_data(evaluation)


def test_other_data_is_reported_by_what_the_model_was_trained_on(tmp_path):
    random = np.random.default_rng(0)
    labels = np.arange(160) % 16
    rows = (random.normal(size=(16, 4))[labels] + 0.3 * random.normal(size=(160, 4))).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    np.save(tmp_path / "rows.labels.npy", labels)
    folder, _ = finished(tmp_path / "rows.npy", "evaluate.bootstrap=20")
    parts = read_evaluation(folder).data.splits
    whole = evaluate_on(folder, tmp_path / "rows.npy")
    trained = parts["train"]
    seen = Seen(examples=trained.examples, classes=trained.classes, examples_of_classes=10 * trained.classes)
    assert whole.data.seen == seen
    assert f"{trained.examples} of the examples" in state_data(whole)
    fresh = labels.copy()
    fresh[labels < 8] += 100  # other classes
    np.save(tmp_path / "more.npy", rows + 1)
    np.save(tmp_path / "more.labels.npy", fresh)
    more = evaluate_on(folder, tmp_path / "more.npy").data.seen
    assert more.examples == 0
    assert more.classes <= 8
    assert more.examples_of_classes == 10 * more.classes


def test_the_file_is_what_the_model_reads(graded, tmp_path):
    folder, _ = graded
    text = (folder / FILE).read_text(encoding="utf-8")
    evaluation = read_evaluation(folder)
    assert evaluation.to_json() == json.loads(text)
    evaluation.write(tmp_path)
    assert (tmp_path / FILE).read_text(encoding="utf-8") == text
    for damage in ({"protocols": {"all": {}}}, {"split": 3}, {"surprise": 1}):
        shutil.copytree(folder, tmp_path / "run")
        (tmp_path / "run" / FILE).write_text(json.dumps(json.loads(text) | damage))
        with pytest.raises(DataError) as caught:
            read_evaluation(tmp_path / "run")
        assert caught.value.reference == "damaged-file"
        shutil.rmtree(tmp_path / "run")


@pytest.mark.parametrize(("run", "main"), [("flowers", ("all", "recall@1")), ("garden", None)])
def test_results_of_the_first_release_are_read(run, main):
    path = Path(__file__).parents[1] / "fixtures" / "0.1" / "kept" / run
    evaluation = Evaluation.read(path, remedy="")
    found = evaluation.main and (evaluation.main.protocol, evaluation.main.measure)
    assert found == main
    written = json.loads((path / FILE).read_text())
    assert {key: value for key, value in evaluation.to_json().items() if key in written} == written

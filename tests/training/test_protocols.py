"""What runs of every kind are evaluated by, against counts by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import StandardScaler

import tiny
from tuplet.data import Dataset, Labels, NoiseAugment, RawChoice, TextPreprocessing, VectorPreprocessing, raw_choices
from tuplet.errors import RecipeError
from tuplet.models import Embedder
from tuplet.recipes import build, load_recipe
from tuplet.seeding import Draws, derive_seed
from tuplet.training import EvaluateSettings, run
from tuplet.training.baseline import TREES, _subset
from tuplet.training.evaluator import health_of, protocols_for, selection_of
from tuplet.training.features import ModelExtractor, RawExtractor
from tuplet.training.protocols import PairRetrieval, ViewRetrieval

UNKNOWN = 'name = "uniform"\nbatch_size = 16'


def recipe_in(folder, *, loss, batch=None, **files):
    """The tiny recipe with other data, loss and batches."""
    for name, rows in files.items():
        np.save(folder / f"{name.replace('_', '.')}.npy", rows)
    text = tiny.RECIPE.replace('name = "supcon"\nqueue = 32', f'name = "{loss}"')
    if batch is not None:
        text = text.replace('name = "per-class"\nclasses_per_batch = 4\nper_class = 3', batch)
    (folder / "tiny.toml").write_text(text)
    return folder / "tiny.toml"


def finished(recipe, *overrides):
    """The folder of a run, its job and its evaluation."""
    job = build(load_recipe(recipe, ["train.steps=20", *overrides]), cache=recipe.parent)
    list(run(job, recipe.parent / "run"))
    return job, json.loads((recipe.parent / "run" / "evaluation.json").read_text())


def rows_and_targets(count=120):
    random = np.random.default_rng(0)
    rows = random.normal(size=(count, 6)).astype(np.float32)
    return rows, rows[:, :1].astype(np.float64) + 0.1 * random.normal(size=(count, 1))


@pytest.fixture(scope="module")
def graded_run(tmp_path_factory):
    rows, targets = rows_and_targets()
    recipe = recipe_in(
        tmp_path_factory.mktemp("graded"), loss="log_ratio", batch=UNKNOWN, rows=rows, rows_targets=targets
    )
    return recipe, *finished(recipe)


def test_targets_are_evaluated_by_the_rank_correlation_of_all_pairs(graded_run):
    recipe, job, evaluation = graded_run
    assert evaluation["main"] == {"protocol": "targets", "measure": "spearman"}
    evaluated = evaluation["protocols"]["targets"]
    embedder = Embedder.load(recipe.parent / "run" / "model")
    embedded = embedder.embed(job.test).double()
    first, second = torch.triu_indices(len(embedded), len(embedded), 1)
    label_distances = (job.test.targets[first] - job.test.targets[second]).norm(dim=1)
    trees = HistGradientBoostingRegressor(random_state=derive_seed(job.seed, "trees") % 2**32)
    predicted = trees.fit(job.train.inputs.numpy(), job.train.targets[:, 0].numpy()).predict(job.test.inputs.numpy())
    assert evaluation["raw"]["regressor"] == TREES
    assert max(evaluation["raw"]["scores"], key=evaluation["raw"]["scores"].get) == TREES
    for of, distances in (
        ("model", torch.cdist(embedded, embedded)[first, second]),
        ("raw", torch.as_tensor(predicted[first] - predicted[second]).abs()),
    ):
        assert embedder.geometry in ("euclidean", "squared_euclidean")
        assert evaluated[of]["values"]["spearman"] == pytest.approx(
            spearmanr(distances, label_distances).statistic, abs=1e-6
        )
        assert (
            evaluated[of]["lower"]["spearman"]
            < evaluated[of]["values"]["spearman"]
            < evaluated[of]["upper"]["spearman"]
        )
    gain = evaluated["comparison"]["values"]["spearman"]
    assert gain == pytest.approx(evaluated["model"]["values"]["spearman"] - evaluated["raw"]["values"]["spearman"])


def test_targets_choose_the_best_step(graded_run):
    recipe, job, _ = graded_run
    events = tiny.event_log(recipe.parent / "run")
    evaluated = [event for event in events if event["kind"] == "evaluation" and event["split"] == "validation"]
    assert {event["by"] for event in evaluated} == {"spearman"}
    scores = {event["step"]: event["values"]["spearman"]["value"] for event in evaluated if event["of"] == "model"}
    assert events[-1]["best_step"] == max(scores, key=scores.get)
    assert len(job.validation) + len(job.test) + len(job.train) == 120


def test_a_measure_that_cannot_be_taken_is_refused_before_anything_is_written(graded_run):
    recipe, _, _ = graded_run
    job = build(load_recipe(recipe, ["evaluate.best_by=recall@1"]), cache=recipe.parent)
    with pytest.raises(RecipeError) as caught:
        list(run(job, recipe.parent / "other"))
    assert caught.value.reference == "best-by"
    assert "spearman" in caught.value.message
    assert not (recipe.parent / "other").exists()


def test_the_latest_step_is_kept_if_nobody_shall_choose(graded_run):
    recipe, _, _ = graded_run
    job = build(load_recipe(recipe, ["evaluate.best_by=last", "train.steps=10"]), cache=recipe.parent)
    events = list(run(job, recipe.parent / "last"))
    assert events[-1]["best_step"] == 10
    assert [event["step"] for event in events if event.get("split") == "validation"] == [0, 5, 10]


@pytest.fixture(scope="module")
def closed_run(tmp_path_factory):
    recipe = tiny.write(tmp_path_factory.mktemp("closed"))
    options = ("data.split.by=row", "evaluate.probe=true", "evaluate.neighbours=[1, 5, 500]")
    return recipe, options, *finished(recipe, *options)


def test_training_rows_vote_for_the_class_of_test_rows(closed_run):
    recipe, options, job, evaluation = closed_run
    evaluated = evaluation["protocols"]["train"]
    assert evaluation["main"] == {"protocol": "all", "measure": "recall@1"}
    assert set(evaluated) == {"raw", "untrained", "model", "comparison", "comparison_untrained"}
    fresh = build(load_recipe(recipe, options), cache=recipe.parent).embedder
    embedders = {"model": Embedder.load(recipe.parent / "run" / "model"), "untrained": fresh}
    for of, embedder in embedders.items():
        test, train = embedder.embed(job.test), embedder.embed(job.train)
        scores = cosine_similarity(test.double(), train.double())
        nearest = np.argsort(-scores, axis=1, kind="stable")
        classes = job.train.classes.numpy()
        assert evaluated[of]["values"]["knn@1"] == pytest.approx(
            np.mean(classes[nearest[:, 0]] == job.test.classes.numpy()), abs=1e-9
        )
        votes = np.zeros((len(test), 20))
        for row, near in enumerate(nearest[:, :5]):
            np.add.at(votes[row], classes[near], np.exp(scores[row, near] / 0.07))
        assert evaluated[of]["values"]["knn@5"] == pytest.approx(np.mean(votes.argmax(1) == job.test.classes.numpy()))
        assert "knn@500" not in evaluated[of]["values"]  # there are not so many
        scale = StandardScaler().fit(train.double())
        probe = LogisticRegression(max_iter=1000).fit(scale.transform(train.double()), classes)
        expected = probe.score(scale.transform(test.double()), job.test.classes)
        assert evaluated[of]["values"]["probe"] == pytest.approx(expected)


def test_the_untrained_encoder_is_the_same_after_going_on(closed_run, tmp_path):
    recipe, options, _, evaluation = closed_run
    folder = recipe.parent / "run"
    job = build(load_recipe(recipe, ["train.steps=20", *options]), cache=recipe.parent)
    list(run(job, folder, resume=True))
    assert json.loads((folder / "evaluation.json").read_text()) == evaluation


def test_classes_of_an_open_split_ask_nobody_in_training(tmp_path):
    _, evaluation = finished(tiny.write(tmp_path), "evaluate.probe=true", "train.steps=5")
    assert set(evaluation["protocols"]) == {"all", "health", "verification"}
    assert "untrained" in evaluation["protocols"]["all"]


def pairs(count=40):
    """Queries whose answers say the same in other words; the last two share an answer."""
    words = np.random.default_rng(0).permutation(5 * count).tolist()
    keys = [f"w{words[3 * i]}x w{words[3 * i + 1]}y w{words[3 * i + 2]}z" for i in range(count)]
    answers = [f"of {key.split()[0]} and {key.split()[1]}" for key in keys]
    answers[-1] = answers[-2]
    read = TextPreprocessing()
    return Dataset(
        kind="text",
        inputs=read.load(keys),
        ids=tuple(map(str, range(count))),
        labels=Labels("pair", torch.arange(count)),
        partners=read.load(answers),
        texts=tuple(keys),
        partner_texts=tuple(answers),
    )


def test_queries_find_their_answers_by_common_words_alone():
    settings = EvaluateSettings(top=(1, 5), bootstrap=50)
    dataset = pairs()
    (protocol,) = protocols_for(dataset, settings)
    assert isinstance(protocol, PairRetrieval)
    found = protocol.evaluate(protocol.extract(RawExtractor()), settings, bootstrap=50, seed=0)
    assert (found.counts["n_queries"], found.counts["n_gallery"]) == (40, 39)
    features = RawExtractor().extract_pairs(dataset)
    scores = cosine_similarity(features.queries.double(), features.gallery.double()[:39])
    ranks = [1 + int((row > row[min(own, 38)]).sum()) for own, row in enumerate(scores)]
    assert found.values["recall@1"] == pytest.approx(np.mean(np.array(ranks) == 1))
    assert found.values["mrr"] == pytest.approx(np.mean(1 / np.array(ranks)), abs=1e-9)
    assert found.values["recall@1"] > 0.9


def unlabelled(count=50):
    rows = torch.randn(count, 6, generator=torch.Generator().manual_seed(0))
    return Dataset(
        "vector", rows, tuple(map(str, range(count))), Labels("example", torch.arange(count)), (), None, None
    )


def test_without_labels_an_example_is_found_by_a_change_of_it():
    dataset, preprocessing = unlabelled(), VectorPreprocessing().fit(unlabelled().inputs)
    settings = EvaluateSettings(top=(1,), bootstrap=0)
    found = {}
    for noise in (1e-4, 3.0):
        protocol = ViewRetrieval(dataset, NoiseAugment(noise=noise), preprocessing, seed=0)
        found[noise] = protocol.evaluate(protocol.extract(RawExtractor()), settings, bootstrap=0, seed=0).values[
            "recall@1"
        ]
    assert found[1e-4] == 1
    assert found[3.0] < 0.5


class Counting(NoiseAugment):
    """Noise, and how many rows were changed."""

    rows = 0

    def __call__(self, inputs, draws):
        Counting.rows += len(inputs) if Draws.of(draws).total is None else draws.total
        return super().__call__(inputs, draws)


def test_views_are_sampled_once_and_are_the_same_for_every_look_and_batch_size():
    dataset = unlabelled(600)
    preprocessing = VectorPreprocessing()
    seen = []
    for batch_size in (7, 100, 5000):
        Counting.rows = 0
        encoder = torch.nn.Linear(6, 6, bias=False)
        torch.nn.init.eye_(encoder.weight)
        embedder = Embedder(encoder, preprocessing, encoder_config={"dim": 6}, geometry="euclidean")
        seen.append(ModelExtractor(embedder, batch_size).extract_views(dataset, Counting(noise=1.0), preprocessing, 3))
        assert Counting.rows == 600
    raw = RawExtractor(RawChoice("none", "euclidean")).extract_views(dataset, Counting(noise=1.0), preprocessing, 3)
    for features in (*seen, raw):
        assert torch.equal(features.queries, seen[0].queries)
        assert torch.equal(features.gallery, dataset.inputs)
    changes = (raw.queries - raw.gallery).flatten()
    assert len(changes.unique()) > 3000  # no block repeats another one


@pytest.mark.parametrize(
    ("scales", "noise", "chosen"),
    [
        ((1, 1, 1, 1), 0.3, ("none", "standardised")),
        ((1000, 1, 1, 1), (500, 0.1, 0.1, 0.1), ("standardised",)),  # one column of noise drowns the others
        ((1, 1, 0.001, 0.001), (0.1, 0.1, 0.05, 0.05), ("none",)),  # columns that only hold noise
    ],
)
def test_the_raw_baseline_is_the_best_plain_choice_on_validation_rows(tmp_path, scales, noise, chosen):
    random = np.random.default_rng(0)
    labels = np.arange(400) % 40
    rows = random.normal(size=(40, 4))[labels] * scales + random.normal(size=(400, 4)) * noise
    recipe = recipe_in(tmp_path, loss="supcon", rows=rows.astype(np.float32), rows_labels=labels)
    job, evaluation = finished(recipe, "train.steps=2", "evaluate.bootstrap=0")
    raw, measure = evaluation["raw"], evaluation["main"]["measure"]
    assert raw["chosen_on"] == "validation"
    assert raw["by"] == measure == "recall@1"
    assert len(raw["scores"]) == 4
    assert raw["scaling"] in chosen
    protocol = protocols_for(job.validation, job.evaluate)[0]
    for choice in raw_choices(job.validation):
        features = protocol.extract(RawExtractor(choice))
        found = protocol.evaluate(features, job.evaluate, bootstrap=0, seed=0).values[measure]
        assert raw["scores"][choice.name] == pytest.approx(found)
    best = RawExtractor(RawChoice(raw["scaling"], raw["geometry"]))
    evaluated = protocols_for(job.test, job.evaluate)[0]
    expected = evaluated.evaluate(evaluated.extract(best), job.evaluate, bootstrap=0, seed=0).values[measure]
    assert evaluation["protocols"]["all"]["raw"]["values"][measure] == pytest.approx(expected)


def test_of_many_validation_examples_whole_classes_choose():
    labels = torch.arange(9000) % 900
    rows = torch.randn(9000, 3, generator=torch.Generator().manual_seed(0))
    names = tuple(map(str, range(900)))
    dataset = Dataset("vector", rows, tuple(map(str, range(9000))), Labels("class", labels), names, classes=labels)
    few = _subset(dataset, 0)
    counts = torch.unique(few.classes, return_counts=True)[1]
    assert len(few) == 2000
    assert counts.tolist() == [10] * 200
    assert torch.equal(few.inputs, rows[torch.tensor([int(name) for name in few.ids])])


def test_closed_sets_resample_examples_and_open_ones_classes(closed_run):
    _, _, job, evaluation = closed_run
    for protocol in ("all", "train"):
        for of in ("raw", "model", "comparison"):
            assert evaluation["protocols"][protocol][of]["settings"]["resample"] == "examples"
    assert {protocol.resample for protocol in protocols_for(job.test, job.evaluate) if protocol.name == "all"} == {
        "classes"
    }


def test_the_rule_of_re_identification_is_a_protocol_of_its_own():
    labels = torch.arange(60) % 10
    rows = torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    cameras = tuple(str(row % 3) for row in range(60))
    names, ids = tuple(map(str, range(10))), tuple(map(str, range(60)))
    dataset = Dataset("vector", rows, ids, Labels("class", labels), names, cameras, classes=labels)
    asking = replace(dataset, roles=tuple("query" if row < 20 else "gallery" for row in range(60)))
    for data, junk, name in (
        (dataset, "auto", "other_groups"),
        (dataset, "group", "other_groups"),
        (dataset, "class_and_group", "reid"),
        (asking, "auto", "reid"),
        (asking, "group", "other_groups"),
        (asking, "class_and_group", "reid"),
    ):
        settings = EvaluateSettings(junk=junk)
        [protocol] = [one for one in protocols_for(data, settings) if one.name != "all"]
        assert protocol.name == name
        found = protocol.evaluate(protocol.extract(RawExtractor()), settings, bootstrap=0, seed=0)
        assert found.settings["junk"] == ("group" if name == "other_groups" else "class_and_group")


@pytest.mark.parametrize("by_camera", [True, False])
def test_queries_ask_the_gallery_where_the_data_says_so(by_camera):
    draw = torch.Generator().manual_seed(0)
    labels, rows = torch.arange(80) % 8, torch.randn(80, 4, generator=draw)
    cameras = tuple(str(camera) for camera in torch.randint(3, (80,), generator=draw).tolist())
    roles = tuple(("query", "gallery", "gallery", "")[row // 8 % 4] for row in range(80))
    names, ids = tuple(map(str, range(8))), tuple(map(str, range(80)))
    groups = cameras if by_camera else None
    dataset = Dataset("vector", rows, ids, Labels("class", labels), names, groups, classes=labels, roles=roles)
    protocol, everybody = protocols_for(dataset, EvaluateSettings())
    assert (protocol.name, everybody.name) == ("reid" if by_camera else "query_gallery", "all")
    features = protocol.extract(RawExtractor())
    found = protocol.evaluate(features, EvaluateSettings(), bootstrap=0, seed=0)
    unit = torch.nn.functional.normalize(features.queries.double(), dim=1)
    hits, precisions = [], []
    for asking in (row for row in range(80) if roles[row] == "query"):
        answers = [
            row
            for row in range(80)
            if roles[row] == "gallery"
            and not (by_camera and labels[row] == labels[asking] and cameras[row] == cameras[asking])
        ]
        answers.sort(key=lambda row: -float(unit[row] @ unit[asking]))
        right = [bool(labels[row] == labels[asking]) for row in answers]
        if any(right):
            hits.append(float(right[0]))
            places = [place for place, is_right in enumerate(right, 1) if is_right]
            precisions.append(sum((n + 1) / place for n, place in enumerate(places)) / len(places))
    assert found.counts["n_queries"] == len(hits)
    assert found.values["recall@1"] == pytest.approx(sum(hits) / len(hits), abs=1e-12)
    assert found.values["map"] == pytest.approx(sum(precisions) / len(hits), abs=1e-9)


def test_a_run_without_labels_says_what_can_be_said(tmp_path):
    random = np.random.default_rng(0)
    recipe = recipe_in(
        tmp_path, loss="instance_discrimination", batch=UNKNOWN, rows=random.normal(size=(90, 6)).astype(np.float32)
    )
    job, evaluation = finished(recipe)
    assert evaluation["main"] == {"protocol": "views", "measure": "recall@1"}
    assert set(evaluation["protocols"]) == {"views", "health"}
    assert {"effective_rank", "alignment", "uniformity"} <= set(evaluation["protocols"]["health"]["model"]["values"])
    assert selection_of(job).metric is None  # the latest step is kept
    assert tiny.event_log(tmp_path / "run")[-1]["best_step"] == 20
    extractor = ModelExtractor(job.embedder, 512)
    protocol = ViewRetrieval(job.test, job.augment, job.embedder.preprocessing, 0)
    features = protocol.extract(extractor)
    apart = (
        torch.nn.functional.normalize(features.queries, dim=1) - torch.nn.functional.normalize(features.gallery, dim=1)
    ).square()
    alignment = health_of(extractor, job.test, protocol.extract(extractor), 0).values["alignment"]
    assert alignment == pytest.approx(apart.sum(1).mean().item(), rel=1e-4)

"""Presets, proposals and plans, typed as a person types them."""

import csv
import json
import re
import tomllib

import numpy as np
import pytest

import digits
from tuplet.app.presets import FOLDER
from tuplet.recipes import load_recipe, preset_names

SMALL = [name for name in preset_names() if name.endswith("-small")]
PAPERS = {
    "nca-2004",
    "hadsell-2006",
    "mnih-2013",
    "word2vec-2013",
    "facenet-2015",
    "npair-2016",
    "sphereface-2017",
    "hermans-2017",
    "cosface-2018",
    "cpc-2018",
    "instance-2018",
    "arcface-2019",
    "logratio-2019",
    "multi-similarity-2019",
    "simclr-2020",
    "circle-2020",
    "proxy-anchor-2020",
    "supcon-2020",
    "clip-2021",
    "siglip-2023",
    "decoupled-2021",
    "cosent-2024",
    "angle-2023",
    "vicreg-2022",
    "barlow-twins-2021",
    "curricularface-2020",
    "adaface-2022",
    "magface-2021",
    "elasticface-2022",
    "uniface-2023",
    "p2sgrad-2019",
    "soft-triple-2019",
    "margin-2017",
    "ranked-list-2019",
    "tuplet-margin-2019",
    "lifted-structure-2016",
    "angular-2017",
    "snr-2019",
    "centroid-2021",
    "histogram-2016",
    "pnp-2021",
    "dynamic-soft-margin-2019",
    "lifted-2017",
    "fastap-2019",
    "smoothap-2020",
    "proxynca-2020",
}
FEWER = {
    "per-class": ["classes_per_batch=4", "per_class=4"],
    "hard-classes": ["classes_per_batch=4"],
    "uniform": ["batch_size=16"],
    "neighbours": ["batch_size=16"],
    "windows": [],
}
"""What the batches of a preset become where examples are few."""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A folder with a little data of every kind that presets are for."""
    folder = tmp_path_factory.mktemp("shelf")
    random = np.random.default_rng(0)
    digits.write(folder / "photos", 120, 32)
    np.save(folder / "waves.npy", random.normal(size=(60, 1, 64)).cumsum(2).astype(np.float32))
    np.save(folder / "waves.labels.npy", np.arange(60) % 4)
    with (folder / "table.csv").open("w", newline="") as file:
        numbers = random.normal(size=(90, 4)).round(4)
        csv.writer(file).writerows([["x0", "x1", "x2", "x3", "target"], *([*row, row.sum()] for row in numbers)])
    words = ["red", "green", "blue", "old", "new", "cat", "dog", "hen"]
    halves = [(random.choice(words, 3), random.choice(words, 3)) for _ in range(60)]
    scored = [[" ".join(a), " ".join(b), len({*a} & {*b})] for a, b in halves]
    with (folder / "scored.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "pair", "target"], *scored])
    (folder / "corpus.txt").write_text("the house is a home and the home is a house " * 60)
    return folder


def data_for(recipe):
    if recipe.data.kind == "words":
        return "corpus.txt"
    return {"log_ratio": "table.csv", "cpc": "waves.npy", "cosent": "scored.csv", "angle": "scored.csv"}.get(
        recipe.loss.name, "photos"
    )


def test_every_paper_has_its_preset_and_a_small_form():
    assert {name.removesuffix("-small") for name in SMALL} == PAPERS
    assert set(preset_names()) >= PAPERS


@pytest.mark.parametrize("name", sorted(PAPERS))
def test_every_preset_says_what_is_the_papers_and_what_is_ours(name):
    text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    for whose in ("# The paper's", "# Defaults of this project: "):
        assert any(line.startswith(whose) for line in text)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_small_preset_trains_from_the_command_line(typed, tmp_path, shelf, name):
    recipe = load_recipe(name, ["data.source=glyphs"])
    fewer = [f"batch.{change}" for change in FEWER[recipe.batch.name]]
    split = "data.split={by='class', test=0.4, validation=0.3}" if data_for(recipe) == "photos" else "seed=1"
    changes = [word for change in ["evaluate.bootstrap=5", split, *fewer] for word in ("--set", change)]
    typed("train", name, "--data", shelf / data_for(recipe), "--steps", 3, *changes)
    run = tmp_path / "runs" / name
    assert (run / "model").is_dir()
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert events[-1]["kind"] == "end"
    assert tomllib.loads((run / "recipe.toml").read_text())["loss"]["name"] == recipe.loss.name


@pytest.mark.slow
def test_init_writes_a_recipe_that_plans_and_trains(typed, tmp_path, shelf):
    said = typed("init", shelf / "photos", "-o", "mine.toml", "--set", "train.steps=5")
    assert said.stdout == "mine.toml\n"
    assert "map@r" in said.stderr, "what mirroring does to validation"
    assert "map@r" in (tmp_path / "mine.toml").read_text()
    assert "photos holds 120 images of 10 classes." in said.stderr
    assert 'by = "row"' in (tmp_path / "mine.toml").read_text(), "ten classes do not generalise to others"
    assert "tuplet plan mine.toml" in said.stderr
    plan = typed("plan", "mine.toml")
    assert "data\ttrain\t" in plan.stdout
    assert "memory\tone checkpoint on disk\t" in plan.stdout
    assert re.search(r"time\tepoch\t[\d.]+ m?s\n", plan.stdout)
    assert "\t0.0 " not in plan.stdout, "short times are printed in milliseconds"
    assert not (tmp_path / "runs").exists(), "a plan writes nothing"
    typed("train", "mine.toml", "--steps", 2, "--set", "evaluate.bootstrap=5")
    assert (tmp_path / "runs" / "mine" / "model").is_dir()


def test_init_measures_nothing_if_asked_not_to(typed, shelf):
    printed = json.loads(typed("init", shelf / "photos", "--no-measure", "--json").stdout)
    assert "train.augment.flip=true" in printed["reasons"]["train.augment"]
    assert "map@r" not in printed["reasons"]["train.augment"]


def test_init_leaves_a_recipe_that_is_there_alone_unless_forced(typed, tmp_path, shelf):
    (tmp_path / "table.toml").write_text("# edited for hours")
    assert "--force" in typed("init", shelf / "table.csv", code=2).stderr
    assert (tmp_path / "table.toml").read_text() == "# edited for hours"
    printed = json.loads(typed("init", shelf / "table.csv", "--force", "--json", "--set", "train.steps=7").stdout)
    assert (printed["recipe"], printed["kind"], printed["preset"]) == ("table.toml", "vector", "own-vectors")
    assert "distances of embeddings follow distances of labels" in printed["reasons"]["loss"]
    assert tomllib.loads((tmp_path / "table.toml").read_text())["train"]["steps"] == 7


def test_init_says_what_is_wrong_with_data_that_teaches_nothing(typed, tmp_path):
    rows = [f"{row},class {row}\n" for row in range(40)]
    (tmp_path / "alone.csv").write_text("x0,label\n" + "".join(rows))
    said = typed("init", "alone.csv", "--set", "data.split.test=0.0", code=3)
    assert "tuplet explain " in said.stderr
    assert not (tmp_path / "alone.toml").exists()
    assert "tuplet explain missing-file" in typed("init", "nowhere.csv", code=3).stderr
    assert "tuplet explain missing-file" in typed("init", "nowhere.txt", code=3).stderr


def test_a_plan_of_a_preset_takes_the_data_that_is_named(typed, shelf):
    asked = ["batch.batch_size=16", "loss.scale=1.0", "data.split.validation=0.0"]
    changes = [word for change in asked for word in ("--set", change)]
    said = typed("plan", "arcface-2019-small", "--data", shelf / "photos", "--json", *changes)
    printed = json.loads(said.stdout)
    assert printed["steps"]["batch"] == 16
    assert printed["memory"]["head"] == printed["data"]["train"]["classes"] * 128 * 4
    assert any("With scale 1" in warning for warning in printed["warnings"])
    assert any("Training has" in warning for warning in printed["warnings"])

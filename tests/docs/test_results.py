"""The page of results holds what was measured, and every recipe behind it can be trained."""

import sys
from pathlib import Path

import pytest
import torch

from tuplet.engine import ALONE
from tuplet.recipes import build, load_recipe
from tuplet.training.events import Diary
from tuplet.training.loop import train
from tuplet.training.state import State

RESULTS = Path(__file__).parents[2] / "results"
sys.path.append(str(RESULTS))
import page as results_page  # noqa: E402  # scripts beside their table, not a package
import run as results_run  # noqa: E402

RECIPES = sorted((RESULTS / "recipes").glob("*.toml"))
DRAWN = [recipe for recipe in RECIPES if recipe.stem.startswith("glyphs")]


def test_the_page_is_what_the_table_gives():
    assert results_page.PAGE.read_text() == results_page.page(results_run.rows(), results_run.read())


def test_every_recipe_has_a_row_and_every_row_its_recipes():
    rows = results_run.rows().values()
    assert sorted({recipe for row in rows for recipe in row["recipes"]}) == [recipe.stem for recipe in RECIPES]


def test_every_line_of_the_table_belongs_to_a_training_of_its_row():
    named = {(name, training) for name, row in results_run.rows().items() for training in results_run.named(row)}
    found = {(line["row"], line["training"]) for line in results_run.read()}
    assert found <= named
    assert all(line["measure"] in results_run.rows()[line["row"]]["measures"] for line in results_run.read())


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_understood(recipe):
    assert load_recipe(recipe).seed == 0  # the seeds of a row start there


@pytest.fixture(scope="module")
def letters(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("letters")


@pytest.mark.parametrize("recipe", DRAWN, ids=lambda path: path.stem)
def test_a_small_form_of_each_recipe_on_letters_trains(recipe, letters, tmp_path):
    changes = ["train.steps=3", "train.log_every=1", "data.split.validation=0.0"]
    state = State(build(load_recipe(recipe, changes), cache=letters), torch.device("cpu"))
    with Diary(None) as diary:
        losses = [event["loss"] for event in train(state, diary, tmp_path, ALONE) if event["kind"] == "step"]
    assert len(losses) == 3

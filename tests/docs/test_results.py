"""The page of results holds what was measured, and every recipe behind it can be trained."""

import csv
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tuplet import losses
from tuplet.engine import SINGLE_PROCESS
from tuplet.recipes import build, load_recipe
from tuplet.training import run
from tuplet.training.events import EventLog
from tuplet.training.loop import train
from tuplet.training.state import State

RESULTS = Path(__file__).parents[2] / "results"
sys.path.append(str(RESULTS))
import comparing  # noqa: E402
import defaults as results_defaults  # noqa: E402
import page as results_page  # noqa: E402  # scripts beside their table, not a package
import run as results_run  # noqa: E402

RECIPES = {recipe.stem: recipe for recipe in sorted((RESULTS / "recipes").glob("*.toml"))}
PRETRAINED = {"wordnet-minilm"}


def test_the_page_of_defaults_says_what_was_measured():
    plan, lines = results_defaults.planned(), results_defaults.read()
    assert results_defaults.PAGE.read_text() == results_defaults.page(plan, lines)
    assert lines
    for line in lines:
        kind = plan[line["kind"]]
        assert line["set"] in kind["sets"]
        assert line["choice"] in [choice["name"] for choice in kind["choices"]]
        assert int(line["seed"]) in kind["seeds"]


def test_the_page_is_what_the_table_gives():
    written = results_page.page(results_run.rows(), results_run.read(), results_page.tried())
    assert results_page.PAGE.read_text() == written


def test_scores_that_the_words_of_a_row_name_stand_in_a_table():
    rows = results_run.rows()
    words = {name: row["text"] + row.get("tried", "") for name, row in rows.items()}
    assert {name: re.findall(r"\b0\.\d{2,}", text) for name, text in words.items()} == {name: [] for name in rows}


def test_what_was_tried_is_of_a_row_and_on_its_page():
    lines, rows = results_page.tried(), results_run.rows()
    assert lines
    assert {line["row"] for line in lines} <= set(rows)
    assert all(0 < float(line["value"]) < 1 for line in lines)
    assert len({tuple(line.values()) for line in lines}) == len(lines)
    sections = dict(
        zip(rows, re.split(r"^## ", results_page.PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:], strict=True)
    )
    assert [line for line in lines if line["value"] not in sections[line["row"]]] == []


def test_every_recipe_has_a_row_and_every_row_its_recipes():
    rows = results_run.rows().values()
    assert sorted({recipe for row in rows for recipe in row["recipes"]}) == list(RECIPES)


def test_every_line_of_the_table_belongs_to_a_training_of_its_row():
    rows = results_run.rows()
    named = {(name, training) for name, row in rows.items() for training in results_run.named(row)}
    assert {(line["row"], line["training"]) for line in results_run.read()} <= named
    assert all(line["measure"] in rows[line["row"]]["measures"] for line in results_run.read())


@pytest.fixture(scope="module")
def letters(tmp_path_factory) -> Path:
    """A folder for what is drawn once."""
    return tmp_path_factory.mktemp("letters")


def _table(path: Path, **columns: list[str]) -> None:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])


def _images(folder: Path, *shape: int) -> Path:
    random = np.random.default_rng(0)
    np.save(folder / "images.npy", random.integers(0, 256, (460, *shape), dtype=np.uint8))
    splits = ["train"] * 400 + ["validation"] * 30 + ["test"] * 30
    labels = [f"{split} {row % (100 if split == 'train' else 10)}" for row, split in enumerate(splits)]
    _table(folder / "images.labels.csv", label=labels, split=splits)
    return folder / "images.npy"


def _clothes(folder: Path) -> Path:
    source = _images(folder, 28, 28)
    splits = ["train"] * 400 + ["test"] * 60
    _table(folder / "images.labels.csv", label=[str(row % 10) for row in range(460)], split=splits)
    return source


def _series(folder: Path) -> Path:
    lines = [
        f"{','.join(f'{x:.3f}' for x in np.sin(np.arange(40) / (row % 3 + 1) + row))}:{row % 3}" for row in range(60)
    ]
    for name, part in (("waves_TRAIN", lines[:40]), ("waves_TEST", lines[40:])):
        (folder / f"{name}.ts").write_text("@classLabel true 0 1 2\n@data\n" + "\n".join(part) + "\n")
    return folder


def _spectra(folder: Path) -> Path:
    rows = np.random.default_rng(0).normal(size=(215, 9)).astype(np.float32)
    np.save(folder / "rows.npy", rows)
    _table(
        folder / "rows.labels.csv", label=[str(row % 8) for row in range(215)], target=[f"{x:.3f}" for x in rows[:, 0]]
    )
    return folder / "rows.npy"


def _pairs(folder: Path) -> Path:
    splits = ["train"] * 600 + ["validation"] * 20 + ["test"] * 20
    _table(
        folder / "pairs.csv",
        text=[f"word {row}" for row in range(640)],
        pair=[f"the meaning of the word {row}" for row in range(640)],
        split=splits,
    )
    return folder / "pairs.csv"


def _text(folder: Path) -> Path:
    words = np.random.default_rng(0).integers(0, 50, 3000)
    (folder / "text.txt").write_text(" ".join("abcdefghij"[word % 10] * (word // 10 + 1) for word in words))
    return folder / "text.txt"


def test_a_row_is_trained_once_and_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(results_run, "RUNS", tmp_path / "runs")
    changes = [f"data.source={_spectra(tmp_path)}", "train.steps=20"]
    folder, is_new = results_run.train("spectra", "tecator-log-ratio", changes)
    assert is_new
    measured = list(results_run.measured(folder, results_run.rows()["tecator"]))
    assert [line["measure"] for line in measured] == ["Spearman", "NDCG@10"]
    assert all(float(line["low"]) <= float(line["value"]) <= float(line["high"]) for line in measured)
    assert results_run.train("spectra", "tecator-log-ratio", changes) == (folder, False)
    with pytest.raises(SystemExit, match="another recipe"):
        results_run.train("spectra", "tecator-log-ratio", [*changes, "train.steps=21"])


STAND_INS: dict[str, Callable[[Path], Path]] = {
    "emoji": lambda folder: _images(folder, 32, 32, 3),
    "fashion": _clothes,
    "series": _series,
    "tecator": _spectra,
    "wordnet": _pairs,
    "words": _text,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(RECIPES) - PRETRAINED))
def test_a_small_form_of_each_recipe_trains(name, letters, tmp_path):
    """On drawn letters; in the place of what would have to be fetched, on made-up data of its kind."""
    changes = ["train.steps=2", "train.epochs=0", "train.log_every=1", "evaluate.words=[]"]
    stand_in = STAND_INS.get(name.partition("-")[0])
    if stand_in is not None:
        changes.append(f"data.source={stand_in(tmp_path)}")
    else:
        changes.append("data.split.validation=0.0")
    recipe = load_recipe(RECIPES[name], changes)
    if getattr(recipe.batch, "batch_size", 0) > 256:  # more than a stand-in holds
        recipe = load_recipe(RECIPES[name], [*changes, "batch.batch_size=64"])
    if recipe.data.kind == "words":
        events = list(run(build(recipe, cache=letters), tmp_path / "run"))
    else:
        with EventLog(None) as event_log:
            state = State(build(recipe, cache=letters), torch.device("cpu"))
            events = list(train(state, event_log, tmp_path / "run", SINGLE_PROCESS))
    assert len([event for event in events if event["kind"] == "step"]) == 2


def test_the_page_of_comparisons_is_written_from_what_was_found():
    assert comparing.PAGE.read_text() == comparing.page(comparing.planned(), comparing.found())


def test_every_comparison_is_of_the_plan_and_names_losses_that_there_are():
    plan, results = comparing.planned(), comparing.found()
    assert {path.stem for path in comparing.FOUND.glob("*.json")} == set(results)
    for name, row in plan.items():
        assert name.startswith("compare-")
        assert [loss for loss in row["losses"] if "." not in loss and loss not in losses.registry] == []
    for name, found in results.items():
        row = plan[name]
        assert {one.loss for one in found.entries} == set(row["losses"])
        assert {(one.steps, len(one.trials), len(one.seeds)) for one in found.entries} == {
            (row["steps"], row["trials"], row["seeds"])
        }

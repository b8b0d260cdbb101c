"""Word vectors from plain text: the same run folder, the same resume, the same promises."""

import json
from itertools import islice

import numpy as np
import pytest

import tiny
from tuplet.engine import Processes
from tuplet.errors import DivergedError, RecipeError
from tuplet.index import FlatIndex
from tuplet.models import Embedder, word_vectors
from tuplet.recipes import build, load_recipe, recipe_for
from tuplet.training import checkpoint, run
from tuplet.training.events import read_events
from tuplet.training.words import refuse_several

RECIPE = """
extends = "words"
[data]
source = "texts"
[model]
dim = 8
[batch]
block = 32
shared_noise = 16
[train]
epochs = 2
learning_rate = 0.1
log_every = 5
validate_every = 10
[evaluate]
words = ["pairs.txt"]
bootstrap = 20
"""
KINDS = {
    "skip-gram": [],
    "cbow": ["batch.contexts=cbow"],
    "nce": ["loss.objective=nce", "loss.log_partition=learned", "train.optimizer=adagrad"],
    "own noise": ["loss.shared_noise=false"],
}


@pytest.fixture
def recipe(tmp_path):
    """Two files in which animals and fruits keep to themselves; people agree."""
    random = np.random.default_rng(0)
    groups = [["cat", "dog", "cow", "hen"], ["apple", "pear", "plum", "fig"]]
    (tmp_path / "texts").mkdir()
    for name in ("a.txt", "b.txt"):
        lines = [" ".join(random.choice(groups[random.integers(2)], 20)) for _ in range(100)]
        (tmp_path / "texts" / name).write_text("\n".join(lines))
    alike = [
        f"{a} {b} {10 * (i == j)}" for i, g in enumerate(groups) for j, h in enumerate(groups) for a in g for b in h
    ]
    (tmp_path / "pairs.txt").write_text("\n".join([*alike, "cat unicorn 5"]))
    (tmp_path / "words.toml").write_text(RECIPE)
    return tmp_path / "words.toml"


def job(recipe, *overrides):
    return build(load_recipe(recipe, overrides), cache=recipe.parent / "cache")


def finish(recipe, folder, *overrides, resume=False):
    return list(run(job(recipe, *overrides), folder, resume=resume))


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_learns_and_leaves_a_complete_folder(recipe, tmp_path, kind):
    events = finish(recipe, tmp_path / "run", "train.epochs=8", *KINDS[kind])
    losses = [event["loss"] for event in events if event["kind"] == "step"]
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())["protocols"]["pairs"]["model"]
    assert found["values"]["spearman"] > 0.7
    assert found["counts"] == {"n_pairs": 65, "n_scored": 64, "n_missing_words": 1}
    files = {"environment.json", "evaluation.json", "events.jsonl", "recipe.toml", "resume.json"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == {*files, "checkpoints", "gallery", "model"}
    index = FlatIndex(tmp_path / "run" / "gallery")
    words, vectors = word_vectors(Embedder.load(tmp_path / "run" / "model"))
    hits = index.search(vectors[[words.index("cat")]], 4)
    assert set(hits.ids[0]) == {"cat", "dog", "cow", "hen"}


def test_each_logged_step_says_how_long_vectors_are_and_how_many_gradients_were_cut(recipe, tmp_path):
    shares = []
    for cap in (1e-9, 1e9):
        events = finish(recipe, tmp_path / str(cap), f"train.clip={cap}")
        stats = [event["stats"] for event in events if event["kind"] == "step"]
        assert all(found["norm"] > 0 for found in stats)
        shares.append(stats[-1]["capped_share"])
    assert shares[0] > 0.5
    assert shares[1] == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_stopped_at_any_event_ends_with_the_same_bytes(recipe, tmp_path, kind):
    finish(recipe, tmp_path / "whole", *KINDS[kind])
    for stop in (1, 4, 9):
        folder = tmp_path / f"stopped-{stop}"
        stopped = run(job(recipe, *KINDS[kind]), folder)
        list(islice(stopped, stop))
        stopped.close()
        finish(recipe, folder, *KINDS[kind], resume=True)
        assert tiny.content(folder) == tiny.content(tmp_path / "whole")
        assert tiny.event_log(folder) == tiny.event_log(tmp_path / "whole")


def test_a_torn_checkpoint_is_passed_over(recipe, tmp_path):
    finish(recipe, tmp_path / "whole")
    stopped = run(job(recipe), tmp_path / "torn")
    list(islice(stopped, 7))
    stopped.close()
    latest = checkpoint.steps_in(tmp_path / "torn" / "checkpoints")[-1]
    weights = tmp_path / "torn" / "checkpoints" / checkpoint.name_of(latest) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    events = finish(recipe, tmp_path / "torn", resume=True)
    assert any("torn" in event.get("text", "") for event in events)
    assert tiny.content(tmp_path / "torn") == tiny.content(tmp_path / "whole")


def test_the_recipe_of_a_run_moves_with_it(recipe, tmp_path):
    finish(recipe, tmp_path / "runs" / "one")
    again = load_recipe(tmp_path / "runs" / "one" / "recipe.toml")
    assert again.evaluate.words == (str(tmp_path / "pairs.txt"),)
    assert again.train.steps == job(recipe).settings.steps


def test_plain_text_alone_makes_a_recipe(recipe):
    for source in (recipe.parent / "texts", recipe.parent / "texts" / "a.txt"):
        proposed = recipe_for(source, ["model.dim=4"])
        assert (proposed.data.kind, proposed.name) == ("words", source.stem)
        assert build(proposed, cache=recipe.parent / "cache").embedder.dim == 4


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("train.optimizer=adamw", "train.optimizer"),
        ("train.momentum=0.9", "train.momentum"),
        ("train.ema=0.9", "train.ema"),
        ("loss=supcon", "loss"),
        ("batch={name='uniform', batch_size=4}", "batch"),
        ("model.encoder={name='bag-of-words', hidden=[4]}", "hidden"),
    ],
)
def test_what_would_change_nothing_is_refused(recipe, override, named):
    with pytest.raises(RecipeError, match=named):
        job(recipe, override)


def test_diverging_vectors_stop_the_run(recipe, tmp_path):
    with pytest.raises(DivergedError, match="step"):
        finish(recipe, tmp_path / "run", "train.learning_rate=1e30", "train.clip=inf")
    assert read_events(tmp_path / "run" / "events.jsonl")[-1]["kind"] == "diverged"


@pytest.mark.parametrize("preset", ["words", "word2vec-2013", "word2vec-2013-small", "mnih-2013", "mnih-2013-small"])
def test_every_preset_trains(recipe, tmp_path, preset):
    small = [f"data.source={recipe.parent / 'texts'}", "model.dim=4", "train.epochs=0", "train.steps=3"]
    events = list(run(build(load_recipe(preset, small), cache=tmp_path / "cache"), tmp_path / "run"))
    assert events[-1]["kind"] == "end"


def test_several_processes_are_refused():
    with pytest.raises(RecipeError, match="one process"):
        refuse_several(Processes(0, 2))

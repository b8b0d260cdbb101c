"""What stands around the loss of a recipe, trained from the command line."""

import json
import tomllib

import pytest
import torch

import tiny
from tuplet.errors import RecipeError
from tuplet.losses import MatryoshkaLoss, RegularisedLoss
from tuplet.recipes import build, load_recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("data"))


def test_prefixes_and_terms_are_built_around_the_loss(recipe):
    job = tiny.job(recipe, "loss.queue=none", "objective.matryoshka=[4,8]", "objective.uniformity=0.1")
    assert isinstance(job.loss, RegularisedLoss)
    assert isinstance(job.loss.loss, MatryoshkaLoss)
    assert (job.loss.loss.dims, job.loss.uniformity) == ((4, 8), 0.1)
    x, labels = torch.randn(8, job.embedder.dim), torch.arange(8) // 2
    within = job.loss.loss.loss
    assert job.loss.loss(x, labels) == pytest.approx((within(x[:, :4], labels) + within(x, labels)).item(), rel=1e-6)
    assert type(tiny.job(recipe).loss) is type(within)


@pytest.mark.parametrize(
    "changes",
    [
        ["objective.matryoshka=[8,4]"],
        ["objective.matryoshka=[4,16]"],
        ["objective.matryoshka_weights=[1.0]"],
    ],
)
def test_prefixes_that_do_not_fit_are_refused(recipe, changes):
    with pytest.raises(RecipeError) as caught:
        tiny.job(recipe, "model.dim=8", *changes)
    assert caught.value.reference == "matryoshka"


def test_word_vectors_have_no_objective(recipe, tmp_path):
    (tmp_path / "corpus.txt").write_text("a b c d " * 100)
    words = load_recipe("words", [f"data.source='{tmp_path / 'corpus.txt'}'", "objective.uniformity=0.1"])
    with pytest.raises(RecipeError) as caught:
        build(words, cache=tmp_path)
    assert caught.value.reference == "words-recipe"


def test_a_head_is_trained_on_prefixes_from_the_command_line(typed, recipe, tmp_path):
    changes = ["loss=arcface", "loss.scale=16.0", "objective.matryoshka=[4,8]", "objective.norm_penalty=0.01"]
    asked = [word for change in [*changes, "model.dim=8", "evaluate.bootstrap=0"] for word in ("--set", change)]
    typed("train", recipe, "--steps", 3, *asked, "--set", "name=short")
    run = tmp_path / "runs" / "short"
    assert tomllib.loads((run / "recipe.toml").read_text())["objective"]["matryoshka"] == [4, 8]
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert events[-1]["kind"] == "end"

"""Networks and augmentations in files of people's own: named, trusted, trained, kept with the model."""

import pytest
import torch

import tiny
from tuplet.data.augment import CallableAugment
from tuplet.errors import CheckpointError, RecipeError, ShapeError, TupletError
from tuplet.models import Embedder
from tuplet.recipes import build, dump_recipe, load_recipe
from tuplet.training import run

MINE = """
import torch
from torch import nn
from dataclasses import dataclass
from pathlib import Path

Path(__file__).with_name("ran").touch()

class Net(nn.Module):
    def __init__(self, dim=3, width=6):
        super().__init__()
        self.dim, self.layer = dim, nn.Linear(width, dim)
    def forward(self, x):
        return self.layer(x)

@dataclass
class Shift:
    by: float = 1.0
    def __call__(self, inputs, draws):
        return inputs + self.by * draws.rand(len(inputs), 1)

class Shorter:
    def __call__(self, inputs, draws):
        return inputs[1:]

Number = 3

class Plain:
    pass
"""
NET, SHIFT = "model.encoder=mine.py:Net", "train.augment=mine.py:Shift"


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    found = tiny.write(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    return found


def made(recipe, *overrides, trust=True):
    return build(load_recipe(recipe, overrides), cache=recipe.parent / "cache", trust=trust)


@pytest.mark.parametrize("named", [NET, SHIFT])
def test_nothing_is_run_without_trust(recipe, named):
    with pytest.raises(RecipeError) as refused:
        made(recipe, named, trust=False)
    assert refused.value.reference == "untrusted-code"
    assert not (recipe.parent / "ran").exists()


def test_a_network_of_a_file_is_trained_saved_and_moved(recipe, tmp_path):
    job = made(recipe, NET, SHIFT, "train.steps=4", "model.encoder.options={dim=5}")
    assert job.embedder.dim == 5
    for event in run(job, tmp_path / "run"):
        if event["kind"] == "checkpoint":
            break
    moved = load_recipe(tmp_path / "run" / "recipe.toml")
    for _ in run(build(moved, cache=tmp_path / "cache", trust=True), tmp_path / "run", resume=True):
        pass
    rows = torch.randn(3, 6).numpy()
    expected = Embedder.load(tmp_path / "run" / "model", trust=True).embed(rows)
    (tmp_path / "mine.py").unlink()
    for mark in [*tmp_path.rglob("ran")]:
        mark.unlink()
    (tmp_path / "run" / "model").rename(tmp_path / "there")
    with pytest.raises(CheckpointError) as refused:
        Embedder.load(tmp_path / "there")
    assert refused.value.reference == "untrusted-code"
    assert not list(tmp_path.rglob("ran"))
    torch.testing.assert_close(Embedder.load(tmp_path / "there", trust=True).embed(rows), expected, rtol=0, atol=0)
    (tmp_path / "there" / "encoder" / "mine.py").write_text(MINE + "\n# changed")
    with pytest.raises(CheckpointError) as refused:
        Embedder.load(tmp_path / "there", trust=True)
    assert refused.value.reference == "damaged-file"


def test_an_augmentation_of_a_file_draws_what_each_row_gets(recipe):
    changed = CallableAugment("mine.py:Shift", {"by": 2.0}, str(recipe.parent))
    draws = torch.Generator().manual_seed(3)
    expected = 2.0 * torch.rand(4, 1, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(changed(torch.zeros(4, 6), draws), expected.expand(4, 6))
    with pytest.raises(ShapeError) as refused:
        CallableAugment("mine.py:Shorter", None, str(recipe.parent))(torch.zeros(4, 6), draws)
    assert refused.value.reference == "augmentation-output"


WRONG = {
    "model.encoder=mine.py:Missing": "encoder-import",
    "model.encoder=mine.py:Number": "encoder-import",
    "model.encoder=mine.py:Plain": "encoder-import",
    "model.encoder=gone.py:Net": "encoder-import",
    "model.encoder=broken.py:Net": "encoder-import",
    "model.encoder={name='mine.py:Net',options={depth=3}}": "refused-option",
    "train.augment=mine.py:Plain": "encoder-import",
    "train.augment={name='mine.py:Shift',options={on=3}}": "refused-option",
}


@pytest.mark.parametrize("named", WRONG)
def test_what_cannot_be_used_is_one_message(recipe, named):
    (recipe.parent / "broken.py").write_text("import torch\nclass Net(:\n")
    with pytest.raises(TupletError) as refused:
        made(recipe, named)
    assert (refused.value.reference, refused.value.exit_code) == (WRONG[named], 4)


def test_a_network_that_fails_is_named_with_what_it_was_given(recipe, tmp_path):
    job = made(recipe, NET, "train.steps=1", "model.encoder.options={width=7}")
    with pytest.raises(ShapeError) as refused:
        list(run(job, tmp_path / "run"))
    assert (refused.value.reference, refused.value.exit_code) == ("encoder-failed", 3)


def test_paths_of_a_recipe_move_along_with_it(recipe, tmp_path):
    (tmp_path / "there").mkdir()
    known = load_recipe(recipe, [NET, SHIFT])
    text = dump_recipe(known, tmp_path / "there")
    assert str(tmp_path) not in text
    (tmp_path / "there" / "recipe.toml").write_text(text)
    assert load_recipe(tmp_path / "there" / "recipe.toml").model_dump() == known.model_dump()

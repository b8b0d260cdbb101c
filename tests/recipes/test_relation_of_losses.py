"""Every loss under a relation: it learns by it, or is refused before anything begins."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

import digits
from distributed.launch import launch
from tuplet import losses
from tuplet.data import take_batch
from tuplet.engine import Processes
from tuplet.errors import RecipeError
from tuplet.recipes import build, recipe_for
from tuplet.recipes.task import takes_relation

COUNT = 120
RULES = (
    "same_class(digit).ignoring(same_class(sheet))",
    "hierarchy(family, digit)",
    "matrix(said)",
    "matrix(lopsided)",
)


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("losses")
    digits.table(folder, COUNT)
    np.save(folder / "lopsided.npy", np.arange(COUNT)[:, None] % 3 == np.arange(COUNT) % 4)
    return folder


def made(folder, relation, *changes):
    arrays = [f"data.arrays.{name}={folder / name}.npy" for name in ("said", "lopsided")]
    asked = [f"data.relation={relation}", *arrays, "model.dim=4", "batch.batch_size=32", "data.split.by=row", *changes]
    return build(recipe_for(folder / "digits.csv", asked), cache=folder / "cache")


class Plain:
    """Embeds without an augmentation."""

    def __init__(self, job):
        self.embedder = job.embedder

    def __call__(self, inputs, side="query"):
        embedder = self.embedder.side(side)
        seen = embedder.preprocessing(inputs)
        return embedder.encoder(seen.to(next(embedder.parameters()).dtype))

    def unroll(self, inputs):
        raise NotImplementedError


def called(job, rows):
    """The loss of some training examples."""
    batch = take_batch(job.train, rows)
    return job.loss(**job.task.arguments(Plain(job), batch))


@pytest.mark.parametrize("relation", RULES)
@pytest.mark.parametrize("name", [*losses.registry])
def test_a_loss_learns_by_a_relation_or_is_refused(desk, name, relation):
    declared = losses.registry[name]
    needs_order = declared.of_both_ends and relation == "matrix(lopsided)"
    if not takes_relation(declared) or needs_order:
        with pytest.raises(RecipeError) as caught:
            made(desk, relation, f"loss={name}")
        expected = {"relation-of-both-ends"} if needs_order else {"relation-of-loss", "bad-recipe", "words-recipe"}
        assert caught.value.reference in expected
        return
    job = made(desk, relation, f"loss={name}")
    value = called(job, job.sampler.next_batch())
    value.backward()
    assert math.isfinite(value.item())
    assert any(p.grad is not None and bool(p.grad.any()) for p in job.embedder.parameters())


def shared_out(folder, relation):
    """Value, and gradient of the first layer, of the rows of this process."""
    processes = Processes.default()
    job = made(Path(folder), relation, "loss=supcon", "model.encoder.norm=none")
    job.embedder.encoder.double()
    job.loss.double()
    rows = torch.arange(30)
    mine = rows if processes.size == 1 else rows[[slice(0, 11), slice(11, 30)][processes.rank]]
    batch = take_batch(job.train, mine)
    value = job.loss(**job.task.arguments(Plain(job), batch), processes=processes)
    value.backward()
    return {"value": value.detach(), "gradient": next(job.embedder.parameters()).grad}


@pytest.mark.distributed
@pytest.mark.parametrize("relation", ["shared_label(marks) & within(second, 60)", "matrix(lopsided)"])
def test_two_processes_are_as_one(desk, tmp_path, relation):
    alone = shared_out(desk, relation)
    together = launch("recipes.test_relation_of_losses:shared_out", 2, tmp_path, folder=str(desk), relation=relation)
    for each in together:
        torch.testing.assert_close(each["value"], alone["value"], rtol=0, atol=1e-12)
    mean = torch.stack([each["gradient"] for each in together]).mean(0)  # as torch averages gradients
    torch.testing.assert_close(mean, alone["gradient"], rtol=0, atol=1e-12)

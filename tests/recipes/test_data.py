"""The data of a recipe is read once and divided once, whoever asks for it."""

import numpy as np
import pytest

from tuplet import recipes
from tuplet.app.cli import running
from tuplet.recipes import Reader, data, propose
from tuplet.recipes.schema import Split


@pytest.fixture
def table(tmp_path):
    random = np.random.default_rng(0)
    rows = [f"{a:.3f},{b:.3f},{k % 4}" for k, (a, b) in enumerate(random.normal(size=(80, 2)))]
    (tmp_path / "t.csv").write_text("\n".join(["height,width,label", *rows]))
    return tmp_path / "t.csv"


@pytest.fixture
def counts(monkeypatch):
    """How often files are read and examples divided; both are done as always."""
    found = {"read_manifest": 0, "divide": 0}

    def counted(name, done):
        def count(*words, **named):
            found[name] += 1
            return done(*words, **named)

        return count

    for name in found:
        monkeypatch.setattr(data, name, counted(name, getattr(data, name)))
    return found


def test_a_training_of_a_table_reads_and_divides_it_once(table, tmp_path, counts):
    job, _ = running.new_run(str(table), out=tmp_path, data=None, name=None, steps=2, changes=[])
    assert len(job.train) + len(job.validation) + len(job.test) == 80
    assert counts == {"read_manifest": 1, "divide": 1}


def test_a_plan_of_a_table_reads_and_divides_it_once(table, tmp_path, counts):
    known = Reader(tmp_path)
    recipe = running.find_recipe(str(table), data=None, changes=["train.steps=2"], reader=known)
    assert recipes.plan(recipe, cache=tmp_path, reader=known).data["train"]["examples"] > 0
    assert counts == {"read_manifest": 1, "divide": 1}


def test_other_columns_and_other_splits_are_read_and_divided_anew(table, tmp_path, counts):
    made = propose(table)
    known, wanted = made.reader, made.recipe.data
    manifest = known.manifest(wanted)
    assert manifest is made.manifest
    assert counts["read_manifest"] == 1
    columns = wanted.columns.model_copy(update={"inputs": ("width",)})
    assert known.manifest(wanted.model_copy(update={"columns": columns})).items.shape == (80, 1)
    split = Split(by="row", test=0.25, validation=0.0)
    assert len(known.parts(manifest, split)["test"]) == 20
    again = data.divide(manifest, split)
    assert known.parts(manifest, split)["test"].ids == again["test"].ids

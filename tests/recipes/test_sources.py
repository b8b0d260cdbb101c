"""Recipes of several sources, of packed collections and of sounds."""

import shutil

import numpy as np
import pytest

import tiny
from sounds import tone, write
from tuplet.models import Embedder
from tuplet.recipes import build, dump_recipe, load_recipe, recipe_for
from tuplet.training import run


@pytest.fixture
def recipe(tmp_path):
    found = tiny.write(tmp_path)
    random = np.random.default_rng(1)
    labels = np.repeat(np.arange(15, 27), 9)
    np.save(tmp_path / "more.npy", random.normal(size=(108, 6)).astype(np.float32))
    np.save(tmp_path / "more.labels.npy", labels)
    text = found.read_text().replace(
        'source = "rows.npy"', 'source = "rows.npy"\nmore = [{ source = "more.npy", weight = 0.5 }]'
    )
    found.write_text(text)
    return found


def job(recipe, *overrides):
    return build(load_recipe(recipe, overrides), cache=recipe.parent / "cache")


def test_batches_come_from_each_source_by_its_weight(recipe):
    made = job(recipe)
    assert (len(made.train.ids) + len(made.validation.ids) + len(made.test.ids)) == 288
    taken = [{made.train.ids[row].partition("/")[0] for row in made.sampler.next_batch().tolist()} for _ in range(30)]
    assert all(len(one) == 1 for one in taken)
    assert sum(one == {"more"} for one in taken) == 10
    train, *others = (
        {part.class_names[one] for one in part.classes.tolist()} for part in (made.train, made.validation, made.test)
    )
    assert not train & {*others[0], *others[1]}  # also of the classes that both sources have


def test_a_run_of_two_sources_goes_on_where_they_were_moved(recipe, tmp_path):
    for _ in run(job(recipe, "train.steps=6"), tmp_path / "whole"):
        pass
    for event in run(job(recipe, "train.steps=6"), tmp_path / "runs" / "stopped"):
        if event["kind"] == "checkpoint":
            break
    (tmp_path / "there").mkdir()
    for name in ("runs", "rows.npy", "rows.labels.npy", "more.npy", "more.labels.npy"):
        shutil.move(tmp_path / name, tmp_path / "there" / name)
    folder = tmp_path / "there" / "runs" / "stopped"
    for _ in run(job(folder / "recipe.toml"), folder, resume=True):
        pass
    hashes = {Embedder.load(one / "model").content_hash() for one in (tmp_path / "whole", folder)}
    assert len(hashes) == 1


def test_a_recipe_with_sources_is_written_and_read(recipe, tmp_path):
    (tmp_path / "x").mkdir()
    known = load_recipe(recipe)
    text = dump_recipe(known, tmp_path / "x")
    assert str(tmp_path) not in text
    (tmp_path / "x" / "recipe.toml").write_text(text)
    assert load_recipe(tmp_path / "x" / "recipe.toml").data == known.data


def test_sounds_are_trained_and_embedded_from_files(tmp_path):
    random = np.random.default_rng(0)
    for at in range(36):
        pitch = 200 + 150 * (at % 4) + 5 * random.normal()
        write(tmp_path / "sounds" / f"c{at % 4}" / f"{at}.wav", tone(pitch, 0.2 + 0.01 * (at % 3)))
    settings = ["train.steps=3", "evaluate.bootstrap=0", "model.preprocessing={name='series',rate=8000,mels=12}"]
    made = build(recipe_for(tmp_path / "sounds", settings), cache=tmp_path / "cache")
    known = made.embedder.preprocessing.to_config()
    assert (known["kind"], known["channels"], known["rate"], known["mels"]) == ("series", 12, 8000, 12)
    for _ in run(made, tmp_path / "run"):
        pass
    files = sorted((tmp_path / "sounds").rglob("*.wav"))[:5]
    loaded = Embedder.load(tmp_path / "run" / "model")
    assert loaded.embed(files).shape == (5, 64)
    auto = build(recipe_for(tmp_path / "sounds", settings[:2]), cache=tmp_path / "cache")
    assert auto.embedder.preprocessing.to_config()["rate"] == 16000

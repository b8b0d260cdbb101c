"""What mirroring pictures does is reported, and never done unasked."""

import tomllib

import numpy as np
import pytest

from tuplet.recipes import dump_recipe, load_recipe, propose, tell_mirroring
from tuplet.recipes.mirroring import HEADING

OURS = ["glyphs", "own-images"]


def write_twins(folder, classes=24, each=32):
    """Pictures of which class 2k + 1 is class 2k in a mirror: who mirrors cannot tell them apart."""
    random = np.random.default_rng(0)
    half = random.integers(40, 216, (classes // 2, 16, 16))
    sampled = np.stack([half, half[:, :, ::-1]], 1).reshape(classes, 16, 16)
    noisy = np.repeat(sampled, each, 0) + random.normal(0, 25, (classes * each, 16, 16))
    np.save(folder / "twins.npy", noisy.clip(0, 255).astype(np.uint8))
    np.save(folder / "twins.labels.npy", np.repeat(np.arange(classes), each))
    return folder / "twins.npy"


@pytest.mark.parametrize("name", OURS)
def test_no_recipe_of_ours_mirrors(name):
    augment = load_recipe(name, ["data.source=photos"]).train.augment
    assert (augment.flip, augment.crop) == (False, 1.0)


@pytest.mark.parametrize("has_labels", [True, False])
def test_no_proposal_mirrors(tmp_path, has_labels):
    source = write_twins(tmp_path)
    if not has_labels:
        (tmp_path / "twins.labels.npy").unlink()
    made = propose(source, ["data.kind=image"])
    assert made.recipe.train.augment.flip is False
    assert "--set train.augment.flip=true" in made.reasons[HEADING]
    assert propose(source, ["data.kind=image", "train.augment.flip=true"]).recipe.train.augment.flip is True


def test_where_mirroring_makes_classes_one_it_is_reported_with_its_interval_and_not_proposed(tmp_path):
    made = propose(write_twins(tmp_path), ["data.kind=image", "data.split.by=row", "train.steps=40"])
    before = dump_recipe(made.recipe)
    found = tell_mirroring(made, tmp_path / "cache")
    assert found.upper["map@r"] < -0.05
    assert dump_recipe(made.recipe) == before
    assert "it harms" in made.reasons[HEADING]
    written = made.text(tmp_path)
    assert "it harms" in " ".join(line.lstrip("# ") for line in written.splitlines())
    assert tomllib.loads(written)["train"]["augment"]["flip"] is False


@pytest.mark.parametrize(
    "changes", [["train.augment.flip=true"], ["train.augment=none"], ["data.split.validation=0.0"]]
)
def test_nothing_is_measured_where_nothing_is_to_be_chosen(tmp_path, changes):
    made = propose(write_twins(tmp_path), ["data.kind=image", *changes])
    before = dict(made.reasons)
    assert tell_mirroring(made, tmp_path / "cache") is None
    assert made.reasons == before


def test_without_labels_nothing_can_tell(tmp_path):
    source = write_twins(tmp_path)
    (tmp_path / "twins.labels.npy").unlink()
    assert tell_mirroring(propose(source, ["data.kind=image"]), tmp_path / "cache") is None

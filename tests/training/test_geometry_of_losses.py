"""Every loss is judged, indexed and searched by the geometry that it was trained by."""

import json

import numpy as np
import pytest

import tiny
from tuplet import index
from tuplet.losses import MetricLoss, registry
from tuplet.models import Embedder
from tuplet.recipes import build, load_recipe
from tuplet.training import run
from tuplet.training.events import read_events

UNIFORM = "batch={name='uniform', batch_size=12}"
GRADED = "data={source='{folder}/graded.npy', targets='{folder}/graded.values.npy', split={by='row'}}"
SHORT = ["train.steps=4", "train.validate_every=2", "train.ema=0.0", "evaluate.bootstrap=0"]
TRAINED = {  # the loss as a recipe names it, what else it needs, and how it compares
    "a_softmax": ("cosine", ["loss={name='a_softmax'}", UNIFORM]),
    "arcface": ("cosine", ["loss={name='arcface'}", UNIFORM]),
    "circle": ("cosine", ["loss={name='circle'}"]),
    "combined_margin": ("cosine", ["loss={name='combined_margin'}", UNIFORM]),
    "contrastive": ("euclidean", ["loss={name='contrastive'}"]),
    "cosface": ("cosine", ["loss={name='cosface'}", UNIFORM]),
    "info_nce": ("cosine", ["loss={name='info_nce'}", UNIFORM]),
    "instance_discrimination": ("cosine", ["loss={name='instance_discrimination', noise_samples=8}", UNIFORM]),
    "log_ratio": ("squared_euclidean", ["loss={name='log_ratio'}", UNIFORM, GRADED]),
    "multi_similarity": ("cosine", ["loss={name='multi_similarity'}"]),
    "nca": ("squared_euclidean", ["loss={name='nca'}"]),
    "npair": ("dot", ["loss={name='npair'}"]),
    "nt_xent": ("cosine", ["loss={name='nt_xent'}", UNIFORM]),
    "proxy_anchor": ("cosine", ["loss={name='proxy_anchor'}"]),
    "siglip": ("cosine", ["loss={name='siglip'}", UNIFORM]),
    "supcon": ("cosine", ["loss={name='supcon'}"]),
    "triplet": ("squared_euclidean", ["loss={name='triplet'}"]),
}
OTHERS = {  # a geometry that an option decides
    "contrastive of the note": ("squared_euclidean", ["loss={name='contrastive', convention='note'}"]),
    "contrastive of angles": ("cosine", ["loss={name='contrastive', geometry='cosine'}"]),
    "triplets of plain distances": ("euclidean", ["loss={name='triplet', geometry='euclidean'}"]),
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    np.save(folder / "graded.npy", random.normal(size=(90, 6)).astype(np.float32))
    np.save(folder / "graded.values.npy", random.normal(size=90).astype(np.float32))
    np.save(folder / "series.npy", random.normal(size=(40, 3, 32)).astype(np.float32))
    (folder / "corpus.txt").write_text(" ".join(random.choice(["cat", "dog", "cow", "hen", "fig"], 600)))
    return tiny.write(folder)


def evaluate_all(folder) -> set[str]:
    """Every geometry that a finished run speaks of."""
    found = {
        Embedder.load(folder / "model").geometry,
        json.loads((folder / "model" / "embedder.json").read_text())["geometry"],
    }
    found.add(json.loads((folder / "evaluation.json").read_text())["geometry"])
    for place in ("gallery", "questions"):
        if (folder / place).exists():
            found.add(index.open(folder / place).geometry)
    return found


@pytest.mark.parametrize("what", [*TRAINED, *OTHERS])
def test_the_geometry_of_a_loss_judges_what_it_trained(recipe, what):
    geometry, changes = (TRAINED | OTHERS)[what]
    folder = recipe.parent / "runs" / what.replace(" ", "-")
    made = tiny.job(recipe, *(change.replace("{folder}", str(recipe.parent)) for change in changes), *SHORT)
    assert made.loss.geometry == geometry
    assert made.embedder.geometry == geometry
    list(run(made, folder))
    assert evaluate_all(folder) == {geometry}
    validated = [each for each in read_events(folder / "events.jsonl") if each.get("split") == "validation"]
    assert any(each["of"] == "model" for each in validated)


def test_series_and_words_too(recipe):
    series = tiny.job(
        recipe,
        f"data.source='{recipe.parent / 'series.npy'}'",
        "data={kind='series', split={by='row', test=0.3, validation=0.2}}",
        "model={encoder={name='series-context', latent_dim=8}, dim=8}",
        "loss={name='cpc', steps=2}",
        "train.augment=none",
        UNIFORM,
    )
    assert (series.loss.geometry, series.embedder.geometry) == ("dot", "dot")
    words = load_recipe("words", [f"data.source='{recipe.parent / 'corpus.txt'}'", "model.geometry=loss"])
    made = build(words, cache=recipe.parent / "cache")
    assert (made.loss.geometry, made.embedder.geometry) == ("dot", "dot")


def test_no_loss_is_left_out():
    assert {*registry} == {*TRAINED, "cpc", "nce"}


def test_a_loss_that_names_no_geometry_cannot_be_made():
    class Nameless(MetricLoss):
        def __init__(self) -> None:
            super().__init__()

    with pytest.raises(TypeError, match="geometry"):
        Nameless()

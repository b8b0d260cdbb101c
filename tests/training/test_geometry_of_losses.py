"""Every loss is trained, validated, indexed, searched and thresholded by one geometry."""

import json

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize

import tiny
from tuplet import index
from tuplet.data import take_batch
from tuplet.evaluation import graded, scored_pairs, verification
from tuplet.losses import MetricLoss, registry
from tuplet.models import Embedder
from tuplet.recipes import build, load_recipe
from tuplet.training import run
from tuplet.training.evaluator import PAIRS
from tuplet.training.events import read_events
from tuplet.training.protocols import distinct_partners

UNIFORM = "batch={name='uniform', batch_size=12}"
SCORED = [
    "data={source='{folder}/scored.csv', split={by='row', test=0.3, validation=0.3}}",
    "model={encoder='bag-of-words', dim=8}",
    "train.augment=none",
]
GRADED = "data={source='{folder}/graded.npy', targets='{folder}/graded.values.npy', split={by='row'}}"
SERIES = [
    "data={source='{folder}/series.npy', kind='series', split={by='row', test=0.3, validation=0.3}}",
    "model={encoder={name='series-context', latent_dim=8}, dim=8}",
    "train.augment=none",
]
SHORT = ["train.steps=4", "train.validate_every=2", "train.ema=0.0", "evaluate.bootstrap=0"]
TRAINED = {  # how a loss compares, and the recipe if it needs more than its name
    "a_softmax": ("cosine", ["loss={name='a_softmax'}", UNIFORM]),
    "arcface": ("cosine", ["loss={name='arcface'}", UNIFORM]),
    "angle": ("cosine", ["loss={name='angle'}", UNIFORM, *SCORED]),
    "circle": ("cosine", ["loss={name='circle'}"]),
    "combined_margin": ("cosine", ["loss={name='combined_margin'}", UNIFORM]),
    "contrastive": ("euclidean", ["loss={name='contrastive'}"]),
    "cpc": ("dot", ["loss={name='cpc', steps=2}", UNIFORM, *SERIES]),
    "cosent": ("cosine", ["loss={name='cosent'}", UNIFORM, *SCORED]),
    "cosface": ("cosine", ["loss={name='cosface'}", UNIFORM]),
    "barlow_twins": ("cosine", ["loss={name='barlow_twins'}", UNIFORM]),
    "vicreg": ("cosine", ["loss={name='vicreg'}", UNIFORM]),
    "decoupled_contrastive": ("cosine", ["loss={name='decoupled_contrastive'}", UNIFORM]),
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
UNCHANGED = {"cosine": {"longer"}, "dot": set(), "euclidean": {"moved"}, "squared_euclidean": {"moved"}}
"""What changes of all embeddings alike a geometry does not see."""
EXCEPT = {
    "a_softmax": set(),
    "adaface": set(),
    "magface": set(),
    "vicreg": {"moved"},
    "barlow_twins": {"longer", "moved"},
    "log_ratio": {"longer", "moved"},
    "snr_contrastive": {"longer"},
}
"""The length of a row scales A-Softmax, and gives AdaFace and MagFace their margin;
the ratio of two distances, or of two variances, stays where both grow, and
variances where all rows move."""
OTHERS = {  # a geometry that an option decides
    "contrastive of the note": ("squared_euclidean", ["loss={name='contrastive', convention='note'}"]),
    "contrastive of angles": ("cosine", ["loss={name='contrastive', geometry='cosine'}"]),
    "triplets of plain distances": ("euclidean", ["loss={name='triplet', geometry='euclidean'}"]),
}
PIPELINES = [
    *("angle", "arcface", "contrastive", "cpc", "instance_discrimination", "log_ratio"),
    *("nca", "npair", "proxy_anchor", "siglip", "supcon", "vicreg"),
]
"""A loss of each geometry with each kind of labels."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    random = np.random.default_rng(0)
    np.save(folder / "graded.npy", random.normal(size=(90, 6)).astype(np.float32))
    np.save(folder / "graded.values.npy", random.normal(size=90).astype(np.float32))
    pairs = random.choice(["cat", "dog", "cow", "hen", "fig"], (90, 2, 3))
    scored = [f"{' '.join(a)},{' '.join(b)},{len({*a} & {*b})}" for a, b in pairs]
    (folder / "scored.csv").write_text("\n".join(["text,pair,target", *scored]))
    np.save(folder / "series.npy", random.normal(size=(40, 3, 32)).astype(np.float32))
    np.save(folder / "series.labels.npy", np.arange(40) % 4)
    (folder / "corpus.txt").write_text(" ".join(random.choice(["cat", "dog", "cow", "hen", "fig"], 600)))
    return tiny.write(folder)


class Embeddings:
    """In the place of an encoder: random rows, changed alike."""

    def __init__(self, change):
        self.change, self.random = change, torch.Generator().manual_seed(0)

    def __call__(self, inputs, _side="query"):
        return self.change(torch.randn(len(inputs), 8, generator=self.random))

    def unroll(self, inputs):
        return (
            self(torch.zeros(len(inputs) * 6)).view(-1, 6, 8),
            self(torch.zeros(len(inputs) * 6)).view(-1, 6, 8),
            None,
        )


def loss_of(made, batch, change):
    return float(made.loss.measure(**made.task.arguments(Embeddings(change), batch)).value.detach())


def scores_of(geometry, queries, gallery):
    """Written out; the larger, the nearer."""
    if geometry == "cosine":
        return normalize(queries.double()) @ normalize(gallery.double()).T
    if geometry == "dot":
        return queries.double() @ gallery.double().T
    apart = torch.cdist(queries.double(), gallery.double(), compute_mode="donot_use_mm_for_euclid_dist")
    return -apart if geometry == "euclidean" else -apart.square()


def check_search(folder, geometry, queries, gallery):
    """The ids and scores of a search are those that the geometry orders."""
    found = index.open(folder)
    assert found.geometry == geometry
    ids, rows = list(gallery), torch.stack(list(gallery.values()))
    best = scores_of(geometry, queries, rows).sort(dim=1, descending=True, stable=True)
    hits = found.search(queries, 5)
    sign = 1 if geometry in ("cosine", "dot") else -1
    torch.testing.assert_close(sign * torch.as_tensor(hits.scores).double(), best.values[:, :5], rtol=1e-4, atol=1e-4)
    assert [row[0] for row in hits.ids] == [ids[at] for at in best.indices[:, 0].tolist()]


def check_validation(folder, geometry, embedder, dataset):
    """The best validation in the event log, computed again."""
    events = [each for each in read_events(folder / "events.jsonl") if each.get("split") == "validation"]
    found = [each["values"] for each in events if each["of"] == "model" and each["best"]][-1]
    rows = embedder.embed(dataset)
    if dataset.partners is not None:
        sides = rows, embedder.embed(dataset, side="partner")
        expected = scored_pairs(*sides, dataset.targets, geometry=geometry, bootstrap=0).values["spearman"]
        assert found["spearman"]["value"] == pytest.approx(expected)
        return
    if dataset.classes is None:
        expected = graded(rows, dataset.targets, geometry=geometry, bootstrap=0).values["spearman"]
        assert found["spearman"]["value"] == pytest.approx(expected)
        return
    nearest = scores_of(geometry, rows, rows).fill_diagonal_(-torch.inf).argmax(1)
    hit = (dataset.classes[nearest] == dataset.classes).double().mean()
    assert found["recall@1"]["value"] == pytest.approx(float(hit))


def answers(embedder, dataset):
    """What a gallery holds: the examples, or of pairs the different second sides."""
    if dataset.partners is None:
        return dataset.ids, embedder.embed(dataset)
    rows, _ = distinct_partners(dataset)
    return [dataset.ids[row] for row in rows], embedder.embed(dataset, side="partner")[rows]


def job_of(recipe, what):
    """The training of a loss, and the geometry that is to be its own."""
    geometry, changes = (TRAINED | OTHERS).get(what, (None, [f"loss={{name='{what}'}}"]))
    made = tiny.job(recipe, *(change.replace("{folder}", str(recipe.parent)) for change in changes), *SHORT)
    return made, geometry or made.loss.geometry


@pytest.mark.parametrize("what", [*sorted({*registry} - {"nce"}), *OTHERS])
def test_a_loss_sees_what_its_geometry_sees_and_hands_it_to_the_embedder(recipe, what):
    made, geometry = job_of(recipe, what)
    batch = take_batch(made.train, made.sampler.next_batch())
    moves = {"longer": lambda x: 3 * x, "moved": lambda x: x + torch.arange(8.0)}
    plain = loss_of(made, batch, lambda x: x)
    seen = {name for name, move in moves.items() if loss_of(made, batch, move) == pytest.approx(plain, rel=1e-4)}
    assert seen == EXCEPT.get(what, UNCHANGED[geometry])
    assert (made.loss.geometry, made.embedder.geometry) == (geometry, geometry)


REST = {*registry} - {"nce", *PIPELINES}
"""Trained as others are: from here on only the geometry of the embedder, and the kind of data, make a difference."""


@pytest.mark.parametrize(
    "what", [*PIPELINES, *OTHERS, *(pytest.param(name, marks=pytest.mark.weekly) for name in sorted(REST))]
)
def test_a_loss_is_trained_validated_indexed_searched_and_thresholded_by_one_geometry(recipe, what):
    made, geometry = job_of(recipe, what)
    folder = recipe.parent / "runs" / what.replace(" ", "-")
    list(run(made, folder))
    embedder = Embedder.load(folder / "model")
    assert embedder.geometry == geometry
    assert json.loads((folder / "evaluation.json").read_text())["geometry"] == geometry
    check_validation(folder, geometry, embedder, made.validation)
    parts = (made.test, made.validation, made.train)
    gallery = {name: row for part in parts for name, row in zip(*answers(embedder, part), strict=True)}
    check_search(folder / "gallery", geometry, embedder.embed(made.test)[:4], gallery)
    if made.validation.classes is not None:
        rows, classes = embedder.embed(made.validation), made.validation.classes
        evaluated = verification(rows, classes, geometry=geometry, max_pairs=PAIRS, bootstrap=0, seed=made.seed)
        assert embedder.thresholds == {name: value for name, value in evaluated.thresholds.items() if value is not None}


def test_word_vectors_too(recipe):
    settings = ["model.geometry=loss", "model.dim=4", "train.epochs=0", "train.steps=5", "evaluate.bootstrap=0"]
    words = load_recipe("words", [f"data.source='{recipe.parent / 'corpus.txt'}'", *settings])
    made = build(words, cache=recipe.parent / "cache")
    assert (made.loss.geometry, made.embedder.geometry) == ("dot", "dot")
    folder = recipe.parent / "runs" / "words"
    list(run(made, folder))
    embedder = Embedder.load(folder / "model")
    assert embedder.geometry == "dot"
    rows = embedder.embed(list(made.train.ids))
    check_search(folder / "gallery", "dot", rows, dict(zip(made.train.ids, rows, strict=True)))


def test_a_loss_that_names_no_geometry_cannot_be_made():
    class Nameless(MetricLoss):
        def __init__(self) -> None:
            super().__init__()

    with pytest.raises(TypeError, match="geometry"):
        Nameless()

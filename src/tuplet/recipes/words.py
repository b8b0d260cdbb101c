"""From a recipe and running text to a training of word vectors."""

from functools import partial
from pathlib import Path
from typing import Any

import torch

from tuplet.data import Corpus, Dataset, Labels, WordPreprocessing, read_corpus
from tuplet.data.folders import is_stray
from tuplet.errors import DataError, RecipeError
from tuplet.losses import NCELoss
from tuplet.models import Embedder, build_encoder
from tuplet.recipes.dump import dump_recipe
from tuplet.recipes.options import arguments, make
from tuplet.recipes.schema import Objective, Recipe, options_of
from tuplet.recipes.task import inform, task_of
from tuplet.sampling import WindowSampler
from tuplet.seeding import derive, derive_seed
from tuplet.training import Job
from tuplet.training.words import word_table

_IDLE = {"momentum": 0.0, "weight_decay": 0.0, "ema": 0.0, "patience": 0, "precision": "float32", "augment": None}
"""What steps of single rows know nothing of, and the value that says so."""


def build_words(recipe: Recipe, cache: Path, start: Path | None) -> Job:
    """Read the text and make everything that the recipe names.

    Args:
        recipe: From `load_recipe`, with `data.kind` words.
        cache: Folder for text that was read once.
        start: Refused: each text has words of its own.

    Raises:
        DataError: If the text cannot be read, or has no word that is frequent enough.
        RecipeError: If the recipe asks for something that word vectors do not know.
    """
    _check(recipe)
    if start is not None:
        raise RecipeError(
            f"Word vectors do not start from the weights of {start}: each text has words of its own.",
            hint="Leave --from out.",
            reference="start-does-not-fit",
        )
    task = task_of(recipe, None)
    options = options_of(recipe.model.preprocessing) if recipe.model.preprocessing.name == "words" else {}
    files = _files(Path(recipe.data.source))
    corpus = read_corpus(files, **recipe.data.words.model_dump(), **options, cache=cache)
    facts: dict[str, Any] = {
        "corpus": corpus,
        "counts": torch.from_numpy(corpus.counts),
        "buckets": len(corpus.words) + 1,
        "dim": recipe.model.dim,
        "seed": recipe.seed,
    }
    encoder = {"name": "bag-of-words", **arguments(recipe.model.encoder, ("model", "encoder"), facts)}
    loss: NCELoss = make(recipe.loss, ("loss",), facts)
    embedder = Embedder(build_encoder(encoder), WordPreprocessing(corpus.words, **options), encoder_config=encoder)
    inform(task, embedder, loss)
    _initialise(embedder, loss, corpus, recipe.seed)
    sampler: WindowSampler = make(recipe.batch, ("batch",), facts)
    if recipe.train.epochs:  # the recipe of the run says both
        train = recipe.train.model_copy(update={"steps": recipe.train.epochs * sampler.batches_per_epoch})
        recipe = recipe.model_copy(update={"train": train})
    return Job(
        name=recipe.name,
        seed=recipe.seed,
        train=_vocabulary(corpus),
        validation=None,
        test=None,
        sampler=sampler,
        embedder=embedder,
        loss=loss,
        task=task,
        augment=None,
        recipe=partial(dump_recipe, recipe),
        settings=recipe.train,
        evaluate=recipe.evaluate,
        facts=_described(recipe, files, corpus),
        corpus=corpus,
    )


def _vocabulary(corpus: Corpus) -> Dataset:
    """Its words as examples, most frequent first."""
    places = torch.arange(1, len(corpus.words) + 1, dtype=torch.int32)
    return Dataset(
        kind="words",
        inputs=places[:, None],
        ids=corpus.words,
        labels=Labels("target", places.long() - 1),
        counts=tuple(corpus.counts.tolist()),
    )


def _check(recipe: Recipe) -> None:
    """Refuse what would change nothing, rather than be silent about it."""
    parts = {
        "model.encoder": (recipe.model.encoder.name, ("bag-of-words",)),
        "model.preprocessing": (recipe.model.preprocessing.name, ("auto", "words")),
        "loss": (recipe.loss.name, ("nce",)),
        "batch": (recipe.batch.name, ("windows",)),
        "train.optimizer": (recipe.train.optimizer, ("sgd", "adagrad")),
    }
    wrong = [
        f"{key} = {name!r} should be {' or '.join(known)}" for key, (name, known) in parts.items() if name not in known
    ]
    if not wrong and options_of(recipe.model.encoder)["hidden"]:
        wrong = ["model.encoder.hidden should be []"]
    if recipe.objective != Objective():
        wrong.append("objective should be left out")
    if recipe.data.relation is not None:
        wrong.append("data.relation should be left out")
    for key, idle in _IDLE.items():
        value = getattr(recipe.train, key)
        if value != idle:
            wrong.append(
                f"train.{key} = {getattr(value, 'name', value)!r} should be {'none' if idle is None else idle!r}"
            )
    if wrong:
        raise RecipeError(
            "Word vectors are trained row by row: " + "; ".join(wrong) + ".",
            hint='Start from the preset: extends = "words".',
            reference="words-recipe",
        )


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    files = sorted(file for file in source.glob("*.txt") if not is_stray(file))
    if not files:
        raise DataError(
            f"The folder {source} holds no .txt file.",
            hint="Name a text file, or a folder with some.",
            reference="no-words",
        )
    return files


@torch.no_grad()
def _initialise(embedder: Embedder, loss: NCELoss, corpus: Corpus, seed: int) -> None:
    """Small random vectors; biases at the share of each word, which is where they end without a context."""
    vectors = word_table(embedder)
    random = torch.rand(vectors.shape, generator=derive(derive_seed(seed, "encoder"), "words"))
    vectors.copy_((random - 0.5) / embedder.dim)
    if loss.objective == "nce":
        counts = torch.from_numpy(corpus.counts).double()
        loss.bias.copy_((counts / counts.sum()).log())


def _described(recipe: Recipe, files: list[Path], corpus: Corpus) -> dict[str, Any]:
    """What a report says about the text."""
    return {
        "source": Path(recipe.data.source).name,
        "kind": "words",
        "by": "none",
        "splits": {"train": {"examples": len(corpus), "classes": len(corpus.words)}},
        "files": len(files),
        "read": corpus.read,
    }

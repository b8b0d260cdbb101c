"""From a recipe to the objects it describes."""

import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tuplet.data import Dataset, Manifest, content_ids, load_dataset
from tuplet.data.dataset import taken
from tuplet.data.fingerprint import Fingerprint, differences
from tuplet.data.glyphs import glyph_facts
from tuplet.data.split import holds_together
from tuplet.engine import SINGLE_PROCESS, Processes
from tuplet.errors import DataError
from tuplet.foreign import refuse_untrusted
from tuplet.keys import LabelDistance
from tuplet.models import Embedder
from tuplet.recipes.around import around, taught
from tuplet.recipes.data import Earlier, Reader, divide, divide_as, other_splits
from tuplet.recipes.data_warnings import classes_of
from tuplet.recipes.dump import dump_recipe
from tuplet.recipes.model import PairPreprocessing, build_embedder, check_views, load_start
from tuplet.recipes.options import SLOT, constructor, make
from tuplet.recipes.schema import Recipe, options_of
from tuplet.recipes.task import facts_of, inform, numbered, of_use, task_of
from tuplet.recipes.words import build_words
from tuplet.sampling import MixtureSampler, Sampler
from tuplet.sampling.paired import sharing
from tuplet.training import Job, Task
from tuplet.training.record import has_no_record, other_data, read_fingerprint

logger = logging.getLogger(__name__)


def build(
    recipe: Recipe,
    *,
    cache: Path,
    processes: Processes = SINGLE_PROCESS,
    reader: Reader | None = None,
    begun: Path | None = None,
    start: Path | None = None,
    trust: bool = False,
) -> Job:
    """Read the data, divide it, and make everything that the recipe names.

    Args:
        recipe: From `load_recipe`.
        cache: Folder for data that is generated or decoded once.
        processes: Who will train it together; class weights and bank may be shared among them.
        reader: Knows the data, if it was read before.
        begun: Folder of the run that goes on: the data must be what it was given, and is divided as it was then.
        start: Folder of another run, from whose weights the encoder starts. What they were trained on trains again, so
            that the rest is new to them.
        trust: Import the class that the encoder `callable` names.

    Raises:
        DataError: If the data cannot be read or divided as asked, or is not what a run that goes on was given.
        RecipeError: If a component refuses its options, the weights of `start` do not fit, or code is named and not
            trusted.
        CheckpointError: If the weights of `start` cannot be read.
    """
    if recipe.data.kind == "words":
        return build_words(recipe, cache, start)
    _refuse_own_augmentation(recipe, trust=trust)
    given = _given(recipe, cache, reader or Reader(cache), begun, start)
    train, task = _with_positives(recipe, given.datasets["train"], given.task), given.task
    embedder = build_embedder(recipe, train, given.sides, trust=trust)
    origin = None if start is None else load_start(embedder, start)
    check_views(recipe, train, embedder, task)
    facts = _facts(recipe, train, embedder, task)
    loss = around(make(recipe.loss, ("loss",), {**facts, "processes": processes}), recipe, embedder)
    sampler = _mixed(recipe, given.parts["train"], train, task, facts)
    inform(task, embedder, loss)
    task, contents = taught(task, recipe.objective, embedder, trust=trust)
    return Job(
        name=recipe.name,
        seed=recipe.seed,
        train=train,
        validation=given.datasets.get("validation"),
        test=given.datasets.get("test"),
        sampler=sampler,
        embedder=embedder,
        loss=loss,
        task=task,
        augment=make(recipe.train.augment, ("train", "augment"), facts) if recipe.train.augment else None,
        recipe=partial(dump_recipe, recipe),
        settings=recipe.train,
        evaluate=recipe.evaluate,
        facts=_described(recipe, given, cache),
        fingerprint=given.fingerprint,
        contents=contents,
        origin=origin,
    )


def _with_positives(recipe: Recipe, train: Dataset, task: Task) -> Dataset:
    """The same: a relation under which no two training examples belong together has nothing to teach."""
    related = train.related if task.supervision == "relation" and train.partners is None else None
    if related is not None and not related.has_positive():
        raise DataError(
            f"data.relation = {recipe.data.relation!r} makes no two of {len(train)} training examples positive.",
            hint="Widen it, or look at its columns; a split by row may part what belongs together: --set "
            "data.columns.split=NAME",
            reference="relation-without-positives",
        )
    return train


def _refuse_own_augmentation(recipe: Recipe, *, trust: bool) -> None:
    """Code that a recipe names is imported only where it is trusted."""
    if not trust and recipe.train.augment is not None and recipe.train.augment.name == "callable":
        known = options_of(recipe.train.augment)
        raise refuse_untrusted("augmentation", known["target"], known["folder"])


@dataclass(frozen=True, eq=False)
class _Given:
    """The data of a recipe, read and divided.

    Attributes:
        manifest: All of it.
        parts: By split.
        datasets: The same, loaded; labels of classes count from 0 in `train`.
        task: What the training is about.
        sides: How inputs become tensors, fitted to the training.
        fingerprint: What a run keeps of the data.
    """

    manifest: Manifest
    parts: Mapping[str, Manifest]
    datasets: Mapping[str, Dataset]
    task: Task
    sides: PairPreprocessing
    fingerprint: Fingerprint


def _given(recipe: Recipe, cache: Path, reader: Reader, begun: Path | None, start: Path | None) -> _Given:
    """See `build`."""
    manifest = reader.manifest(recipe.data)
    for note in manifest.notes:
        logger.warning("%s", note)
    task = task_of(recipe, manifest)
    parts, fingerprint = _divided(recipe, manifest, reader, begun, start)
    manifest, parts = of_use(task, manifest), {name: of_use(task, part) for name, part in parts.items()}
    sides = PairPreprocessing.of(recipe.model, manifest)

    def loaded(part: Manifest) -> Dataset:
        return load_dataset(part, sides.query, task.labels, sides.partner, cache=cache)

    train = numbered(task, loaded(parts["train"]))
    datasets = {name: train if name == "train" else loaded(part) for name, part in parts.items()}
    return _Given(manifest, parts, datasets, task, sides.fit(train), fingerprint)


def _divided(
    recipe: Recipe, manifest: Manifest, reader: Reader, begun: Path | None, start: Path | None
) -> tuple[Mapping[str, Manifest], Fingerprint]:
    """The parts of the data, and what a run keeps of them."""
    split, now = recipe.data.split, Fingerprint.of(manifest, reader.cache)
    kept = None if begun is None or has_no_record(begun) else read_fingerprint(begun)
    given = None if start is None else read_fingerprint(start)
    if begun is not None and kept is not None:
        there = kept.present()
        if found := differences(there, now) or other_splits(manifest, split, there):
            raise other_data(begun, found)
        return divide_as(manifest, there), kept
    if given is None:
        parts = reader.parts(manifest, split)
        return parts, now.divided(parts)
    parts = divide(manifest, split, Earlier(given, dict(zip(now.ids, now.contents, strict=True))))
    return parts, now.divided(parts).after(given)


def _label_distance(recipe: Recipe, train: Dataset) -> LabelDistance | None:
    """How far apart labels are, if a relation says it; squared where the loss compares squared distances."""
    own = None if train.related is None else train.related.distance
    if own is None or getattr(recipe.loss, "geometry", "") != "squared_euclidean":
        return own
    return lambda mine, theirs: own(mine, theirs).square()


def _facts(recipe: Recipe, train: Dataset, embedder: Embedder, task: Task) -> Mapping[str, Any]:
    """What constructors may ask for beyond their options."""
    return {
        **facts_of(task, train),
        "dim": embedder.dim,
        "latent_dim": getattr(embedder.encoder, "latent_dim", None),
        "context_dim": embedder.dim,
        "label_distance": _label_distance(recipe, train),
        "seed": recipe.seed,
    }


def _mixed(recipe: Recipe, manifest: Manifest, train: Dataset, task: Task, facts: Mapping[str, Any]) -> Sampler:
    """The sampler of a recipe; of several sources, one for each, asked in the proportion of their weights."""
    if manifest.sources is None:
        return _sampler(recipe, task, manifest, facts)
    weights = [recipe.data.weight, *(one.weight for one in recipe.data.more)]
    parts, places = [], []
    for number in range(len(weights)):
        rows = np.flatnonzero(manifest.sources == number)
        places.append(torch.from_numpy(rows))
        if not len(rows):
            raise DataError(
                f"Source {number + 1} of {len(weights)} has no example to train on.",
                hint="Give it examples that train, or take it out of `data.more`.",
                reference="empty-split",
            )
        own = facts_of(task, taken(train, places[-1]))
        parts.append(_sampler(recipe, task, manifest.take(rows), {**facts, **own}))
    return MixtureSampler(parts, places, weights)


def _sampler(recipe: Recipe, task: Task, train: Manifest, facts: Mapping[str, Any]) -> Sampler:
    """As named; contents are compared only if it asks for them, or if pairs may be negatives of each other."""
    asked = inspect.signature(constructor(SLOT["batch",], recipe.batch.name)).parameters
    known = {"contents": content_ids(train)} if "contents" in asked or train.pairs is not None else {}
    made: Sampler = make(recipe.batch, ("batch",), {**facts, **known})
    if "contents" in known and "contents" not in asked and task.supervision == "pair":
        shared = sharing(known["contents"])
        if shared:
            logger.warning(
                "%d of %d training pairs share a query or a positive with another one; batch = %r may put both into a "
                "batch, where each is a false negative of the other. --set batch.name=paired keeps them apart.",
                shared,
                len(train),
                recipe.batch.name,
            )
    return made


def _described(recipe: Recipe, given: _Given, cache: Path) -> Mapping[str, Any]:
    """What a report says about the data."""
    manifest, parts = given.manifest, given.parts
    counts = {name: {"examples": len(part), "classes": len(classes_of(part))} for name, part in parts.items()}
    for name in counts.keys() - {"train"} if given.task.split_by == "row" else ():
        if unseen := classes_of(parts[name]) - classes_of(parts["train"]):
            counts[name]["unseen"] = len(unseen)
    described: dict[str, Any] = {
        "source": Path(manifest.source).name,  # its folder would be wrong wherever the run is moved
        "kind": manifest.kind,
        "by": given.task.split_by,
        "splits": counts,
    }
    if manifest.left_out:
        described["left_out"] = [{"file": name, "reason": why} for name, why in manifest.left_out]
    if manifest.columns is not None:
        described["columns"] = manifest.column_roles()
        described["unlabelled"] = 0 if manifest.labels is None else int((manifest.labels < 0).sum())
    if recipe.data.relation is not None:
        described["relation"] = recipe.data.relation
        described["together"] = given.task.split_by == "class" and holds_together(manifest)
    if recipe.data.source == "glyphs":
        facts = glyph_facts(cache)
        described |= {"lookalikes": len(facts.lookalikes), "copies": facts.copies, "faces": len(facts.faces)}
    return described

"""What a training is about, decided here and nowhere else: from what the loss declares, and what the data has.

| what the loss uses | the data has | a batch becomes |
| --- | --- | --- |
| class, multi | classes; several labels an example | one view of each example, and its labels |
| class, pair | a relation | one view of each example, and the rule about the batch |
| class, for a loss that prefers pairs | classes, drawn two of each | the first of each class, and the second |
| graded | targets | one view of each example, and its targets |
| pair | pairs | both sides of each pair |
| scored | pairs with a target | both sides of each pair, and its target |
| pair | no pairs, and batches are not drawn by class | two views of each example |
| example | anything | one view of each example, and its row in the data set |
| none | series | latents and contexts along each series |
| target | running text | runs of words, which a stepper of their own takes |

A loss that declares pairs uses classes where batches hold two examples or more of each: these are pairs too. One
that declares classes uses pairs, where the data has pairs and no classes and the loss compares examples.
"""

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from tuplet import losses
from tuplet.data import Batch, Dataset, Labels, Manifest
from tuplet.data.split import shared_by
from tuplet.errors import RecipeError
from tuplet.losses import MetricLoss
from tuplet.models import Embedder
from tuplet.recipes.options import SLOT, constructor
from tuplet.recipes.schema import Recipe
from tuplet.training import Arguments, Embed, Task
from tuplet.training.job import ProtocolKind
from tuplet.types import Supervision


def task_of(recipe: Recipe, manifest: Manifest | None) -> Task:
    """What the training of a recipe on some examples is about.

    Args:
        recipe: From `load_recipe`.
        manifest: The data, before it is divided; None for running text.

    Raises:
        RecipeError: If the loss learns from what these examples cannot tell, or batches are drawn by what they do not
            have.
    """
    declared, geometry = losses.registry[recipe.loss.name], recipe.model.geometry
    asked = None if geometry == "loss" else geometry
    if manifest is None:
        return Task(declared.supervision, None, split_by="row", labels=declared.supervision, geometry=asked)
    _refuse_running_text(recipe, manifest)
    supervision = _supervision(recipe, manifest)
    has_partners = supervision in ("pair", "scored", "relation") and manifest.pairs is not None
    split_by = shared_by(manifest, recipe.data.split.by)
    if _per_class(recipe) and manifest.labels is None and supervision != "class":
        raise RecipeError(
            f"batch = {recipe.batch.name!r} draws by class, and {manifest.source} names no classes.",
            hint="Use --set data.columns.label=NAME to name the column of classes, or --set batch.name="
            f"{'uniform' if manifest.related is None else 'related'}.",
            reference="batch-needs-classes",
        )
    return Task(
        supervision=supervision,
        arguments=_arguments(recipe, supervision),
        compares_examples=_compares_examples(declared),
        split_by=split_by,
        protocols=_protocols(recipe, manifest, supervision, split_by),
        labels=_labels(manifest, supervision, has_partners=has_partners),
        has_partners=has_partners,
        columns=manifest.columns,
        geometry=asked,
    )


def of_use(task: Task, manifest: Manifest) -> Manifest:
    """Some data without second items that nobody reads."""
    return manifest if task.has_partners else replace(manifest, pairs=None, pair_kind=None)


def numbered(task: Task, train: Dataset) -> Dataset:
    """The labels of classes as 0, 1, 2, ..., which is how class weights count them; `classes` keep their ids."""
    if task.labels != "class":
        return train
    values = train.labels.values
    numbers = torch.full_like(values, -1)
    numbers[values >= 0] = torch.unique(values[values >= 0], return_inverse=True)[1]
    return replace(train, labels=Labels("class", numbers))


def facts_of(task: Task, train: Dataset) -> Mapping[str, Any]:
    """What the constructors of loss and sampler may ask of the training examples, which are `numbered`."""
    values = train.labels.values
    groups = None if train.groups is None else torch.from_numpy(np.unique(train.groups, return_inverse=True)[1])
    return {
        "labels": values if task.labels == "class" else train.classes,
        "targets": train.targets,
        "groups": groups,
        "related": train.related,
        "count": len(train),
        "num_classes": int(values.max()) + 1 if task.labels == "class" else 0,
        "num_instances": len(train),
    }


def inform(task: Task, embedder: Embedder, loss: MetricLoss) -> None:
    """Tell both sides of an embedder how embeddings are compared, and which columns its inputs come from."""
    for side in (embedder, embedder.side("partner")):
        side.columns = task.columns
        side.geometry = loss.ranks_by if task.geometry is None else task.geometry


def _labels(manifest: Manifest, supervision: Supervision, *, has_partners: bool) -> Supervision:
    """What the labels of the data set mean: classes that a relation need not read let batches be drawn by them."""
    if supervision == "relation":
        return "pair" if has_partners else "example" if manifest.labels is None else "class"
    return "example" if supervision == "pair" and not has_partners else supervision


def _of_relation(recipe: Recipe, manifest: Manifest) -> Supervision:
    """What a relation is to the loss.

    Raises:
        RecipeError: If the loss has no use for one.
    """
    declared, asked = losses.registry[recipe.loss.name], recipe.data.relation
    assert manifest.related is not None  # noqa: S101  asked where there is one
    is_distance = manifest.related.statement.is_distance
    if is_distance != (declared.supervision == "graded") or not (is_distance or takes_relation(declared)):
        learns = "how far apart labels are" if declared.supervision == "graded" else "from labels of its own"
        learns = "which pairs are positive" if takes_relation(declared) else learns
        says = "how far apart two labels are" if is_distance else "which pairs are positive"
        raise RecipeError(
            f"loss = {recipe.loss.name!r} learns {learns}, and data.relation = {asked!r} says {says}.",
            hint=f"Take another loss: --set loss={'log_ratio' if is_distance else 'supcon'}; or no relation: --set "
            "data.relation=none",
            reference="relation-of-loss",
        )
    if declared.of_both_ends and (manifest.pairs is not None or not manifest.related.is_symmetric):
        raise RecipeError(
            f"loss = {recipe.loss.name!r} looks at both ends of a pair, and data.relation = {asked!r} depends on their "
            "order.",
            hint="Make the matrix symmetric, or take another loss: --set loss=supcon",
            reference="relation-of-both-ends",
        )
    sections = {"objective": recipe.objective, "loss": recipe.loss}
    queue = next((key for key, section in sections.items() if _queue(section)), "")
    if queue and not is_distance:
        raise RecipeError(
            f"{queue}.queue keeps earlier batches with their class ids, of which data.relation knows nothing.",
            hint=f"Use --set {queue}.queue=none.",
            reference="relation-and-labels",
        )
    if is_distance and _batch_asks(recipe, "targets"):
        raise RecipeError(
            f"batch = {recipe.batch.name!r} looks for near numbers, and data.relation = {asked!r} says what near is.",
            hint="Use --set batch.name=uniform.",
            reference="relation-of-loss",
        )
    return "graded" if is_distance else "relation"


def takes_relation(declared: type[MetricLoss]) -> bool:
    """Whether a loss takes a rule about pairs in the place of labels."""
    return "relation" in declared.takes and not declared.reads_classes


def _queue(section: Any) -> bool:
    return getattr(section, "queue", None) is not None


def _supervision(recipe: Recipe, manifest: Manifest) -> Supervision:
    """What the loss is made for, or what it can use in its place."""
    declared = losses.registry[recipe.loss.name]
    if manifest.related is not None:
        return _of_relation(recipe, manifest)
    supervision: Supervision = declared.supervision
    if supervision == "pair":
        uses_labels = "reference_labels" in declared.takes
        has_pairs_of_classes = uses_labels and manifest.labels is not None and _per_class(recipe) > 1
        if manifest.pairs is not None or not has_pairs_of_classes:
            return "pair"
        supervision = "class"
    if supervision == "scored" and (manifest.pairs is None or manifest.targets is None):
        raise RecipeError(
            f"loss = {recipe.loss.name!r} learns from pairs with a score, and {manifest.source} has no "
            f"{'pairs' if manifest.pairs is None else 'targets'}.",
            hint="Give the data a column `pair` (the second items) and a column `target` (how alike the two are).",
            reference="scored-pairs",
        )
    if supervision != "class":
        return supervision
    if manifest.label_sets is not None:
        if not _compares_examples(declared):
            raise RecipeError(
                f"loss = {recipe.loss.name!r} knows one class per example; data.columns.several asks for several.",
                hint="Use --set data.columns.several='', or take a loss that compares examples: --set loss=supcon.",
                reference="several-labels",
            )
        return "multi"
    has_only_pairs = manifest.labels is None and manifest.pairs is not None
    return "pair" if has_only_pairs and _compares_examples(declared) else "class"


def _compares_examples(declared: type[MetricLoss]) -> bool:
    return "references" in declared.takes


def _per_class(recipe: Recipe) -> int:
    """Examples that a batch takes of each class; 0 if it is not drawn by class."""
    return int(getattr(recipe.batch, "per_class", 1)) if _batch_asks(recipe, "labels") else 0


def _batch_asks(recipe: Recipe, argument: str) -> bool:
    return argument in inspect.signature(constructor(SLOT["batch",], recipe.batch.name)).parameters


def _refuse_running_text(recipe: Recipe, manifest: Manifest) -> None:
    """What reads running text has no use for separate examples."""
    named = [] if losses.registry[recipe.loss.name].supervision != "target" else [f"loss = {recipe.loss.name!r}"]
    named += [f"batch = {recipe.batch.name!r}"] if _batch_asks(recipe, "corpus") else []
    if named:
        raise RecipeError(
            f"{' and '.join(named)} learns from running text, and {manifest.source} holds separate examples.",
            hint="Name a file of plain text (.txt), or start from a preset for examples: tuplet train --list",
            reference="words-recipe",
        )


def _protocols(recipe: Recipe, manifest: Manifest, supervision: Supervision, split_by: str) -> tuple[ProtocolKind, ...]:
    """What the loss uses comes first, then what else is known."""
    there = {
        "relation": supervision == "relation" and manifest.pairs is None,
        "pairs": supervision in ("pair", "relation") and manifest.pairs is not None,
        "scored": supervision == "scored",
        "classes": manifest.labels is not None,
        "targets": manifest.targets is not None,
    }
    told_first: Mapping[str, tuple[ProtocolKind, ...]] = {"graded": ("targets",), "scored": ("scored",)}
    first = told_first.get(supervision, ())
    others: tuple[ProtocolKind, ...] = ("relation", "pairs", "classes", "targets")
    there["targets"] &= supervision != "scored"  # they are those of the pairs
    found = [kind for kind in dict.fromkeys((*first, *others)) if there[kind]]
    if there["classes"] and split_by == "row":  # the training examples know the classes of the others
        found.insert(1 if supervision in ("class", "multi") else 0, "train")
    return (*found, "views") if recipe.train.augment is not None else tuple(found)


def _arguments(recipe: Recipe, supervision: Supervision) -> Arguments:
    """See the table at the top. Of a queue only labels tell which rows are of the classes of a batch."""
    sampler, declared = constructor(SLOT["batch",], recipe.batch.name), losses.registry[recipe.loss.name]
    side_by_side = getattr(sampler, "keeps_classes_together", False) and _per_class(recipe) == 2
    has_queue = _queue(recipe.objective) or _queue(recipe.loss)
    if supervision == "class" and declared.prefers_pairs and side_by_side and not has_queue:
        return class_pairs
    return _ARGUMENTS[supervision]


def labelled(embed: Embed, batch: Batch) -> Mapping[str, Any]:
    """One view of each example, and its class (or classes, or graded values)."""
    return {"embeddings": embed(batch.inputs), "labels": batch.labels}


def related(embed: Embed, batch: Batch) -> Mapping[str, Any]:
    """One view of each example, or both sides of each pair, and the rule about them."""
    sides = {"embeddings": embed(batch.inputs)} if batch.partners is None else pairs(embed, batch)
    return {**sides, "relation": batch.relation}


def class_pairs(embed: Embed, batch: Batch) -> Mapping[str, Any]:
    """Two examples of each class, side by side: the first is the anchor, the second its positive."""
    embeddings = embed(batch.inputs)
    return {"embeddings": embeddings[::2], "references": embeddings[1::2]}


def pairs(embed: Embed, batch: Batch) -> Mapping[str, Any]:
    """Both sides of each pair; without a second side, two views of each example."""
    if batch.partners is None:
        return {"embeddings": embed(batch.inputs), "references": embed(batch.inputs)}
    return {"embeddings": embed(batch.inputs), "references": embed(batch.partners, "partner")}


def scored(embed: Embed, batch: Batch) -> Mapping[str, Any]:
    """Both sides of each pair, and its target."""
    return {**pairs(embed, batch), "labels": batch.labels}


def examples(embed: Embed, batch: Batch) -> Mapping[str, Any]:
    """One view of each example, and its row in the data set."""
    return {"embeddings": embed(batch.inputs), "labels": batch.positions}


def series(embed: Embed, batch: Batch) -> Mapping[str, Any]:
    """Latents and contexts along each series, up to its end."""
    latents, contexts, lengths = embed.unroll(batch.inputs)
    return {"embeddings": latents, "labels": contexts, "lengths": lengths}


_ARGUMENTS: Mapping[Supervision, Arguments] = {
    "class": labelled,
    "multi": labelled,
    "relation": related,
    "graded": labelled,
    "pair": pairs,
    "scored": scored,
    "example": examples,
    "none": series,
}

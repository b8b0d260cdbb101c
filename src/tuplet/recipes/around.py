"""What stands around the loss of a recipe: a queue, prefixes, terms that are added, a teacher."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tuplet.data import Batch
from tuplet.errors import RecipeError, ShapeError
from tuplet.losses import DistilledLoss, MatryoshkaLoss, MetricLoss, QueuedLoss, RegularisedLoss
from tuplet.memory import FeatureQueue
from tuplet.models import Embedder
from tuplet.recipes.schema import Objective, Recipe
from tuplet.training import Arguments, Embed, Task
from tuplet.types import Side

FITTED = {"mean", "std", "scale", "fixed"}
"""What preprocessing learns from the data: it may differ where inputs are stored alike."""
SIZES = {"in_dim", "channels", "size", "length"}
"""Options of encoders that the inputs decide."""


def around(loss: MetricLoss, recipe: Recipe, embedder: Embedder) -> MetricLoss:
    """The loss with what stands around it.

    Raises:
        RecipeError: If the loss has no form of it.
    """
    asked = recipe.objective
    try:
        if asked.queue is not None:
            loss = QueuedLoss(loss, FeatureQueue(asked.queue, embedder.dim))
        if asked.matryoshka or asked.matryoshka_weights:
            loss = MatryoshkaLoss(loss, asked.matryoshka, asked.matryoshka_weights or None)
            loss.check_dim(recipe.model.dim)
    except ShapeError as error:
        raise RecipeError(
            f"objective refuses its options: {error.message}", hint=error.hint, reference=error.reference
        ) from error
    if asked.uniformity or asked.norm_penalty:
        loss = RegularisedLoss(loss, asked.uniformity, asked.norm_penalty)
    if asked.teacher is None:
        return loss
    weights = asked.teacher_distances, asked.teacher_angles
    return DistilledLoss(loss, asked.teacher_weight, asked.teacher_temperature, *weights)


def taught(task: Task, asked: Objective, embedder: Embedder, *, trust: bool) -> tuple[Task, dict[str, str]]:
    """The task with what a teacher says of each batch, if there is one, and the teacher's digest by its setting.

    Raises:
        RecipeError: If it reads other inputs than the embedder, or the loss compares no examples.
        ArtifactError: If the folder holds no model.
    """
    if asked.teacher is None:
        return task, {}
    if task.arguments is None or task.supervision == "none":
        raise RecipeError(
            "objective.teacher compares examples with each other, and this loss predicts along each series.",
            hint="Leave objective.teacher out.",
            reference="teacher",
        )
    teacher = Embedder.load(Path(asked.teacher), trust=trust)
    sides: tuple[Side, ...] = ("query", "partner") if task.has_partners else ("query",)
    for side in sides:
        mine, theirs = (_stored(each.side(side)) for each in (embedder, teacher))
        keys = {*mine, *theirs} - SIZES | (SIZES & mine.keys() & theirs.keys())
        if differ := sorted(key for key in keys if mine.get(key) != theirs.get(key)):
            key = differ[0]
            raise RecipeError(
                f"objective.teacher reads other inputs than this recipe: {key} is {theirs.get(key)!r} there and "
                f"{mine.get(key)!r} here.",
                hint="Give this recipe the data and the preprocessing of the teacher's, or take another teacher.",
                reference="teacher",
            )
    digests = [one.content_hash() for one in (teacher, teacher.partner) if one is not None]
    taught_task = replace(task, arguments=Taught(task.arguments, Teacher(teacher)))
    return taught_task, {"objective.teacher": "-".join(digests)}


def _stored(embedder: Embedder) -> dict[str, Any]:
    """What decides how inputs are stored."""
    config = embedder.preprocessing.to_config()
    sizes = {key: value for key, value in embedder.encoder_config.items() if key in SIZES}
    return {key: value for key, value in config.items() if key not in FITTED} | sizes


class Teacher:
    """A trained embedder that embeds as it does in use, whatever is trained beside it.

    Args:
        embedder: Never changed.
    """

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder.eval().requires_grad_(requires_grad=False)

    @torch.no_grad()
    def __call__(self, inputs: Any, side: Side = "query") -> Tensor:
        """Embeddings of stored inputs, in float32."""
        embeddings: Tensor = self.embedder.side(side)(inputs)
        return embeddings.float()

    def unroll(self, inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Refused where a recipe is built."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Taught:
    """What a loss is called with, and the teacher's embeddings of the same rows.

    Args:
        arguments: Of the task.
        teacher: Embeds in the place of the encoder.
    """

    arguments: Arguments
    teacher: Teacher

    def __call__(self, embed: Embed, batch: Batch) -> Mapping[str, Any]:
        """See `Arguments`."""
        given = self.arguments(embed, batch)
        self.teacher.embedder.to(given["embeddings"].device)
        said = self.arguments(self.teacher, batch)
        others = {"reference_teacher": said["references"]} if "references" in said else {}
        return {**given, "teacher": said["embeddings"], **others}

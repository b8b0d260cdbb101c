"""Is the embedding collapsing? Looked for in a sample of the embeddings of a step."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tuplet.evaluation import health
from tuplet.losses import SupConLoss
from tuplet.training.checkpoint import Progress
from tuplet.training.events import Event, log_message
from tuplet.training.job import Job
from tuplet.types import GeometryName

SAMPLE = 128
"""Rows of a step that are looked at."""
LEAST_RANK = 0.05
"""Least effective rank of an embedding in good health, as a share of the rank that its rows could have."""
LEAST_DISTANCE = 0.2
"""Least distance of two embeddings in good health; of unit vectors, it is a cosine of 0.98."""
LASTS = 50
"""Steps that a collapse lasts before it counts as one that stays."""
FEWEST = 8
"""Classes of a batch below which fewer are no advice."""


class Spread(NamedTuple):
    """How the embeddings of a step lie.

    Attributes:
        rank: Effective rank.
        room: The rank that so many rows of so many classes could have.
        distance: Root mean square over all pairs; of unit vectors, where a loss compares directions.
    """

    rank: float
    room: int
    distance: float

    @property
    def is_collapsed(self) -> bool:
        """The embeddings of a step lie in few directions, or all in one place."""
        return self.rank < LEAST_RANK * self.room or self.distance < LEAST_DISTANCE


def measure_spread(embeddings: Tensor, labels: Tensor | None, geometry: GeometryName) -> Spread:
    """How embeddings lie.

    Args:
        embeddings: At least two rows, from before the step.
        labels: Classes (rows,), or graded values (rows, values): rows that differ in little have little room.
        geometry: How they are compared.
    """
    rows = embeddings[:SAMPLE].detach().float()
    room = min(len(rows) - 1, rows.shape[1])
    if labels is not None:
        known = labels[:SAMPLE]
        room = min(room, known.shape[1] if known.ndim > 1 else len(torch.unique(known)) - 1)
    rank = health(rows).values["effective_rank"]
    placed = rows if geometry in ("euclidean", "squared_euclidean") else functional.normalize(rows)
    variance = (placed - placed.mean(0)).square().sum() / (len(rows) - 1)  # half the mean square over pairs
    return Spread(rank, room, float((2 * variance).sqrt()))


def is_lost(progress: Progress, steps: int, *, is_chosen: bool) -> bool:
    """Whether a training, at a validation, has nothing to hope for: a collapse that lasts, and no better step since.

    A network may begin with all embeddings in one place and open late, so a collapse from before the first validation
    counts only once it has lasted half of the training.

    Args:
        progress: After the validation.
        steps: Of the whole training.
        is_chosen: A measure chooses the best step; without one nothing but time can tell.
    """
    since, step = progress.collapsed_since, progress.step
    if not since:
        return False
    was_better = is_chosen and progress.best_step < since and step - since >= LASTS
    return was_better or (step - since >= steps / 2 and not (is_chosen and progress.best_step == step))


def warning(spread: Spread, step: int, job: Job) -> Event:
    """What to say when an embedding begins to collapse.

    Args:
        spread: How it lies.
        step: Steps done.
        job: The training.
    """
    if spread.distance < LEAST_DISTANCE:
        seen = f"all embeddings move to one place (mean distance {spread.distance:.2g})"
    else:
        seen = f"the embeddings lie in {spread.rank:.1f} directions of {spread.room} (effective rank)"
    return log_message(f"Step {step}: the embedding is collapsing: {seen}. {advice(job)}")


def advice(job: Job) -> str:
    """What helps against a collapse.

    The hardest of many negatives leave a gradient that only pulls together. Fewer classes in a batch have fewer of
    them, and a softmax over all negatives has no hardest one; a tenth of the rate collapses as well, and learns less.

    Args:
        job: The training that collapsed.
    """
    tips = []
    if job.task.is_told_classes and job.task.compares_examples:
        tips += [] if isinstance(job.loss, SupConLoss) else ["--set loss=supcon"]
        classes = getattr(job.sampler, "classes_per_batch", 0)
        if classes > FEWEST:
            tips.append(f"fewer classes in a batch: --set batch.classes_per_batch={max(FEWEST, classes // 4)}")
    if not tips:
        tips = [f"a longer warm-up: --set train.warmup={min(0.5, 3 * job.settings.warmup + 0.1):.1g}", "another loss"]
    return f"Try {', or '.join(tips)}."

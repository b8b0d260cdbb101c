"""Is the embedding collapsing? Looked for in a sample of the embeddings of a step."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tuplet.evaluation import health
from tuplet.training.events import Event, note
from tuplet.types import GeometryName

SAMPLE = 128
"""Rows of a step that are looked at."""
LEAST_RANK = 0.05
"""Least effective rank of an embedding in good health, as a share of the rank that its rows could have."""
LEAST_DISTANCE = 0.2
"""Least distance of two embeddings in good health; of unit vectors, it is a cosine of 0.98."""


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


def spread_of(embeddings: Tensor, labels: Tensor | None, geometry: GeometryName) -> Spread:
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


def warning(spread: Spread, step: int, learning_rate: float) -> Event:
    """What to say when an embedding begins to collapse."""
    if spread.distance < LEAST_DISTANCE:
        seen = f"all embeddings move to one place (mean distance {spread.distance:.2g})"
    else:
        seen = f"the embeddings lie in {spread.rank:.1f} directions of {spread.room} (effective rank)"
    return note(
        f"Step {step}: the embedding is collapsing: {seen}. "
        f"Try --set train.learning_rate={learning_rate / 10:g}, a longer train.warmup, or another loss."
    )

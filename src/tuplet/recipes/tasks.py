"""Tasks: how a batch becomes the arguments of a loss, one for each kind of supervision."""

from collections.abc import Mapping
from typing import Any

from tuplet.data import Batch
from tuplet.training import Embed, Task
from tuplet.types import Supervision


def classes(embed: Embed, batch: Batch) -> Mapping[str, Any]:
    """One view of each example, and its class (or classes, or graded values)."""
    return {"embeddings": embed(batch.inputs), "labels": batch.labels}


def pairs(embed: Embed, batch: Batch) -> Mapping[str, Any]:
    """Both sides of each pair; without a second side, two views of each example."""
    if batch.partners is None:
        return {"embeddings": embed(batch.inputs), "references": embed(batch.inputs)}
    return {"embeddings": embed(batch.inputs), "references": embed(batch.partners, "partner")}


def examples(embed: Embed, batch: Batch) -> Mapping[str, Any]:
    """One view of each example, and its row in the data set."""
    return {"embeddings": embed(batch.inputs), "labels": batch.positions}


TASKS: Mapping[Supervision, Task] = {
    "class": classes,
    "multi": classes,
    "graded": classes,
    "pair": pairs,
    "example": examples,
}

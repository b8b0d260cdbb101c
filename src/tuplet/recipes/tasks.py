"""Tasks: how a batch becomes the arguments of a loss, one for each kind of supervision."""

from collections.abc import Mapping
from typing import Any

from tuplet.data import Batch
from tuplet.losses import MetricLoss
from tuplet.sampling import Sampler
from tuplet.training import Embed, Task
from tuplet.types import Supervision


def classes(embed: Embed, batch: Batch) -> Mapping[str, Any]:
    """One view of each example, and its class (or classes, or graded values)."""
    return {"embeddings": embed(batch.inputs), "labels": batch.labels}


def class_pairs(embed: Embed, batch: Batch) -> Mapping[str, Any]:
    """Two examples of each class, side by side: the first is the anchor, the second its positive."""
    embeddings = embed(batch.inputs)
    return {"embeddings": embeddings[::2], "references": embeddings[1::2]}


def pairs(embed: Embed, batch: Batch) -> Mapping[str, Any]:
    """Both sides of each pair; without a second side, two views of each example."""
    if batch.partners is None:
        return {"embeddings": embed(batch.inputs), "references": embed(batch.inputs)}
    return {"embeddings": embed(batch.inputs), "references": embed(batch.partners, "partner")}


def examples(embed: Embed, batch: Batch) -> Mapping[str, Any]:
    """One view of each example, and its row in the data set."""
    return {"embeddings": embed(batch.inputs), "labels": batch.positions}


def series(embed: Embed, batch: Batch) -> Mapping[str, Any]:
    """Latents and contexts along each series, up to its end."""
    latents, contexts, lengths = embed.unroll(batch.inputs)
    return {"embeddings": latents, "labels": contexts, "lengths": lengths}


TASKS: Mapping[Supervision, Task] = {
    "class": classes,
    "multi": classes,
    "graded": classes,
    "pair": pairs,
    "example": examples,
    "none": series,
}


def task_for(loss: MetricLoss, sampler: Sampler, supervision: Supervision) -> Task:
    """The task of a supervision; batches of two examples of each class are pairs, for a loss that prefers them.

    A queue holds further examples of these classes, and only labels tell them apart from negatives.
    """
    is_paired = supervision == "class" and loss.prefers_pairs and sampler.together == 2 and loss.queue is None
    return class_pairs if is_paired else TASKS[supervision]

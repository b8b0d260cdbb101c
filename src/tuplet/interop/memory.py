"""`CrossBatchMemory` of pytorch-metric-learning around the losses under its names."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tuplet.interop.settings import refused
from tuplet.interop.shim import Indices, Shim, separated
from tuplet.relations import matrix, same_class

SUPPORTED = (
    "CircleLoss",
    "ContrastiveLoss",
    "GeneralizedLiftedStructureLoss",
    "IntraPairVarianceLoss",
    "MultiSimilarityLoss",
    "NTXentLoss",
    "SignalToNoiseRatioContrastiveLoss",
    "SupConLoss",
    "TripletMarginLoss",
)
"""Losses that read a second set there as they do here."""

Miner = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, ...]]


class CrossBatchMemory(nn.Module):
    """`CrossBatchMemory`: the batch against the latest rows, its own among them, all of them constants.

    As there, and otherwise than a queue here, a call moves the memory.

    Args:
        loss: One of the losses under these names.
        embedding_size: Length of an embedding.
        memory_size: Number of rows.
        miner: Chooses among the pairs of batch and memory.
    """

    embedding_memory: Tensor
    label_memory: Tensor

    def __init__(self, loss: Shim, embedding_size: int, memory_size: int = 1024, miner: Miner | None = None) -> None:
        super().__init__()
        if type(loss).__name__ not in SUPPORTED:
            known = ", ".join(SUPPORTED)
            raise refused("CrossBatchMemory", f"{type(loss).__name__} reads no second set as there", f"Use {known}.")
        self.loss, self.miner = loss, miner
        self.embedding_size, self.memory_size = embedding_size, memory_size
        self.reset_queue()

    def reset_queue(self) -> None:
        """Forget all rows."""
        self.register_buffer("embedding_memory", torch.zeros(self.memory_size, self.embedding_size))
        self.register_buffer("label_memory", torch.zeros(self.memory_size, dtype=torch.int64))
        self.has_been_filled, self.queue_idx = False, 0

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: Indices = None,
        enqueue_mask: Tensor | None = None,
    ) -> Tensor:
        """The loss of a batch against the memory, which takes in the batch first.

        Args:
            embeddings: (rows, dim).
            labels: One class each.
            indices_tuple: Refused: its pairs would count beside those of the memory.
            enqueue_mask: Rows that are only remembered; the others are only compared.
        """
        if indices_tuple is not None:
            hint = "Give the memory a miner, or leave indices_tuple out."
            raise refused("CrossBatchMemory", "it was given indices_tuple, pairs that would count twice", hint)
        kept = torch.ones_like(labels, dtype=torch.bool) if enqueue_mask is None else enqueue_mask
        slots = self._remember(embeddings[kept].detach(), labels[kept])
        if enqueue_mask is not None:
            embeddings, labels, slots = embeddings[~kept], labels[~kept], slots.new_full((int((~kept).sum()),), -1)
        count = self.memory_size if self.has_been_filled else self.queue_idx
        memory, known = self.embedding_memory[:count], self.label_memory[:count]
        if self.miner is not None:
            return self.loss.listed(embeddings, memory, _others(self.miner(embeddings, labels, memory, known), slots))
        mine, theirs = separated(labels), separated(known)
        rule = same_class(mine, theirs).ignoring(matrix(lambda i, j: slots[i] == j))
        ordered = theirs.sort().values
        positives = torch.searchsorted(ordered, mine, right=True) - torch.searchsorted(ordered, mine)
        return self.loss.ruled(embeddings, memory, rule, positives - (slots >= 0).long())

    def _remember(self, rows: Tensor, labels: Tensor) -> Tensor:
        """Replace the oldest rows; the slots that the new ones have."""
        slots = (torch.arange(len(rows), device=labels.device) + self.queue_idx) % self.memory_size
        self.embedding_memory = self.embedding_memory.to(rows)
        self.label_memory = self.label_memory.to(labels)
        self.embedding_memory[slots], self.label_memory[slots] = rows, labels
        before, self.queue_idx = self.queue_idx, (self.queue_idx + len(rows)) % self.memory_size
        self.has_been_filled = self.has_been_filled or self.queue_idx <= before
        return slots


def _others(mined: tuple[Tensor, ...], slots: Tensor) -> tuple[Tensor, ...]:
    """What a miner chose, without rows that met themselves."""
    if len(mined) == 3:
        a, p, n = mined
        other = slots[a] != p
        return a[other], p[other], n[other]
    a, p, b, n = mined
    other = slots[a] != p
    return a[other], p[other], b, n

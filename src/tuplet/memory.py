"""Embeddings that outlive their batch, in buffers of fixed size that are saved with the loss."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tuplet.engine.gather import ALONE, Processes, everyones
from tuplet.errors import ShapeError


class FeatureQueue(nn.Module):
    """The latest embeddings with their labels: further references for every pair and triplet loss.

    Rows are constants and never anchors. An unfilled slot has label -1 and does not count.

    Args:
        size: Number of rows kept, at least 1.
        dim: Length of an embedding.
    """

    embeddings: Tensor
    labels: Tensor
    written: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1:
            raise ShapeError(f"A queue of {size} rows was asked for.", hint="Use size >= 1.", reference="queue-size")
        self.register_buffer("embeddings", torch.zeros(size, dim))
        self.register_buffer("labels", torch.full((size,), -1))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))

    @property
    def size(self) -> int:
        """Number of slots."""
        return len(self.labels)

    @torch.no_grad()
    def push(
        self,
        embeddings: Float[Tensor, "rows dim"],
        labels: Int[Tensor, " rows"] | None = None,
        processes: Processes = ALONE,
    ) -> None:
        """Replace the oldest rows.

        Args:
            embeddings: The rows of this process; with several processes all push the same, in the order of their ranks.
            labels: Their class ids; rows with -1 are not stored. Default: 0 for all.
            processes: Who pushes together.
        """
        embeddings = everyones(embeddings, processes)
        labels = (
            torch.zeros(len(embeddings), dtype=torch.int64, device=embeddings.device)
            if labels is None
            else everyones(labels, processes)
        )
        known = labels != -1
        embeddings, labels = embeddings[known][-self.size :], labels[known][-self.size :]
        slots = (self.written + torch.arange(len(labels), device=self.written.device)) % self.size
        self.embeddings[slots] = embeddings.to(self.embeddings)
        self.labels[slots] = labels
        self.written += len(labels)

    def filled(self) -> tuple[Tensor, Tensor]:
        """Stored rows and their labels, by slot."""
        known = self.labels != -1
        return self.embeddings[known], self.labels[known]
